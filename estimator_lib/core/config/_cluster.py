"""What the compiled pipeline asks of Kubernetes, and when it runs."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal, Self, get_args

import pydantic
from pydantic import AfterValidator, Field

from estimator_lib.core import cron, environment, places
from estimator_lib.core.errors import quote
from estimator_lib.core.section import Name, Section

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
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DNS_NAME = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_LONGEST_NAME = 253
_LARGEST = 2**31 - 1
"""Kubernetes takes no larger number of seconds, user or group."""
_UNITS = "E, P, T, G or M, each also with i, or Ki"


def _quantity(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?([EPTGM]i?|Ki)?", text):
        raise ValueError(
            f"expected a number of bytes, or one with the unit {_UNITS}, got {quote(text)}"
        )
    return _positive(text)


def _memory(text: str) -> str:
    if "." in text:
        raise ValueError(f"Kubeflow takes whole numbers of a unit only, got {quote(text)}")
    return _quantity(text)


def _label_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if len(prefix) > _LONGEST_NAME:
        raise ValueError(
            f"the part before / has at most {_LONGEST_NAME} characters, got {len(prefix)}"
        )
    if (slash and not re.fullmatch(_DNS_NAME, prefix)) or not re.fullmatch(_LABEL, name):
        raise ValueError(
            f"expected a name such as team or example.com/team, in letters, digits, hyphens, "
            f"underscores and dots, got {quote(key)}"
        )
    return key


def _pod_label(key: str) -> str:
    if key in _RESERVED_LABELS or key.startswith(_RESERVED_PREFIXES):
        raise ValueError(f"label {quote(key)} is written by Kubernetes or Kubeflow itself")
    return _label_key(key)


_RESERVED_LABELS = frozenset(("job-name", "controller-uid"))
_RESERVED_PREFIXES = (
    "batch.kubernetes.io/", "workflows.argoproj.io/", "pipelines.kubeflow.org/",
    "pipeline/", "katib.kubeflow.org/", "jobset.sigs.k8s.io/",
)  # fmt: skip


def _mount_path(path: str) -> str:
    if "://" in path:
        raise ValueError(f"expected a path in the pod, such as /mnt/data, got the URI {path}")
    if not path.startswith("/") or path == "/" or ":" in path:
        raise ValueError(f"expected an absolute path such as /mnt/data, got {quote(path)}")
    if posixpath.normpath(path) != path:
        raise ValueError(f"expected {quote(posixpath.normpath(path))}, got {quote(path)}")
    for taken in _KUBEFLOW_MOUNTS:
        if is_below(path, taken):
            raise ValueError(f"{taken} belongs to Kubeflow, which mounts its own directory there")
    return path


_KUBEFLOW_MOUNTS = (
    "/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config", "/var/run/argo",
)  # fmt: skip


def is_below(path: str, root: str) -> bool:
    """Whether a path of a pod is `root` or below it."""
    return path == root or path.startswith(f"{root}/")


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            f"expected letters, digits and underscores, no digit first, got {quote(name)}"
        )
    if name in environment.OWN:
        raise ValueError(f"environment variable {name} is written when the pipeline is compiled")
    return name


Quantity = Annotated[str, AfterValidator(_quantity)]
Memory = Annotated[str, AfterValidator(_memory)]
Image = Annotated[str, Field(pattern=r"^[^\s]+$"), AfterValidator(_pinned)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
PodLabelKey = Annotated[str, AfterValidator(_pod_label)]
LabelValue = Annotated[str, Field(pattern=rf"^({_LABEL})?$")]
ObjectName = Annotated[str, Field(pattern=rf"^{_DNS_NAME}$", max_length=_LONGEST_NAME)]
VolumeName = Annotated[str, Field(pattern=rf"^{_DNS_LABEL}$")]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
EnvironmentName = Annotated[str, AfterValidator(_variable)]
MountPath = Annotated[str, AfterValidator(_mount_path)]
Id = Annotated[int, Field(ge=0, le=_LARGEST)]


class Volume(Section):
    """A persistent volume that exists already."""

    claim: VolumeName
    """Name of the PersistentVolumeClaim; Kubeflow calls the pod's volume so, too, hence no dots."""
    mount_path: MountPath
    """Where it is mounted; relative file patterns start at that of `cluster.volume`."""


class Disk(Section):
    """Scratch space of one step's pod, made for it and gone with it."""

    size: Quantity
    """Such as "50Gi"; a step that needs more is ended."""
    mount_path: MountPath = "/scratch"
    """Where it is mounted; temporary files of the step go there."""
    storage_class: ObjectName | None = None
    """A volume of this class instead of the node's own disk. Its root belongs to root, so the
    namespace must have a policy that sets fsGroup, as OpenShift has; Kubeflow cannot set it."""


