"""One of the processes that train a model together, as a program for a pod of a JobSet.

    python -m components.steps.train_role

What it does is in its environment:

    TRAIN_CONFIG           a TrainPart with train.cluster, as JSON
    TRAIN_PREPARED         the directory that preprocess wrote, which all pods see
    TRAIN_DIRECTORY        where checkpoints and the model go, which all pods see
    TRAIN_SET              the JobSet's name
    TRAIN_ROLE             the pod's replicated job: chief, worker, ps or evaluator
    JOB_COMPLETION_INDEX   the pod's number in its role, set by Kubernetes
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

from components.steps.quiet import startup_lines_hidden
from components.steps.step import step
from estimator_lib.core.config import TrainPart
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.version import VERSION

CONFIG = "TRAIN_CONFIG"
PREPARED = "TRAIN_PREPARED"
DIRECTORY = "TRAIN_DIRECTORY"
SET = "TRAIN_SET"
ROLE = "TRAIN_ROLE"
INDEX = "JOB_COMPLETION_INDEX"
PORT = 2222
"""Every pod has an address of its own, so all listen at the same port."""


@dataclasses.dataclass(frozen=True)
class Pod:
    """What the environment says of a pod.

    Attributes:
        config: The configuration's part, as it was given.
        tasks: How many pods each role has.
        prepared: What preprocess wrote.
        directory: Where checkpoints and the model go.
        jobset: The JobSet's name.
        role: The pod's.
        index: Its number within the role.
    """

    config: str
    tasks: Mapping[str, int]
    prepared: str
    directory: str
    jobset: str
    role: str
    index: int


def main(environment: Mapping[str, str] = os.environ) -> None:
    """Trains in the pod's role; ends the process with the exit code of a step."""
    with step():
        pod = read_environment(environment)
        os.environ["TF_CONFIG"] = tf_config(pod)
        with startup_lines_hidden():
            from components.steps import train
        train.run_role(pod.config, pod.prepared, pod.directory, VERSION)


def read_environment(environment: Mapping[str, str]) -> Pod:
    """Returns what the environment's variables say.

    Raises:
        ConfigError: one is missing, or the configuration has no such pod.
    """
    for name in (CONFIG, PREPARED, DIRECTORY, SET, ROLE, INDEX):
        if not environment.get(name):
            raise ConfigError(
                f"The environment variable {name} is missing. Start the pod by what "
                "`estimator-pipelines jobset` writes.",
                reason=Reason.MISSING_VALUE,
            )
    cluster = TrainPart.from_json(environment[CONFIG]).train.cluster
    tasks = {} if cluster is None else cluster.tasks
    role, index = environment[ROLE], environment[INDEX]
    if not index.isdecimal() or int(index) >= tasks.get(role, 0):
        raise ConfigError(
            f"There is no pod {quote(role)} {quote(index)} in this training: expected one of "
            f"{', '.join(f'{count} {name}' for name, count in tasks.items()) or 'none'}. Write "
            "the manifest again.",
            reason=Reason.UNKNOWN_NAME,
        )
    return Pod(
        config=environment[CONFIG],
        tasks=tasks,
        prepared=environment[PREPARED],
        directory=environment[DIRECTORY],
        jobset=environment[SET],
        role=role,
        index=int(index),
    )


def tf_config(pod: Pod) -> str:
    """Returns the pod's TF_CONFIG."""
    cluster = {
        role: [address(pod.jobset, role, index) for index in range(count)]
        for role, count in pod.tasks.items()
    }
    return json.dumps({"cluster": cluster, "task": {"type": pod.role, "index": pod.index}})


def address(jobset: str, role: str, index: int) -> str:
    """Returns where a pod listens, by the host name that JobSet gives it."""
    return f"{jobset}-{role}-0-{index}.{jobset}:{PORT}"


if __name__ == "__main__":
    main()
