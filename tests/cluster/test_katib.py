"""What the product writes for Katib, judged by Katib: its webhooks, and a search to its end."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import yaml

from components.steps import tune_once
from estimator_lib.core.config import Cluster, RunConfiguration, Tune, load
from pipelines import katib as manifests
from tests import launcher
from tests.cluster import images, katib, machine, pods
from tests.contract.test_katib_trial import NASTY, same

SPACE = "searches"
LABELS = {
    "katib.kubeflow.org/metrics-collector-injection": "enabled",
    "pod-security.kubernetes.io/enforce": "baseline",
}

SMALL = """
name: small
data:
  files: [rows.csv]
  split: {column: {field: part, eval: [e]}}
label: {field: late}
columns: {wind: {kind: numeric, normalize: moments}}
estimator:
  name: LinearClassifier
  args: {feature_columns: [wind], optimizer: {name: SGD, learning_rate: 0.1}}
train: {batch_size: 32, max_steps: 8}
tune:
  metric: average_loss
  direction: min
  sampler: random
  pruner: halving
  trials: 5
  parallel: 1
  # Hyperopt draws three of the first values, which learn, then the last, which does not, then one
  # of the first: a trial is compared with the median once three have succeeded.
  seed: 11
  max_steps: 20000
  evaluate_every_steps: 1000
  space: {estimator.args.optimizer.learning_rate: {choice: [0.5, 0.4, 0.3, 1.0e-9]}}
cluster:
  volume: {claim: flights, mount_path: /mnt/flights}
"""
STUB = """
import json, os, time
with open("/mnt/flights/seen.json", "w") as file:
    json.dump(dict(os.environ), file)
for value in ("nan", "0.5", "inf"):
    print(f"2026-11-27T01:00:00.000000Z auc/late={value}")
time.sleep(10)  # Katib's collector must see the process
"""
"""A trial that writes down what it was given, and says one value that can be read."""


@pytest.fixture(scope="module")
def installed(cluster: machine.Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Katib, and a namespace that it looks after."""
    suite = images.recipe(launcher.ROOT / "Dockerfile").suite
    katib.install(cluster, suite, tmp_path_factory.mktemp("katib"))
    cluster.namespace(SPACE, LABELS)

    def answers() -> bool:
        """The API server learns of the webhooks' certificates a little later."""
        text = (launcher.ROOT / "pipeline_specs/flights-katib.yaml").read_text()
        words = ("create", "--filename=-", "--dry-run=server", f"--namespace={SPACE}")
        return "failed calling webhook" not in cluster.kubectl(*words, given=text).error

    machine.wait("Katib's webhooks", 60, answers)


def _taken(cluster: machine.Cluster, manifest: str) -> dict[str, Any]:
    return cluster.create("--dry-run=server", f"--namespace={SPACE}", given=manifest)


def test_committed_experiment_is_taken(cluster: machine.Cluster, installed: None) -> None:
    text = (launcher.ROOT / "pipeline_specs/flights-katib.yaml").read_text()

    answer = _taken(cluster, text)

    wanted = yaml.safe_load(text)["spec"]
    # Nothing is lost; the server only adds its defaults.
    assert _within(wanted, answer["spec"])


def test_jobs_of_the_committed_experiment_are_taken(
    cluster: machine.Cluster, installed: None
) -> None:
    text = (launcher.ROOT / "pipeline_specs/flights-katib.yaml").read_text()
    job = yaml.safe_load(text)["spec"]["trialTemplate"]["trialSpec"]

    answer = _taken(cluster, json.dumps({**job, "metadata": {"name": "trial"}}))

    assert _within(job["spec"], answer["spec"])


def _within(wanted: Any, found: Any) -> bool:
    """Whether everything of one object is in another."""
    if isinstance(wanted, Mapping):
        return all(name in found and _within(one, found[name]) for name, one in wanted.items())
    if isinstance(wanted, list):
        return len(wanted) == len(found) and all(map(_within, wanted, found))
    return bool(wanted == found)


@pytest.fixture(scope="module")
def data(
    cluster: machine.Cluster,
    installed: None,
    steps_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
    """The claim `flights` with what the command `preprocess` wrote there, in the image."""
    folder = tmp_path_factory.mktemp("search")
    folder.chmod(0o775)
    cluster.volume(folder, SPACE, "flights")
    cluster.claim(SPACE, "flights")
    (folder / "config.yaml").write_text(SMALL)
    rng = np.random.default_rng(3)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["late", "wind", "part"])
        for number in range(400):
            wind = rng.normal()
            writer.writerow([int(wind + rng.normal() / 2 > 0), f"{wind:.4f}", "tte"[number % 3]])
    mount = {"name": "flights", "mountPath": "/mnt/flights"}
    program = ["python", "-m", "pipelines.cli", "preprocess", "/mnt/flights/config.yaml"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "preprocess"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": pods.MAIN,
                    "image": steps_image,
                    "command": [*program, "-o", "/mnt/flights/prepared"],
                    "volumeMounts": [mount],
                }
            ],
            "volumes": [{"name": "flights", "persistentVolumeClaim": {"claimName": "flights"}}],
        },
    }
    code, log = cluster.run(SPACE, pod, seconds=180)
    assert code == 0, log
    return folder


