"""Which model, how it is trained, what it must show and how it is published."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core.section import Count, Plain, Section, Seed, Several


class Estimator(Section):
    """Which model: a ready-made one by name, or a function of your own."""

    name: str | None = None
    """A class of `estimator_lib`, such as DNNLinearCombinedClassifier, or"""
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """`module:function`, called with the columns by name, `config` and `args`."""
    args: dict[str, Plain] = {}
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
    patience: Several = 3
    """Evaluations without improvement before stopping."""


class Processes(Section):
    """Processes that train one model together on the machine, or in the pod, of the step."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """How many train; the first is the chief."""
    parameter_servers: Annotated[int, Field(ge=0, le=64)] = 0
    """How many hold the variables; only in mode async, and at least one there."""
    evaluator: bool = True
    """Whether one more evaluates checkpoints meanwhile; early_stopping needs it."""
    mode: Literal["sync", "async"] = "sync"
    """sync: every step is shared by all, as of one process; async: each works at its own pace."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "sync" and self.parameter_servers:
            raise ValueError(
                f"mode sync has no parameter_servers, got {self.parameter_servers}; remove them, "
                "or set mode async"
            )
        if self.mode == "sync" and self.workers < 2:
            raise ValueError(f"mode sync needs at least 2 workers, got {self.workers}")
        if self.mode == "async" and not self.parameter_servers:
            raise ValueError("mode async needs parameter_servers: 1 or more")
        return self

    @property
    def tasks(self) -> dict[str, int]:
        """How many processes each role has, without those that have none."""
        counts = {
            "ps": self.parameter_servers,
            "chief": 1,
            "worker": self.workers - 1,
            "evaluator": int(self.evaluator),
        }
        return {role: count for role, count in counts.items() if count}


class Train(Section):
    """How long and on how much at a time."""

    batch_size: Annotated[int, Field(ge=1, le=1 << 24)] = 512
    """Rows per step; with cluster, in mode async, of one worker."""
    epochs: Several | None = None
    """Passes over the train split, or"""
    max_steps: Count | None = None
    """steps in all."""
    evaluate_every_steps: Count | None = None
    """Steps between evaluations and checkpoints; by default about one epoch."""
    early_stopping: EarlyStopping | None = None
    """When to stop early; never, if not given."""
    seed: Seed = 1
    """Of initial weights, dropout and shuffling."""
    calibration: Literal["platt", "temperature"] | None = None
    """How probabilities are corrected, by a fit to the validation split (or eval, if there is
    none) after training: "platt" by scale and shift of the logit, for two classes, "temperature"
    by scale. What is evaluated and published has the correction."""
    warm_start: Literal["serving"] | None = None
    """"serving": pipeline continuous_training starts from the weights of the serving model."""
    cluster: Processes | None = None
    """Several processes that train together; one, if not given. Trials of `tune` train in one."""

    @pydantic.model_validator(mode="after")
    def _length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give exactly one of epochs, max_steps")
        return self

    @pydantic.model_validator(mode="after")
    def _shared(self) -> Self:
        if self.cluster is None:
            return self
        if self.early_stopping is not None and not self.cluster.evaluator:
            raise ValueError("early_stopping needs cluster.evaluator: true")
        if self.warm_start is not None:
            raise ValueError("warm_start is for one process: remove it, or cluster")
        workers = self.cluster.workers
        if self.cluster.mode == "sync" and self.batch_size % workers:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared by {workers} workers; use "
                f"{max(1, self.batch_size // workers) * workers}"
            )
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
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no metric is at least {self.min:g} and at most {self.max:g}")
        return self


class Change(Threshold):
    """Bounds on how much one metric may differ from that of the serving model.

    The difference is new minus serving, both measured on the same eval rows: a min of 0.002
    asks for a gain, one of -0.002 allows a loss.
    """

    confident: bool = False
    """Whether the whole 95% interval of the difference must be within the bounds."""


class SliceThreshold(Threshold):
    """Bounds on one metric of every slice, or on its difference to the serving model."""

    min_rows: Count | None = None
    """Only slices with at least so many rows are checked; by default min_slice_rows."""
    beyond_chance: bool = False
    """Whether a slice misses a bound only where its whole 95% interval is outside."""


