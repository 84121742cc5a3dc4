"""The same job through Beam's portable runner, with its local job service."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from transforms.testing import Job


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def job_service(tmp_path):
    port = _free_port()
    service = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "apache_beam.runners.portability.local_job_service_main",
            "--port",
            str(port),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            assert service.poll() is None, "the job service ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline, "the job service did not start"
            time.sleep(0.2)
        yield f"localhost:{port}"
    finally:
        os.killpg(service.pid, signal.SIGKILL)
        service.wait()


def job(root):
    content = "c,x,y\n" + "".join(f"t{i % 3},{i},{i % 2}\n" for i in range(30))
    return Job(
        root=root,
        files={"train": [content, content], "eval": [content]},
        columns={
            "c": {"kind": "vocabulary"},
            "x": {"kind": "numeric", "normalize": "moments"},
        },
        label={"field": "y"},
    )


def test_portable_runner_gives_what_the_default_runner_gives(tmp_path, job_service):
    portable = job(tmp_path / "portable")
    portable.run(
        [
            "--runner=PortableRunner",
            f"--job_endpoint={job_service}",
            "--environment_type=LOOPBACK",
        ]
    )
    default = job(tmp_path / "default")
    default.run()
    assert portable.table().equals(default.table())
    assert (portable.statistics / "train.pb").read_bytes() == (
        default.statistics / "train.pb"
    ).read_bytes()
