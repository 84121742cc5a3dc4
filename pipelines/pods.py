"""A step's placement as the template of a pod, for manifests that are not Kubeflow Pipelines'.

It says what `pipelines.placement` says of a KFP task.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components import IMAGE
from estimator_lib.core.config import (
    SHARED_MEMORY,
    Cluster,
    Mounted,
    NodeAffinity,
    Placement,
    Step,
    Toleration,
)
from estimator_lib.core.errors import ConfigError, Reason, quote

_LONGEST_VARIABLE = 128 * 1024
"""Bytes of one variable with its name and end; Linux starts no program with a longer one."""
PLACED = frozenset(
    ("cpu", "memory", "disk", "shared_memory", "empty_dirs", "gpu", "gpu_type", "node_selector",
     "tolerations", "affinity", "volumes", "env", "secrets", "config_maps", "labels", "image",
     "image_pull_policy", "image_pull_secrets", "security_context", "timeout_s")
)  # fmt: skip
"""The fields of a placement that `template` puts into a pod; `retries` is of whoever makes it."""
_UNPRIVILEGED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""As Kubeflow has its steps run."""


def template(
    cluster: Cluster,
    step: Step,
    *,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Returns a pod's template, whose pods are not started again by their node.

    Args:
        cluster: The configuration's part.
        step: Whose placement it has.
        name: Of its only container.
        command: Of the container.
        environment: More variables of the container, as Kubernetes reads them.
    """
    placement = cluster.placement(step)
    mounts = list(_volumes(cluster, placement))
    user = placement.security_context
    container: dict[str, Any] = {
        "name": name,
        "image": placement.image or cluster.image or IMAGE,
        **_some("imagePullPolicy", placement.image_pull_policy),
        "command": list(command),
        "env": [
            *({"name": one, "value": value} for one, value in environment.items()),
            *variables(placement),
        ],
        "resources": _resources(cluster, step),
        **_some(
            "volumeMounts", [_name_volume(n, mountPath=path) for n, (path, _) in enumerate(mounts)]
        ),
        "securityContext": {
            **_UNPRIVILEGED,
            **({} if user is None else {_camel(k): v for k, v in user if v is not None}),
        },
    }
    pod = {
        "restartPolicy": "Never",
        **_some("serviceAccountName", cluster.service_account),
        **_some("activeDeadlineSeconds", placement.timeout_s),
        **_some("imagePullSecrets", [{"name": one} for one in placement.image_pull_secrets]),
        **_some("nodeSelector", dict(placement.node_selector)),
        **_some("tolerations", [_toleration(one) for one in placement.tolerations]),
        **_some("affinity", _affinity(placement.affinity)),
        "containers": [container],
        **_some("volumes", [_name_volume(n, **source) for n, (_, source) in enumerate(mounts)]),
    }
    # A mesh's sidecar would go on after the container, and the pod would never end.
    metadata = {
        "annotations": {"sidecar.istio.io/inject": "false"},
        **_some("labels", dict(placement.labels)),
    }
    return {"metadata": metadata, "spec": pod}


def variables(placement: Placement) -> list[dict[str, Any]]:
    """Returns the environment variables that a placement gives a container."""
    found: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in sorted(placement.environment.items())
    ]
    for kind, sources in (
        ("secretKeyRef", placement.secrets),
        ("configMapKeyRef", placement.config_maps),
    ):
        for source in sources:
            for key, name in sorted(source.env.items()):
                reference = {"name": source.name, "key": key, **_some("optional", source.optional)}
                found.append({"name": name, "valueFrom": {kind: reference}})
    return found


def value(text: str) -> str:
    """Returns text as the value of a container's variable, of which `$(NAME)` is expanded."""
    return text.replace("$", "$$")


def json_value(name: str, text: str) -> str:
    """Returns JSON without a dollar, as the value of a container's variable.

    Raises:
        ConfigError: no program starts with a variable as long as this.
    """
    written = text.replace("$", "\\u0024")
    if len(f"{name}={written}\0".encode()) > _LONGEST_VARIABLE:
        raise ConfigError(
            f"The configuration is too long for a pod's environment: expected at most "
            f"{_LONGEST_VARIABLE // 1024} KiB. Move long lists, such as vocabularies, to files.",
            reason=Reason.TOO_MANY_VALUES,
        )
    return written


def check_mounted(made: Mapping[str, Any], option: str, path: str) -> None:
    """Refuses a path that the pods of a template do not see.

    Args:
        made: What `template` returned.
        option: What gave the path, such as --prepared.
        path: A directory.

    Raises:
        ConfigError: it is below no directory that is mounted.
    """
    (container,) = made["spec"]["containers"]
    mounted = [one["mountPath"] for one in container["volumeMounts"]]
    if not any(pathlib.PurePosixPath(path).is_relative_to(one) for one in mounted):
        raise ConfigError(
            f"Pods cannot see {quote(path)}: expected a directory below one that is mounted into "
            f"them, {', '.join(mounted)}. Give {option} as a pod sees it.",
        )


def _some(name: str, value: object) -> dict[str, Any]:
    return {name: value} if value else {}


def _name_volume(number: int, **content: object) -> dict[str, Any]:
    return {"name": f"volume-{number}", **content}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(one.capitalize() for one in others)


def _resources(cluster: Cluster, step: Step) -> dict[str, Any]:
    """What is given is a request and a limit; what is not given is requested only."""
    placement = cluster.placement(step)
    gpus = {} if placement.gpu is None else {placement.gpu_type: str(placement.gpu)}
    limits = {**_some("cpu", placement.cpu), **_some("memory", placement.memory), **gpus}
    return {"requests": {**cluster.requests(step), **gpus}, **_some("limits", limits)}


def _volumes(cluster: Cluster, placement: Placement) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields where something is mounted, and what."""
    shared = [cluster.volume] if cluster.volume else []
    for volume in (*shared, *placement.volumes):
        yield volume.mount_path, {"persistentVolumeClaim": {"claimName": volume.claim}}
    yield from _files("secret", "secretName", placement.secrets)
    yield from _files("configMap", "name", placement.config_maps)
    for one in placement.empty_dirs:
        yield one.mount_path, _empty(one.size, in_memory=one.in_memory)
    if placement.shared_memory is not None:
        yield SHARED_MEMORY, _empty(placement.shared_memory, in_memory=True)
    disk = placement.disk
    if disk is not None and disk.storage_class is None:
        yield disk.mount_path, _empty(disk.size)
    elif disk is not None:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": disk.storage_class,
            "resources": {"requests": {"storage": disk.size}},
        }
        yield disk.mount_path, {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _files(
    kind: str, name: str, sources: Sequence[Mounted]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for source in sources:
        if source.mount_path is not None:
            content = {name: source.name, **_some("optional", source.optional)}
            yield source.mount_path, {kind: content}


def _empty(size: str | None, *, in_memory: bool = False) -> dict[str, Any]:
    medium = {"medium": "Memory"} if in_memory else {}
    return {"emptyDir": {**medium, **_some("sizeLimit", size)}}


def _toleration(toleration: Toleration) -> dict[str, Any]:
    return {
        **_some("key", toleration.key),
        "operator": toleration.operator,
        **_some("value", toleration.value),
        **_some("effect", toleration.effect),
        **({} if toleration.seconds is None else {"tolerationSeconds": toleration.seconds}),
    }


def _affinity(affinities: Sequence[NodeAffinity]) -> dict[str, Any]:
    # In one term, for a node must meet them all; Kubernetes takes one of several terms.
    required = [_expression(one) for one in affinities if one.weight is None]
    preferred = [
        {"weight": one.weight, "preference": {"matchExpressions": [_expression(one)]}}
        for one in affinities
        if one.weight is not None
    ]
    terms = {"nodeSelectorTerms": [{"matchExpressions": required}]} if required else {}
    during = "DuringSchedulingIgnoredDuringExecution"
    found = {**_some(f"required{during}", terms), **_some(f"preferred{during}", preferred)}
    return _some("nodeAffinity", found)


def _expression(affinity: NodeAffinity) -> dict[str, Any]:
    return {
        "key": affinity.key,
        "operator": affinity.operator,
        **_some("values", list(affinity.values)),
    }
