"""A whole run, and the part of it that each step reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core import columns as fc
from estimator_lib.core import constructors, labels
from estimator_lib.core.config._cluster import Cluster, Schedule
from estimator_lib.core.config._columns import ColumnSpec, build_columns
from estimator_lib.core.config._data import (
    Data,
    DataSchema,
    Label,
    Labels,
    UserFunction,
    by_head,
    described,
)
from estimator_lib.core.config._model import Estimator, Evaluate, Export, Train
from estimator_lib.core.config._predict import Predict, PredictPart
from estimator_lib.core.config._tune import Tune, apply
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.core.section import Name, Section, explain

Pipeline = Literal["training", "tuned_training", "batch_prediction", "continuous_training"]


class RunConfiguration(Section):
    """A whole run."""

    name: Name
    """Of the pipeline; lower case, digits and hyphens."""
    description: str = ""
    """One sentence: what the model predicts; for the report."""
    pipeline: Pipeline = "training"
    """Which pipeline runs, is compiled and is submitted."""
    data: Data
    data_schema: DataSchema | None = None
    """What the data must be like; without it, statistics are written and nothing is judged."""
    label: Label | None = None
    """What the model learns to predict, or"""
    labels: Labels | None = None
    """several things, each by its name; a model has a head of that name for each."""
    weight: str | None = None
    """A numeric field with the weight of each row (at least 0)."""
    preprocess: UserFunction | None = None
    """A function of your own between the raw fields and the columns."""
    columns: Annotated[dict[str, ColumnSpec], Field(min_length=1)]
    """The feature columns, by name."""
    estimator: Estimator
    train: Train
    tune: Tune | None = None
    """Which arguments pipeline tuned_training searches, and how."""
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    predict: Predict | None = None
    """What pipeline batch_prediction scores."""
    cluster: Cluster = Cluster()
    schedule: Schedule | None = None
    """When it runs by itself; `estimator-pipelines schedule apply` puts it on a cluster."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        built = build_columns(self.columns)
        self._check_roles({*fc.raw_fields(built.values()), *self._function_fields})
        self._check_named(fc.raw_fields(built.values()))
        self._check_features(fc.feature_sources(built.values()))
        for read in self._function_fields:
            if read not in self.data.kinds:
                raise ConfigError(
                    f"Field {read!r} of preprocess.fields has no type: expected it under "
                    "data.types or data.fields. Declare it." + did_you_mean(read, self.data.kinds),
                    reason=Reason.UNKNOWN_NAME,
                )
        self._check_several_values()
        if (
            self.data_schema is not None
            and self.data_schema.on_anomaly == "quarantine"
            and self.data.on_bad_rows != "quarantine"
        ):
            raise ConfigError(
                "data_schema.on_anomaly is 'quarantine', but data.on_bad_rows is 'fail'. Set both, "
                "and data.max_bad_fraction.",
                reason=Reason.CONFLICT,
            )
        fc.check_list_fields(built.values(), self.data.fields)
        constructors.check_arguments(self.estimator.name, self.estimator.args, built)
        searched = self.tune.arguments if self.tune is not None else set()
        constructors.check_complete(self.estimator.name, {*self.estimator.args, *searched})
        _check_calibration(self.train.calibration, self.heads)
        constructors.check_label(self.estimator.name, self.estimator.args, described(self.heads))
        constructors.check_kinds(self.estimator.name, self.estimator.args, built)
        self._check_continuous()
        self._check_shares()
        if self.tune is not None:
            self._check_space(self.tune, built)
        if self.pipeline == "tuned_training":
            self.tune_part()
        if self.pipeline == "batch_prediction":
            self.predict_part()
        return self

    @property
    def heads(self) -> dict[str, Label]:
        """The labels by head; one that is alone has the name ""."""
        return by_head(self.label, self.labels)

    @property
    def _function_fields(self) -> list[str]:
        return self.preprocess.fields if self.preprocess is not None else []

    @property
    def _roles(self) -> list[tuple[str, str]]:
        """What the fields are that no column may read, and the fields."""
        found = [(_role(head), f) for head, own in self.heads.items() for f in own.raw_fields]
        return found + ([("weight", self.weight)] if self.weight is not None else [])

    def _check_roles(self, read: Collection[str]) -> None:
        """Refuses a label or weight that the model sees, or that is something else as well."""
        seen: dict[str, str] = {}
        for role, field in self._roles:
            if field in read:
                raise ConfigError(
                    f"Field {field!r} is the {role} and is also read by a column or by "
                    f"preprocess. A model must not see its {role}; remove it there.",
                    reason=Reason.CONFLICT,
                )
            if field in seen:
                raise ConfigError(
                    f"Field {field!r} is both {seen[field]} and {role}: expected a field of its "
                    "own for each. Remove one of them.",
                    reason=Reason.CONFLICT,
                )
            seen[field] = role

    def _check_named(self, read: Collection[str]) -> None:
        """Refuses a field or column without a name, such as the index that pandas writes has."""
        named = {*read, *self.columns, *self.data.split.fields, *self.evaluate.slicing_fields}
        named |= {field for _, field in self._roles}
        given = {getattr(spec, "field", None) for spec in self.columns.values()}
        if "" in named | given:
            raise ConfigError(
                "A field or column has the name '': expected at least one character. Name the "
                "field in the data.",
            )

    def _check_features(self, features: Collection[str]) -> None:
        """Refuses a feature that is called as what stands beside it in the examples."""
        beside = [(_role(head), name) for head, own in self.heads.items() for name in own.columns]
        beside += [("weight", self.weight)] if self.weight is not None else []
        beside += [("evaluate.slices", f"raw.{name}") for name in self.evaluate.slicing_fields]
        for role, name in beside:
            if name in features:
                raise ConfigError(
                    f"Feature {quote(name)} that columns make has the name of what the examples "
                    f"hold for {role}: a model would take one for the other. Rename a field in "
                    "the data.",
                    reason=Reason.DUPLICATE,
                )

    def _check_several_values(self) -> None:
        """Refuses several values where one is needed, and one where there may be several."""
        listed = {str(own.field) for own in self.heads.values() if own.values is not None}
        slicing = [("evaluate.slices", field) for field in self.evaluate.slicing_fields]
        for role, field in (*self._roles, *slicing):
            if field in self.data.fields and (field not in listed or (role, field) in slicing):
                raise ConfigError(
                    f"Field {field!r} of {role} has several values per record: expected one. "
                    "Remove it from data.fields.",
                    reason=Reason.CONFLICT,
                )
        for field in sorted(listed):
            if field not in self.data.fields or self.data.fields[field].kind == "float":
                raise ConfigError(
                    f"Field {field!r} holds the values of a multi-label label: expected it under "
                    "data.fields, with kind string or int. Declare it there.",
                    reason=Reason.MISSING_VALUE,
                )

    def _check_space(self, tune: Tune, columns: Mapping[str, fc.Column]) -> None:
        """Refuses a value that the Estimator's constructor or `train` would refuse."""
        part = self.train_part()
        for name, parameter in tune.space.items():
            for value in parameter.extremes:
                try:
                    own = part.with_values({name: value}).estimator
                    constructors.check_arguments(own.name, own.args, columns)
                    constructors.check_label(own.name, own.args, described(self.heads))
                    constructors.check_kinds(own.name, own.args, columns)
                except ConfigError as error:
                    raise ConfigError(
                        f"tune.space {name!r} has the value {quote(value)}: {error.message}",
                        reason=error.reason,
                    ) from error

    def _check_shares(self) -> None:
        """Refuses batches that the GPUs of a step cannot share equally."""
        searched = self.tune.space.get("train.batch_size") if self.tune is not None else None
        sizes = [self.train.batch_size] if searched is None else searched.extremes
        for step in ("train", "tune"):
            gpus = self.cluster.placement(step).gpu or 1
            if (
                step == "train"
                and self.train.cluster is not None
                and self.cluster.placement(step).gpu
            ):
                raise ConfigError(
                    "cluster.steps.train has gpu, and train.cluster starts several processes, "
                    "which would share them: expected one of the two. One process trains on all "
                    "GPUs of its pod.",
                    reason=Reason.CONFLICT,
                )
            for size in sizes:
                if isinstance(size, int) and size % gpus:
                    raise ConfigError(
                        f"train.batch_size {size} cannot be shared by the {gpus} GPUs of "
                        f"cluster.steps.{step}: expected a multiple of {gpus}. Use "
                        f"{max(1, size // gpus) * gpus}.",
                        reason=Reason.CONFLICT,
                    )

    def _check_continuous(self) -> None:
        """Refuses what only a pipeline with a serving model can do, and what it cannot do."""
        if self.pipeline == "continuous_training" and not self.evaluate.changes:
            raise ConfigError(
                "Pipeline continuous_training publishes only what beats the serving model, but "
                "evaluate.changes is missing. Add the margin, such as "
                "changes: {auc: {min: 0.002}}.",
                reason=Reason.MISSING_VALUE,
            )
        if self.train.warm_start is None:
            return
        if self.pipeline != "continuous_training":
            raise ConfigError(
                f"train.warm_start needs pipeline continuous_training, got {self.pipeline}. Set "
                "pipeline, or remove train.warm_start.",
                reason=Reason.CONFLICT,
            )
        name = self.estimator.name
        if name is not None and "warm_start_from" not in constructors.signatures()[name]:
            raise ConfigError(
                f"train.warm_start: {name} cannot start from another model. Remove it.",
                reason=Reason.UNSUPPORTED,
            )

    def preprocess_part(self) -> PreprocessPart:
        """What the preprocess step reads."""
        return PreprocessPart(
            data=self.data,
            data_schema=self.data_schema,
            label=self.label,
            labels=self.labels,
            weight=self.weight,
            preprocess=self.preprocess,
            columns=self.columns,
            keep=self.evaluate.slicing_fields,
            keep_raw=self.evaluate.reads_raw,
        )

    def evaluate_part(self) -> EvaluatePart:
        """What the evaluate step reads."""
        return EvaluatePart(name=self.name, description=self.description, evaluate=self.evaluate)

    def train_part(self) -> TrainPart:
        """What the train step reads."""
        return TrainPart(columns=list(self.columns), estimator=self.estimator, train=self.train)

    def predict_part(self) -> PredictPart:
        """What the predict step reads.

        Raises:
            ConfigError: there is no section `predict`.
        """
        if self.predict is None:
            raise ConfigError(
                "The section predict is missing, which pipeline batch_prediction needs. Add one "
                "with the files to score.",
                reason=Reason.MISSING_VALUE,
            )
        form = self.predict.format or self.data.format
        if form == "bigquery":
            raise ConfigError(
                "predict.format is missing: data is read from BigQuery, and predict.files are "
                "files. Say which format they have.",
                reason=Reason.MISSING_VALUE,
            )
        return PredictPart(
            files=self.predict.files,
            format=form,
            missing=self.data.missing,
            **(self.data.dialect if form == "csv" else {}),
            keep=self.predict.keep,
            output=self.predict.output,
            on_bad_rows=self.predict.on_bad_rows,
            encoding=self.data.encoding if form == "csv" else "utf-8",
        )

    def tune_part(self) -> TunePart:
        """What the tune step reads.

        Raises:
            ConfigError: there is no section `tune`.
        """
        if self.tune is None:
            raise ConfigError(
                "The section tune is missing, which pipeline tuned_training needs. Add one with a "
                "space to search.",
                reason=Reason.MISSING_VALUE,
            )
        alone = self.train.model_copy(update={"cluster": None})
        part = TrainPart(columns=list(self.columns), estimator=self.estimator, train=alone)
        return TunePart(train=part, tune=self.tune)


