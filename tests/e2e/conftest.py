"""What the tests of this folder share: one step server, an S3 server, a cache of their own."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from estimator_lib.core.places import Place
from pipelines.local.warm_steps import WarmSteps


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


@pytest.fixture(scope="module")
def s3(caches):
    """An empty bucket of an S3 server of its own (moto)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    address = f"http://127.0.0.1:{port}"
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        pytest.MonkeyPatch.context() as patched,
    ):
        for name, value in settings.items():
            patched.setenv(name, value)
        try:
            _make_bucket(f"{address}/bucket")
            yield Place("s3://bucket")
        finally:
            process.kill()


def _make_bucket(address):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(address, method="PUT")  # noqa: S310 - of this machine
            urllib.request.urlopen(request, timeout=10)  # noqa: S310
            return
        time.sleep(0.1)
    raise TimeoutError(f"no S3 server at {address}")
