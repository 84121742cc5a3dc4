"""Which arguments are searched, how, and for how long."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.section import Count, Plain, Section, Seed, Several

_ARGUMENTS = "estimator.args."
_TRAINING = ("train.batch_size",)
_Numbers = Annotated[list[float], Field(min_length=2, max_length=2)]
_Integers = Annotated[list[int], Field(min_length=2, max_length=2)]


class Parameter(Section):
    """The values of one argument: exactly one kind."""

    choice: Annotated[list[Plain], Field(min_length=1)] | None = None
    """Any of these values: numbers, texts, lists, mappings."""
    uniform: _Numbers | None = None
    """A number between two."""
    log_uniform: _Numbers | None = None
    """A number between two, the same share for each order of magnitude."""
    integer: _Integers | None = None
    """A whole number between two, both included."""
    log_integer: _Integers | None = None
    """The same, the same share for each order of magnitude."""

    @property
    def range(self) -> list[float] | list[int] | None:
        """Lower and upper bound; None for a choice."""
        return self.uniform or self.log_uniform or self.integer or self.log_integer

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return (self.integer or self.log_integer) is not None

    @property
    def log(self) -> bool:
        """Whether the logarithm is drawn uniformly."""
        return (self.log_uniform or self.log_integer) is not None

    @property
    def extremes(self) -> list[Any]:
        """The values that show whether all are possible: every choice, or both bounds."""
        return list(self.choice or self.range or ())

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"give exactly one of {kinds}; got {given or 'none'}")
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"expected a lower and a higher number, got [{low}, {high}]")
            if self.log and low <= 0:
                raise ValueError(f"a logarithm needs numbers above 0, got [{low}, {high}]")
        return self


class Tune(Section):
    """A search for the arguments that make the best model; for pipeline tuned_training."""

    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    """What varies: `estimator.args.<argument>`, or deeper, such as
    `estimator.args.dnn_optimizer.learning_rate`; or `train.batch_size`."""
    metric: str = "loss"
    """A metric of the model's evaluation during training, on the validation split (without one,
    on the eval split, whose judgement of the model is then too kind)."""
    direction: Literal["min", "max"] = "min"
    """Whether smaller or larger is better."""
    trials: Several = 20
    """How many trainings."""
    sampler: Literal["random", "tpe"] = "tpe"
    """How values are drawn: independently, or where earlier trials were good."""
    pruner: Literal["halving", "none"] = "none"
    """Whether trials end early: by successive halving, one of `keep_one_of` goes on beyond 1,
    3, 9, ... evaluations."""
    keep_one_of: Annotated[int, Field(ge=2, le=1_000_000)] = 3
    """The factor of successive halving."""
    max_steps: Count | None = None
    """Steps of a trial; by default as long as `train` says."""
    evaluate_every_steps: Count | None = None
    """Steps between the evaluations of a trial; by default as `train` says."""
    parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    """Trials at once, at most `trials`. With one, the same seed finds the same arguments."""
    seed: Seed = 1
    """Of the values drawn."""
    separate_tasks: bool = False
    """Whether every trial is a task of its own on the cluster, with its own resources; needs
    sampler random and pruner none, for such trials do not know of each other."""

    @property
    def arguments(self) -> set[str]:
        """The constructor's arguments that are searched, in whole or in part."""
        names = (n.removeprefix(_ARGUMENTS) for n in self.space if n.startswith(_ARGUMENTS))
        return {name.partition(".")[0] for name in names}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.space:
            argument = name.startswith(_ARGUMENTS) and all(name.split("."))
            if not argument and name not in _TRAINING:
                raise ValueError(
                    f"space {quote(name)} cannot be searched; expected {_ARGUMENTS}<argument> or "
                    f"{', '.join(_TRAINING)}"
                )
        if self.parallel > self.trials:
            raise ValueError(
                f"parallel {self.parallel} is more than trials {self.trials}; at most all trials "
                "can run at once"
            )
        if self.separate_tasks and (self.sampler, self.pruner) != ("random", "none"):
            raise ValueError(
                "separate_tasks needs sampler random and pruner none, for such trials do not know "
                f"of each other; got sampler {self.sampler} and pruner {self.pruner}"
            )
        return self


def apply(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration, or a part of one, with values put in.

    Args:
        content: Sections as plain mappings, with `estimator` and `train`.
        values: By the names of `Tune.space`.

    Raises:
        ConfigError: a name leads through something that is no mapping.
    """
    result = copy.deepcopy(dict(content))
    for name, value in values.items():
        place: Any = result
        *path, last = name.split(".")
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(
                    f"tune.space {name!r} cannot be set: {part!r} is {quote(place)}, expected a "
                    "mapping. Write it as one, such as {name: Adam, learning_rate: 0.1}.",
                    reason=Reason.TYPE_MISMATCH,
                )
        place[last] = copy.deepcopy(value)
    return result
