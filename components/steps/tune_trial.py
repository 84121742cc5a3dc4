"""What a trial of a search trains, and whether its values are possible."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

import estimator_lib
from components.steps import model as artifact
from components.steps.train import check_metric, fit
from estimator_lib.core import manifest, processes, storage
from estimator_lib.core.config import TrainPart, TunePart
from estimator_lib.core.errors import (
    ConfigError,
    EstimatorLibError,
    Reason,
    StorageError,
    TrainingError,
    quote,
)
from estimator_lib.training.early_stopping import MetricStoppingHook


class Training:
    """What each trial of the step tune does: see `estimator_lib.tuning.trials.Train`.

    Args:
        part: What the tune step reads.
        examples_dir: What preprocess wrote.
        transform_dir: What preprocess wrote.
        parallel: How many trials share this machine.
    """

    def __init__(
        self, part: TunePart, examples_dir: str, transform_dir: str, *, parallel: int
    ) -> None:
        self._part = part
        self._examples = examples_dir
        self._transform = transform_dir
        self._parallel = parallel

    def __call__(
        self, values: Mapping[str, Any], work: pathlib.Path, ask: Callable[[int, float], bool]
    ) -> float | None:
        threads = max(1, len(os.sched_getaffinity(0)) // self._parallel)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        return measure(self._part, values, self._examples, self._transform, work, ask)

    def check(self) -> None:
        """Builds the Estimator with every value of a choice and every bound, in another process.

        Raises:
            ConfigError: one of them is not possible.
        """
        name = "the check of tune.space"
        failure = processes.Child(name, lambda _: self._build_all()).wait().failure
        if failure is not None:
            raise failure

    def _build_all(self) -> None:
        metadata = manifest.read(self._examples, kind="examples").metadata
        columns = artifact.read_columns(self._transform)
        with storage.temporary_directory() as folder:
            for name, parameter in self._part.tune.space.items():
                for value in parameter.extremes:
                    part = self._part.train.with_values({name: value})
                    with _blame(name, value):
                        _build(part, columns, metadata, folder)


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

    def watch(estimator: estimator_lib.Estimator, every: int) -> estimator_lib.Hook:
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
def _blame(name: str, value: object) -> Iterator[None]:
    try:
        with storage.errors_of_libraries():
            yield
    except StorageError:
        raise
    except Exception as error:
        said = error.message if isinstance(error, EstimatorLibError) else f"{error}"
        raise ConfigError(
            f"tune.space {name!r} has the value {quote(value)}: {said}",
        ) from error
