"""What the tests of this folder share: one step server, a store and a cache."""

import os

import pytest

from estimator_lib.core.places import Place
from pipelines.local.warm_steps import WarmSteps
from tests.stores import servers


@pytest.fixture(scope="session")
def warm_steps(tmp_path_factory):
    log = tmp_path_factory.mktemp("warm") / "steps.log"
    with WarmSteps(log) as steps:
        yield steps


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """The user's cache, of these tests only."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module", params=servers.SCHEMES)
def bucket(request, caches, tmp_path_factory):
    """An empty bucket of a server of its own, for these tests and the steps that they start."""
    if request.param != "s3" and "STORE_CACHE" not in os.environ:
        pytest.skip("the same road in other stores takes minutes: make store-test")
    if reason := servers.missing(request.param):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(request.param)
    with servers.running(request.param, folder) as server, pytest.MonkeyPatch.context() as patched:
        for name, value in server.environment(server.port).items():
            patched.setenv(name, value)
        yield Place(server.root)
