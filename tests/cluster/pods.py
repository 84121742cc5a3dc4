"""An executor of a compiled pipeline as the pod that Kubeflow Pipelines 2.17 makes of it.

KFP's driver turns an executor and its platform configuration into a patch, and Argo lays the patch
over a template. `patch` is the driver's part, compared with real ones in
`tests/contract/test_kubeflow_pods.py`; the template is taken from a real Workflow.
"""

from __future__ import annotations

import gzip
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

RECORDINGS = pathlib.Path(__file__).parents[1] / "golden/kubeflow_runs"
MAIN = "main"
_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_KNOWN = {
    "activeDeadlineSeconds", "configMapAsEnv", "configMapAsVolume", "emptyDirMounts",
    "genericEphemeralVolume", "imagePullPolicy", "imagePullSecret", "nodeAffinity",
    "nodeSelector", "podMetadata", "pvcMount", "secretAsEnv", "secretAsVolume",
    "securityContext", "tolerations",
}  # fmt: skip


def workflow(recording: str) -> dict[str, Any]:
    """Returns the Argo Workflow of a recorded run."""
    file = RECORDINGS / f"{recording}.v1beta1.json.gz"
    run = json.loads(gzip.decompress(file.read_bytes()))
    found: dict[str, Any] = json.loads(run["pipeline_runtime"]["workflow_manifest"])
    return found


