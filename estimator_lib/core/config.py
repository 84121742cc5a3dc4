"""The run configuration: one YAML file that says data, columns, model, training, gates.

Layer 1 (standard library, pydantic, PyYAML). `load` reads and validates it before any work;
an unknown key is refused with the nearest known one. Each step receives only its own part, so
that a cached step is run again exactly when something it reads has changed.
"""

from __future__ import annotations

import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import AfterValidator, Field

from estimator_lib.core import columns as fc
from estimator_lib.core import constructors, cron
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

FieldType = Literal["string", "int", "float"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Step = Literal["preprocess", "train", "evaluate", "export"]


class Section(pydantic.BaseModel):
    """Base of every part: frozen, strict, unknown keys refused."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    def to_json(self) -> str:
        """The part as one line of JSON, as the steps receive it."""
        return self.model_dump_json(exclude_none=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: the text is not such a part.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            raise _explain(error, cls, "step parameter") from error


# --- Data -------------------------------------------------------------------------------------


class HashSplit(Section):
    """Rows go to the eval split by a keyed hash: the same key always goes the same way."""

    key: Annotated[list[str], Field(min_length=1)]
    """Fields whose values identify a row (or a group that must stay together)."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the keys that goes to the eval split."""


class ColumnSplit(Section):
    """Rows go to the split that lists their value of one field."""

    field: str
    """The field to look at."""
    eval: Annotated[list[str], Field(min_length=1)]
    """Values (as text) of the eval split."""
    validation: list[str] = []
    """Values of an optional validation split; all others are train."""


class FileSplit(Section):
    """Each split has files of its own."""

    train: Annotated[list[str], Field(min_length=1)]
    """File patterns of the train split."""
    eval: Annotated[list[str], Field(min_length=1)]
    """File patterns of the eval split."""
    validation: list[str] = []
    """File patterns of an optional split for early stopping; else the eval split is used."""


class Split(Section):
    """How rows are divided into train and eval (and validation): exactly one way."""

    files: FileSplit | None = None
    """By file."""
    hash: HashSplit | None = None
    """By a keyed hash of one or more fields."""
    column: ColumnSplit | None = None
    """By the value of a field."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [n for n in ("files", "hash", "column") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of files, hash, column; got {given or 'none'}")
        return self


class Data(Section):
    """Where the raw rows are and how to read them."""

    format: Literal["csv"] = "csv"
    """File format; gzip is recognised by its content."""
    files: list[str] = []
    """File patterns, relative to this configuration file; for splits by hash or column."""
    split: Split
    """How rows are divided."""
    missing: list[str] = [""]
    """Texts that stand for a missing value. "NA" is a value unless it is listed."""
    types: dict[str, FieldType] = {}
    """Field types; those not given follow from the columns, else from the first rows."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between fields."""

    @pydantic.model_validator(mode="after")
    def _files_where_needed(self) -> Self:
        if self.split.files is None and not self.files:
            raise ValueError("files is missing; a split by hash or by column needs it")
        if self.split.files is not None and self.files:
            raise ValueError("files and split.files are both given; keep split.files")
        return self

    def patterns(self) -> dict[str, list[str]]:
        """File patterns per split; the split is "" where rows decide."""
        if self.split.files is None:
            return {"": list(self.files)}
        by_split = {name: list(getattr(self.split.files, name)) for name in SPLITS}
        return {name: patterns for name, patterns in by_split.items() if patterns}


SPLITS = ("train", "validation", "eval")


class Label(Section):
    """What the model learns to predict."""

    field: str
    """The raw field."""
    kind: Literal["class", "number"] = "class"
    """Integer classes 0..classes-1, or any finite number."""
    classes: Annotated[int, Field(ge=2)] = 2
    """How many classes, where kind is class."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What to do with a row without label; skipped rows are counted and reported."""


# --- Columns ----------------------------------------------------------------------------------


class NumericSpec(Section):
    """A number."""

    kind: Literal["numeric"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    default: float | Literal["mean"] | None = None
    """Stands for a missing value; "mean" is learned."""
    normalize: Literal["moments"] | None = None
    """"moments": learn mean and standard deviation and give (x - mean) / stddev."""


class MissingIndicatorSpec(Section):
    """1 where a field is missing, else 0."""

    kind: Literal["missing_indicator"]
    field: str
    """The raw field."""


class BucketizedSpec(Section):
    """A number cut at boundaries."""

    kind: Literal["bucketized"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    boundaries: list[float] | None = None
    """Sorted boundaries, or"""
    quantiles: Annotated[int, Field(ge=2)] | None = None
    """the number of equal parts whose boundaries are learned."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.boundaries is None) == (self.quantiles is None):
            raise ValueError("give exactly one of boundaries, quantiles")
        return self


class VocabularySpec(Section):
    """Categories, their vocabulary learned from the train split or given."""

    kind: Literal["vocabulary"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    values: list[str] | None = None
    """The vocabulary, where it is known; else it is learned."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Keep at most this many values."""
    min_count: Annotated[int, Field(ge=1)] = 1
    """Keep values seen at least this often."""
    oov_buckets: Annotated[int, Field(ge=0)] = 1
    """Ids for unseen values."""


class HashedSpec(Section):
    """Categories hashed into a fixed number of ids."""

    kind: Literal["hashed"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    buckets: Annotated[int, Field(ge=1)]
    """How many ids."""


class IdentitySpec(Section):
    """Integers that are ids already."""

    kind: Literal["identity"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    buckets: Annotated[int, Field(ge=1)]
    """How many ids."""
    default: int | None = None
    """Takes the place of a value outside; without it such a value is refused."""


class CrossedSpec(Section):
    """Combinations of categories, hashed."""

    kind: Literal["crossed"]
    of: Annotated[list[str], Field(min_length=2)]
    """Columns of this file (vocabulary, bucketized, identity) or raw text fields."""
    buckets: Annotated[int, Field(ge=1)]
    """How many ids."""


class IndicatorSpec(Section):
    """One-hot form of a categorical column."""

    kind: Literal["indicator"]
    of: str
    """The categorical column."""


class EmbeddingSpec(Section):
    """A learned vector per category."""

    kind: Literal["embedding"]
    of: str
    """The categorical column."""
    dimension: Annotated[int, Field(ge=1)]
    """Length of the vector."""


ColumnSpec = Annotated[
    NumericSpec
    | MissingIndicatorSpec
    | BucketizedSpec
    | VocabularySpec
    | HashedSpec
    | IdentitySpec
    | CrossedSpec
    | IndicatorSpec
    | EmbeddingSpec,
    Field(discriminator="kind"),
]


def build_columns(specs: Mapping[str, Any]) -> dict[str, fc.Column]:
    """Returns the declared columns under their names in the file.

    Raises:
        ConfigError: a column refers to one that is not there, or to itself.
    """
    built: dict[str, fc.Column] = {}

    def get(name: str, by: str, path: tuple[str, ...]) -> fc.Column:
        if name in path:
            raise ConfigError(
                f"Column {by!r} refers to itself: {' -> '.join((*path, name))}.",
                reason=Reason.CONFLICT,
            )
        if name not in specs:
            raise ConfigError(
                f"Column {by!r} refers to {name!r}, which is not declared under columns."
                + did_you_mean(name, specs),
                reason=Reason.UNKNOWN_NAME,
            )
        if name not in built:
            built[name] = make(name, specs[name], (*path, name))
        return built[name]

    def categorical(name: str, by: str, path: tuple[str, ...]) -> fc.CategoricalColumn:
        column = get(name, by, path)
        if not isinstance(column, fc.CategoricalColumn):
            raise ConfigError(
                f"Column {by!r} needs a categorical column, got {name!r}, which is {column.kind}.",
                reason=Reason.TYPE_MISMATCH,
            )
        return column

    def make(name: str, spec: Any, path: tuple[str, ...]) -> fc.Column:
        match spec:
            case NumericSpec():
                default = fc.Mean() if spec.default == "mean" else spec.default
                normalizer = fc.Moments() if spec.normalize else None
                return fc.numeric_column(
                    spec.field or name, default_value=default, normalizer_fn=normalizer
                )
            case MissingIndicatorSpec():
                return fc.missing_indicator_column(spec.field)
            case BucketizedSpec():
                cuts = spec.boundaries or fc.Quantiles(buckets=spec.quantiles or 2)
                return fc.bucketized_column(fc.numeric_column(spec.field or name), cuts)
            case VocabularySpec(values=list() as values):
                return fc.categorical_column_with_vocabulary_list(
                    spec.field or name, values, num_oov_buckets=spec.oov_buckets
                )
            case VocabularySpec():
                return fc.categorical_column_with_vocabulary(
                    spec.field or name, spec.top_k, spec.min_count, spec.oov_buckets
                )
            case HashedSpec():
                return fc.categorical_column_with_hash_bucket(spec.field or name, spec.buckets)
            case IdentitySpec():
                return fc.categorical_column_with_identity(
                    spec.field or name, spec.buckets, spec.default
                )
            case CrossedSpec():
                keys = [categorical(k, name, path) if k in specs else k for k in spec.of]
                return fc.crossed_column(keys, spec.buckets)
            case IndicatorSpec():
                return fc.indicator_column(categorical(spec.of, name, path))
            case EmbeddingSpec():
                return fc.embedding_column(categorical(spec.of, name, path), spec.dimension)
        raise AssertionError(spec)  # pragma: no cover - the union is closed

    for name in specs:
        get(name, name, ())
    return {name: built[name] for name in specs}


# --- Model, training, gates -------------------------------------------------------------------


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


def _positive(text: str) -> str:
    if not any(digit in text for digit in "123456789"):
        raise ValueError(f"must be more than 0, got {quote(text)}")
    return text


def _pinned(image: str) -> str:
    fault = unpinned(image)
    if fault:
        raise ValueError(f"image {quote(image)} {fault}. Give a tag or, better, a digest")
    return image


def unpinned(image: str) -> str | None:
    """Returns why an image may be another one tomorrow, or None if it is pinned."""
    name, at, digest = image.partition("@")
    if at:
        wrong = not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
        return "has a malformed digest" if wrong else None
    tag = name.rsplit("/", 1)[-1].partition(":")[2]
    if not tag:
        return "has no tag"
    return "has the tag latest, which moves" if tag == "latest" else None


_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
Quantity = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMK]i?)?$"), AfterValidator(_positive)
]
Image = Annotated[str, Field(pattern=r"^[^\s]+$"), AfterValidator(_pinned)]
LabelKey = Annotated[str, Field(pattern=rf"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_LABEL}$")]
LabelValue = Annotated[str, Field(pattern=rf"^({_LABEL})?$")]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
MountPath = Annotated[str, Field(pattern=r"^/[^:]*[^/:]$")]


class Volume(Section):
    """A persistent volume that exists already."""

    claim: ObjectName
    """Name of the PersistentVolumeClaim."""
    mount_path: MountPath
    """Where it is mounted; relative file patterns start at that of `cluster.volume`."""


class Disk(Section):
    """Scratch space of one step's pod, made for it and gone with it."""

    size: Quantity
    """Such as "50Gi"."""
    mount_path: MountPath = "/scratch"
    """Where it is mounted; temporary files of the step go there (TMPDIR)."""
    storage_class: ObjectName | None = None
    """By default the cluster's own."""


class Tpu(Section):
    """A slice of TPU chips on one node of Google Kubernetes Engine."""

    accelerator: Annotated[str, Field(pattern=r"^tpu[a-z0-9]*(-[a-z0-9]+)*$")]
    """Such as tpu-v5-lite-podslice or tpu-v6e-slice."""
    topology: Annotated[str, Field(pattern=r"^[1-9][0-9]*(x[1-9][0-9]*){1,2}$")]
    """Such as 2x4."""
    chips: Annotated[int, Field(ge=1)]
    """Chips of the node, all of them; such as 8 for 2x4."""

    @pydantic.model_validator(mode="after")
    def _one_node(self) -> Self:
        slice_chips = math.prod(int(side) for side in self.topology.split("x"))
        if slice_chips != self.chips:
            raise ValueError(
                f"topology {self.topology} has {slice_chips} chips, got chips {self.chips}; a "
                "step runs on one node, which must hold the whole slice"
            )
        return self


class Toleration(Section):
    """A taint of nodes that the step may run on nevertheless."""

    key: LabelKey | None = None
    """The taint's key; without it every taint is tolerated."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Whether the key alone counts or also its value."""
    value: LabelValue | None = None
    """The taint's value, for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; by default any."""
    seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a NoExecute taint is tolerated; by default for ever."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("operator Equal needs a value, and Exists allows none")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator Equal needs a key")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("seconds needs effect NoExecute")
        return self


class NodeAffinity(Section):
    """Which nodes a step must, or should, run on."""

    key: LabelKey
    """A label of nodes."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    """How it is compared."""
    values: list[LabelValue] = []
    """What it is compared with."""
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """How much such a node is preferred; without a weight it is required."""

    @pydantic.model_validator(mode="after")
    def _values_where_needed(self) -> Self:
        count = len(self.values)
        match self.operator:
            case "In" | "NotIn" if not count:
                raise ValueError(f"operator {self.operator} needs values")
            case "Exists" | "DoesNotExist" if count:
                raise ValueError(f"operator {self.operator} allows no values")
            case "Gt" | "Lt" if count != 1 or not self.values[0].isdigit():
                raise ValueError(f"operator {self.operator} needs one whole number")
        return self


class Mounted(Section):
    """A Secret or ConfigMap of the cluster; only its name is written down, never its content."""

    name: ObjectName
    """Of the Secret or ConfigMap."""
    env: dict[str, EnvironmentName] = {}
    """Its keys, and the environment variables they go to."""
    mount_path: MountPath | None = None
    """Directory that shows its keys as files."""
    optional: bool = False
    """Whether the step also starts where it does not exist."""

    @pydantic.model_validator(mode="after")
    def _used(self) -> Self:
        if not self.env and self.mount_path is None:
            raise ValueError("give env, mount_path or both")
        return self


class Placement(Section):
    """Where one step runs on a cluster, and what it gets there."""

    cpu: (
        Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?m?$"), AfterValidator(_positive)] | None
    ) = None
    """CPUs requested and allowed, such as "2" or "500m"."""
    memory: Quantity | None = None
    """Memory requested and allowed, such as "4Gi"."""
    disk: Disk | None = None
    """Scratch space."""
    gpu: Annotated[int, Field(ge=1)] | None = None
    """Number of GPUs."""
    gpu_type: Annotated[str, Field(pattern=rf"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/{_LABEL}$")] = (
        "nvidia.com/gpu"
    )
    """Kubernetes resource name of the GPU; a model is chosen by node_selector."""
    tpu: Tpu | None = None
    """TPU chips."""
    node_selector: dict[LabelKey, LabelValue] = {}
    """Labels that the node must have."""
    tolerations: list[Toleration] = []
    """Taints that the node may have."""
    affinity: list[NodeAffinity] = []
    """Nodes required or preferred."""
    volumes: list[Volume] = []
    """More persistent volumes."""
    env: dict[EnvironmentName, str] = {}
    """Environment variables; anything secret comes from `secrets`."""
    secrets: list[Mounted] = []
    """Secrets given as environment variables or files."""
    config_maps: list[Mounted] = []
    """ConfigMaps given as environment variables or files."""
    labels: dict[LabelKey, LabelValue] = {}
    """Labels of the pod."""
    image: Image | None = None
    """The step's own image; by default `cluster.image`."""
    image_pull_secrets: list[ObjectName] = []
    """Secrets that the images are pulled with."""
    timeout_s: Annotated[int, Field(ge=1)] | None = None
    """Seconds after which an attempt is stopped; by default never."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a failed step is tried again."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check()
        return self

    def over(self, defaults: Placement) -> Placement:
        """Returns `defaults` with what is given here in its place, key by key."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return defaults.model_copy(update=given)._check()

    def _check(self) -> Self:
        if self.gpu is not None and self.tpu is not None:
            raise ValueError("gpu and tpu are both given; a step has one kind of accelerator")
        mounted = (*self.secrets, *self.config_maps)
        names = [*self.env, *(name for one in mounted for name in one.env.values())]
        paths = [*(v.mount_path for v in self.volumes), *(m.mount_path for m in mounted)]
        if self.disk is not None:
            names.append("TMPDIR")
            paths.append(self.disk.mount_path)
        for kind, taken in (("environment variable", names), ("mount path", paths)):
            used = [item for item in taken if item is not None]
            twice = sorted({item for item in used if used.count(item) > 1})
            if twice:
                raise ValueError(f"{kind} {twice[0]} is given twice")
        return self


class Cluster(Section):
    """What the compiled pipeline asks of Kubernetes."""

    image: Image | None = None
    """The image of all steps; by default the one this release names."""
    volume: Volume | None = None
    """A shared volume with the data; checkpoints and published models go there too."""
    service_account: ObjectName | None = None
    """The Kubernetes service account that runs the steps; by default the installation's."""
    resource_parameters: bool = False
    """Whether the CPUs, memory and GPUs given below become parameters of the pipeline, such as
    train_memory, so that a run started from the Kubeflow UI can change them. A run submitted
    with --set cluster.steps.train.memory=8Gi changes them either way."""
    defaults: Placement = Placement()
    """Placement of every step; what a step gives itself takes its place, key by key."""
    steps: dict[Step, Placement] = {}
    """Placement per step."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        for step, own in self.steps.items():
            try:
                own.over(self.defaults)
            except ValueError as error:
                raise ValueError(f"step {step} with the defaults: {error}") from error
        return self

    def placement(self, step: Step) -> Placement:
        """The placement of one step: its own over the defaults."""
        own = self.steps.get(step)
        return self.defaults if own is None else own.over(self.defaults)


def _cron(text: str) -> str:
    cron.parse(text)
    return text


class Schedule(Section):
    """When a pipeline runs by itself on a cluster."""

    name: Name | None = None
    """Of the schedule; by default the pipeline's."""
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """Six fields, in UTC: second, minute, hour, day of month, month, day of week; or"""
    interval_s: Annotated[int, Field(ge=60)] | None = None
    """the seconds from one start to the next."""
    catchup: bool = False
    """Whether starts missed while the schedule was paused, or the cluster down, are made up."""
    max_concurrency: Annotated[int, Field(ge=1, le=10)] = 1
    """How many of its runs may go on at once; a start beyond that waits."""
    enabled: bool = True
    """Whether a new schedule starts active; false also pauses one that exists. A schedule paused
    by command stays paused until it is resumed by command."""
    caching: bool = False
    """Whether steps may be taken from the cache. On a cluster the cache does not see that files
    on a volume have changed, so a scheduled run computes everything unless this is true."""
    parameters: dict[str, Any] = {}
    """Pipeline parameters of every run."""

    @pydantic.model_validator(mode="after")
    def _one_trigger(self) -> Self:
        if (self.cron is None) == (self.interval_s is None):
            raise ValueError("give exactly one of cron, interval_s")
        return self


class RunConfiguration(Section):
    """A whole run."""

    name: Name
    """Of the pipeline; lower case, digits and hyphens."""
    description: str = ""
    """One sentence: what the model predicts; for the report."""
    data: Data
    label: Label
    weight: str | None = None
    """A numeric field with the weight of each row (at least 0)."""
    columns: Annotated[dict[str, ColumnSpec], Field(min_length=1)]
    """The feature columns, by name."""
    estimator: Estimator
    train: Train
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    cluster: Cluster = Cluster()
    schedule: Schedule | None = None
    """When it runs by itself; `estimator-pipelines schedule apply` puts it on a cluster."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        built = build_columns(self.columns)
        fields = fc.raw_fields(built.values())
        for role, field in (("label", self.label.field), ("weight", self.weight)):
            if field in fields:
                raise ConfigError(
                    f"Field {field!r} is the {role} and is also read by a column. A model must "
                    f"not see its {role}; remove the column.",
                    reason=Reason.CONFLICT,
                )
        constructors.check_arguments(self.estimator.name, self.estimator.args, built)
        return self

    def preprocess_part(self) -> PreprocessPart:
        """What the preprocess step reads."""
        return PreprocessPart(
            data=self.data,
            label=self.label,
            weight=self.weight,
            columns=self.columns,
            keep=sorted(set(self.evaluate.slices)),
        )

    def evaluate_part(self) -> EvaluatePart:
        """What the evaluate step reads."""
        return EvaluatePart(name=self.name, description=self.description, evaluate=self.evaluate)

    def train_part(self) -> TrainPart:
        """What the train step reads."""
        return TrainPart(columns=list(self.columns), estimator=self.estimator, train=self.train)


class PreprocessPart(Section):
    """The part of a run configuration that the preprocess step reads."""

    data: Data
    label: Label
    weight: str | None = None
    columns: dict[str, ColumnSpec]
    keep: list[str]
    """Raw fields that go along unchanged, for evaluation by slice."""


class TrainPart(Section):
    """The part that the train step reads."""

    columns: list[str]
    """Names of the columns as the file has them, in its order."""
    estimator: Estimator
    train: Train


class EvaluatePart(Section):
    """The part that the evaluate step reads."""

    name: str
    description: str
    evaluate: Evaluate


# --- Reading ----------------------------------------------------------------------------------


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfiguration:
    """Reads and validates a run configuration.

    Args:
        path: The YAML file.
        overrides: `key.sub=value` settings put in its place; values are YAML, or `@file` for
            the content of a YAML file, such as `cluster=@gpu.yaml`.

    Raises:
        ConfigError: the file is missing, not YAML, or wrong; all faults are listed at once.
    """
    source = pathlib.Path(path)
    try:
        content = yaml.safe_load(source.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(
            f"Run configuration {path} does not exist.", reason=Reason.FILE_NOT_FOUND
        ) from error
    except OSError as error:
        raise ConfigError(
            f"Run configuration {path} cannot be read: {error.strerror}.", reason=Reason.IO
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Run configuration {path} is not valid YAML: {' '.join(str(error).split())}.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"Run configuration {path} is not a mapping: got {quote(content)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    for override in overrides:
        _apply(content, override)
    try:
        return RunConfiguration.model_validate(content)
    except pydantic.ValidationError as error:
        raise _explain(error, RunConfiguration, str(path)) from error
    except ConfigError as error:
        raise ConfigError(
            f"Configuration {path} is invalid: {error.message}", reason=error.reason
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a run configuration, for editors."""
    schema = RunConfiguration.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"Setting {quote(override)} is invalid: expected key=value, such as train.epochs=3.",
            reason=Reason.INVALID_VALUE,
        )
    place = content
    for part in parts[:-1]:
        if not isinstance(place.setdefault(part, {}), dict):
            raise ConfigError(
                f"Setting {quote(override)} is invalid: {part!r} is a value, not a section.",
                reason=Reason.INVALID_VALUE,
            )
        place = place[part]
    try:
        place[parts[-1]] = yaml.safe_load(_setting(text))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Setting {quote(override)} is invalid: its value is not YAML.",
            reason=Reason.INVALID_VALUE,
        ) from error


