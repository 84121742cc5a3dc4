"""Servers of object stores on this machine, as programs of their own that can be killed.

moto is a package of the tests. fake-gcs-server and Azurite are looked for in the cache directory,
where `make store-test` puts them; a test that needs one that is not there is skipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

CACHE = pathlib.Path(
    os.environ.get("STORE_CACHE", pathlib.Path.home() / ".cache/estimator-pipelines/stores")
)
BUCKET = "bkt"
_SECRET = "hunter2hunter2"  # noqa: S105 - moto takes any
_AZURITE_KEY = (  # which Azurite's documentation gives
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_START_S = 60.0


@dataclasses.dataclass
class Server:
    """A server that runs; what it keeps outlives a kill where `keeps` says so.

    Attributes:
        root: URI of its bucket.
        command: Starts it.
        port: Where it listens.
        keeps: Whether its files are there again after a kill.
        keeps_after_s: How long it takes until they are.
        environment: What a client needs to reach it at a port.
    """

    root: str
    command: Sequence[str]
    port: int
    keeps: bool
    environment: Callable[[int], dict[str, str]]
    keeps_after_s: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "50"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends = time.monotonic() + _START_S
        while not _listens(self.port):
            if self.process.poll() is not None or time.monotonic() > ends:
                raise AssertionError(f"{self.command[0]} does not start")
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port() -> int:
    """A port that nobody listens at, and that no client is given: it could meet itself there."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _s3(folder: pathlib.Path, port: int) -> Server:
    return Server(
        root=f"s3://{BUCKET}",
        command=[
            sys.executable, "-c", "from moto.server import main; main()",
            "-H", "127.0.0.1", "-p", str(port),
        ],
        port=port,
        keeps=False,
        environment=lambda port: {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )  # fmt: skip


def _gs(folder: pathlib.Path, port: int) -> Server:
    return Server(
        root=f"gs://{BUCKET}",
        command=[
            str(_fake_gcs()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
            "-backend", "filesystem", "-filesystem-root", str(folder), "-log-level", "error",
        ],
        port=port,
        keeps=True,
        environment=lambda port: {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"},
    )  # fmt: skip


def _az(folder: pathlib.Path, port: int) -> Server:
    return Server(
        root=f"az://{BUCKET}",
        command=[
            str(_azurite()), "--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", str(folder),
            "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ],
        port=port,
        keeps=True,
        keeps_after_s=6.0,  # it writes its lists every five seconds
        environment=lambda port: {
            "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;"
            f"AccountName=devstoreaccount1;AccountKey={_AZURITE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        },
    )  # fmt: skip


def _fake_gcs() -> pathlib.Path | None:
    found = shutil.which("fake-gcs-server") or CACHE / "fake-gcs-server"
    return pathlib.Path(found) if os.path.exists(found) else None


def _azurite() -> pathlib.Path | None:
    found = shutil.which("azurite-blob") or CACHE / "node_modules/.bin/azurite-blob"
    return pathlib.Path(found) if os.path.exists(found) else None


_MAKE = {"s3": _s3, "gs": _gs, "az": _az}
SCHEMES = tuple(_MAKE)


def missing(scheme: str) -> str:
    """Why a server cannot be started here; "" if it can."""
    if scheme == "gs" and _fake_gcs() is None:
        return "fake-gcs-server is not installed: make store-test"
    if scheme == "az" and _azurite() is None:
        return "Azurite is not installed: make store-test"
    return ""


@contextlib.contextmanager
def running(scheme: str, folder: pathlib.Path) -> Iterator[Server]:
    """Runs a server with an empty bucket; its files are below `folder`."""
    server = _MAKE[scheme](folder, free_port())
    server.start()
    try:
        make_bucket(server)
        yield server
    finally:
        server.kill()


def make_bucket(server: Server) -> None:
    environment = server.environment(server.port)
    if server.root.startswith("s3"):
        import boto3

        client = boto3.client(
            "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="tester", aws_secret_access_key=_SECRET,
        )  # fmt: skip
        client.create_bucket(Bucket=BUCKET)
    elif server.root.startswith("gs"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/storage/v1/b", f'{{"name": "{BUCKET}"}}')
        assert connection.getresponse().status == 200
        connection.close()
    else:
        from azure.storage.blob import BlobServiceClient

        text = environment["AZURE_STORAGE_CONNECTION_STRING"]
        with BlobServiceClient.from_connection_string(text) as client:
            client.create_container(BUCKET)