class Importance(Section):
    """How feature importance is measured: raw fields are shuffled, one at a time."""

    rows: Annotated[int, Field(ge=0, le=10_000_000)] = 2000
    """Eval rows to do it on, drawn at random; 0 switches it off."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
    """Shuffles of each field."""
    seed: Seed = 1
    """Of the rows drawn and of the shuffles."""


def _fields(given: object) -> object:
    if isinstance(given, str):
        return given
    fields = given if isinstance(given, list) else []
    distinct = {field for field in fields if isinstance(field, str)}
    if len(distinct) < 2 or len(distinct) < len(fields):
        raise ValueError(f"expected a field, or at least 2 different fields to cross, got {given}")
    return given


Slicing = Annotated[str | list[str], pydantic.BeforeValidator(_fields)]


class Evaluate(Section):
    """What the finished model must show."""

    slices: list[Slicing] = []
    """Raw fields by whose values metrics are also computed; a list of fields stands for the
    combinations of their values."""
    min_slice_rows: Count = 100
    """Slices with fewer rows are counted but not measured."""
    max_slices: Several = 200
    """Slices of one field to list; more are measured, checked and counted."""
    thresholds: dict[str, Threshold] = {}
    """Bounds on metrics; without any, the verdict is not_evaluated and nothing is exported."""
    slice_thresholds: dict[str, SliceThreshold] = {}
    """Bounds on metrics of every slice."""
    changes: dict[str, Change] = {}
    """Bounds on the difference of metrics to those of the model that is serving."""
    slice_changes: dict[str, SliceThreshold] = {}
    """Bounds on that difference in every slice, such as {auc: {min: -0.02}}."""
    needs_baseline: bool = True
    """Whether, with changes given and no model serving yet, the verdict is not_evaluated; else
    the thresholds alone decide."""
    quantiles: list[Annotated[float, Field(gt=0, lt=1)]] = []
    """Levels that a model with a QuantileRegressionHead predicts of each label that is a number;
    else it predicts the number."""
    importance: Importance = Importance()
    """Of the raw fields."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        for section in ("slice_thresholds", "slice_changes"):
            given: dict[str, SliceThreshold] = getattr(self, section)
            if given and not self.slices:
                raise ValueError(f"{section} needs slices")
            for name, bound in given.items():
                if bound.min_rows is not None and bound.min_rows < self.min_slice_rows:
                    raise ValueError(
                        f"{section}.{name}.min_rows is {bound.min_rows}, but slices of fewer than "
                        f"min_slice_rows = {self.min_slice_rows} rows are not measured"
                    )
        twice = [item for at, item in enumerate(self.slices) if item in self.slices[:at]]
        if twice:
            raise ValueError(f"slices lists {twice[0]} twice")
        if any(a >= b for a, b in itertools.pairwise(self.quantiles)):
            raise ValueError("quantiles must be in ascending order")
        return self

    @property
    def compares(self) -> bool:
        """Whether the serving model is asked for."""
        return bool(self.changes or self.slice_changes)

    @property
    def reads_raw(self) -> bool:
        """Whether the eval rows are needed as they were: to shuffle, or for the serving model."""
        return self.compares or self.importance.rows > 0

    @property
    def slicing_fields(self) -> list[str]:
        """The raw fields that slices are made of, sorted."""
        listed = [[item] if isinstance(item, str) else item for item in self.slices]
        return sorted({field for fields in listed for field in fields})


class Export(Section):
    """How the model is published."""

    keep_versions: Several = 5
    """Older versions beyond this many are removed; the newest always stays."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    """Largest difference allowed between the exported model and the trainer."""
    needs_comparison: bool = False
    """Whether a model that is serving is replaced only by one that was compared with it; always
    so in pipeline continuous_training."""
    warmup_rows: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Raw rows of the eval split that TF Serving asks each signature for before it serves the
    model; 8 by default. They are in the model's directory for all who read it: 0 writes none."""
