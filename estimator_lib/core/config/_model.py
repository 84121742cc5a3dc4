"""Which model, how it is trained, what it must show and how it is published."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core.config._section import Section


class Estimator(Section):
    """Which model: a ready-made one by name, or a function of your own."""

    name: str | None = None
    """A class of `estimator_lib`, such as DNNLinearCombinedClassifier, or"""
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """`module:function`, called with the columns by name, `config` and `args`."""
    args: dict[str, Any] = {}
    """Constructor arguments; arguments named *feature_columns list columns by name."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.function is None):
            raise ValueError("give exactly one of name, function")
        return self


class EarlyStopping(Section):
    """Stop when a metric of the validation split stops improving, and keep the best weights."""

    metric: str = "loss"
    """A metric of the head, such as loss, auc or average_loss."""
    direction: Literal["min", "max"] = "min"
    """Whether smaller or larger is better."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Evaluations without improvement before stopping."""


class Train(Section):
    """How long and on how much at a time."""

    batch_size: Annotated[int, Field(ge=1)] = 512
    """Rows per step."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the train split, or"""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """steps in all."""
    evaluate_every_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between evaluations and checkpoints; by default about one epoch."""
    early_stopping: EarlyStopping | None = None
    """When to stop early; never, if not given."""
    seed: int = 1
    """Of initial weights, dropout and shuffling."""
    warm_start: Literal["serving"] | None = None
    """"serving": pipeline continuous_training starts from the weights of the serving model."""

    @pydantic.model_validator(mode="after")
    def _length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give exactly one of epochs, max_steps")
        return self


class Threshold(Section):
    """Bounds on one metric of the whole eval split."""

    min: float | None = None
    """The metric must be at least this."""
    max: float | None = None
    """The metric must be at most this."""

    @pydantic.model_validator(mode="after")
    def _some(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class Change(Section):
    """Bounds on how much one metric may differ from that of the serving model.

    The difference is new minus serving, both measured on the same eval rows.
    """

    min: float | None = None
    """The difference must be at least this; 0.002 asks for a gain, -0.002 allows a loss."""
    max: float | None = None
    """The difference must be at most this."""

    @pydantic.model_validator(mode="after")
    def _some(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class Evaluate(Section):
    """What the finished model must show."""

    slices: list[str] = []
    """Raw fields by whose values metrics are also computed."""
    thresholds: dict[str, Threshold] = {}
    """Bounds on metrics; without any, the verdict is not_evaluated and nothing is exported."""
    changes: dict[str, Change] = {}
    """Bounds on the difference of metrics to those of the model that is serving."""
    needs_baseline: bool = True
    """Whether, with changes given and no model serving yet, the verdict is not_evaluated; else
    the thresholds alone decide."""
    min_slice_rows: Annotated[int, Field(ge=1)] = 100
    """Slices with fewer rows are counted but not shown."""


class Export(Section):
    """How the model is published."""

    keep_versions: Annotated[int, Field(ge=1)] = 5
    """Older versions beyond this many are removed; the newest always stays."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    """Largest difference allowed between the exported model and the trainer."""
