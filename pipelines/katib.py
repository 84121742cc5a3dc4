"""A search for arguments as a Katib Experiment, for clusters whose tuner is Katib.

Each trial is a Job that trains once on what `estimator-pipelines preprocess` wrote to the shared
volume. Katib knows no successive halving for such Jobs: where the configuration asks for a pruner,
trials that are worse than the median are ended early.
"""

from __future__ import annotations

from typing import Any

import yaml

from components.image import IMAGE
from components.tune_once import text as choice_text
from estimator_lib.core.config import Parameter, Placement, RunConfiguration, Tune, Volume
from estimator_lib.core.errors import ConfigError, Reason

_CONTAINER = "trial"


def manifest(config: RunConfiguration, prepared: str | None = None) -> str:
    """Returns the Experiment as YAML.

    Args:
        config: A run configuration with `tune` and `cluster.volume`.
        prepared: Directory on the volume with what preprocess wrote; by default `prepared`.

    Raises:
        ConfigError: a section is missing, or a choice does not fit into a manifest.
    """
    part = config.tune_part()
    volume = config.cluster.volume
    if volume is None:
        raise ConfigError(
            "cluster.volume is missing: trials of Katib read what preprocess wrote from a shared "
            "volume. Give its claim and mount_path.",
            reason=Reason.MISSING_VALUE,
        )
    options = part.tune
    _check_placement(config)
    command = [
        "python", "-m", "components.tune_once", "--config", part.to_json(),
        "--prepared", prepared or f"{volume.mount_path}/prepared",
    ]  # fmt: skip
    references = {name: f"p{number}" for number, name in enumerate(options.space)}
    for name, short in references.items():
        command += ["--value", f"{name}=${{trialParameters.{short}}}"]
    spec: dict[str, Any] = {
        "objective": {
            "type": "minimize" if options.direction == "min" else "maximize",
            "objectiveMetricName": options.metric,
            "metricStrategies": [{"name": options.metric, "value": "latest"}],
        },
        "algorithm": {
            "algorithmName": options.sampler,
            "algorithmSettings": [{"name": "random_state", "value": str(options.seed)}],
        },
        **_early_stopping(options),
        "parallelTrialCount": options.parallel,
        "maxTrialCount": options.trials,
        "maxFailedTrialCount": max(1, options.trials // 2),
        "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
        "parameters": [_parameter(name, space) for name, space in options.space.items()],
        "trialTemplate": {
            "primaryContainerName": _CONTAINER,
            "trialParameters": [
                {"name": short, "description": name, "reference": name}
                for name, short in references.items()
            ],
            "trialSpec": _job(config, command, volume),
        },
    }
    experiment = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": f"{config.name}-tune"},
        "spec": spec,
    }
    return yaml.safe_dump(experiment, sort_keys=False, width=100)


def _check_placement(config: RunConfiguration) -> None:
    """Refuses what the Job would not have: a step placed by half is placed wrongly."""
    placement = config.cluster.placement("tune")
    files = any(one.mount_path for one in (*placement.secrets, *placement.config_maps))
    for name, given in (
        ("disk", placement.disk),
        ("affinity", placement.affinity),
        ("mount_path of secrets and config_maps", files),
    ):
        if given:
            raise ConfigError(
                f"cluster.steps.tune has {name}, which trials of Katib cannot be given here. "
                "Leave it out for the step tune, or add it to the manifest.",
                reason=Reason.UNSUPPORTED,
            )


def _early_stopping(options: Tune) -> dict[str, Any]:
    return {} if options.pruner == "none" else {"earlyStopping": {"algorithmName": "medianstop"}}


def _parameter(name: str, space: Parameter) -> dict[str, Any]:
    if space.range is None:
        kind = "categorical"
        feasible: dict[str, Any] = {"list": [choice_text(value) for value in space.extremes]}
    else:
        kind = "int" if space.whole else "double"
        low, high = space.range
        feasible = {"min": str(low), "max": str(high)}
        if space.log:
            feasible["distribution"] = "logUniform"
    return {"name": name, "parameterType": kind, "feasibleSpace": feasible}


def _job(config: RunConfiguration, command: list[str], shared: Volume) -> dict[str, Any]:
    """The Job of a trial, placed as the configuration places the step tune."""
    placement = config.cluster.placement("tune")
    mounts = [shared, *placement.volumes]
    container: dict[str, Any] = {
        "name": _CONTAINER,
        "image": placement.image or config.cluster.image or IMAGE,
        "command": command,
        **_some("env", _environment(placement)),
        **_some("resources", _resources(placement)),
        "volumeMounts": [
            {"name": f"volume-{number}", "mountPath": volume.mount_path}
            for number, volume in enumerate(mounts)
        ],
    }
    pod = {
        "restartPolicy": "Never",
        **_some("serviceAccountName", config.cluster.service_account),
        **_some("activeDeadlineSeconds", placement.timeout_s),
        **_some("imagePullSecrets", [{"name": name} for name in placement.image_pull_secrets]),
        **_some("nodeSelector", dict(placement.node_selector)),
        **_some("tolerations", [_toleration(t) for t in placement.tolerations]),
        "containers": [container],
        "volumes": [
            {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": volume.claim}}
            for number, volume in enumerate(mounts)
        ],
    }
    # A mesh's sidecar would go on after the trial, and the Job would never end.
    metadata = {
        "annotations": {"sidecar.istio.io/inject": "false"},
        **_some("labels", dict(placement.labels)),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "backoffLimit": placement.retries,
            "template": {"metadata": metadata, "spec": pod},
        },
    }


def _some(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


def _environment(placement: Placement) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in sorted(placement.env.items())
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


def _resources(placement: Placement) -> dict[str, Any]:
    asked = {**_some("cpu", placement.cpu), **_some("memory", placement.memory)}
    if placement.gpu is not None:
        asked[placement.gpu_type] = str(placement.gpu)
    return {"requests": dict(asked), "limits": dict(asked)} if asked else {}


def _toleration(toleration: Any) -> dict[str, Any]:
    return {
        **_some("key", toleration.key),
        "operator": toleration.operator,
        **_some("value", toleration.value),
        **_some("effect", toleration.effect),
        **({} if toleration.seconds is None else {"tolerationSeconds": toleration.seconds}),
    }
