"""Learning rates that change with the step.

Layer 2. A schedule is a function of the step (float32 scalar, 0 at first) that gives the rate,
so a `keras.optimizers.schedules.LearningRateSchedule` or any function is one too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from estimator_lib.core.constraints import NotNegative, Positive, check_fields, check_names
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

Schedule = Callable[[tf.Tensor], tf.Tensor]
Rate = float | Schedule | Mapping[str, object]
"""A learning rate as users write it; see `get_rate`."""


class _Checked:
    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class CosineDecay(_Checked):
    """Falls from `initial` to `initial * alpha` over `decay_steps`, along half a cosine.

    References: Loshchilov and Hutter, SGDR, arXiv 1608.03983.
    """

    initial: NotNegative
    decay_steps: Positive
    alpha: NotNegative = 0.0

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        done = tf.minimum(step / self.decay_steps, 1.0)
        share = 0.5 * (1.0 + tf.cos(math.pi * done))
        return self.initial * ((1.0 - self.alpha) * share + self.alpha)


@dataclasses.dataclass(frozen=True)
class ExponentialDecay(_Checked):
    """initial * rate ** (step / decay_steps)."""

    initial: NotNegative
    decay_steps: Positive
    rate: Positive

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
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
                f"{len(self.values)} values and {len(self.boundaries)} boundaries."
            )

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        passed = tf.reduce_sum(tf.cast(step >= tf.constant(self.boundaries, tf.float32), tf.int32))
        return tf.gather(tf.constant(self.values, tf.float32), passed)


@dataclasses.dataclass(frozen=True)
class WarmUp(_Checked):
    """Rises from 0 to the rate of `after` over `steps` steps; `after` then starts at 0."""

    after: float | Schedule
    steps: NotNegative

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        later = tf.maximum(step - self.steps, 0.0)
        rate = self.after(later) if callable(self.after) else self.after
        return rate * tf.minimum((step + 1.0) / max(self.steps, 1), 1.0)


_BY_NAME: Mapping[str, type[CosineDecay | ExponentialDecay | PiecewiseConstant | WarmUp]] = {
    "cosine": CosineDecay,
    "exponential": ExponentialDecay,
    "piecewise": PiecewiseConstant,
    "warm_up": WarmUp,
}


def get_rate(value: Rate) -> float | Schedule:
    """Returns a learning rate: a number, a function of the step, or what a mapping names.

    Args:
        value: For example 0.05, `CosineDecay(0.05, 10_000)` or, from a file,
            {"name": "warm_up", "steps": 500, "after": {"name": "cosine", ...}}.

    Raises:
        ConfigError: not a rate, or an unknown name or argument.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and value >= 0 and math.isfinite(value):  # type: ignore[operator,arg-type]
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if callable(value):
        return value
    expected = "a number >= 0, a function of the step or a schedule"
    raise ConfigError(f"learning_rate is invalid: expected {expected}, got {quote(value)}.")


def _from_mapping(mapping: Mapping[str, object]) -> Schedule:
    arguments = dict(mapping)
    name = str(arguments.pop("name", None))
    if name not in _BY_NAME:
        raise ConfigError(
            f"Learning rate schedule {name!r} is unknown." + did_you_mean(name, _BY_NAME),
            reason=Reason.UNKNOWN_NAME,
        )
    kind: Callable[..., Schedule] = _BY_NAME[name]
    check_names(f"Learning rate schedule {name!r}", kind, arguments)
    if "after" in arguments:
        arguments["after"] = get_rate(arguments["after"])  # type: ignore[arg-type]
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"Learning rate schedule {name!r} cannot be made: {error}.",
            reason=Reason.MISSING_VALUE,
        ) from error