def _searched(
    cluster: machine.Cluster,
    config: RunConfiguration,
    seconds: float,
    prepared: str | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs an experiment to its end; returns it and its trials, in order."""
    place = f"--namespace={SPACE}"
    name = cluster.create(place, given=manifests.manifest(config, prepared))["metadata"]["name"]

    def ended() -> dict[str, Any] | None:
        found = cluster.get("experiment", name, place)
        states = {one["type"] for one in _conditions(found)}
        return found if states & {"Succeeded", "Failed"} else None

    try:
        experiment = machine.wait(f"experiment {name}", seconds, ended)
    except machine.Failed as error:
        told = cluster.kubectl("get", "suggestions,trials,jobs,pods", place).out
        raise machine.Failed(f"{error}\n{told}") from error
    owned = ("trials", place, f"--selector=katib.kubeflow.org/experiment={name}")
    trials = cluster.get(*owned, "--sort-by=.metadata.creationTimestamp")["items"]
    return experiment, trials


def _conditions(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conditions of an object that hold."""
    return [one for one in found.get("status", {}).get("conditions", []) if one["status"] == "True"]


def _state(trial: Mapping[str, Any]) -> str:
    return str(_conditions(trial)[-1]["type"])


def _told(cluster: machine.Cluster, trial: Mapping[str, Any]) -> str:
    """How a trial ended, and what its containers wrote."""
    owned = f"--selector=batch.kubernetes.io/job-name={trial['metadata']['name']}"
    words = (f"--namespace={SPACE}", owned, "--all-containers", "--prefix")
    return f"{_conditions(trial)[-1]}\n{cluster.logs_of(*words)}"


def test_search_ends_with_the_best_trial_though_one_is_stopped_early(
    cluster: machine.Cluster, data: pathlib.Path
) -> None:
    experiment, trials = _searched(cluster, load(data / "config.yaml"), seconds=900)

    assert _state(experiment) == "Succeeded"
    states = [_state(trial) for trial in trials]
    stopped = trials[3]
    assert states == [*["Succeeded"] * 3, "EarlyStopped", "Succeeded"], _told(cluster, stopped)
    # A Job that does not end is kept for ever, and its pod with it.
    job = ("job", stopped["metadata"]["name"], f"--namespace={SPACE}")
    machine.wait("the stopped trial's Job", 60, lambda: _conditions(cluster.get(*job)))
    losses = {}
    for trial in trials:
        (metric,) = trial["status"]["observation"]["metrics"]
        assert metric["name"] == "average_loss"
        losses[trial["metadata"]["name"]] = float(metric["latest"])
    best = experiment["status"]["currentOptimalTrial"]
    assert best["bestTrialName"] == min(losses, key=losses.__getitem__)
    (value,) = best["parameterAssignments"]
    assert value["name"] == "estimator.args.optimizer.learning_rate"
    assert float(value["value"]) in (0.5, 0.4, 0.3)


def test_failed_trial_keeps_its_reason(cluster: machine.Cluster, data: pathlib.Path) -> None:
    settings = ["name=failing", "tune.trials=1", "tune.pruner=none"]
    config = load(data / "config.yaml", settings)
    # Nothing was prepared for this search.
    (data / "prepared").rename(data / "elsewhere")
    try:
        experiment, (trial,) = _searched(cluster, config, seconds=300)
    finally:
        (data / "elsewhere").rename(data / "prepared")

    assert _state(experiment) == "Failed"
    assert _state(trial) == "Failed"
    told = _told(cluster, trial)
    assert "failed with exit code 2 matching FailJob rule" in told
    assert "error: " in told


def test_values_of_every_kind_arrive_and_odd_metrics_are_read(
    cluster: machine.Cluster, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    cluster.load(_stub(cluster, tmp_path))
    space = {f"estimator.args.p{n}": {"choice": [value]} for n, value in enumerate(NASTY)}
    options = {"metric": "auc/late", "trials": 1, "sampler": "random", "pruner": "none"}
    environment = {"A": "it's $HOME", "B": "$$(A)"}
    placed = {
        "image": "stub:1",
        "volume": {"claim": "flights", "mount_path": "/mnt/flights"},
        "steps": {"tune": {"env": environment}},
    }
    config = load(data / "config.yaml", ["name=odd"]).model_copy(
        update={
            "tune": Tune.model_validate({"space": space, **options}),
            "cluster": Cluster.model_validate(placed),
        }
    )
    prepared = "/mnt/flights/$(A) $$ 'b'"

    experiment, (trial,) = _searched(cluster, config, 300, prepared)

    assert _state(experiment) == "Succeeded"
    (metric,) = trial["status"]["observation"]["metrics"]
    assert (metric["name"], float(metric["latest"])) == ("auc/late", 0.5)
    seen = json.loads((data / "seen.json").read_text())
    asked = tune_once.read_environment(seen)
    assert set(asked.values) == set(space)
    for name, one in space.items():
        assert same(asked.values[name], one["choice"][0]), name
    assert str(asked.prepared) == prepared
    assert {name: seen[name] for name in environment} == {"A": "it's $HOME", "B": "$(A)"}


def _stub(cluster: machine.Cluster, work: pathlib.Path) -> images.Image:
    """An image whose `components.steps.tune_once` is the stub."""
    base = images.debian(cluster.cache, images.recipe(launcher.ROOT / "Dockerfile").suite)
    debian = cluster.layers.layer(base, lambda: images.layer(base))
    code = work / "code" / images.SITE / "components/steps"
    code.mkdir(parents=True)
    (code / "tune_once.py").write_text(STUB)
    (work / "code/usr/local/bin").mkdir(parents=True)
    (work / "code/usr/local/bin/python").symlink_to("/usr/bin/python3")
    layers = [debian, images.pack(work / "code", work / "code.tar")]
    config = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "User": "1000:0"}
    return images.Image("docker.io/library/stub:1", layers, config)
