"""What a configuration asks for each pod, and whether a pod has it.

What is asked is what placement was given while the configuration was compiled; a pod is what a
server answered, or what Kubeflow would ask it for.
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import yaml

from estimator_lib.core import environment
from estimator_lib.core.config import SHARED_MEMORY, Placement, Volume, load
from pipelines import compiling, placement
from tests import launcher
from tests.cluster import pods

FLIGHTS = launcher.ROOT / "pipelines/examples/flights"
TUNED = ("pipeline=tuned_training", f"tune=@{FLIGHTS}/tune.yaml")
SOURCES: dict[str, tuple[pathlib.Path, tuple[str, ...]]] = {
    "flights.yaml": (FLIGHTS, ()),
    "flights-cpu.yaml": (FLIGHTS, (f"cluster=@{FLIGHTS}/cluster-cpu.yaml",)),
    "flights-gpu.yaml": (FLIGHTS, (f"cluster=@{FLIGHTS}/cluster-gpu.yaml",)),
    "flights-restricted.yaml": (FLIGHTS, (f"cluster=@{FLIGHTS}/cluster-restricted.yaml",)),
    "flights-tuned-training.yaml": (FLIGHTS, TUNED),
    "flights-tuned-training-tasks.yaml": (
        FLIGHTS,
        (
            *TUNED,
            "tune.separate_tasks=true",
            "tune.sampler=random",
            "tune.pruner=none",
            "tune.parallel=9",
        ),
    ),
    "flights-batch-prediction.yaml": (
        FLIGHTS,
        ("pipeline=batch_prediction", f"predict=@{FLIGHTS}/predict.yaml"),
    ),
    "flights-monthly.yaml": (FLIGHTS.with_name("retraining"), ()),
}
"""The configuration that each specification is compiled from, as `make specs` does it."""
HEAVY = ("cpu", "memory", "gpu", "disk", "shared_memory")
"""What a task that handles only a few lines is not given of its step's placement."""
CASES = [
    (name, executor.component)
    for name, specification in launcher.specifications().items()
    for executor in launcher.executors(specification)
]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a configuration asks for one task."""

    placement: Placement
    shared: Volume | None
    requests: Mapping[str, str]


@functools.cache
def asked(specification: str) -> dict[str, Asked]:
    """Returns what is asked for the components of a specification, by their names."""
    found: dict[str, Asked] = {}
    place = placement.place

    def noted(task: Any, step: Any, cluster: Any, values: Any, *, little: bool = False) -> None:
        wanted = cluster.placement(step)
        if little:
            wanted = wanted.model_copy(update=dict.fromkeys(HEAVY))
        requests = cluster.requests(step, little=little)
        found[task.component_spec.name] = Asked(wanted, cluster.volume, requests)
        place(task, step, cluster, values, little=little)

    folder, settings = SOURCES[specification]
    with mock.patch.object(placement, "place", noted):
        text = compiling.compile_text(load(folder / "config.yaml", settings))
    if text != (launcher.ROOT / "pipeline_specs" / specification).read_text():
        raise ValueError(f"{specification} is not what its configuration compiles to")
    return found


def read(specification: str) -> list[dict[str, Any]]:
    """Returns the documents of a committed specification: the pipeline, and the platform's part."""
    path = launcher.ROOT / "pipeline_specs" / specification
    return list(yaml.safe_load_all(path.read_text()))


