"""The exit handler that every pipeline has: however it ends, `notify` tells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kfp import dsl

from components.notify import notify
from estimator_lib.core.config import Cluster, Placement, RunConfiguration
from pipelines import definitions, placement

_LITTLE: dict[str, Any] = {
    **dict.fromkeys(("cpu", "memory", "disk", "gpu", "shared_memory")),
    "volumes": [],
    "retries": 0,
    "timeout_s": 120,
}


@contextlib.contextmanager
def exit_handler(config: RunConfiguration, values: Mapping[str, Any]) -> Iterator[None]:
    """Puts the tasks made inside the block under an exit handler.

    Args:
        config: The run configuration.
        values: The pipeline's parameters of `placement.resources`, by name.
    """
    task = notify(pipeline=definitions.name(config), run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
    placement.place(task, "notify", _harmless(config.cluster), values)
    task.set_caching_options(False)
    with dsl.ExitHandler(task, name="notify when done"):
        yield


def _harmless(cluster: Cluster) -> Cluster:
    """What is asked for `notify`, without anything that could keep its pod from starting.

    An exit handler that fails would fail its run: what it mounts is optional; the shared volume
    and what other steps need by default are left out; and it is given up soon.
    """
    own = cluster.steps.get("notify", Placement())
    asked = own.over(cluster.defaults.model_copy(update=_LITTLE))
    optional = {"optional": True}
    update = {
        "secrets": [one.model_copy(update=optional) for one in asked.secrets],
        "config_maps": [one.model_copy(update=optional) for one in asked.config_maps],
    }
    steps = {**cluster.steps, "notify": asked.model_copy(update=update)}
    return cluster.model_copy(update={"volume": None, "code": [], "steps": steps})
