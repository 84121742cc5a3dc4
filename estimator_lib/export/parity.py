"""Parity: a fresh process loads the export and must say what the trainer said.

Layer 3. The process that trained holds tables, assets and defaults in memory that an export
may lack; only a process that never saw them can tell. `check` starts a new interpreter (about
as long as importing TensorFlow takes); `Checker`, entered before this process uses
TensorFlow, forks a child then, which has the modules but no runtime and no objects, and waits.

    python -m estimator_lib.export.parity SAVED_MODEL ROWS.npz RESULT.npz
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.core import storage
from estimator_lib.core.errors import (
    EstimatorLibError,
    ExportError,
    Reason,
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
        paths = [str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
        # The interpreter and its arguments are ours; nothing comes from the model.
        done = subprocess.run(  # noqa: S603
            [
                sys.executable,
                "-m",
                "estimator_lib.export.parity",
                str(saved_model_dir),
                rows,
                result,
            ],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=environment,
        )
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        if done.returncode == _RETRY and lines:
            raise StorageError(lines[-1], reason=Reason.IO)
        if done.returncode:
            raise _failed(saved_model_dir, lines[-1] if lines else f"exit code {done.returncode}")
        return _read(result)


class Checker:
    """A child process forked early that waits for an export to check.

    Enter it before this process runs anything in TensorFlow; entered later it falls back to a
    new interpreter, for a fork of a running TensorFlow would hang.

    Attributes:
        forked: Whether there is a child.
    """

    def __init__(self) -> None:
        self.forked = False
        self._process: BaseProcess | None = None
        self._pipe: Any = None

    def __enter__(self) -> Checker:
        if runtime_started() or sys.platform != "linux":
            return self
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs, ours), daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._pipe, self.forked = process, ours, True
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is None:
            return
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = None

    def check(
        self, saved_model_dir: str, raw_rows: Rows, expected: Rows, tolerance: float = 1e-5
    ) -> dict[str, float]:
        """Like the function `check`, in the waiting child if there is one."""
        if not self.forked:
            return check(saved_model_dir, raw_rows, expected, tolerance)
        with storage.temporary_directory("parity-") as folder:
            rows, result = f"{folder}/rows.npz", f"{folder}/result.npz"
            _write(rows, raw_rows)
            try:
                self._pipe.send_bytes(json.dumps([str(saved_model_dir), rows, result]).encode())
                if not self._pipe.poll(_TIMEOUT_S):
                    raise _failed(saved_model_dir, "no answer in time")
                problem: EstimatorLibError | None = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise _failed(saved_model_dir, "the child process ended") from error
            if problem is not None:
                raise problem
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
                reason=Reason.DISAGREEMENT,
            )
        got, want = np.asarray(found[name]), np.asarray(wanted)
        if got.shape != want.shape:
            raise ExportError(
                f"Exported model {saved_model_dir} gives {name!r} another shape: expected "
                f"{want.shape}, got {got.shape}. It was not published.",
                reason=Reason.DISAGREEMENT,
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
                reason=Reason.DISAGREEMENT,
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


def _serve(pipe: Connection, other_end: Connection) -> None:
    """The child: answers until the other end closes."""
    other_end.close()
    while True:
        try:
            saved_model_dir, rows, result = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        error: EstimatorLibError | None = None
        try:
            with storage.library_errors():
                _predict(saved_model_dir, rows, result)
        except StorageError as refused:
            error = refused
        except Exception as problem:  # noqa: BLE001 - it is reported to the parent
            error = _failed(saved_model_dir, str(problem) or type(problem).__name__)
        pipe.send(error)


def _predict(saved_model_dir: str, rows: str, result: str) -> None:
    _write(result, load_model(saved_model_dir).predict(_read(rows), batch_size=4096))


def _failed(saved_model_dir: str, why: str) -> ExportError:
    return ExportError(
        f"Exported model {saved_model_dir} cannot be used in a fresh process: {why}. It was not "
        "published.",
        reason=Reason.DISAGREEMENT,
    )


def main(arguments: list[str]) -> int:
    """Entry of the new interpreter."""
    try:
        with storage.library_errors():
            _predict(*arguments)
    except EstimatorLibError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
