"""What happened during training, as JSON lines: losses and evaluations.

Layer 3. `history.jsonl` in the model directory has one line per log interval
(`{"step", "loss", "rows_per_s"}`) and per evaluation (`{"step", "eval", "metrics"}`). Each
evaluation directory has `evaluations.jsonl` with the latter, read by early stopping and by
BestExporter. Numbers that are not finite are null.
"""

from __future__ import annotations

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


def from_events(pattern: str) -> list[dict[str, Any]]:
    """Returns what event files (TensorBoard's) say, as entries of a history, by their steps.

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
    return [{"step": step, "metrics": found[step]} for step in sorted(found)]


def append(path: str | pathlib.Path, entry: Mapping[str, Any]) -> None:
    """Adds a line."""
    target = pathlib.Path(path)
    storage.make_directory(target.parent)
    with storage.storage_errors("write", target), target.open("a") as sink:
        sink.write(storage.canonical_json(dict(entry)) + "\n")


def forget_after(path: str | pathlib.Path, step: int) -> None:
    """Drops lines of steps later than `step`: training resumes from there."""
    entries = read(path)
    kept = [entry for entry in entries if entry.get("step", 0) <= step]
    if len(kept) != len(entries):
        text = "".join(storage.canonical_json(entry) + "\n" for entry in kept)
        storage.write_text(path, text)


def plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metrics as strict JSON values; arrays become lists, NaN and infinity null."""

    def value(item: Any) -> Any:
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