def _role(head: str) -> str:
    return f"labels.{head}" if head else "label"


def _check_calibration(method: str | None, heads: Mapping[str, Label]) -> None:
    found = {_role(head): own.described() for head, own in heads.items()}
    classes = {
        role: len(label.classes)
        for role, label in found.items()
        if isinstance(label, labels.ClassLabel)
    }
    if method is not None and not classes:
        kinds = ", ".join(f"{_role(head)}.kind is {own.kind!r}" for head, own in heads.items())
        raise ConfigError(
            f"train.calibration is {method!r}, but {kinds}: only probabilities of one of several "
            "classes are calibrated. Remove it.",
            reason=Reason.CONFLICT,
        )
    for role, count in classes.items():
        if method == "platt" and count != 2:
            raise ConfigError(
                f"train.calibration is 'platt', which is for two classes, but {role}.classes is "
                f"{count}. Use temperature.",
                reason=Reason.CONFLICT,
            )


class PreprocessPart(Section):
    """The part of a run configuration that the preprocess step reads."""

    data: Data
    data_schema: DataSchema | None = None
    label: Label | None = None
    labels: Labels | None = None
    weight: str | None = None
    preprocess: UserFunction | None = None
    columns: dict[str, ColumnSpec]
    keep: list[str]
    """Raw fields that go along unchanged, for evaluation by slice."""
    keep_raw: bool = False
    """Whether the eval rows are also kept as they were, to be shuffled for importance and for the
    serving model to score."""

    @property
    def heads(self) -> dict[str, Label]:
        """The labels by head; one that is alone has the name ""."""
        return by_head(self.label, self.labels)


class TrainPart(Section):
    """The part that the train step reads."""

    columns: list[str]
    """Names of the columns as the file has them, in its order."""
    estimator: Estimator
    train: Train

    def with_values(self, values: Mapping[str, Any]) -> TrainPart:
        """Returns the part with values of `Tune.space`, by their names, put in.

        Raises:
            ConfigError: one cannot be put in, or is not possible there.
        """
        changed = apply(self.model_dump(), values)
        try:
            return TrainPart.model_validate(changed)
        except pydantic.ValidationError as error:
            raise explain(error, TrainPart, changed, "with these values") from error


class TunePart(Section):
    """The part that the tune step reads."""

    train: TrainPart
    tune: Tune


class EvaluatePart(Section):
    """The part that the evaluate step reads."""

    name: str
    description: str
    evaluate: Evaluate
