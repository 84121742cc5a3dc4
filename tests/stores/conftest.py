"""Each store of this machine, with a folder of its own for every test."""

import uuid

import pytest

from estimator_lib.core import stores
from estimator_lib.core.places import Place
from tests import memory_store
from tests.stores import proxy, servers


def connect(server, port, monkeypatch):
    """Lets this process, and those that it starts, use a server."""
    for name, value in server.environment(port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stores, "_made", {})


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """The server of a scheme, started when it is first asked for."""
    running, ends = {}, []

    def start(scheme):
        if reason := servers.missing(scheme):
            pytest.skip(reason)
        if scheme not in running:
            context = servers.running(scheme, tmp_path_factory.mktemp(scheme))
            running[scheme] = context.__enter__()
            ends.append(context)
        return running[scheme]

    yield start
    for context in ends:
        context.__exit__(None, None, None)


@pytest.fixture(params=["mem", *servers.SCHEMES])
def folder(request, started, monkeypatch):
    """A folder of each store, that of the tests in memory too."""
    if request.param == "mem":
        memory_store.clear()
        return Place(f"mem://bucket/{uuid.uuid4().hex}")
    server = started(request.param)
    connect(server, server.port, monkeypatch)
    return Place(f"{server.root}/{uuid.uuid4().hex}")


@pytest.fixture(params=servers.SCHEMES)
def server(request, started):
    return started(request.param)


@pytest.fixture
def server_folder(server, monkeypatch):
    """A folder of each store that is a program of its own."""
    connect(server, server.port, monkeypatch)
    return Place(f"{server.root}/{uuid.uuid4().hex}")


@pytest.fixture
def between(server, monkeypatch):
    """A proxy before each server; the process goes through it."""
    with proxy.between(server.port) as found:
        connect(server, found.port, monkeypatch)
        yield found


@pytest.fixture
def behind(server, between):
    """A folder of the store behind the proxy."""
    return Place(f"{server.root}/{uuid.uuid4().hex}")
