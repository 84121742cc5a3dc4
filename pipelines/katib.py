"""A search for arguments as a Katib Experiment, for clusters whose tuner is Katib.

Each trial is a Job that trains once on what `estimator-pipelines preprocess` wrote to the shared
volume. Katib knows no successive halving for such Jobs: where the configuration asks for a pruner,
trials that are worse than the median are ended early.

What a trial is asked for is in its environment, and no text of a user is in its command: Katib
joins a command's words with blanks to one line for `sh -c`, and adds to that line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from components.steps.tune_once import CONFIG, METRIC_LINE, PREPARED, VALUE
from components.steps.tune_once import text as choice_text
from estimator_lib.core.config import Cluster, Parameter, RunConfiguration, Tune, TunePart
from estimator_lib.core.errors import ConfigError, Reason, quote
from pipelines import kubernetes_yaml, pods

_CONTAINER = "trial"
_COMMAND = ["python", "-m", "components.steps.tune_once"]
_REFERENCE = "${trialParameters."
_SUFFIX = "-tune"
_LONGEST_NAME = 40 - len(_SUFFIX)
_METRICS = "/var/log/katib"
"""Where Katib mounts a volume of its own into a trial's pod."""
_KEPT_S = 3 * 24 * 3600
"""How long an ended trial's Job and log are kept: over a weekend."""
_FINAL = 2
"""The exit code of a step that would fail again."""
_PLACED = pods.PLACED | {"retries"}
_OWN = (CONFIG, PREPARED, "KATIB_TRIAL_NAME")


def manifest(config: RunConfiguration, prepared: str | None = None) -> str:
    """Returns the Experiment as YAML.

    Args:
        config: A run configuration with `tune` and `cluster.volume`.
        prepared: Directory on the volume with what preprocess wrote; by default `prepared`.

    Raises:
        ConfigError: a section is missing, or Katib could not run what is asked for.
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
    _check_search(config.name, part)
    _check_placement(config.cluster)
    shorts = {parameter: f"p{number}" for number, parameter in enumerate(options.space)}
    prepared = prepared or f"{volume.mount_path}/prepared"
    job = _job(config, _environment(part, prepared, shorts))
    _check_mounts(job, prepared)
    _check_references(job, len(shorts))
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
        "metricsCollectorSpec": {
            "collector": {"kind": "StdOut"},
            # By default Katib reads neither auc/late nor precision@0.5, and ends at auc=nan.
            "source": {"filter": {"metricsFormat": [METRIC_LINE]}},
        },
        "parameters": [_parameter(name, space) for name, space in options.space.items()],
        "trialTemplate": {
            # Else Katib deletes the Job of a trial that it stopped early before it has read the
            # trial's metric, and waits for that for ever; of a failed trial the log would be lost.
            "retain": True,
            "primaryContainerName": _CONTAINER,
            "trialParameters": [
                {"name": short, "description": parameter, "reference": parameter}
                for parameter, short in shorts.items()
            ],
            "trialSpec": job,
        },
    }
    experiment = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": f"{config.name}{_SUFFIX}"},
        "spec": spec,
    }
    return kubernetes_yaml.dump([experiment], sort_keys=False, width=100)


def _check_search(name: str, part: TunePart) -> None:
    """Refuses a search that Katib would refuse, or would not search as it is written.

    Args:
        name: The configuration's.
        part: What a trial reads.
    """
    options = part.tune
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"Name {name} is too long for an Experiment of Katib: expected at most "
            f"{_LONGEST_NAME} characters, got {len(name)}. Give a shorter name.",
        )
    if any(mark in "=;$" or mark.isspace() for mark in options.metric):
        raise ConfigError(
            f"tune.metric {quote(options.metric)} cannot be read by Katib: expected a name without "
            "blanks, equals signs, semicolons and dollars. Name the label otherwise.",
            reason=Reason.UNSUPPORTED,
        )


def _check_placement(cluster: Cluster) -> None:
    """Refuses what a trial would not have: a step placed by half is placed wrongly."""
    placement = cluster.placement("tune")
    for name, field in type(placement).model_fields.items():
        if name not in _PLACED and getattr(placement, name) != field.get_default():
            raise _placement_error(name, "is not written for trials of Katib")
    for variable in pods.variables(placement):
        if variable["name"] in _OWN or variable["name"].startswith(VALUE):
            raise _placement_error(
                f"the environment variable {variable['name']}", "belongs to the trial itself"
            )


def _check_mounts(job: Mapping[str, Any], prepared: str) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    mounted = [one["mountPath"] for one in container["volumeMounts"]]
    if _METRICS in mounted:
        raise _placement_error(f"the mount_path {_METRICS}", "Katib takes for a volume of its own")
    pods.check_mounted(job["spec"]["template"], "--prepared", prepared)


def _placement_error(what: str, why: str) -> ConfigError:
    return ConfigError(
        f"cluster.steps.tune has {what}, which {why}. Leave it out for the step tune.",
        reason=Reason.UNSUPPORTED,
    )


def _environment(part: TunePart, prepared: str, shorts: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of a trial: what it is asked for, with Katib's references.

    A dollar means something to Katib, which puts a trial's values into the template's text, and
    to Kubernetes, which expands `$(NAME)`.
    """
    found = {CONFIG: pods.json_value(CONFIG, part.to_json()), PREPARED: pods.value(prepared)}
    for number, (name, short) in enumerate(shorts.items()):
        found[f"{VALUE}{number}"] = f"{pods.value(name)}={_REFERENCE}{short}}}"
    return found


def _check_references(job: Mapping[str, Any], count: int) -> None:
    """Refuses a text of the user that Katib would replace, or miss a value for."""
    if json.dumps(job).count(_REFERENCE) != count:
        raise ConfigError(
            f"The trial's Job holds {_REFERENCE}...}} in a text of its own, which Katib would take "
            "for a value of the search. Write that text otherwise.",
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


def _job(config: RunConfiguration, asked: Mapping[str, str]) -> dict[str, Any]:
    """The Job of a trial, placed as the configuration places the step tune."""
    # A trial that Katib may stop early ends with 1 whatever happened, by the line it adds.
    final = {"containerName": _CONTAINER, "operator": "In", "values": [_FINAL]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "backoffLimit": config.cluster.placement("tune").retries,
            "ttlSecondsAfterFinished": _KEPT_S,
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": final}]},
            "template": pods.template(
                config.cluster, "tune", name=_CONTAINER, command=_COMMAND, environment=asked
            ),
        },
    }
