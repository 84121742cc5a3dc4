"""Every pod of every committed specification, as the API server takes it."""

from __future__ import annotations

import pytest

from tests.cluster import machine, placed


@pytest.fixture(scope="module", autouse=True)
def _namespaces(cluster: machine.Cluster) -> None:
    for level in ("baseline", "restricted"):
        cluster.namespace(level, {"pod-security.kubernetes.io/enforce": level})


@pytest.mark.parametrize(("specification", "component"), placed.CASES)
def test_pod_of_a_step_is_taken_with_everything_that_is_asked(
    cluster: machine.Cluster, specification: str, component: str
) -> None:
    pod = placed.pod(placed.read(specification), component)

    answer = cluster.create("--dry-run=server", "--namespace=baseline", given=pod)

    assert placed.lost(answer, specification, component) == []


@pytest.mark.parametrize(
    "component", [one for name, one in placed.CASES if name == "flights-restricted.yaml"]
)
def test_pod_of_the_restricted_specification_is_taken_where_only_such_are(
    cluster: machine.Cluster, component: str
) -> None:
    pod = placed.pod(placed.read("flights-restricted.yaml"), component)

    cluster.create("--dry-run=server", "--namespace=restricted", given=pod)


def test_pod_that_says_nothing_of_its_user_is_refused_where_restricted(
    cluster: machine.Cluster,
) -> None:
    pod = placed.pod(placed.read("flights.yaml"), "train")

    with pytest.raises(machine.Failed, match="runAsNonRoot"):
        cluster.create("--dry-run=server", "--namespace=restricted", given=pod)
