"""The pods of a JobSet, as processes on loopback, with what the manifest gives them.

These tests stand for the controllers of Kubernetes, and for the name server of the cluster.
"""

import contextlib
import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from components.steps import train, train_role
from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError
from estimator_lib.core.version import VERSION
from pipelines import cli

CONFIG = """
name: trips
data: {{split: {{files: {{train: [train.csv], eval: [eval.csv]}}}}}}
label: {{field: late, classes: 2}}
columns:
  carrier: {{kind: vocabulary}}
  wind: {{kind: bucketized, quantiles: 8}}
estimator:
  name: LinearClassifier
  args: {{feature_columns: [carrier, wind]}}
train:
  {{batch_size: 16, max_steps: {steps}, evaluate_every_steps: 400, seed: 1, cluster: {processes}}}
cluster: {{volume: {{claim: shared, mount_path: {folder}}}}}
"""
ASYNC = "{mode: async, workers: 2, parameter_servers: 1}"
SYNC = "{workers: 2, evaluator: false}"
LONGEST_S = 150


class Pods:
    """The pods of a manifest."""

    def __init__(self, path, folder):
        self.jobset = yaml.safe_load(path.read_text())
        self.folder = folder
        self.jobs = {
            one["name"]: one["template"]["spec"] for one in self.jobset["spec"]["replicatedJobs"]
        }
        self.running = {}
        name = self.jobset["metadata"]["name"]
        with contextlib.ExitStack() as held:
            self.addresses = {}
            for role, index in self.all():
                port = held.enter_context(socket.socket())
                port.bind(("127.0.0.1", 0))
                own = f"127.0.0.1:{port.getsockname()[1]}"
                self.addresses[train_role.address(name, role, index)] = own

    def all(self):
        return [
            (role, index) for role, job in self.jobs.items() for index in range(job["completions"])
        ]

    def environment(self, role, index):
        (container,) = self.jobs[role]["template"]["spec"]["containers"]
        assert container["command"] == ["python", "-m", "components.steps.train_role"]
        given = {one["name"]: one["value"] for one in container["env"]}
        return given | {"JOB_COMPLETION_INDEX": str(index), "ADDRESSES": json.dumps(self.addresses)}

    def start(self, *which):
        for role, index in which:
            program = str(pathlib.Path(__file__).with_name("jobset_pod.py"))
            with (self.folder / f"{role}-{index}.log").open("ab") as log:
                self.running[role, index] = subprocess.Popen(
                    [sys.executable, program],
                    env={**os.environ, **self.environment(role, index)},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def evict(self, role, index):
        """Asks a pod to end; returns its exit code."""
        self.running[role, index].terminate()
        return self.running[role, index].wait(60)

    def end(self):
        """How the chief and, if there is one, the evaluator end."""
        targets = self.jobset["spec"]["successPolicy"]["targetReplicatedJobs"]
        return {role: self.running[role, 0].wait(LONGEST_S) for role in targets}

    def told(self, role, index):
        return (self.folder / f"{role}-{index}.log").read_text()

    def close(self):
        for role, index in [*self.running]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.running[role, index].pid, signal.SIGKILL)
            self.running.pop((role, index)).wait()


def prepared(folder, processes, steps):
    """The pods of a small training, none of which is started."""
    draw = np.random.default_rng(3)
    for name, rows in (("train", 400), ("eval", 200)):
        with (folder / f"{name}.csv").open("w") as sink:
            table = csv.writer(sink)
            table.writerow(["carrier", "wind", "late"])
            for _ in range(rows):
                carrier, wind = draw.choice(["AA", "UA", "DL"]), draw.uniform(0, 30)
                table.writerow([carrier, f"{wind:.1f}", int(carrier == "UA" or wind > 15)])
    config = folder / "trips.yaml"
    config.write_text(CONFIG.format(processes=processes, folder=folder, steps=steps))
    assert cli.main(["preprocess", str(config), "-o", str(folder / "prepared")]) == 0
    assert cli.main(["jobset", str(config), "-o", str(folder / "set.yaml")]) == 0
    return Pods(folder / "set.yaml", folder)


def trained(pods, steps):
    """Awaits the end, and looks at the model."""
    assert set(pods.end().values()) == {0}, [pods.told(*one) for one in pods.all()]
    model = pods.folder / "trips-train" / "model"
    assert manifest.verify(model, deep=True).kind == "model"
    assert json.loads((model / "model.json").read_text())["step"] == steps


def test_chief_in_step_writes_the_model(tmp_path):
    pods = prepared(tmp_path, SYNC, 80)
    with contextlib.closing(pods):
        pods.start(*pods.all())
        trained(pods, 80)


def test_evicted_chief_asks_for_a_new_pod_which_goes_on(tmp_path, monkeypatch):
    pods = prepared(tmp_path, ASYNC, 4_000)
    with contextlib.closing(pods):
        pods.start(*pods.all())
        until = time.monotonic() + LONGEST_S
        while not [*(tmp_path / "trips-train" / "trainings").glob("*/model.ckpt-[1-9]*.index")]:
            assert time.monotonic() < until, pods.told("chief", 0)
            time.sleep(0.05)
        assert pods.evict("chief", 0) == 75, pods.told("chief", 0)
        pods.start(("chief", 0))
        trained(pods, 4_000)

    environment = pods.environment("chief", 0)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"task": {"type": "chief"}}))
    other = environment[train_role.CONFIG].replace('"seed":1', '"seed":2')
    with pytest.raises(ConfigError, match="is the model of another training"):
        train.run_role(
            other, environment[train_role.PREPARED], environment[train_role.DIRECTORY], VERSION
        )