def _setting(text: str) -> str | bytes:
    """The value of a setting as YAML; "@path", which YAML itself does not allow, is a file."""
    if not text.startswith("@"):
        return text
    try:
        return pathlib.Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"Settings file {text[1:]} cannot be read: {error.strerror}.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error


def _explain(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str
) -> ConfigError:
    lines = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(p) for p in fault["loc"] if not _is_tag(p, fault)) or "(top level)"
        if fault["type"] == "extra_forbidden":
            known = _known_keys(model, fault["loc"][:-1])
            lines.append(f"{place}: unknown key.{did_you_mean(str(fault['loc'][-1]), known)}")
        elif fault["type"] == "missing":
            lines.append(f"{place}: missing.")
        elif fault["type"] == "union_tag_invalid":
            tag = str(fault["ctx"]["tag"])
            kinds = [t.strip(" '") for t in fault["ctx"]["expected_tags"].split(",")]
            lines.append(f"{place}.kind: unknown kind {tag!r}.{did_you_mean(tag, kinds)}")
        elif fault["type"] == "value_error":
            lines.append(f"{place}: {fault['ctx']['error']}.")
        else:
            message = fault["msg"][0].lower() + fault["msg"][1:]
            lines.append(f"{place}: {message}, got {quote(fault['input'])}.")
    text = "; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines)
    return ConfigError(f"Configuration {where} is invalid: {text}", reason=Reason.INVALID_VALUE)


