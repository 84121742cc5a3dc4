"""Parity: a fresh process loads the export and must say what the trainer said.

Layer 3. The process that trained holds tables, assets and defaults in memory that an export
may lack; only a process that never saw them can tell. `check` starts a new interpreter (about
as long as importing TensorFlow takes); `Checker`, entered before this process uses
TensorFlow, forks a child then, which has the modules but no runtime and no objects, and waits.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from estimator_lib.core import processes, storage
from estimator_lib.core.errors import (
    EstimatorLibError,
    ExportError,
    StorageError,
    quote,
)
from estimator_lib.export.saved_model import load_model
from estimator_lib.protocols import Array
from estimator_lib.tensorflow_internals import runtime_started

_TIMEOUT_S = 600.0
_RETRY = 75
Rows = Mapping[str, Any]


def check(
    saved_model_dir: str, raw_rows: Rows, expected: Rows, tolerance: float = 1e-5
) -> dict[str, float]:
    """Compares the exported model with the trainer's predictions, in a new interpreter.

    Args:
        saved_model_dir: The SavedModel.
        raw_rows: Inputs of the default signature, `[n]` or `[n, ...]` per name.
        expected: The trainer's predictions by output name, `[n, ...]`; only these are compared.
        tolerance: Largest difference, absolute up to 1 and relative beyond.

    Returns:
        The largest difference of each output.

    Raises:
        ExportError: naming the output and row with the largest difference.
    """
    return compare(run(saved_model_dir, raw_rows), expected, tolerance, saved_model_dir)


def run(saved_model_dir: str, raw_rows: Rows) -> dict[str, Any]:
    """Returns the exported model's outputs, computed in a new interpreter.

    Raises:
        ExportError: the other process failed.
    """
    with storage.temporary_directory("parity-") as folder:
        rows, result = f"{folder}/rows.npz", f"{folder}/result.npz"
        _write(rows, raw_rows)
        with processes.interpreter(
            "estimator_lib.export.parity", str(saved_model_dir), rows, result,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                _, errors = process.communicate(timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                raise _failed(saved_model_dir, "it gave no answer in time") from error
            finally:
                process.kill()
        lines = [line for line in errors.decode().splitlines() if line.strip()]
        if process.returncode == _RETRY and lines:
            raise StorageError(lines[-1])
        if process.returncode:
            how = processes.describe(process.returncode)
            raise _failed(saved_model_dir, lines[-1] if lines else how)
        return _read(result)


class Checker:
    """A child process forked early that waits for an export to check.

    Enter it before this process runs anything in TensorFlow; entered later it falls back to a
    new interpreter, for a fork of a running TensorFlow would hang.
    """

    def __init__(self) -> None:
        self._child: processes.Child | None = None

    def __enter__(self) -> Self:
        if not runtime_started() and sys.platform == "linux":
            self._child = processes.Child("the check", _answer)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._child is not None:
            self._child.kill()

    def check(
        self, saved_model_dir: str, raw_rows: Rows, expected: Rows, tolerance: float = 1e-5
    ) -> dict[str, float]:
        """Like the function `check`, in the waiting child if there is one; it answers once."""
        child, self._child = self._child, None
        if child is None:
            return check(saved_model_dir, raw_rows, expected, tolerance)
        with storage.temporary_directory("parity-") as folder:
            rows, result = f"{folder}/rows.npz", f"{folder}/result.npz"
            _write(rows, raw_rows)
            child.say([str(saved_model_dir), rows, result])
            failure = child.wait(_TIMEOUT_S).failure
            if isinstance(failure, StorageError):
                raise failure
            if failure is not None:
                raise _failed(saved_model_dir, failure.message.rstrip(".")) from failure
            found = _read(result)
        return compare(found, expected, tolerance, saved_model_dir)


def compare(
    found: Rows, expected: Rows, tolerance: float, saved_model_dir: str
) -> dict[str, float]:
    """Returns the largest difference of each output.

    Raises:
        ExportError: an output is missing, has another shape, or differs too much.
    """
    worst: dict[str, float] = {}
    for name, wanted in expected.items():
        if name not in found:
            raise ExportError(
                f"Exported model {saved_model_dir} lacks the output {name!r}: it has "
                f"{', '.join(sorted(found))}. It was not published.",
            )
        got, want = np.asarray(found[name]), np.asarray(wanted)
        if got.shape != want.shape:
            raise ExportError(
                f"Exported model {saved_model_dir} gives {name!r} another shape: expected "
                f"{want.shape}, got {got.shape}. It was not published.",
            )
        difference = _difference(got, want)
        worst[name] = float(difference.max(initial=0.0))
        if worst[name] > tolerance:
            place = np.unravel_index(int(difference.argmax()), difference.shape)
            raise ExportError(
                f"Exported model {saved_model_dir} disagrees with its trainer: {name!r} of row "
                f"{int(place[0]) if place else 0} was expected to be {quote(want[place])} within "
                f"{tolerance:g}, got {quote(got[place])}; "
                f"{int((difference > tolerance).sum())} of {difference.size} values differ. It "
                "was not published.",
            )
    return worst


def _difference(got: Array, want: Array) -> npt.NDArray[np.float64]:
    if got.dtype.kind in "SUO" or want.dtype.kind in "SUO":
        return np.where(_bytes(got) == _bytes(want), 0.0, np.inf)
    a, b = got.astype(np.float64), want.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    return np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))


def _bytes(values: npt.ArrayLike) -> npt.NDArray[np.object_]:
    flat = [v if isinstance(v, bytes) else str(v).encode() for v in np.asarray(values).ravel()]
    return np.asarray(flat, dtype=object).reshape(np.shape(values))


def _write(path: str, arrays: Rows) -> None:
    """Writes arrays without pickle; strings as their bytes and lengths."""
    stored: dict[str, Any] = {}
    for i, (name, values) in enumerate(arrays.items()):
        array = np.asarray(values)
        stored[f"name{i}"] = np.frombuffer(name.encode(), np.uint8)
        if array.dtype.kind in "SUO":
            items = list(_bytes(array).ravel())
            stored[f"bytes{i}"] = np.frombuffer(b"".join(items), np.uint8)
            stored[f"sizes{i}"] = np.asarray([len(item) for item in items], np.int64)
            stored[f"shape{i}"] = np.asarray(array.shape, np.int64)
        else:
            stored[f"array{i}"] = array
    with open(path, "wb") as sink:
        np.savez(sink, **stored)


def _read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as stored:
        for i in range(sum(key.startswith("name") for key in stored)):
            name = stored[f"name{i}"].tobytes().decode()
            if f"array{i}" in stored:
                found[name] = stored[f"array{i}"]
                continue
            data, ends = stored[f"bytes{i}"].tobytes(), np.cumsum(stored[f"sizes{i}"])
            items = [data[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
            array = np.empty(len(items), dtype=object)
            array[:] = items
            found[name] = array.reshape(stored[f"shape{i}"])
    return found


def _answer(parent: processes.Parent) -> None:
    """The child: waits for a question, and answers it."""
    _predict(*parent.hear())


def _predict(saved_model_dir: str, rows: str, result: str) -> None:
    _write(result, load_model(saved_model_dir).predict(_read(rows), batch_size=4096))


def _failed(saved_model_dir: str, why: str) -> ExportError:
    return ExportError(
        f"Exported model {saved_model_dir} cannot be used in a fresh process: {why}. It was not "
        "published.",
    )


def main(saved_model_dir: str, rows: str, result: str) -> None:
    """What the new interpreter does."""
    try:
        with storage.errors_of_libraries():
            _predict(saved_model_dir, rows, result)
    except EstimatorLibError as error:
        sys.stderr.write(f"{error.message}\n")
        raise SystemExit(error.exit_code) from error
