"""What the compiled pipeline asks of Kubernetes, and when it runs."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, Field

from estimator_lib.core import cron
from estimator_lib.core.config._section import Name, Section
from estimator_lib.core.errors import quote

Step = Literal["preprocess", "tune", "train", "evaluate", "export", "predict", "notify"]


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