class EmptyDir(Section):
    """An empty directory of one step's pod, writable for any user, gone with the pod."""

    mount_path: MountPath
    """Where it is; /tmp where the root file system is read-only."""
    size: Quantity | None = None
    """Largest size; a step that needs more is ended. By default what the node has."""
    in_memory: bool = False
    """Whether it is kept in memory, which counts as the step's."""


class SecurityContext(Section):
    """Who a step runs as. Kubeflow sets the rest: no capabilities, no escalation, seccomp."""

    run_as_user: Id | None = None
    """Number of the user; by default the image's, 1000."""
    run_as_group: Id | None = None
    """Number of the group; by default the image's, 0."""
    run_as_non_root: bool | None = None
    """Whether Kubernetes refuses to start it as root; PodSecurity `restricted` asks for true."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give run_as_user, run_as_group or run_as_non_root")
        if self.run_as_user == 0 and self.run_as_non_root:
            raise ValueError("run_as_user 0 is root, and run_as_non_root refuses root")
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
        if self.mount_path is not None and not re.fullmatch(_DNS_LABEL, self.name):
            raise ValueError(
                f"{quote(self.name)} cannot be mounted: Kubeflow calls the volume so, and volumes "
                "have no dots and at most 63 characters in their names; give env only"
            )
        return self


class Placement(Section):
    """Where one step runs on a cluster, and what it gets there."""

    cpu: (
        Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?m?$"), AfterValidator(_positive)] | None
    ) = None
    """CPUs requested and allowed, such as "2" or "500m"."""
    memory: Memory | None = None
    """Memory requested and allowed, such as "4Gi"."""
    disk: Disk | None = None
    """Scratch space."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm, which is part of `memory`; by default 64 MB."""
    empty_dirs: list[EmptyDir] = []
    """More directories that are empty at first."""
    gpu: Annotated[int, Field(ge=1)] | None = None
    """Number of GPUs; train, and tune's trials, compute on all, evaluate on one."""
    gpu_type: Annotated[str, Field(pattern=rf"^{_DNS_NAME}/{_LABEL}$")] = "nvidia.com/gpu"
    """Kubernetes resource name of the GPU; a model is chosen by node_selector."""
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
    labels: dict[PodLabelKey, LabelValue] = {}
    """Labels of the pod."""
    image: Image | None = None
    """The step's own image; by default `cluster.image`."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When a node pulls it; by default once."""
    image_pull_secrets: list[ObjectName] = []
    """Secrets that the images are pulled with."""
    security_context: SecurityContext | None = None
    """Who the step runs as."""
    timeout_s: Annotated[int, Field(ge=1, le=_LARGEST)] | None = None
    """Seconds after which a pod of the step is stopped; by default never."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a step is tried again after a fault that may pass."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _no_tpu(cls, given: Any) -> Any:
        if isinstance(given, dict) and "tpu" in given:
            raise ValueError(
                "tpu is not supported: there is no TPU package for the TensorFlow of this "
                "project, 2.21 (tensorflow-tpu ends at 2.20). Use gpu, or CPUs"
            )
        return given

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        self.check_against(None)
        return self

    def over(self, defaults: Placement) -> Placement:
        """Returns `defaults` with what is given here in its place, key by key."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return defaults.model_copy(update=given)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the step: its own, and those that placement implies."""
        found = dict(self.env)
        if self.disk is not None:
            # Kubeflow's first line makes a temporary file. Only a directory that any user may
            # write to can take it; one of a storage class is checked by the step.
            scratch = "TMPDIR" if self.disk.storage_class is None else environment.SCRATCH
            found[scratch] = self.disk.mount_path
        if self.gpu is not None:
            found[environment.GPUS] = str(self.gpu)
        return found

    def check_against(self, shared: Volume | None) -> None:
        """Refuses what one pod cannot have at once.

        Args:
            shared: The volume that all steps mount.

        Raises:
            ValueError: naming it.
        """
        claims = [*([shared] if shared is not None else ()), *self.volumes]
        mounted = (*self.secrets, *self.config_maps)
        names = [*self.env, *(name for one in mounted for name in one.env.values())]
        paths = [v.mount_path for v in claims] + [e.mount_path for e in self.empty_dirs]
        paths += [one.mount_path for one in mounted if one.mount_path is not None]
        volumes = [v.claim for v in claims]
        volumes += [one.name for one in mounted if one.mount_path is not None]
        if self.disk is not None:
            names.append("TMPDIR")
            paths.append(self.disk.mount_path)
        if self.shared_memory is not None:
            paths.append(SHARED_MEMORY)
        for kind, taken in (
            ("environment variable", names),
            ("mount path", paths),
            ("volume", volumes),
        ):
            twice = sorted({item for item in taken if taken.count(item) > 1})
            if twice:
                raise ValueError(f"{kind} {twice[0]} is given twice")
        temporary = self.env.get("TMPDIR", "")
        for volume in claims:
            if is_below(temporary, volume.mount_path):
                raise ValueError(
                    f"TMPDIR {temporary} is on the claim {volume.claim}, where a step may write "
                    "only what was made for its user; give disk, which is there for it"
                )


SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount of its own
_ON_GPUS: dict[Step, int] = {"train": _LARGEST, "tune": _LARGEST, "evaluate": 1}
"""The steps that compute on GPUs, and on how many at most."""
_REQUESTED = {"cpu": "500m", "memory": "1Gi"}
"""What a step is given that asks for nothing: importing TensorFlow and Beam takes 0.8 GiB, the
flights example 0.9 GiB. Without a request it would be the first to be evicted."""
_REQUESTED_BY_LITTLE = {"cpu": "100m", "memory": "128Mi"}


class Cluster(Section):
    """What the compiled pipeline asks of Kubernetes."""

    image: Image | None = None
    """The image of all steps; by default the one this release names."""
    code: list[ModuleName] = []
    """Modules of your own that were built into it; a step without one of them is refused."""
    volume: Volume | None = None
    """A shared volume with the data; checkpoints and published models go there too."""
    namespace: ObjectName | None = None
    """The profile that runs and schedules belong to, on a server of many users."""
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
        for step in get_args(Step):
            try:
                # notify mounts nothing by default: it must start whatever else is missing.
                self.placement(step).check_against(None if step == "notify" else self.volume)
                self._check_gpus(step)
            except ValueError as error:
                raise ValueError(f"step {step} with the defaults: {error}") from error
        return self

    def _check_gpus(self, step: Step) -> None:
        asked, usable = self.placement(step).gpu, _ON_GPUS.get(step, 0)
        if asked is None or asked <= usable:
            return
        if step == "notify" and "gpu" not in self.steps.get(step, Placement()).model_fields_set:
            return
        uses = f"uses {usable} GPU" if usable else "computes on CPUs only"
        raise ValueError(
            f"gpu is {asked}, but {step} {uses}: give gpu to the steps {', '.join(_ON_GPUS)}"
        )

    def placement(self, step: Step) -> Placement:
        """The placement of one step: its own over the defaults."""
        own = self.steps.get(step)
        return self.defaults if own is None else own.over(self.defaults)

    def requests(self, step: Step, *, little: bool = False) -> dict[str, str]:
        """The CPUs and memory that a node must have left for one step, asked for or not.

        Args:
            step: Its name.
            little: Whether it is a task of the step that handles a few lines, as notify does.
        """
        if little:
            return _REQUESTED_BY_LITTLE
        placement = self.placement(step)
        modest = _REQUESTED_BY_LITTLE if step == "notify" else _REQUESTED
        return {name: getattr(placement, name) or least for name, least in modest.items()}


def _cron(text: str) -> str:
    cron.parse(text)
    return text


def _moment(text: str) -> str:
    cron.moment(text)
    return text


class Schedule(Section):
    """When a pipeline runs by itself on a cluster."""

    name: Name | None = None
    """Of the schedule; by default the pipeline's."""
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """Six fields, in UTC: second, minute, hour, day of month, month, day of week; or"""
    interval_s: Annotated[int, Field(ge=60)] | None = None
    """the seconds from one start to the next."""
    start: Annotated[str, AfterValidator(_moment)] | None = None
    """Nothing is started before: 2026-01-31, midnight in UTC, or 2026-01-31T03:00:00+01:00."""
    end: Annotated[str, AfterValidator(_moment)] | None = None
    """Nothing is started after; written alike."""
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
    """Pipeline parameters of every run. In texts the server writes the scheduled time, in UTC, for
    [[ScheduledTime]] (20260131030000) and [[ScheduledTime.2006-01-02]] (2026-01-31)."""

    @pydantic.model_validator(mode="after")
    def _one_trigger(self) -> Self:
        if (self.cron is None) == (self.interval_s is None):
            raise ValueError("give exactly one of cron, interval_s")
        if self.start and self.end and cron.moment(self.start) >= cron.moment(self.end):
            raise ValueError(f"start {self.start} is not before end {self.end}")
        for name, value in self.parameters.items():
            fault = places.fault(name, value)
            if fault:
                raise ValueError(f"parameters.{name}: {fault}")
        return self
