"""`Experiment`: an Estimator with its inputs, and a driver that tries hyperparameters.

Layer 4. The paper's notion: whoever runs an experiment (a person, a cluster role, a tuner)
needs to know nothing about the model.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean
from estimator_lib.driver import Evaluator, train_and_evaluate
from estimator_lib.specs import EvalSpec, TrainSpec
from estimator_lib.training import history

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """An Estimator and how to train and evaluate it.

    Args:
        estimator: The Estimator.
        train_input_fn: Training data.
        eval_input_fn: Evaluation data.
        train_steps: The global step to end at; None for the end of the input.
        eval_steps: Batches per evaluation; None for all.
        eval_every_steps: Training steps between evaluations; by default as `EvalSpec`.
        train_hooks: Run during training.
        eval_hooks: Run during evaluation.
        exporters: Called after evaluations.
    """

    estimator: Any
    train_input_fn: Callable[..., Any]
    eval_input_fn: Callable[..., Any]
    train_steps: int | None = None
    eval_steps: int | None = None
    eval_every_steps: int | None = None
    train_hooks: Sequence[Any] = ()
    eval_hooks: Sequence[Any] = ()
    exporters: Sequence[Any] = ()

    def train(self) -> Any:
        """Trains; returns the Estimator."""
        return self.estimator.train(
            self.train_input_fn, hooks=self.train_hooks, max_steps=self.train_steps
        )

    def evaluate(self, name: str | None = None) -> dict[str, Any]:
        """Evaluates the newest checkpoint."""
        return dict(
            self.estimator.evaluate(
                self.eval_input_fn, steps=self.eval_steps, hooks=self.eval_hooks, name=name
            )
        )

    def evaluate_on_train_data(self, steps: int | None = None) -> dict[str, Any]:
        """Evaluates on training data, to see both curves; results go to `eval_on_train`."""
        return dict(self.estimator.evaluate(self.train_input_fn, steps=steps, name="on_train"))

    def train_and_evaluate(self) -> Any:
        """Trains, evaluating now and then and at the end."""
        spec = TrainSpec(self.train_input_fn, self.train_steps, self.train_hooks)
        return train_and_evaluate(self.estimator, spec, self._eval_spec())

    def continuous_eval(self) -> Any:
        """Follows another process's checkpoints until its training has finished."""
        return Evaluator(self.estimator, [self._eval_spec()], self.train_steps).follow()

    def test(self) -> Any:
        """Trains one step and evaluates one batch: does everything fit together?"""
        self.estimator.train(self.train_input_fn, steps=1)
        return self.estimator.evaluate(self.eval_input_fn, steps=1)

    def _eval_spec(self) -> EvalSpec:
        return EvalSpec(
            self.eval_input_fn,
            steps=self.eval_steps,
            hooks=self.eval_hooks,
            exporters=tuple(self.exporters),
            every_steps=self.eval_every_steps,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    """A number between two; `log` draws its logarithm uniformly, `integer` rounds it."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def draw(self, rng: np.random.Generator) -> float | int:
        """Returns a number."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return round(value) if self.integer else float(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One try: its hyperparameters, metrics (None if it failed) and model directory."""

    number: int
    params: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    model_dir: str
    error: str | None = None


def tune(
    experiment_fn: Callable[[Mapping[str, Any], str], Experiment],
    space: Mapping[str, Uniform | Sequence[Any]],
    *,
    output_dir: str,
    trials: int,
    metric: str = "loss",
    higher_is_better: bool = False,
    seed: int = 1,
) -> list[Trial]:
    """Tries hyperparameters drawn at random and returns the trials, best first.

    Args:
        experiment_fn: Makes the experiment of given hyperparameters and model directory.
        space: Hyperparameter name to `Uniform` or a list of choices.
        output_dir: Parent of the trials' directories; `trials.json` is written there.
        trials: How many.
        metric: Of the last evaluation, to order by; a trial without it comes last.
        higher_is_better: Direction.
        seed: Of the draws; the same seed draws the same trials.

    Raises:
        ConfigError: an argument is wrong, or no trial reports the metric.
    """
    if trials < 1 or not space:
        raise ConfigError(
            f"tune() needs at least one trial and one hyperparameter, got trials={trials} and "
            f"{len(space)} hyperparameters.",
        )
    rng = np.random.default_rng(seed)
    found = []
    for number in range(trials):
        params = {name: _draw(values, rng) for name, values in space.items()}
        found.append(_try(experiment_fn, params, number, f"{output_dir}/trial-{number:03d}"))
        storage.write_json(pathlib.Path(output_dir) / "trials.json", [_plain(t) for t in found])
    known = {name for trial in found for name in trial.metrics or ()}
    if known and metric not in known:
        raise ConfigError(
            f"tune() orders by the metric {metric!r}, which no trial reports."
            + did_you_mean(metric, known),
            reason=Reason.UNKNOWN_NAME,
        )

    def key(trial: Trial) -> tuple[bool, float]:
        value = (trial.metrics or {}).get(metric)
        if value is None or not math.isfinite(float(value)):
            return True, 0.0
        return False, -float(value) if higher_is_better else float(value)

    return sorted(found, key=key)


def _try(
    experiment_fn: Callable[[Mapping[str, Any], str], Experiment],
    params: Mapping[str, Any],
    number: int,
    model_dir: str,
) -> Trial:
    try:
        metrics, _ = experiment_fn(params, model_dir).train_and_evaluate()
    except Exception as error:  # noqa: BLE001 - a bad choice must not end the search
        _log.warning("Trial %d with %s failed: %s", number, params, error)
        return Trial(
            number=number, params=params, metrics=None, model_dir=model_dir, error=str(error)
        )
    return Trial(number=number, params=params, metrics=metrics, model_dir=model_dir)


def _draw(values: Uniform | Sequence[Any], rng: np.random.Generator) -> Any:
    if isinstance(values, Uniform):
        return values.draw(rng)
    return values[int(rng.integers(len(values)))]


def _plain(trial: Trial) -> dict[str, Any]:
    content = dataclasses.asdict(trial)
    content["params"] = history.plain(trial.params)
    content["metrics"] = history.plain(trial.metrics) if trial.metrics is not None else None
    return content
