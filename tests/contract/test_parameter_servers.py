"""Asynchronous training over parameter servers: real processes on loopback.

Clusters of different tests share one process that they are forked from; see `tests.cluster_roles`.
"""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest

from estimator_lib.core.errors import ConfigError
from tests import cluster_programs as programs
from tests.cluster_roles import cluster

STEPS = 40


def weights(model_dir: pathlib.Path, **options: object) -> dict[str, np.ndarray]:
    found = programs.wide_and_deep(str(model_dir), **options)
    return {name: found.get_variable_value(name) for name in found.get_variable_names()}


def alone(model_dir: pathlib.Path, steps: int, **options: object) -> dict[str, np.ndarray]:
    estimator = programs.wide_and_deep(str(model_dir), jit_compile=False, **options)
    estimator.train(programs.batches(), max_steps=steps)
    return weights(model_dir, **options)


def on_servers(
    tmp_path: pathlib.Path, model_dir: pathlib.Path, servers: int, steps: int, **options: object
) -> dict[str, np.ndarray]:
    tasks = {"chief": 1, "ps": servers}
    arguments = {"max_steps": steps, "model_dir": str(model_dir), "parts": servers, **options}
    logs = tmp_path / f"logs_of_{servers}_{model_dir.name}"
    with cluster(logs, tasks, programs.train, **arguments) as running:
        assert set(running.ends().values()) == {0}, running.told()
    return weights(model_dir)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("optimizer", ["Adagrad", "Adam"])
def test_one_worker_trains_what_one_process_trains(tmp_path, optimizer):
    expected = alone(tmp_path / "alone", STEPS, optimizer=optimizer)
    found = on_servers(tmp_path, tmp_path / "served", 2, STEPS, optimizer=optimizer)
    same(found, expected)
    assert found["global_step"] == STEPS


def test_tables_of_one_process_go_on_over_three_servers_and_back_on_one(tmp_path):
    alone(tmp_path / "three", STEPS)
    shutil.copytree(tmp_path / "three", tmp_path / "alone")
    on_servers(tmp_path, tmp_path / "three", 3, 2 * STEPS)
    found = on_servers(tmp_path, tmp_path / "three", 1, 3 * STEPS)
    same(found, alone(tmp_path / "alone", 3 * STEPS))


def test_workers_make_each_step_once_and_all_roles_end(tmp_path):
    tasks = {"chief": 1, "worker": 2, "ps": 2, "evaluator": 1}
    arguments = {"model_dir": str(tmp_path / "m"), "max_steps": 3_000}
    with cluster(tmp_path / "logs", tasks, programs.count, **arguments) as running:
        assert set(running.ends().values()) == {0}, running.told()
    found = programs.counting(str(tmp_path / "m"))
    assert found.get_variable_value("global_step") == 3_000
    assert found.get_variable_value("seen") == 3_000
    evaluated = json.loads((tmp_path / "m" / "evaluation_finished.json").read_text())
    assert evaluated["failure"] is None
    assert any((tmp_path / "m" / "eval").iterdir())


def test_worker_and_chief_may_die_and_come_back(tmp_path):
    tasks = {"chief": 1, "worker": 1, "ps": 1}
    arguments = {"model_dir": str(tmp_path / "m"), "max_steps": 6_000}
    with cluster(tmp_path / "logs", tasks, programs.count, **arguments) as running:
        running.said("worker", 0, "step ")
        running.kill("worker")
        running.start(("worker", 0))
        running.said("chief", 0, "step 2")
        running.kill("chief")
        running.start(("chief", 0))
        assert set(running.ends().values()) == {0}, running.told()
    found = programs.counting(str(tmp_path / "m"))
    assert found.get_variable_value("global_step") == 6_000
    # Each that died was at work on one step, and held the number of another.
    assert 6_000 - 4 <= found.get_variable_value("seen") <= 6_000


def test_lost_server_ends_all_and_training_goes_on_from_the_checkpoint(tmp_path):
    tasks = {"chief": 1, "worker": 1, "ps": 2}
    arguments = {"model_dir": str(tmp_path / "m"), "max_steps": 4_000}
    with cluster(tmp_path / "logs", tasks, programs.count, **arguments) as running:
        running.said("worker", 0, "step ")
        running.kill("ps", 1)
        clients = ("chief", 0), ("worker", 0)
        assert set(running.ends(*clients).values()) == {75}, running.told()
        assert "parameter server was lost" in running.log("chief").read_text()
        running.start(("ps", 1), *clients)
        assert set(running.ends().values()) == {0}, running.told()
    found = programs.counting(str(tmp_path / "m"))
    assert found.get_variable_value("global_step") == 4_000
    assert found.get_variable_value("seen") == 4_000


@pytest.mark.parametrize("setting", [{"moving_average_decay": 0.9}, {"jit_compile": True}])
def test_what_has_no_meaning_is_refused_before_anything_is_done(tmp_path, monkeypatch, setting):
    addresses = {"chief": ["127.0.0.1:1"], "ps": ["127.0.0.1:2"]}
    task = {"cluster": addresses, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    estimator = programs.wide_and_deep(str(tmp_path), **setting)
    with pytest.raises(ConfigError, match=next(iter(setting))):
        estimator.train(programs.batches(), max_steps=1)
