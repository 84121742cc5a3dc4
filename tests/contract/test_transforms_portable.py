"""The same job through Beam's portable runner, with its local job service."""

import os
import signal
import socket
import subprocess
import sys
import time

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from estimator_lib.core import manifest
from tests import memory_store
from tests.contract import left_job
from transforms import preprocess
from transforms.testing import Job


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def job_service(tmp_path_factory):
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
        cwd=tmp_path_factory.mktemp("service"),
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


def options(service, *more):
    named = ["--runner=PortableRunner", f"--job_endpoint={service}"]
    return [*named, "--environment_type=LOOPBACK", *more]


def test_portable_runner_gives_what_the_default_runner_gives(tmp_path, job_service):
    portable = job(tmp_path / "portable")
    portable.run(options(job_service))
    default = job(tmp_path / "default")
    default.run()
    assert portable.table().equals(default.table())
    assert (portable.statistics / "train.pb").read_bytes() == (
        default.statistics / "train.pb"
    ).read_bytes()


def test_workers_elsewhere_write_to_an_object_store_and_mount_nothing(tmp_path, job_service):
    memory_store.clear()
    made = job(tmp_path)
    made.run()
    out = "mem://bucket/out"
    summary = preprocess.run(
        made.part(),
        base_dir=str(tmp_path),
        examples_dir=f"{out}/examples",
        transform_dir=f"{out}/transform",
        statistics_dir=f"{out}/statistics",
        runner_options=options(job_service, "--temp_location=mem://bucket/temp"),
        analysis_cache="mem://bucket/kept",
    )
    stored = manifest.read(f"{out}/examples")
    assert stored.digest == manifest.read(made.examples).digest
    copy = memory_store.download(summary.places[0], tmp_path / "copy")
    assert manifest.verify(copy, deep=True).files == stored.files
    assert len(memory_store.below("mem://bucket/kept")) == 1  # the three files are equal
    assert not memory_store.below("mem://bucket/temp")


def test_a_step_has_its_options_in_the_configuration_and_fetches_what_workers_wrote(
    tmp_path, job_service
):
    memory_store.clear()
    made = job(tmp_path / "local")
    made.run()
    elsewhere = job(tmp_path / "elsewhere")
    elsewhere.data = {"beam": options(job_service, "--temp_location=mem://bucket/temp")}
    elsewhere.run()
    assert [path for path in memory_store.WRITTEN if path.endswith(".parquet")]
    assert not memory_store.FILES
    found = manifest.verify(elsewhere.examples, deep=True)
    assert found.digest == manifest.read(made.examples).digest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_step_that_is_asked_to_end_cancels_its_job(tmp_path, job_service, number, code):
    begun = tmp_path / "begun"
    program = [sys.executable, left_job.__file__, str(begun), *options(job_service)]
    asked = subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not begun.exists():
            assert asked.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        before = states(job_service)
        asked.send_signal(number)
        out, _ = asked.communicate(timeout=60)
    finally:
        asked.kill()
        asked.wait()
    assert asked.returncode == code, out
    assert b"may still run" not in out
    assert before.count("RUNNING") == 1
    assert states(job_service).count("CANCELLED") == before.count("CANCELLED") + 1
    assert "RUNNING" not in states(job_service)


def states(service):
    with grpc.insecure_channel(service) as channel:
        jobs = beam_job_api_pb2_grpc.JobServiceStub(channel)
        found = jobs.GetJobs(beam_job_api_pb2.GetJobsRequest()).job_info
    return [beam_job_api_pb2.JobState.Enum.Name(job.state) for job in found]
