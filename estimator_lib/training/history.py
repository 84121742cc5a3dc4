"""What happened during training, as JSON lines: losses and evaluations.

Layer 3. `history.jsonl` in the model directory has one line per log interval
(`{"step", "loss", "rows_per_s"}`) and per evaluation (`{"step", "eval", "metrics"}`). Each
evaluation directory has `evaluations.jsonl` with the latter, for those who did not make them: a
process that goes on, early stopping beside an evaluator job. Numbers that are not finite are null.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from estimator_lib.core import storage

HISTORY = "history.jsonl"
EVALUATIONS = "evaluations.jsonl"


def read(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of a history; a torn last line is left out."""
    try:
        text = pathlib.Path(path).read_text()
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        step: The global step of the weights.
        metrics: By name, as strict JSON values; see `plain`.
    """

    step: int
    metrics: Mapping[str, Any]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Evaluation:
        """Returns the evaluation of a line of a history."""
        return cls(step=int(entry["step"]), metrics=entry.get("metrics", {}))

    def line(self, name: str, checkpoint_path: str | None) -> dict[str, object]:
        """Returns it as a line of a history."""
        return {
            "step": self.step, "eval": name, "metrics": self.metrics, "checkpoint": checkpoint_path
        }  # fmt: skip


class Evaluations:
    """The evaluations of one directory; see `evaluations`.

    Those that this process makes are kept in memory. The file is read where another process has
    written it: one before this one, or an evaluator job.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._path = directory / EVALUATIONS
        self._known: list[Evaluation] = []
        self._stamp: tuple[int, int] | None = None

    def add(self, made: Evaluation, line: Mapping[str, object]) -> None:
        """Adds an evaluation and writes its line."""
        known, before = self.all(), _stamp(self._path)
        append(self._path, line)
        after = _stamp(self._path)
        size = (before[0] if before else 0) + len(_text(line).encode())
        # More than the line means that another process has written, too.
        self._stamp = after if after is not None and after[0] == size else None
        self._known = [*known, made]

    def all(self) -> list[Evaluation]:
        """Returns the evaluations, newest last."""
        if self._stamp is not None and self._stamp == _stamp(self._path):
            return self._known
        return [Evaluation.of(entry) for entry in read(self._path)]


@functools.lru_cache(maxsize=1024)
def _evaluations(directory: pathlib.Path) -> Evaluations:
    return Evaluations(directory)


def evaluations(directory: str | pathlib.Path) -> Evaluations:
    """Returns this process's one record of the evaluations of a directory."""
    return _evaluations(pathlib.Path(directory).absolute())


def _stamp(path: pathlib.Path) -> tuple[int, int] | None:
    """Tells one content of a file from another: its size and time; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def from_events(pattern: str) -> list[Evaluation]:
    """Returns what event files (TensorBoard's) say, by their steps.

    An old directory of tf.estimator has its evaluations there. A damaged end is left out.

    Args:
        pattern: Of the files' names.
    """
    found: dict[int, dict[str, float]] = {}
    for name in sorted(tf.io.gfile.glob(pattern)):
        try:
            for event in tf.compat.v1.train.summary_iterator(name):
                values = {v.tag: v.simple_value for v in event.summary.value
                          if v.HasField("simple_value")}  # fmt: skip
                if values:
                    found.setdefault(int(event.step), {}).update(values)
        except tf.errors.DataLossError:
            continue
    return [Evaluation(step=step, metrics=found[step]) for step in sorted(found)]


def append(path: str | pathlib.Path, entry: Mapping[str, object]) -> None:
    """Adds a line."""
    target = pathlib.Path(path)
    storage.make_directory(target.parent)
    with storage.storage_errors("write", target), target.open("a") as sink:
        sink.write(_text(entry))


def _text(entry: Mapping[str, object]) -> str:
    return storage.canonical_json(dict(entry)) + "\n"


def forget_after(path: str | pathlib.Path, step: int) -> None:
    """Drops lines of steps later than `step`: training resumes from there."""
    entries = read(path)
    kept = [entry for entry in entries if entry.get("step", 0) <= step]
    if len(kept) != len(entries):
        storage.write_text(path, "".join(map(_text, kept)))


def plain(metrics: Mapping[str, object]) -> dict[str, Any]:
    """Returns metrics as strict JSON values; arrays become lists, NaN and infinity null."""

    def value(item: object) -> object:
        if isinstance(item, bytes):
            return item.decode(errors="replace")
        if isinstance(item, np.ndarray):
            return [value(part) for part in item.tolist()]
        if isinstance(item, list):
            return [value(part) for part in item]
        if isinstance(item, np.integer | int):
            return int(item)
        if isinstance(item, np.floating | float):
            return float(item) if math.isfinite(item) else None
        return None if item is None else str(item)

    return {str(name): value(item) for name, item in metrics.items()}
