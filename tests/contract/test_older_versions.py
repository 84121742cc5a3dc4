"""What 0.1 wrote is read today, and says the same: nobody trains anew for a new version of this."""

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

import estimator_lib
from components.steps import model as artifact
from components.steps import scoring
from estimator_lib.core import config as configuration
from estimator_lib.core import description, manifest
from estimator_lib.evaluation.metrics import Problem
from estimator_lib.export.saved_model import load_model
from estimator_lib.inputs import examples_input
from estimator_lib.training import carry_over
from pipelines import cli

OLD = pathlib.Path(__file__).parents[1] / "golden" / "version_0_1"
ROWS = {"eval": 300, "train": 400}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    copy = tmp_path_factory.mktemp("old") / "run"
    shutil.copytree(OLD, copy)
    return copy


@pytest.fixture(scope="module")
def evaluation():
    return json.loads((OLD / "evaluation" / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def predictions():
    return pd.read_csv(OLD / "predictions.csv")["probabilities_1"].to_numpy()


def test_its_configuration_is_accepted_and_means_the_same(old, capsys):
    assert cli.main(["config", "check", str(old / "config.yaml")]) == 0
    config = configuration.load(old / "config.yaml", ())
    assert config.estimator.name == "DNNLinearCombinedClassifier"
    assert dict(config.train.model_dump(exclude_none=True)).items() >= {
        "batch_size": 32, "epochs": 4, "seed": 1,
    }.items()  # fmt: skip
    capsys.readouterr()


@pytest.mark.parametrize(
    "name", ["examples", "transform", "statistics", "model", "evaluation", "serving/1"]
)
def test_its_artifacts_are_whole(name):
    assert manifest.verify(OLD / name, deep=True).files


def test_its_examples_are_read():
    for split, rows in ROWS.items():
        batches = examples_input(str(OLD / "examples"), split, batch_size=500)
        features, labels = next(iter(batches()))
        assert len(labels) == rows
        assert {"carrier", "tail", "wind", "wind_missing"} <= {*features}


def test_its_columns_are_read():
    columns = description.read(OLD / "transform").columns
    assert set(columns) == set(configuration.load(OLD / "config.yaml", ()).columns)


def test_its_model_predicts_and_is_evaluated_as_then(old, evaluation, predictions):
    paths = [str(old / name) for name in ("model", "transform", "examples")]
    trained = artifact.open_model(*paths)
    assert trained.step == 52
    scored = scoring.score(
        trained.estimator, trained.checkpoint, paths[2], "eval", Problem(task="binary")
    )
    np.testing.assert_allclose(scored.predictions[:], predictions, atol=1e-6)
    metrics = trained.estimator.evaluate(
        examples_input(paths[2], "eval", batch_size=500), checkpoint_path=trained.checkpoint
    )
    assert metrics["auc"] == pytest.approx(evaluation["metrics"]["auc"]["value"], abs=2e-3)


def test_training_goes_on_from_its_checkpoint(old):
    declared = json.loads((old / "model" / artifact.DECLARATION).read_text())
    part = configuration.TrainPart.from_json(json.dumps(declared["config"]))
    estimator = artifact.build_estimator(
        part,
        artifact.read_columns(str(old / "transform")),
        manifest.read(old / "examples", kind="examples").metadata,
        estimator_lib.RunConfig(model_dir=str(old / "checkpoints"), tf_random_seed=1),
    )
    rows = examples_input(str(old / "examples"), "train", batch_size=32)
    before = estimator.evaluate(rows)
    assert before["global_step"] == 52
    estimator.train(rows, steps=13)
    after = estimator.evaluate(rows)
    assert after["global_step"] == 65
    assert after["loss"] < before["loss"]


def test_its_published_model_is_served_listed_and_published_again(old, predictions, capsys):
    served = load_model(str(old / "serving" / "1"))
    rows = pd.read_csv(old / "eval.csv", dtype={"hour": float}).fillna({"tail": ""})
    given = {name: rows[name].to_numpy() for name in served.inputs}
    np.testing.assert_allclose(
        np.asarray(served.predict(given)["probabilities"])[:, 1], predictions, atol=1e-6
    )
    assert cli.main(["models", "list", str(old / "serving")]) == 0
    assert "auc 0.8577" in capsys.readouterr().out
    shutil.copytree(old / "serving" / "1", old / "serving" / "2")
    assert cli.main(["models", "rollback", str(old / "serving")]) == 0
    assert cli.main(["models", "show", str(old / "serving")]) == 0
    shown = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert shown["version"] == 3
    assert shown["lineage"]["again"] == 1
    assert shown["lineage"]["rows"] == ROWS


def test_a_new_model_is_compared_with_it_and_starts_from_its_weights(old, predictions, tmp_path):
    served = str(old / "serving" / "1")
    scores = scoring.score_served(served, str(old / "examples"), Problem(task="binary"))
    np.testing.assert_allclose(scores[:], predictions, atol=1e-6)
    assert carry_over.parent(served)["version"] == 1
    declared = json.loads((old / "model" / artifact.DECLARATION).read_text())
    part = configuration.TrainPart.from_json(json.dumps(declared["config"]))
    columns = artifact.read_columns(str(old / "transform"))
    start = carry_over.settings(served, columns, part.estimator, str(tmp_path / "warm"))
    estimator = artifact.build_estimator(
        part,
        columns,
        manifest.read(old / "examples", kind="examples").metadata,
        estimator_lib.RunConfig(model_dir=str(tmp_path / "new"), tf_random_seed=2),
        start,
    )
    rows = examples_input(str(old / "examples"), "train", batch_size=32, epochs=1)
    estimator.train(rows, steps=1)
    assert estimator.evaluate(rows)["auc"] > 0.8  # one step from nothing would be near 0.5


def test_new_rows_are_held_against_its_schema_and_statistics(old, tmp_path, capsys):
    schema = str(old / "statistics" / "schema.pbtxt")
    types = ["--type", "hour=float"]
    assert cli.main(["validate", str(old / "eval.csv"), "--schema", schema, *types]) == 0
    lacking = pd.read_csv(old / "eval.csv").drop(columns="carrier")
    lacking.to_csv(tmp_path / "lacking.csv", index=False)
    assert cli.main(["validate", str(tmp_path / "lacking.csv"), "--schema", schema, *types]) == 2
    told = capsys.readouterr().out
    assert "carrier" in told
    assert "1 anomalies" in told
