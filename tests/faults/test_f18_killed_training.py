"""Fault 18: a training killed at any call that changes the disk goes on to the same weights.

Fails when a checkpoint gets its name before it is whole, when a resume forgets the position in the
input, or when the lease of the dead is waited for. One process imports TensorFlow and forks the
trainings, each of which is killed by SIGKILL at a call drawn with a seed.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from estimator_lib.core.errors import CheckpointError
from tests.contract.test_estimator import data, estimator, linear

PROGRAM = """
import json, os, random, signal, sys
import numpy as np
import tensorflow as tf
import estimator_lib
from tests.contract.test_estimator import data, estimator, linear

root, kills = sys.argv[1], int(sys.argv[2])

def train(folder, kill_at, report):
    left = kill_at
    def counted(function):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call
    for name in ("open", "rename", "replace", "mkdir", "fsync", "unlink", "link", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    made = estimator(folder, linear, tf_random_seed=3, save_checkpoints_steps=2)
    made.train(data(epochs=None, shuffle=True), max_steps=5)
    names = made.get_variable_names()
    weights = {name: np.asarray(made.get_variable_value(name)).tolist() for name in names}
    json.dump({"weights": weights, "calls": kill_at - left}, open(report, "w"))

def run(folder, kill_at):
    report = f"{folder}.json"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(folder, kill_at, report)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), report

code, report = run(f"{root}/whole", 10**9)
assert code == 0, code
whole = json.load(open(report))
draw = random.Random(18)
ends = []
for number, moment in enumerate(sorted(draw.sample(range(5, whole["calls"]), kills))):
    killed, _ = run(f"{root}/{number}", moment)
    again, report = run(f"{root}/{number}", 10**9)
    same = again == 0 and json.load(open(report))["weights"] == whole["weights"]
    left = sorted(p for p in os.listdir(f"{root}/{number}") if p.startswith(".") and "attempt" in p)
    ends.append([moment, killed, again, same, left])
print(json.dumps(ends))
"""
KILLS = 3


def test_training_killed_at_random_calls_ends_with_the_same_weights(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(KILLS)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ends = json.loads(done.stdout.splitlines()[-1])
    assert [end[1:4] for end in ends] == [[-9, 0, True]] * KILLS, ends
    assert not any(end[4] for end in ends), ends  # what the killed one left is swept


def first_save(folder: pathlib.Path) -> pathlib.Path:
    """Leaves what there is of the first save when its data file has its name; returns the index."""
    estimator(folder, linear).train(data(), max_steps=1)
    staged = folder / ".ckpt-1.attempt-0f"
    staged.mkdir()
    (folder / "checkpoint").unlink()
    for path in [*folder.glob("model.ckpt-*")]:
        if path.suffix == ".index" and path.stem == "model.ckpt-1":
            path.rename(staged / path.name)
        elif path.stem != "model.ckpt-1":
            path.unlink()
    return staged / "model.ckpt-1.index"


def test_first_save_killed_between_its_two_files_is_no_lost_checkpoint(tmp_path):
    first_save(tmp_path)
    estimator(tmp_path, linear).train(data(), max_steps=2)
    assert estimator(tmp_path, linear).get_variable_value("global_step") == 2


def test_what_a_dead_trainer_left_is_gone_though_nothing_is_saved_again(tmp_path):
    made = estimator(tmp_path, linear)
    made.train(data(), max_steps=1)
    (tmp_path / ".ckpt-1.attempt-0f.owner").write_text("{}")
    os.utime(tmp_path / ".ckpt-1.attempt-0f.owner", (0, 0))
    made.train(data(), max_steps=1)
    assert not list(tmp_path.glob(".ckpt-*"))


def test_data_of_a_checkpoint_without_any_index_is_a_lost_one(tmp_path):
    first_save(tmp_path).unlink()
    with pytest.raises(CheckpointError, match="without an index file"):
        estimator(tmp_path, linear).train(data(), max_steps=2)