def patch(
    container: Mapping[str, Any], platform: Mapping[str, Any], values: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the pod that KFP's driver asks for, without its launcher.

    Args:
        container: Of the executor.
        platform: Its configuration under `platforms.kubernetes`.
        values: Values of the pipeline's parameters, which resources may name.

    Raises:
        KeyError: the configuration has a part that is not translated here.
    """
    unknown = set(platform) - _KNOWN
    if unknown:
        raise KeyError(f"not translated here: {', '.join(sorted(unknown))}")
    mounts, volumes = _volumes(platform)
    main = {
        "name": MAIN,
        "image": container["image"],
        "args": [*container["command"], *container["args"]],
        "env": [*container.get("env", []), *_environment(platform)],
        "resources": _resources(container.get("resources", {}), values),
        "volumeMounts": mounts,
        "imagePullPolicy": platform.get("imagePullPolicy"),
        "securityContext": _security(platform.get("securityContext")),
    }
    deadline = platform.get("activeDeadlineSeconds")
    pod = {
        "activeDeadlineSeconds": deadline and int(deadline),
        "affinity": _affinity(platform.get("nodeAffinity", [])),
        "containers": [{k: v for k, v in main.items() if v or k == "resources"}],
        "imagePullSecrets": [
            {"name": one["secretName"]} for one in platform.get("imagePullSecret", [])
        ],
        "nodeSelector": platform.get("nodeSelector", {}).get("labels"),
        "tolerations": [_toleration(one) for one in platform.get("tolerations", [])],
        "volumes": volumes,
    }
    return {k: v for k, v in pod.items() if v}


def pod(name: str, patched: Mapping[str, Any], platform: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the pod that Argo makes: its template with the driver's patch laid over it.

    The launcher's part is played by the process itself: its words are the container's command.

    Args:
        name: The pod's.
        patched: What `patch` returned.
        platform: The executor's configuration, for labels and annotations.
    """
    recorded = workflow("succeeded")["spec"]
    (template,) = [t for t in recorded["templates"] if t["name"] == "retry-system-container-impl"]
    base, (own,) = template["container"], patched["containers"]
    main = {
        **base,
        **own,
        "command": own["args"],
        "env": [*base["env"], *own.get("env", [])],
        "volumeMounts": [*base["volumeMounts"], *own.get("volumeMounts", [])],
        "securityContext": {**base["securityContext"], **own.get("securityContext", {})},
    }
    del main["args"]
    given = platform.get("podMetadata", {})
    metadata = {
        "name": name,
        "labels": {**recorded["podMetadata"]["labels"], **given.get("labels", {})},
        "annotations": {**template["metadata"]["annotations"], **given.get("annotations", {})},
    }
    spec = {
        **patched,
        "restartPolicy": "Never",
        "containers": [main],
        "initContainers": template["initContainers"],
        "securityContext": template["securityContext"],
        "volumes": [*template["volumes"], *patched.get("volumes", [])],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _resources(asked: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    def resolved(text: str) -> str:
        return _PARAMETER.sub(lambda m: values[m[1].removeprefix("pipelinechannel--")], text)

    found: dict[str, Any] = {}
    for kind, word in (("limits", "Limit"), ("requests", "Request")):
        for name in ("cpu", "memory"):
            key = f"resource{name.capitalize()}{word}"
            if key in asked:
                found.setdefault(kind, {})[name] = resolved(asked[key])
    if "accelerator" in asked:
        accelerator = asked["accelerator"]
        count = resolved(accelerator["resourceCount"])
        found.setdefault("limits", {})[accelerator["resourceType"]] = count
    return found


def _environment(platform: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for kind, source, reference in (
        ("secret", "secretAsEnv", "secretKeyRef"),
        ("configMap", "configMapAsEnv", "configMapKeyRef"),
    ):
        for one in platform.get(source, []):
            for pair in one["keyToEnv"]:
                optional = {"optional": one["optional"]} if "optional" in one else {}
                key = {"name": one[f"{kind}Name"], "key": pair[f"{kind}Key"], **optional}
                found.append({"name": pair["envVar"], "valueFrom": {reference: key}})
    return found


def _volumes(platform: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    mounts, volumes = [], []

    def add(name: str, path: str, **source: Any) -> None:
        mounts.append({"name": name, "mountPath": path})
        volumes.append({"name": name, **source})

    for one in platform.get("pvcMount", []):
        claim = one["constant"]
        add(claim, one["mountPath"], persistentVolumeClaim={"claimName": claim})
    for one in platform.get("secretAsVolume", []):
        source = {"secretName": one["secretName"], "optional": one.get("optional", False)}
        add(one["secretName"], one["mountPath"], secret=source)
    for one in platform.get("configMapAsVolume", []):
        source = {"name": one["configMapName"], "optional": one.get("optional", False)}
        add(one["configMapName"], one["mountPath"], configMap=source)
    for one in platform.get("genericEphemeralVolume", []):
        storage = {} if one.get("defaultStorageClass") else one["storageClassName"]
        spec = {
            "accessModes": one["accessModes"],
            "resources": {"requests": {"storage": one["size"]}},
            **({"storageClassName": storage} if storage else {}),
        }
        add(one["volumeName"], one["mountPath"], ephemeral={"volumeClaimTemplate": {"spec": spec}})
    for one in platform.get("emptyDirMounts", []):
        made = {"medium": one.get("medium"), "sizeLimit": one.get("sizeLimit")}
        add(one["volumeName"], one["mountPath"], emptyDir={k: v for k, v in made.items() if v})
    return mounts, volumes


def _affinity(terms: list[Mapping[str, Any]]) -> dict[str, Any]:
    required, preferred = [], []
    for term in terms:
        expressions = {"matchExpressions": term["matchExpressions"]}
        if "weight" in term:
            preferred.append({"weight": int(term["weight"]), "preference": expressions})
        else:
            required.append(expressions)
    node = {}
    if required:
        node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": required}
    if preferred:
        node["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {"nodeAffinity": node} if node else {}


def _toleration(one: Mapping[str, Any]) -> dict[str, Any]:
    seconds = one.get("tolerationSeconds")
    return {**one, **({} if seconds is None else {"tolerationSeconds": int(seconds)})}


def _security(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    numbers = {k: int(given[k]) for k in ("runAsUser", "runAsGroup") if k in given}
    other = {k: given[k] for k in ("runAsNonRoot",) if k in given}
    return {**numbers, **other, "capabilities": {"drop": ["ALL"]}}