def pod(documents: Sequence[Mapping[str, Any]], component: str) -> dict[str, Any]:
    """Returns the pod of a component, as KFP and Argo make it."""
    compiled, *platforms = documents
    executors = compiled["deploymentSpec"]["executors"]
    (label,) = [n for n, one in executors.items() if one["container"]["args"][-1] == component]
    platform: dict[str, Any] = {}
    for document in platforms:
        configured = document["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        platform = configured.get(label, {})
    inputs = compiled["root"]["inputDefinitions"]["parameters"]
    values = {name: str(one.get("defaultValue", "")) for name, one in inputs.items()}
    patched = pods.patch(executors[label]["container"], platform, values)
    return pods.pod(component, patched, platform)


def number(quantity: str) -> decimal.Decimal:
    """The value of a quantity of Kubernetes."""
    units = {"": 1, "m": decimal.Decimal("0.001"), "Ki": 2**10, "Mi": 2**20, "Gi": 2**30,
             "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}  # fmt: skip
    digits = quantity.rstrip("mKkMGTi")
    return decimal.Decimal(digits) * units[quantity[len(digits) :]]


class Pod:
    """What the server answered, by what a configuration can ask for."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.spec = answer["spec"]
        self.labels = answer["metadata"]["labels"]
        (self.main,) = self.spec["containers"]
        self.variables = {one["name"]: one for one in self.main["env"]}
        volumes = {one["name"]: one for one in self.spec["volumes"]}
        self.mounted = {one["mountPath"]: volumes[one["name"]] for one in self.main["volumeMounts"]}

    def resource(self, kind: str, name: str) -> decimal.Decimal | None:
        found = self.main["resources"].get(kind, {}).get(name)
        return None if found is None else number(found)


def given(pod: Pod, asks: Asked, name: str) -> bool:
    """CPUs and memory: requested always, limited where they are asked for."""
    value = getattr(asks.placement, name)
    limit = None if value is None else number(value)
    return (
        pod.resource("requests", name) == number(asks.requests[name])
        and pod.resource("limits", name) == limit
    )


def disk(pod: Pod, asks: Asked) -> bool:
    wanted = asks.placement.disk
    if wanted is None:
        return True
    volume = pod.mounted[wanted.mount_path]
    if wanted.storage_class is None:
        return (
            number(volume["emptyDir"]["sizeLimit"]) == number(wanted.size)
            and pod.variables["TMPDIR"]["value"] == wanted.mount_path
        )
    claim = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
    size = claim["resources"]["requests"]["storage"]
    return claim["storageClassName"] == wanted.storage_class and number(size) == number(wanted.size)


def empty(pod: Pod, path: str, size: str | None, in_memory: bool) -> bool:
    made = pod.mounted[path]["emptyDir"]
    limit = made.get("sizeLimit")
    return (made.get("medium") == "Memory") == in_memory and (
        limit is None if size is None else number(limit) == number(size)
    )


def affinity(pod: Pod, asks: Asked) -> bool:
    found = pod.spec.get("affinity", {}).get("nodeAffinity", {})
    (term,) = found.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
        "nodeSelectorTerms", [{}]
    )
    all_of = term.get("matchExpressions", [])
    better = [
        (one["weight"], *one["preference"]["matchExpressions"])
        for one in found.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    ]

    def expression(one: Any) -> dict[str, Any]:
        values = {"values": one.values} if one.values else {}
        return {"key": one.key, "operator": one.operator, **values}

    wanted = asks.placement.affinity
    return all_of == [expression(one) for one in wanted if one.weight is None] and better == [
        (one.weight, expression(one)) for one in wanted if one.weight is not None
    ]


def tolerations(pod: Pod, asks: Asked) -> bool:
    names = {"seconds": "tolerationSeconds"}
    return all(
        {names.get(k, k): v for k, v in one.model_dump(exclude_none=True).items()}
        in pod.spec["tolerations"]
        for one in asks.placement.tolerations
    )


def claims(pod: Pod, asks: Asked) -> bool:
    wanted = [*([asks.shared] if asks.shared else []), *asks.placement.volumes]
    return all(
        pod.mounted[one.mount_path]["persistentVolumeClaim"] == {"claimName": one.claim}
        for one in wanted
    )


def mounted(pod: Pod, asks: Asked, kind: str) -> bool:
    """Secrets and config maps: variables, files, and whether they may be missing."""
    source, name, reference = {
        "secrets": ("secret", "secretName", "secretKeyRef"),
        "config_maps": ("configMap", "name", "configMapKeyRef"),
    }[kind]
    for one in getattr(asks.placement, kind):
        for key, variable in one.env.items():
            found = pod.variables[variable]["valueFrom"][reference]
            if found != {"name": one.name, "key": key, "optional": one.optional}:
                return False
        if one.mount_path is not None:
            volume = pod.mounted[one.mount_path][source]
            if (volume[name], volume["optional"]) != (one.name, one.optional):
                return False
    return True


def security(pod: Pod, asks: Asked) -> bool:
    names = {"run_as_user": "runAsUser", "run_as_group": "runAsGroup"}
    wanted = asks.placement.security_context
    values = {} if wanted is None else wanted.model_dump(exclude_none=True)
    context = pod.main["securityContext"]
    return context["capabilities"] == {"drop": ["ALL"]} and all(
        context[names.get(name, "runAsNonRoot")] == value for name, value in values.items()
    )


FIELDS: dict[str, Callable[[Pod, Asked], bool]] = {
    "cpu": lambda pod, asks: given(pod, asks, "cpu"),
    "memory": lambda pod, asks: given(pod, asks, "memory"),
    "disk": disk,
    "shared_memory": lambda pod, asks: (
        asks.placement.shared_memory is None
        or empty(pod, SHARED_MEMORY, asks.placement.shared_memory, in_memory=True)
    ),
    "empty_dirs": lambda pod, asks: all(
        empty(pod, one.mount_path, one.size, one.in_memory) for one in asks.placement.empty_dirs
    ),
    "gpu": lambda pod, asks: pod.resource("limits", asks.placement.gpu_type) == asks.placement.gpu,
    "gpu_type": lambda pod, asks: all(
        name in ("cpu", "memory", asks.placement.gpu_type)
        for name in pod.main["resources"].get("limits", {})
    ),
    "node_selector": lambda pod, asks: (
        pod.spec.get("nodeSelector", {}) == asks.placement.node_selector
    ),
    "tolerations": tolerations,
    "affinity": affinity,
    "volumes": claims,
    "env": lambda pod, asks: all(
        pod.variables[name]["value"] == value for name, value in asks.placement.env.items()
    ),
    "secrets": lambda pod, asks: mounted(pod, asks, "secrets"),
    "config_maps": lambda pod, asks: mounted(pod, asks, "config_maps"),
    "labels": lambda pod, asks: asks.placement.labels.items() <= pod.labels.items(),
    "image": lambda pod, asks: asks.placement.image in (None, pod.main["image"]),
    "image_pull_policy": lambda pod, asks: (
        asks.placement.image_pull_policy in (None, pod.main.get("imagePullPolicy"))
    ),
    "image_pull_secrets": lambda pod, asks: (
        [one["name"] for one in pod.spec.get("imagePullSecrets", [])]
        == asks.placement.image_pull_secrets
    ),
    "security_context": security,
    "timeout_s": lambda pod, asks: (
        pod.spec.get("activeDeadlineSeconds") == asks.placement.timeout_s
    ),
    "retries": lambda pod, asks: (
        pod.variables.get(environment.RETRIES, {}).get("value", "0") == str(asks.placement.retries)
    ),
}
"""For each field of a placement, whether a pod has what it asks for."""


def lost(answer: Mapping[str, Any], specification: str, component: str) -> list[str]:
    """Returns the fields of the configuration that a pod does not have."""
    asks = asked(specification)[component]
    pod = Pod(answer)
    return [name for name, has in FIELDS.items() if not has(pod, asks)]
