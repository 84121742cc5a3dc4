"""Several labels from raw rows to predictions: a head for each, and classes that go together."""

import csv
import json
import pathlib

import numpy as np
import pytest

from components.steps import predict_job, scoring
from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError
from estimator_lib.evaluation import configured
from pipelines import cli
from pipelines.local import run, summary

DATA = "data: {split: {files: {train: [train.csv], eval: [eval.csv]}}"
COLUMNS = """
columns:
  carrier: {kind: vocabulary}
  carrier_vector: {kind: embedding, of: carrier, dimension: 3}
  wind: {kind: numeric, normalize: moments}
"""
HEADS = f"""
name: heads
{DATA}}}
labels:
  late: {{field: late, missing: skip}}
  delay: {{field: minutes, kind: number}}
{COLUMNS}
estimator:
  name: MMoEEstimator
  args:
    feature_columns: [carrier_vector, wind]
    expert_units: [8]
    experts: 2
    tower_units: []
    head_weights: {{delay: 0.1}}
    optimizer: {{name: Adam, learning_rate: 0.03}}
train: {{batch_size: 32, max_steps: 150, early_stopping: {{metric: auc/late, direction: max}}}}
evaluate:
  slices: [carrier]
  min_slice_rows: 20
  thresholds: {{auc/late: {{min: 0.7}}, r2/delay: {{min: 0.3}}}}
  slice_thresholds: {{mae/delay: {{max: 100}}}}
  importance: {{repeats: 1}}
"""
MULTILABEL = f"""
name: weather
{DATA}, fields: {{brings: {{separator: "+"}}}}}}
label: {{kind: multilabel, field: brings, values: [rain, snow, sun]}}
{COLUMNS}
estimator:
  name: DNNEstimator
  args:
    feature_columns: [carrier_vector, wind]
    hidden_units: [8]
    optimizer: {{name: Adam, learning_rate: 0.03}}
train: {{batch_size: 32, max_steps: 80}}
evaluate:
  thresholds: {{auc/rain: {{min: 0.7}}, auc: {{min: 0.6}}}}
  importance: {{repeats: 1}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    here = tmp_path_factory.mktemp("project")
    for name, seed in (("train", 1), ("eval", 2)):
        rng = np.random.default_rng(seed)
        with (here / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "late", "minutes", "brings", "carrier", "wind"])
            for number in range(300):
                carrier, wind = int(rng.integers(3)), round(rng.normal(), 4)
                minutes = round(5 * wind + 4 * carrier + rng.normal(), 3)
                late = "" if number % 50 == 0 else int(minutes + rng.normal() > 4)
                likely = {"rain": wind > 0, "snow": carrier == 2, "sun": wind < -0.5}
                brings = [name for name, so in likely.items() if so != (rng.random() < 0.1)]
                writer.writerow([number, late, minutes, "+".join(brings), "ABC"[carrier], wind])
    (here / "heads.yaml").write_text(HEADS)
    (here / "weather.yaml").write_text(MULTILABEL)
    return here


@pytest.fixture(scope="module")
def execute(project, warm_steps, tmp_path_factory):
    """Runs a configuration, always into its own directory."""
    output = tmp_path_factory.mktemp("out")

    def execute(name, *settings):
        config = configuration.load(project / f"{name}.yaml", settings)
        assert cli.main(["config", "check", str(project / f"{name}.yaml")]) == 0
        return run.run(
            config, base_dir=project, output=output / name, show=lambda _: None, steps=warm_steps
        )

    return execute


@pytest.fixture(scope="module")
def heads(execute):
    return execute("heads")


@pytest.fixture(scope="module")
def weather(execute):
    return execute("weather")


def scored(project, result, tmp_path):
    """Rows of the eval file scored by a published model."""
    path = tmp_path / "scores.csv"
    predict_job.score_files(
        [str(project / "eval.csv")], model=result["model"], output=path, keep=["id", "minutes"]
    )
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_head_is_measured_checked_and_published(heads):
    assert heads["rows"] == {"read": 600, "skipped": 12, "splits": {"train": 294, "eval": 294}}
    found = heads["evaluation"]
    assert (found["task"], found["verdict"]) == ("multihead", "blessed")
    assert [part["name"] for part in found["parts"]] == ["late", "delay"]
    assert found["metrics"]["auc/late"]["value"] > 0.8
    assert found["metrics"]["r2/delay"]["value"] > 0.5
    assert {check["metric"] for check in found["checks"]} == {"auc/late", "r2/delay", "mae/delay"}
    assert all("rmse/delay" in part["metrics"] for part in found["slices"])
    relied = {part["name"]: part["importance"] for part in found["parts"]}
    assert (relied["late"]["metric"], relied["delay"]["metric"]) == ("auc", "rmse")
    assert all(
        {field["field"] for field in one["features"] if field["worse_by"] > 0}
        == {"carrier", "wind"}
        for one in relied.values()
    )
    assert "late: auc 0." in summary.render(heads)
    assert "delay: " in summary.render(heads)


def test_report_tells_of_every_head(heads):
    page = pathlib.Path(heads["report"]).read_text()
    for head in ("late", "delay"):
        for title in (f"Head {head}", f"Where {head} is weak", f"What {head} relies on"):
            assert f"<h2>{title}</h2>" in page


def test_predictions_of_heads_have_their_names(project, heads, tmp_path):
    rows = scored(project, heads, tmp_path)
    assert len(rows) == 300
    assert any(row["minutes"].startswith("-") for row in rows)  # a number is no formula
    assert {"id", "late/logistic", "late/classes", "delay/predictions"} <= set(rows[0])
    error = [abs(float(row["delay/predictions"]) - float(row["minutes"])) for row in rows]
    assert np.mean(error) < heads["evaluation"]["metrics"]["mae/delay"]["high"] + 0.1


def test_a_challenger_is_compared_head_by_head(heads, execute):
    second = execute("heads", "evaluate.changes={auc/late: {min: -0.01}, mae/delay: {max: 0.01}}")
    assert second["cached"] == ["preprocess", "train"]
    found = second["evaluation"]
    assert found["verdict"] == "blessed"
    assert found["comparison"]["changes"]["mae/delay"]["value"] == pytest.approx(0, abs=1e-4)
    assert second["model"] == heads["model"]  # the same weights make no second version


def test_a_serving_model_of_another_label_is_refused(project, heads, weather, execute):
    label = configuration.described(configuration.load(project / "weather.yaml").heads)
    problem = configured.problem(label, configuration.Evaluate())
    examples = next(pathlib.Path(weather["report"]).parent.glob("artifacts/*/preprocess/examples"))
    with pytest.raises(ConfigError, match="for it predicts something else"):
        scoring.score_served(heads["model"], str(examples), problem)


def test_classes_that_go_together(project, weather, tmp_path):
    found = weather["evaluation"]
    assert weather["rows"]["skipped"] == 0
    assert (found["task"], found["verdict"]) == ("multilabel", "blessed")
    assert [part["name"] for part in found["parts"]] == ["rain", "snow", "sun"]
    assert found["metrics"]["auc/snow"]["value"] > 0.8
    assert found["importance"]["metric"] == "auc"
    lineage = json.loads((pathlib.Path(weather["model"]) / "lineage.json").read_text())
    assert lineage["label"]["classes"] == ["rain", "snow", "sun"]
    rows = scored(project, weather, tmp_path)
    assert {"probabilities_rain", "probabilities_snow", "probabilities_sun"} <= set(rows[0])
    assert "classes_0" not in rows[0]
    assert found["metrics"]["prediction_mean/rain"]["value"] == pytest.approx(
        np.mean([float(row["probabilities_rain"]) for row in rows]), abs=1e-5
    )
