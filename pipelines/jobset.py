"""A training of several pods as a JobSet, for clusters that have its controller.

Each pod is one of the processes of `train.cluster`. Where the controller starts a pod again, and
where all of them, follows from who can go on without whom:

    role              sync                     async
    chief, worker     all start again          it starts again
    ps                -                        all start again
    evaluator         it starts again          it starts again

Servers and clients of an earlier start cannot join: a run is told from others by the lease of its
chief.
"""

from __future__ import annotations

import re
from typing import Any

from components.steps.train_role import CONFIG, DIRECTORY, INDEX, PORT, PREPARED, ROLE, SET
from estimator_lib.core.config import Cluster, Processes, RunConfiguration
from estimator_lib.core.errors import ConfigError, Reason, quote
from pipelines import kubernetes_yaml, pods

_COMMAND = ["python", "-m", "components.steps.train_role"]
_SUFFIX = "-train"
_LONGEST_POD = 63
_FINAL = 2
"""The exit code of a step that would fail again."""
_KEPT_S = 3 * 24 * 3600
"""How long an ended JobSet and its pods' logs are kept: over a weekend."""
_GRACE_S = 60
"""How long a pod that is asked to end may take to save."""
_OWN = (CONFIG, PREPARED, DIRECTORY, SET, ROLE, INDEX, "TF_CONFIG")
_QUEUE = "kueue.x-k8s.io/queue-name"


def manifest(
    config: RunConfiguration,
    *,
    prepared: str | None = None,
    directory: str | None = None,
    queue: str | None = None,
) -> str:
    """Returns the JobSet as YAML.

    Args:
        config: A run configuration with `train.cluster` and `cluster.volume`.
        prepared: Directory on the volume with what preprocess wrote; by default `prepared`.
        directory: Directory on the volume for checkpoints and the model; by default the JobSet's
            name.
        queue: Kueue's queue that admits it.

    Raises:
        ConfigError: a section is missing, or the controllers could not run what is asked for.
    """
    processes, volume = config.train.cluster, config.cluster.volume
    if processes is None:
        raise _missing("train.cluster", "a JobSet has a pod for each of its processes. Add it.")
    if volume is None:
        raise _missing(
            "cluster.volume",
            "pods read what preprocess wrote, and share checkpoints, on a volume. Give its claim "
            "and mount_path.",
        )
    name = f"{config.name}{_SUFFIX}"
    _check_name(name, processes)
    _check_placement(config.cluster)
    if queue is not None and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", queue):
        raise ConfigError(
            f"--queue {quote(queue)} is no name of a queue: expected up to 63 lower-case letters, "
            "digits, hyphens and dots.",
        )
    prepared = prepared or f"{volume.mount_path}/prepared"
    directory = directory or f"{volume.mount_path}/{name}"
    shared = {
        CONFIG: pods.json_value(CONFIG, config.train_part().to_json()),
        PREPARED: pods.value(prepared),
        DIRECTORY: pods.value(directory),
        SET: name,
    }
    jobs = [_replicated_job(config.cluster, processes, role, shared) for role in processes.tasks]
    for option, path in (("--prepared", prepared), ("--directory", directory)):
        pods.check_mounted(jobs[0]["template"]["spec"]["template"], option, path)
    labels = {} if queue is None else {"labels": {_QUEUE: queue}}
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, **labels},
        "spec": {
            # Roles look each other up while they start.
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "successPolicy": {
                "operator": "All",
                "targetReplicatedJobs": [
                    role for role in processes.tasks if role in ("chief", "evaluator")
                ],
            },
            "failurePolicy": {
                "maxRestarts": config.cluster.placement("train").retries,
                "rules": [
                    {
                        "name": "final",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "ttlSecondsAfterFinished": _KEPT_S,
            "replicatedJobs": jobs,
        },
    }
    return kubernetes_yaml.dump([jobset], sort_keys=False, width=100)


def _missing(section: str, why: str) -> ConfigError:
    return ConfigError(f"{section} is missing: {why}", reason=Reason.MISSING_VALUE)


def _check_name(name: str, processes: Processes) -> None:
    """Refuses a name with which a pod's own, `NAME-ROLE-0-INDEX-abcde`, is too long."""
    longest = max(len(f"-{role}-0-{count - 1}-abcde") for role, count in processes.tasks.items())
    most = _LONGEST_POD - longest
    if len(name) > most:
        raise ConfigError(
            f"Name {name.removesuffix(_SUFFIX)} is too long for a JobSet with these roles: "
            f"expected at most {most - len(_SUFFIX)} characters, got "
            f"{len(name) - len(_SUFFIX)}. Give a shorter name.",
        )


def _check_placement(cluster: Cluster) -> None:
    """Refuses variables that are the pods' own."""
    for variable in pods.variables(cluster.placement("train")):
        if variable["name"] in _OWN:
            raise ConfigError(
                f"cluster.steps.train has the environment variable {variable['name']}, which "
                "belongs to the pods of a JobSet. Leave it out.",
                reason=Reason.UNSUPPORTED,
            )


def _replicated_job(
    cluster: Cluster, processes: Processes, role: str, shared: dict[str, str]
) -> dict[str, Any]:
    """The pods of one role, all placed as the configuration places the step train."""
    count = processes.tasks[role]
    template = pods.template(
        cluster, "train", name=role, command=_COMMAND, environment={**shared, ROLE: role}
    )
    template["spec"]["terminationGracePeriodSeconds"] = _GRACE_S
    port = {"name": "tensorflow", "containerPort": PORT, "protocol": "TCP"}
    template["spec"]["containers"][0]["ports"] = [port]
    final = {"containerName": role, "operator": "In", "values": [_FINAL]}
    rules: list[dict[str, Any]] = [{"action": "FailJob", "onExitCodes": final}]
    alone = role == "evaluator" or (processes.mode == "async" and role != "ps")
    if alone:
        # A pod that was evicted or preempted did not fail.
        evicted = [{"type": "DisruptionTarget", "status": "True"}]
        rules.append({"action": "Ignore", "onPodConditions": evicted})
    job = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimit": cluster.placement("train").retries if alone else 0,
        "podFailurePolicy": {"rules": rules},
        "template": template,
    }
    return {"name": role, "replicas": 1, "template": {"spec": job}}
