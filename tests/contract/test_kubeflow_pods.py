"""Pods of executors: made as a real driver made them, with all that is asked for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from estimator_lib.core.config import Placement
from tests import launcher
from tests.cluster import placed, pods

RECORDED = sorted(path.name.split(".")[0] for path in pods.RECORDINGS.glob("*.v1beta1.json.gz"))


def drivers(recording: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The inputs of a recorded run's container drivers and the pods they asked for."""
    for node in pods.workflow(recording)["status"]["nodes"].values():
        for output in node.get("outputs", {}).get("parameters", []):
            if output["name"] == "pod-spec-patch" and output.get("value"):
                inputs = {one["name"]: one.get("value") for one in node["inputs"]["parameters"]}
                yield inputs, json.loads(output["value"])


@pytest.mark.parametrize("recording", RECORDED)
def test_patch_of_a_recorded_executor_is_the_drivers(recording: str) -> None:
    for inputs, asked in drivers(recording):
        # The launcher starts the executor's words, which follow it as arguments.
        launcher = asked["containers"][0].pop("command")
        assert launcher[0] == "/kfp-launcher/launch"
        platform = json.loads(inputs["kubernetes-config"] or "{}")
        assert pods.patch(json.loads(inputs["container"]), platform, {}) == asked


def test_patches_are_recorded() -> None:
    assert sum(len(list(drivers(recording))) for recording in RECORDED) > 40


def test_fields_that_are_looked_up_are_those_of_a_placement() -> None:
    assert set(placed.FIELDS) == set(Placement.model_fields)


def test_specifications_that_are_looked_into_are_the_committed_ones() -> None:
    assert set(placed.SOURCES) == set(launcher.specifications())


@pytest.mark.parametrize(("specification", "component"), placed.CASES)
def test_pod_of_a_step_has_everything_that_is_asked(specification: str, component: str) -> None:
    assert (
        placed.lost(placed.pod(placed.read(specification), component), specification, component)
        == []
    )
