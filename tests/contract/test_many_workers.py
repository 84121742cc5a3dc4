"""Several processes train one model in step, whatever happens to them: real ones, on loopback."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = pathlib.Path(__file__).with_name("many_workers_program.py")
STEPS = 94
"""Of 3 epochs of 1,000 rows in batches of 32, the last one smaller."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns the directory of all runs and how each ended."""
    root = tmp_path_factory.mktemp("many_workers")
    environment = {
        **os.environ, "PYTHONPATH": str(PROGRAM.parents[2]), "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
    environment.pop("TF_CONFIG", None)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(root)],
        capture_output=True, text=True, check=False, timeout=280, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return root, json.loads((root / "results.json").read_text())


def weights(path):
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def assert_equal(one, two, tolerance):
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], tolerance, tolerance, err_msg=name)


@pytest.mark.timeout(300)
def test_two_workers_equal_one_process_with_the_same_rows(runs):
    root, results = runs
    assert results["alone"]["error"] is None
    assert results["together"]["error"] is None
    chief = weights(root / "together/chief0.npz")
    assert chief["step"] == STEPS
    assert chief["rows"] == 3000
    assert_equal(chief, weights(root / "together/worker0.npz"), 0)
    assert_equal(chief, weights(root / "alone/alone.npz"), 1e-5)


def test_evaluator_beside_two_workers_evaluates_and_exports_the_end(runs):
    root, results = runs
    assert results["together"]["error"] is None
    lines = (root / "together/eval/evaluations.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == STEPS
    assert len(list((root / "together/export/final").iterdir())) == 1
    finished = json.loads((root / "together/training_finished.json").read_text())
    evaluated = json.loads((root / "together/evaluation_finished.json").read_text())
    assert finished["step"] == STEPS
    assert evaluated["attempt"] == finished["attempt"]


def test_worker_killed_ends_all_in_time_and_the_next_run_ends_the_same(runs):
    root, results = runs
    first, again = results["killed"]["first"], results["killed"]["again"]
    assert first["retryable"]
    assert "worker 0 was ended by SIGKILL" in first["error"]
    assert first["seconds"] < 60
    assert first["steps"][-1] in (20, 40)
    assert again["error"] is None
    assert_equal(
        weights(root / "killed/chief0.npz") | {"rows": 0},
        weights(root / "together/chief0.npz") | {"rows": 0},
        1e-6,
    )


def test_chief_killed_is_started_again_with_its_workers(runs):
    root, results = runs
    assert results["restarted"]["error"] is None
    assert (root / "restarted/died").exists()
    assert_equal(
        weights(root / "restarted/chief0.npz") | {"rows": 0},
        weights(root / "together/chief0.npz") | {"rows": 0},
        1e-6,
    )


def test_worker_asked_to_end_ends_all_with_the_state_saved(runs):
    _, results = runs
    asked = results["asked"]
    assert asked["reason"] == "interrupted"
    assert asked["retryable"]
    assert "SIGTERM" in asked["error"]
    (step,) = [int(name.split("-")[1].split(".")[0]) for name in asked["steps"][1:]]
    assert 30 <= step < STEPS


def test_worker_whose_input_ends_first_goes_on_without_rows(runs):
    root, results = runs
    assert results["uneven"]["error"] is None
    chief, worker = (weights(root / f"uneven/{name}.npz") for name in ("chief0", "worker0"))
    assert chief["step"] == 15
    assert chief["rows"] == 300 + 110
    assert_equal(chief, worker, 0)
    assert all(np.all(np.isfinite(value)) for value in chief.values())
    losses = json.loads((root / "uneven/chief0.json").read_text())
    assert losses
    assert np.all(np.isfinite(losses))


def test_own_directories_and_defaults_end(runs):
    root, results = runs
    assert results["own_directories"]["error"] is None
    chief = weights(root / "own/chief/chief0.npz")
    assert_equal(chief, weights(root / "own/worker/worker0.npz"), 0)
    assert not list((root / "own/worker").glob("model.ckpt*"))


def test_workers_with_other_rows_are_refused(runs):
    _, results = runs
    assert results["other_rows"]["kind"] == "ConfigError"
    assert "reads other rows" in results["other_rows"]["error"]
    assert not results["other_rows"]["retryable"]
