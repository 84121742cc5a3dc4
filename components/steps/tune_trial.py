"""Trials of a search, each in a process of its own.

A process is forked from one that has imported TensorFlow but not used it: a trial starts at once,
its memory is gone when it ends, and one that is killed ends alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, Self

import tensorflow as tf

import estimator_lib
from components.steps import model as artifact
from components.steps.train import check_metric, fit
from estimator_lib.core import manifest, storage
from estimator_lib.core.config import TrainPart, TunePart
from estimator_lib.core.errors import (
    ConfigError,
    EstimatorLibError,
    PipelineError,
    Reason,
    StorageError,
    TrainingError,
    quote,
)
from estimator_lib.training.early_stopping import MetricStoppingHook
from estimator_lib.tuning.search import Ended, Evaluated

_PR_SET_PDEATHSIG = 1


class Forked:
    """Runs trials in forked processes; use as a context manager.

    Args:
        part: What the tune step reads.
        examples_dir: What preprocess wrote.
        transform_dir: What preprocess wrote.
        directory: Gets a directory per running trial; a killed trial goes on from there.
    """

    def __init__(
        self, part: TunePart, examples_dir: str, transform_dir: str, directory: pathlib.Path
    ) -> None:
        self._part = part
        self._examples = examples_dir
        self._transform = transform_dir
        self._directory = directory
        self._context = multiprocessing.get_context("fork")
        self._running: dict[int, tuple[Any, Any]] = {}
        self.parallel = min(part.tune.parallel, len(os.sched_getaffinity(0)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process, _ in self._running.values():
            process.kill()
            process.join()

    def check(self) -> None:
        """Builds the Estimator with every value of a choice and every bound.

        Raises:
            ConfigError: one of them is not possible.
        """
        ours, theirs = self._context.Pipe()
        process = self._fork(theirs, self._build_all)
        said = _hear(ours)
        process.join()
        ended = _ended(said, process.exitcode, "the check of tune.space")
        if ended.failure is not None:
            raise ended.failure

    def start(self, number: int, values: Mapping[str, Any]) -> None:
        """Starts a trial."""
        ours, theirs = self._context.Pipe()
        with _interrupts_put_off():
            process = self._fork(theirs, lambda: self._try(number, values, theirs))
            self._running[number] = (process, ours)

    def wait(self) -> tuple[int, Evaluated | Ended]:
        """Returns the next thing that a running trial says."""
        ends = {ours: number for number, (_, ours) in self._running.items()}
        ready = multiprocessing.connection.wait(list(ends))[0]
        number = ends[ready]
        process, ours = self._running[number]
        said = _hear(ours)
        if said is not None and "step" in said:

            def decide(stop: bool) -> None:
                with contextlib.suppress(OSError):  # it died: the next thing it says
                    ours.send_bytes(b"stop" if stop else b"")

            return number, Evaluated(step=said["step"], value=said["value"], decide=decide)
        process.join()
        del self._running[number]
        ours.close()
        ended = _ended(said, process.exitcode, f"trial {number}")
        if ended.failure is None or not ended.failure.retryable:
            storage.remove(self._work(number))
        return number, ended

    def _work(self, number: int) -> pathlib.Path:
        return self._directory / f"trial-{number:04d}"

    def _fork(self, theirs: Any, body: Callable[[], float | None]) -> Any:
        process = self._context.Process(target=_child, args=(theirs, body, os.getpid()))
        process.start()
        theirs.close()
        return process

    def _build_all(self) -> None:
        metadata = manifest.read(self._examples, kind="examples").metadata
        columns = artifact.read_columns(self._transform)
        with storage.temporary_directory() as folder:
            for name, parameter in self._part.tune.space.items():
                for value in parameter.extremes:
                    part = self._part.train.with_values({name: value})
                    with _blamed_on(name, value):
                        _build(part, columns, metadata, folder)

    def _try(self, number: int, values: Mapping[str, Any], theirs: Any) -> float | None:
        threads = max(1, len(os.sched_getaffinity(0)) // self.parallel)
        tf.config.threading.set_intra_op_parallelism_threads(threads)

        def ask(step: int, value: float) -> bool:
            return _asked(theirs, step, value)

        return measure(self._part, values, self._examples, self._transform, self._work(number), ask)


def measure(
    part: TunePart,
    values: Mapping[str, Any],
    examples_dir: str,
    transform_dir: str,
    work: pathlib.Path,
    ask: Callable[[int, float], bool],
) -> float | None:
    """Trains with values of the space; returns the metric of the last evaluation.

    Args:
        part: What the tune step reads.
        values: By the names of `Tune.space`.
        examples_dir: What preprocess wrote.
        transform_dir: What preprocess wrote.
        work: The model directory.
        ask: Called with step and metric of each evaluation; true ends the training there.

    Returns:
        None if `ask` ended it.

    Raises:
        ConfigError: the model has no such metric.
        TrainingError: the metric is not a finite number.
    """
    tune = part.tune
    stopped: list[int] = []

    class Reporter(MetricStoppingHook):
        """Tells every evaluation once, in order."""

        told = -1

        def _stop_now(self) -> bool:
            check_metric(self._estimator, tune.metric, "tune.metric")
            for step, value in self.results():
                if step > self.told and not stopped:
                    self.told = step
                    if ask(step, value):
                        stopped.append(step)
            return bool(stopped)

    def watch(estimator: Any, every: int) -> Any:
        return Reporter(
            estimator, tune.metric, higher_is_better=tune.direction == "max",
            run_every_secs=None, run_every_steps=every,
        )  # fmt: skip

    metadata = manifest.read(examples_dir, kind="examples").metadata
    columns = artifact.read_columns(transform_dir)
    _, _, metrics = fit(
        of_trial(part, values), columns, examples_dir, metadata, storage.make_directory(work),
        watch=watch,
    )  # fmt: skip
    if stopped:
        return None
    split = "validation" if "validation" in metadata["splits"] else "eval"
    value = metrics.get(f"{split}_{tune.metric}")
    if value is None:
        raise TrainingError(
            f"Metric {tune.metric!r} is not a finite number at the end of the training.",
            reason=Reason.NOT_FINITE,
        )
    return value


def of_trial(part: TunePart, values: Mapping[str, Any]) -> TrainPart:
    """Returns what a trial trains: the values put in, for as long as `tune` says."""
    length: dict[str, Any] = {"calibration": None}  # trials are compared before it
    if part.tune.max_steps is not None:
        length |= {"max_steps": part.tune.max_steps, "epochs": None}
    if part.tune.evaluate_every_steps is not None:
        length["evaluate_every_steps"] = part.tune.evaluate_every_steps
    tried = part.train.with_values(values)
    return tried.model_copy(update={"train": tried.train.model_copy(update=length)})


def _build(
    part: TrainPart, columns: Mapping[str, Any], metadata: Mapping[str, Any], folder: str
) -> None:
    artifact.build_estimator(part, columns, metadata, estimator_lib.RunConfig(model_dir=folder))


@contextlib.contextmanager
def _blamed_on(name: str, value: Any) -> Iterator[None]:
    try:
        with storage.library_errors():
            yield
    except StorageError:
        raise
    except Exception as error:
        said = error.message if isinstance(error, EstimatorLibError) else f"{error}"
        raise ConfigError(
            f"tune.space {name!r} has the value {quote(value)}: {said}",
            reason=Reason.INVALID_VALUE,
        ) from error


@contextlib.contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Raises an interrupt after the block: while a process forks, Python would lose it."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _child(connection: Any, body: Callable[[], float | None], parent: int) -> NoReturn:
    """Becomes a trial: runs `body`, says how it ended, and never returns."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    code = 1
    try:
        try:
            with storage.library_errors():
                said: dict[str, Any] = {"value": body()}
        except EstimatorLibError as error:
            said = {"error": error}
        except Exception as error:  # noqa: BLE001 - a bad choice must not end the search
            sys.excepthook(*sys.exc_info())
            problem = f"{type(error).__name__}: {error}"
            said = {"error": PipelineError(problem, reason=Reason.STEP_FAILED)}
        connection.send(said)
        code = 0
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)  # thread pools of TensorFlow would hold up a normal exit


def _asked(connection: Any, step: int, value: float) -> bool:
    """Tells the parent an evaluation; returns whether the trial should end there."""
    connection.send({"step": step, "value": value})
    return bool(connection.recv_bytes() == b"stop")


def _hear(connection: Any) -> dict[str, Any] | None:
    """Returns what a child says next, or None if it is gone."""
    try:
        said: dict[str, Any] = connection.recv()
    except (EOFError, OSError):
        return None
    return said


def _ended(said: Mapping[str, Any] | None, code: int | None, what: str) -> Ended:
    if said is None:
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"{signal.Signals(-code).name}; it may have run out of memory"
        problem = f"The process of {what} was ended by {how}."
        return Ended(failure=PipelineError(problem, reason=Reason.STEP_FAILED))
    if "error" not in said:
        return Ended(value=said["value"])
    return Ended(failure=said["error"])