_TAGS = frozenset(
    ("numeric", "missing_indicator", "bucketized", "vocabulary", "hashed", "identity",
     "crossed", "indicator", "embedding")
)  # fmt: skip


def _is_tag(part: object, fault: Any) -> bool:
    """Whether a part of a location is the union's tag that pydantic puts in, not a key."""
    location = fault["loc"]
    return part in _TAGS and len(location) > 2 and location[0] == "columns" and part == location[2]


def _known_keys(model: type[pydantic.BaseModel], location: Sequence[Any]) -> list[str]:
    """The keys allowed at `location` below `model`."""
    schema = model.model_json_schema()
    node: Any = schema
    for part in location:
        node = _follow(schema, node, str(part))
        if node is None:
            return []
    node = _deref(schema, node)
    return sorted(node.get("properties", {}))


def _deref(schema: dict[str, Any], node: Any) -> Any:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    for option in node.get("anyOf", []):
        found = _deref(schema, option)
        if found.get("type") == "object":
            return found
    return node


def _follow(schema: dict[str, Any], node: Any, part: str) -> Any:
    node = _deref(schema, node)
    if part in node.get("properties", {}):
        return node["properties"][part]
    if "discriminator" in node and part in node["discriminator"]["mapping"]:
        return {"$ref": node["discriminator"]["mapping"][part]}
    return node.get("additionalProperties")
