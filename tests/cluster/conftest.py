"""A real one-node Kubernetes for the tests here; `make cluster-test` runs them."""

from __future__ import annotations

import fcntl
import os
import pathlib
from collections.abc import Iterator

import pytest

from components import IMAGE
from tests.cluster import images, machine, parts

REPOSITORY = pathlib.Path(__file__).parents[2]
_DEFAULT = pathlib.Path.home() / ".cache/estimator-pipelines/cluster"


@pytest.fixture(scope="session")
def cache() -> Iterator[pathlib.Path]:
    """The folder with what is built once; one run at a time uses it."""
    folder = pathlib.Path(os.environ.get("CLUSTER_CACHE") or _DEFAULT)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def cluster(
    cache: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[machine.Cluster]:
    """A control plane and a node, both empty."""
    parts.check_machine()
    running = machine.Cluster(cache, tmp_path_factory.mktemp("cluster"))
    try:
        parts.log.info("starting the cluster; its logs are in %s", running.logs)
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def steps_image(cluster: machine.Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the image of all steps, packed like the Dockerfile and loaded."""
    work = tmp_path_factory.mktemp("image")
    parts.log.info("packing and loading %s", IMAGE)
    name = f"docker.io/library/{IMAGE}"
    image = images.steps(name, REPOSITORY, cluster.cache, work, cluster.layers)
    cluster.load(image)
    for archive in work.glob("*.tar"):
        archive.unlink()
    return IMAGE
