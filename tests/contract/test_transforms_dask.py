"""The preprocess job on a Dask cluster of several processes: same bytes, lost workers, endings."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import apache_beam as beam
import distributed
import pytest

from estimator_lib.core.errors import PipelineError
from tests.contract import left_job
from transforms import dataset
from transforms.beam import runners
from transforms.testing import Job

CLUSTER = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
WORKER = ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1"]


def start(program, *arguments, folder):
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{program}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        start_new_session=True,
    )


@contextlib.contextmanager
def ended(*processes):
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler with two worker processes, which are started again if killed."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    scheduler = start("dask_scheduler", *CLUSTER, "--scheduler-file", str(file), folder=folder)
    with ended(scheduler):
        deadline = time.monotonic() + 90
        while not file.exists():
            assert scheduler.poll() is None, "the scheduler ended"
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        workers = start("dask_worker", address, *WORKER, "--nworkers", "2", folder=folder)
        with ended(workers):
            with distributed.Client(address, set_as_default=False) as client:
                client.wait_for_workers(2, timeout=90)
            yield address


def job(root):
    content = "c,x,y\n" + "".join(f"t{i % 3},{i},{i % 2}\n" for i in range(20_000))
    other = "c,x,y\n" + "".join(f"u{i % 5},{i / 7},{i % 2}\n" for i in range(15_000))
    return Job(
        root=root,
        files={"train": [content, other, content, other], "eval": [content]},
        columns={"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}},
        label={"field": "y"},
    )


def options(address, *more):
    return ["--runner=DaskRunner", f"--dask_client_address={address}", *more]


def digests(made):
    """Of all that data decides: shards, statistics, vocabularies; not of manifests and graphs."""
    files = [path for path in (made.root / "out").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(made.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in ("manifest.json", "saved_model.pb", "fingerprint.pb")
    }


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("here"))
    made.run()
    return digests(made)


def test_workers_that_only_read_do_not_load_tensorflow(tmp_path, cluster):
    for at in range(4):
        (tmp_path / f"{at}.csv").write_text("x\n1\n2\n")
    found = dataset.find(["*.csv"], base_dir=str(tmp_path))
    statistics, _ = dataset.compute(found, options(cluster))
    assert statistics.datasets[0].num_examples == 8
    with distributed.Client(cluster, set_as_default=False) as client:
        seen = client.run(lambda: {"tensorflow", "transforms.learning.first_pass"} & {*sys.modules})
        assert [*seen.values()] == [{"transforms.learning.first_pass"}] * 2


def test_two_worker_processes_write_the_bytes_that_this_process_writes(
    tmp_path, cluster, in_process
):
    made = job(tmp_path)
    made.run(options(cluster))
    assert digests(made) == in_process
    assert len([name for name in in_process if name.endswith(".parquet")]) >= 2
    with distributed.Client(cluster, set_as_default=False) as client:
        seen = client.run(lambda: "transforms.preprocess" in sys.modules)
        assert list(seen.values()) == [True, True]  # both had a share


def test_a_worker_that_is_killed_while_it_writes_changes_nothing(tmp_path, cluster, in_process):
    made = job(tmp_path)
    finished, killed = threading.Event(), []

    def kill_one_that_writes():
        with distributed.Client(cluster, set_as_default=False) as client:
            pids = client.run(os.getpid)
            while not finished.is_set() and not killed:
                if any(".parquet" in name for _, _, names in os.walk(tmp_path) for name in names):
                    busy = [at for at, tasks in client.processing().items() if tasks]
                    killed.append(pids[(busy or list(pids))[0]])
                    os.kill(killed[0], signal.SIGKILL)
                time.sleep(0.005)

    killer = threading.Thread(target=kill_one_that_writes)
    killer.start()
    try:
        made.run(options(cluster))
    finally:
        finished.set()
        killer.join()
    assert killed
    assert digests(made) == in_process


def test_a_step_that_is_asked_to_end_leaves_no_job_on_the_cluster(tmp_path, cluster):
    begun = tmp_path / "begun"
    asked = subprocess.Popen(
        [sys.executable, left_job.__file__, str(begun), *options(cluster)],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    with ended(asked), distributed.Client(cluster, set_as_default=False) as client:
        deadline = time.monotonic() + 120
        while not begun.exists():
            assert asked.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        asked.send_signal(signal.SIGTERM)
        out, _ = asked.communicate(timeout=60)
        assert asked.returncode == 75, out
        assert b"may still run" not in out
        left = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        assert left == 0
        client.restart()  # Dask does not stop a call that has begun


def test_a_scheduler_that_is_not_there_asks_for_a_retry():
    with pytest.raises(PipelineError, match="Timed out trying to connect") as caught:
        runners.run(lambda p: p, options("tcp://127.0.0.1:1", "--dask_connection_timeout=1"))
    assert caught.value.exit_code == 75


def test_a_scheduler_without_workers_is_waited_for_so_long(monkeypatch):
    monkeypatch.setattr(runners, "START_S", 0.5)
    empty = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None)
    with empty, pytest.raises(PipelineError, match="0/1 workers arrived") as caught:
        runners.run(lambda p: p | beam.Create([1]), options(empty.scheduler_address))
    assert caught.value.exit_code == 75


def test_a_job_that_loses_its_workers_again_and_again_asks_for_a_retry(cluster):
    def dies(_):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(PipelineError, match="KilledWorker") as caught:
        runners.run(lambda p: p | beam.Create([1]) | beam.Map(dies), options(cluster))
    assert caught.value.exit_code == 75
