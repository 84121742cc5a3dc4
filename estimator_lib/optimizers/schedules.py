"""Learning rates that change with the step.

Layer 2. A schedule is a function of the step (float32 scalar, 0 at first) that gives the rate,
so a `keras.optimizers.schedules.LearningRateSchedule` or any function is one too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

Schedule = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class CosineDecay:
    """Falls from `initial` to `initial * alpha` over `decay_steps`, along half a cosine."""

    initial: float
    decay_steps: int
    alpha: float = 0.0

    def __call__(self, step: Any) -> tf.Tensor:
        done = tf.minimum(step / self.decay_steps, 1.0)
        share = 0.5 * (1.0 + tf.cos(math.pi * done))
        return self.initial * ((1.0 - self.alpha) * share + self.alpha)


@dataclasses.dataclass(frozen=True)
class ExponentialDecay:
    """initial * rate ** (step / decay_steps)."""

    initial: float
    decay_steps: int
    rate: float

    def __call__(self, step: Any) -> tf.Tensor:
        return self.initial * tf.pow(self.rate, step / self.decay_steps)


@dataclasses.dataclass(frozen=True)
class PiecewiseConstant:
    """values[i] while boundaries[i-1] <= step < boundaries[i]."""

    boundaries: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ConfigError(
                "PiecewiseConstant is invalid: expected one value more than boundaries, got "
                f"{len(self.values)} values and {len(self.boundaries)} boundaries.",
                reason=Reason.INVALID_VALUE,
            )

    def __call__(self, step: Any) -> tf.Tensor:
        passed = tf.reduce_sum(tf.cast(step >= tf.constant(self.boundaries, tf.float32), tf.int32))
        return tf.gather(tf.constant(self.values, tf.float32), passed)


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Rises from 0 to the rate of `after` over `steps` steps; `after` then starts at 0."""

    after: float | Schedule
    steps: int

    def __call__(self, step: Any) -> tf.Tensor:
        later = self.after if isinstance(self.after, int | float) else None
        rate = later if later is not None else self.after(tf.maximum(step - self.steps, 0.0))  # type: ignore[operator]
        return rate * tf.minimum((step + 1.0) / max(self.steps, 1), 1.0)


_BY_NAME: dict[str, Any] = {
    "cosine": CosineDecay,
    "exponential": ExponentialDecay,
    "piecewise": PiecewiseConstant,
    "warm_up": WarmUp,
}


def get_rate(value: Any) -> float | Schedule:
    """Returns a learning rate: a number, a function of the step, or what a mapping names.

    Args:
        value: For example 0.05, `CosineDecay(0.05, 10_000)` or, from a file,
            {"name": "warm_up", "steps": 500, "after": {"name": "cosine", ...}}.

    Raises:
        ConfigError: not a rate, or an unknown name or argument.
    """
    if isinstance(value, bool):
        raise _invalid(value)
    if isinstance(value, int | float):
        if not (value >= 0 and math.isfinite(value)):
            raise _invalid(value)
        return float(value)
    if isinstance(value, dict):
        arguments = dict(value)
        name = str(arguments.pop("name", None))
        if name not in _BY_NAME:
            raise ConfigError(
                f"Learning rate schedule {name!r} is unknown." + did_you_mean(name, _BY_NAME),
                reason=Reason.UNKNOWN_NAME,
            )
        kind = _BY_NAME[name]
        known = [field.name for field in dataclasses.fields(kind)]
        for argument in arguments:
            if argument not in known:
                raise ConfigError(
                    f"Learning rate schedule {name!r} has no argument {argument!r}."
                    + did_you_mean(argument, known),
                    reason=Reason.UNKNOWN_NAME,
                )
        if "after" in arguments:
            arguments["after"] = get_rate(arguments["after"])
        try:
            return kind(**arguments)
        except TypeError as error:
            raise ConfigError(
                f"Learning rate schedule {name!r} cannot be made: {error}.",
                reason=Reason.MISSING_VALUE,
            ) from error
    if callable(value):
        return value
    raise _invalid(value)


def _invalid(value: object) -> ConfigError:
    return ConfigError(
        "learning_rate is invalid: expected a number >= 0, a function of the step or a schedule, "
        f"got {quote(value)}.",
        reason=Reason.INVALID_VALUE,
    )
