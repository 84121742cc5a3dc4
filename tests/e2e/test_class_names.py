"""Classes called by name, from the file to the served model and the page."""

import csv
import json
import pathlib

import pytest
import tensorflow as tf

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import PipelineError
from pipelines import cli
from pipelines.local import run

CONFIG = """
name: churn
data: {files: [rows.csv], split: {hash: {key: [id], eval_fraction: 0.3}}}
label: {field: state, classes: [stayed, churned]}
columns: {x: {kind: numeric, normalize: moments}}
estimator: {name: LinearClassifier, args: {feature_columns: [x]}}
train: {epochs: 20, batch_size: 32}
evaluate: {thresholds: {auc: {min: 0.9}}, importance: {rows: 100, repeats: 1}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    here = tmp_path_factory.mktemp("churn")
    rows = "".join(f"{i},{i % 40},{'churned' if i % 40 > 20 else 'stayed'}\n" for i in range(400))
    (here / "rows.csv").write_text("id,x,state\n" + rows)
    (here / "config.yaml").write_text(CONFIG)
    return here


@pytest.fixture(scope="module")
def result(project, warm_steps):
    config = configuration.load(project / "config.yaml")
    return run.run(
        config, base_dir=project, output=project / "out", show=lambda _: None, steps=warm_steps
    )


def test_page_and_numbers_speak_of_the_classes(result):
    found = result["evaluation"]
    assert found["verdict"] == "blessed"
    assert found["metrics"]["auc"]["value"] > 0.95
    assert found["curves"]["confusion"]["classes"] == ["stayed", "churned"]
    page = pathlib.Path(result["report"]).read_text()
    assert "stayed, churned; positive: churned" in page
    assert "Is churned" in page


def test_what_is_doubtful_is_on_the_page(result):
    (few, given) = sorted(result["evaluation"]["cautions"], reverse=True)
    assert "'x' alone gives the label away" in given
    assert few.startswith("The eval split has ")
    assert "alone gives the label away" in pathlib.Path(result["report"]).read_text()


def test_two_processes_train_the_same_model(project, warm_steps, result):
    config = configuration.load(
        project / "config.yaml", ["train.cluster={workers: 2}", "evaluate.importance.rows=0"]
    )
    second = run.run(
        config, base_dir=project, output=project / "two", show=lambda _: None, steps=warm_steps
    )
    assert second["evaluation"]["verdict"] == "blessed"
    one, two = (found["evaluation"]["metrics"]["auc"]["value"] for found in (result, second))
    assert two == pytest.approx(one, abs=0.005)
    logs = [path.name for path in (project / "two").rglob("cluster/*.log")]
    assert sorted(logs) == ["evaluator-0.log", "worker-0.log"]


def test_the_model_says_names_and_keeps_their_order(result):
    model = tf.saved_model.load(result["model"])
    served = model.signatures["predict" if "predict" in model.signatures else "serving_default"]
    out = served(x=tf.constant([0.0, 39.0]))
    assert out["classes"].numpy().ravel().tolist() == [b"stayed", b"churned"]
    assert out["probabilities"].numpy()[1, 1] > 0.5
    lineage = json.loads((pathlib.Path(result["model"]) / "lineage.json").read_text())
    assert lineage["label"]["classes"] == ["stayed", "churned"]


def test_scored_files_have_a_column_for_each_class(project, result, tmp_path):
    scores = tmp_path / "scores.csv"
    command = ["predict", result["model"], str(project / "rows.csv"), "-o", str(scores)]
    assert cli.main([*command, "--keep", "state"]) == 0
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert {"probabilities_stayed", "probabilities_churned", "classes"} <= set(rows[0])
    right = [row["classes"] == row["state"] for row in rows]
    assert sum(right) > 0.9 * len(right)


def test_a_serving_model_with_other_names_is_not_compared(project, result, warm_steps):
    settings = [
        "label.classes=[churned, stayed]", "evaluate.changes={auc: {min: -0.5}}",
        "train.epochs=1",
    ]  # fmt: skip
    config = configuration.load(project / "config.yaml", settings)
    with pytest.raises(PipelineError, match="its classes of 'state' are stayed, churned"):
        run.run(
            config, base_dir=project, output=project / "out", show=lambda _: None,
            steps=warm_steps,
        )  # fmt: skip
