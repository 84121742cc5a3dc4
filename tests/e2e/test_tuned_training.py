"""The search in a real pipeline: trials in processes, as tasks, and what no trial survives."""

import csv
import pathlib

import numpy as np
import pytest
import yaml

from components.steps import tune_once
from estimator_lib.core import config as configuration
from estimator_lib.core.errors import EstimatorLibError
from pipelines import katib
from pipelines.local import run, summary
from tests import katib_trial

CONFIG = """
name: small
pipeline: tuned_training
data:
  files: [rows.csv]
  split: {column: {field: part, eval: [e], validation: [v]}}
label: {field: late}
columns: {wind: {kind: numeric, normalize: moments}}
estimator:
  name: LinearClassifier
  args: {feature_columns: [wind], optimizer: {name: SGD, learning_rate: 0.1}}
train: {batch_size: 32, max_steps: 8}
evaluate: {thresholds: {auc: {min: 0.5}}}
tune:
  metric: average_loss
  trials: 3
  sampler: random
  evaluate_every_steps: 4
  space: {estimator.args.optimizer.learning_rate: {choice: [0.00001, 0.5]}}
"""
RATE = "estimator.args.optimizer.learning_rate"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    here = tmp_path_factory.mktemp("project")
    rng = np.random.default_rng(3)
    with (here / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["late", "wind", "part"])
        for number in range(300):
            wind = rng.normal()
            writer.writerow([int(wind + rng.normal() / 2 > 0), f"{wind:.4f}", "ttev"[number % 4]])
    (here / "config.yaml").write_text(CONFIG)
    return here


@pytest.fixture(scope="module")
def execute(project, warm_steps, tmp_path_factory):
    """Runs with settings, always into the same directory; returns result and lines shown."""
    output = tmp_path_factory.mktemp("out")

    def execute(*settings):
        shown = []
        config = configuration.load(project / "config.yaml", settings)
        result = run.run(
            config, base_dir=project, output=output, show=shown.append, steps=warm_steps
        )
        return result, shown

    return execute


@pytest.fixture(scope="module")
def searched(execute):
    return execute()


def test_model_is_trained_with_the_best_arguments_and_published(searched):
    result, shown = searched
    assert result["tuned"]["arguments"] == {RATE: 0.5}
    assert result["tuned"]["trials"] == 3
    assert result["evaluation"]["verdict"] == "blessed"
    assert pathlib.Path(result["model"], "saved_model.pb").is_file()
    assert len([line for line in shown if line.startswith("  trial ")]) == 3
    assert not [line for line in shown if "too kindly" in line]
    assert "best of 3 trials: average_loss 0." in summary.render(result)
    lines = [line for line in shown if line.startswith("  train  step 8 of 8")]
    assert len(lines) == 1


def test_trials_as_tasks_find_what_one_step_finds(searched, execute):
    one, _ = searched
    tasks, shown = execute("tune.separate_tasks=true")
    assert "preprocess" in tasks["cached"]
    assert shown.count("\ntrial") == 3
    assert tasks["tuned"]["arguments"] == one["tuned"]["arguments"]
    assert tasks["tuned"]["value"] == pytest.approx(one["tuned"]["value"], rel=1e-4)
    assert "train" in tasks["cached"]  # the same arguments, the same training
    again, _ = execute("tune.separate_tasks=true")
    assert set(again["cached"]) >= {"draw", "trial", "choose", "train"}


def test_interrupted_search_goes_on_and_finds_the_same(searched, project, warm_steps, tmp_path):
    config = configuration.load(project / "config.yaml")
    shown = []

    def until(beginning):
        def show(line):
            shown.append(line)
            if line.startswith(beginning):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run.run(config, base_dir=project, output=tmp_path, show=show, steps=warm_steps)

    until("  trial 1")
    until("\ntrain")
    _, uninterrupted = searched
    trials = [line for line in uninterrupted if line.startswith("  trial ")]
    assert [line for line in shown if line.startswith("  trial ")] == trials


def test_a_trial_of_katib_ends_where_ours_ends(searched, project, capsys, tmp_path):
    result, _ = searched
    (prepared,) = pathlib.Path(result["report"]).parent.glob("artifacts/*/preprocess")
    placed = f"cluster.volume={{claim: c, mount_path: '{prepared.parent}'}}"
    config = configuration.load(project / "config.yaml", [placed])
    experiment = yaml.safe_load(katib.manifest(config, str(prepared)))
    made = katib_trial.job(experiment, {RATE: "0.5"})
    ended = katib_trial.run(made, tmp_path, katib_trial.python(tmp_path))
    assert (ended.code, ended.completed) == (0, True), ended.said
    found = katib_trial.collected(experiment, ended.said)
    assert found == sorted(found)
    assert len(found) == 3
    assert found[-1][1] == pytest.approx(result["tuned"]["value"], rel=1e-4)

    (container,) = made["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    with pytest.raises(SystemExit) as caught:
        tune_once.main(environment={**environment, "TUNE_VALUE_0": f"{RATE}=0.7"})
    assert caught.value.code == 2
    assert "expected one of 1.0e-05, 0.5, got '0.7'" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        tune_once.main(environment={})
    assert caught.value.code == 2
    assert "TUNE_CONFIG is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("tune.metric=auk", "tune.metric 'auk' is no metric of this model. Did you mean 'auc'"),
        (
            "tune.space={estimator.args.optimizer: {choice: [Nowhere]}}",
            "tune.space 'estimator.args.optimizer' has the value 'Nowhere'",
        ),
    ],
)
def test_what_no_trial_survives_ends_the_search_with_one_message(execute, setting, said):
    with pytest.raises(EstimatorLibError) as caught:
        execute(setting)
    assert said in caught.value.message
    assert caught.value.exit_code == 2
