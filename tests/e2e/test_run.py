"""The whole road on a small table: run, cache, change, predict, and everything that is refused."""

import csv
import gzip
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.steps import notify, workflow
from estimator_lib.core import config as configuration
from estimator_lib.core import manifest
from estimator_lib.core.errors import EstimatorLibError
from pipelines import cli
from pipelines.local import output as run_output
from pipelines.local import run
from pipelines.local.warm_steps import WarmSteps

CONFIG = """
name: small
description: Will it be late?
data:
  split: {files: {train: [rows/train-*.csv], eval: [rows/eval.csv]}}
label: {field: late, missing: skip}
columns:
  carrier: {kind: vocabulary}
  tail: {kind: vocabulary, min_count: 2}
  carrier_vector: {kind: embedding, of: carrier, dimension: 4}
  route: {kind: crossed, of: [carrier, tail], buckets: 50}
  wind: {kind: numeric, normalize: moments, default: mean}
  no_wind: {kind: missing_indicator, field: wind}
  hour: {kind: bucketized, quantiles: 6}
  hour_vector: {kind: embedding, of: hour, dimension: 2}
estimator:
  name: DNNLinearCombinedClassifier
  args:
    linear_feature_columns: [carrier, tail, route, hour]
    dnn_feature_columns: [carrier_vector, hour_vector, wind, no_wind]
    dnn_hidden_units: [16]
    dnn_optimizer: {name: Adagrad, learning_rate: 0.6}
train: {batch_size: 32, epochs: 4}
evaluate:
  slices: [carrier]
  min_slice_rows: 20
  thresholds: {auc: {min: 0.55}}
"""
CARRIERS = ["AA", "UA", 'Zürich, "air"', "line\nbreak"]


def write_rows(path, count, seed):
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["late", "carrier", "tail", "wind", "hour", "grade", "weight"])
        for _ in range(count):
            carrier = int(rng.integers(len(CARRIERS)))
            hour = int(rng.integers(5, 23))
            wind = rng.normal(10, 4)
            late = int(carrier + hour / 4 + wind / 5 + rng.normal(0, 1.5) > 7.5)
            tail = f"N{rng.integers(30)}" if rng.random() > 0.1 else ""
            shown = f"{wind:.3f}" if rng.random() > 0.1 else ""
            label = late if rng.random() > 0.02 else ""
            grade, weight = int(rng.integers(3)), round(rng.random() + 0.5, 3)
            writer.writerow([label, CARRIERS[carrier], tail, shown, hour, grade, weight])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    here = tmp_path_factory.mktemp("server")
    with WarmSteps(here / "steps.log", path=[str(here)]) as steps:
        yield steps


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    here = tmp_path_factory.mktemp("project")
    (here / "rows").mkdir()
    for number in range(2):
        write_rows(here / "rows" / f"train-{number}.csv", 400, number)
    write_rows(here / "rows" / "eval.csv", 300, 9)
    (here / "config.yaml").write_text(CONFIG)
    return here


def execute(project, output, server, *settings):
    shown = []
    config = configuration.load(project / "config.yaml", settings)
    result = run.run(config, base_dir=project, output=output, show=shown.append, steps=server)
    return result, shown


@pytest.fixture(scope="module")
def finished(project, server, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    return (output, *execute(project, output, server))


def test_run_leaves_report_model_and_summary(finished):
    output, result, shown = finished
    assert result["evaluation"]["verdict"] == "blessed"
    assert result["rows"]["read"] == 1100
    assert result["rows"]["skipped"] + sum(result["rows"]["splits"].values()) == 1100
    assert result["rows"]["skipped"] > 0
    assert pathlib.Path(result["model"]) == output / "serving" / "1"
    assert (output / "serving" / "1" / "saved_model.pb").is_file()
    assert "<svg" in (output / "report.html").read_text()
    importance = result["evaluation"]["importance"]
    assert {f["field"] for f in importance["features"]} == {"carrier", "tail", "wind", "hour"}
    worse = {feature["field"]: feature["worse_by"] for feature in importance["features"]}
    assert worse["carrier"] > 0.05 > worse["tail"]  # the label knows nothing of the tail
    assert json.loads((output / "run.json").read_text()) == result
    assert [line for line in shown if line.strip().startswith("train") and "loss" in line]


def test_every_artifact_verifies_and_nothing_staged_is_left(finished):
    output, _, _ = finished
    found = {path.parent for path in output.glob("artifacts/**/manifest.json")}
    assert {path.name for path in found} >= {
        "examples", "transform", "statistics", "model", "evaluation", "saved_model",
    }  # fmt: skip
    for path in found:
        manifest.verify(path, deep=True)
    assert not list(output.rglob("*.attempt-*"))


KILLED = """
import os, sys
from estimator_lib.core import storage
with storage.staging(sys.argv[1], "model"):
    os._exit(9)
"""


def test_same_command_again_takes_everything_from_cache(finished, project, server):
    output, first, _ = finished
    step = next(output.glob("artifacts/*/train"))
    subprocess.run([sys.executable, "-c", KILLED, str(step)])
    assert list(output.rglob("*.attempt-*"))
    again, shown = execute(project, output, server)
    assert not list(output.rglob("*.attempt-*"))  # nor what a killed step of another run left
    assert sorted(again["cached"]) == ["evaluate", "export", "preprocess", "train"]
    assert again["evaluation"] == first["evaluation"]
    assert len([line for line in shown if "from cache" in line]) == 4


def test_a_model_parameter_reruns_train_onwards(finished, project, server):
    output, _, _ = finished
    again, _ = execute(project, output, server, "estimator.args.dnn_hidden_units=[8]")
    assert again["cached"] == ["preprocess"]
    assert pathlib.Path(again["model"]).name == "2"


def test_a_refused_model_is_not_published(finished, project, server):
    output, _, _ = finished
    before = sorted(path.name for path in (output / "serving").iterdir())
    again, shown = execute(project, output, server, "evaluate.thresholds.auc.min=0.999")
    assert again["cached"] == ["preprocess", "train"]
    assert again["evaluation"]["verdict"] == "refused"
    assert again["model"] is None
    said = workflow.read_log("\n".join(line.strip() for line in shown)).verdict
    assert said == f"refused: {' '.join(again['evaluation']['reasons'])}"
    assert sorted(path.name for path in (output / "serving").iterdir()) == before


def test_without_thresholds_nothing_is_published(finished, project, server):
    output, _, _ = finished
    again, _ = execute(project, output, server, "evaluate.thresholds={}")
    assert again["evaluation"]["verdict"] == "not_evaluated"
    assert again["model"] is None


def test_a_removed_model_is_published_again(finished, project, server, tmp_path):
    settings = ["train.calibration=platt", "train.epochs=1"]
    first, _ = execute(project, tmp_path, server, *settings)
    # Fitted to the split that is evaluated, and published: export compares raw rows.
    calibration = first["evaluation"]["metrics"]["calibration"]["value"]
    assert calibration == pytest.approx(1, abs=1e-4)
    shutil.rmtree(first["model"])
    again, _ = execute(project, tmp_path, server, *settings)
    assert "export" not in again["cached"]
    assert pathlib.Path(again["model"], "saved_model.pb").is_file()


def test_interrupted_publication_makes_no_second_version(project, server, tmp_path):
    """Fault 30: the version was there, the record of it was not; so the step ran again."""
    first, _ = execute(project, tmp_path, server, "train.epochs=2")
    (exported,) = tmp_path.glob("artifacts/**/saved_model")
    (exported / manifest.NAME).unlink()
    again, _ = execute(project, tmp_path, server, "train.epochs=2")
    assert "export" not in again["cached"]
    assert again["model"] == first["model"]
    assert [p.name for p in (tmp_path / "serving").iterdir()] == [pathlib.Path(first["model"]).name]
    # Damage is seen, and the same weights are published anew.
    weights = next((pathlib.Path(first["model"]) / "variables").glob("*.data*"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    third, _ = execute(project, tmp_path, server, "train.epochs=2")
    assert third["model"] != first["model"]


def test_predict_scores_rows_never_seen(finished, tmp_path, capsys):
    output, _, _ = finished
    rows = tmp_path / "new.csv"
    rows.write_text(
        "tail,hour,carrier,wind,id\n"
        "N3,9,AA,10.5,a\n"
        ",9,AA,,=cmd()\n"
        "N999,23,nobody,1e9,c\n"
        '"",5,"line\nbreak",,d\n'
    )
    scores = tmp_path / "scores.csv"
    command = ["predict", str(output / "serving"), str(rows), "-o", str(scores), "--keep", "id"]
    assert cli.main(command) == 0
    assert "4 rows" in capsys.readouterr().out
    with scores.open() as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == ["a", "'=cmd()", "c", "d"]
    assert all(0 <= float(row["logistic"]) <= 1 for row in found)


QUANTILES = [
    "label={field: wind, kind: number, missing: skip}",
    "columns={hour: {kind: bucketized, quantiles: 4}}",
    "estimator={function: 'own_models:quantiles', args: {levels: [0.1, 0.9]}}",
    "train={batch_size: 32, epochs: 2}",
    "evaluate={quantiles: [0.1, 0.9], slices: [[carrier, grade]], min_slice_rows: 5,"
    " thresholds: {coverage/0.1: {max: 0.5}}, slice_thresholds: {pinball: {max: 20}}}",
]


def test_a_users_own_model_runs(project, server, tmp_path):
    (project / "own_models.py").write_text(
        "import estimator_lib\n"
        "def build(columns, config, units):\n"
        "    dense = [columns['wind'], columns['carrier_vector']]\n"
        "    return estimator_lib.DNNClassifier([units], dense, config=config)\n"
        "def quantiles(columns, config, levels):\n"
        "    head = estimator_lib.QuantileRegressionHead(levels)\n"
        "    return estimator_lib.LinearEstimator(head, [columns['hour']], config=config)\n"
    )
    own = "estimator={function: 'own_models:build', args: {units: 4}}"
    with WarmSteps(tmp_path / "steps.log", path=[str(project)]) as steps:
        result, _ = execute(project, tmp_path / "out", steps, own, "evaluate.thresholds={}")
        levels, _ = execute(project, tmp_path / "levels", steps, *QUANTILES)
    assert result["evaluation"]["rows"] > 250
    assert levels["evaluation"]["verdict"] == "blessed", levels["evaluation"]["reasons"]
    metrics = levels["evaluation"]["metrics"]
    assert metrics["coverage/0.9"]["value"] > metrics["coverage/0.1"]["value"]
    assert levels["evaluation"]["slices"]
    assert pathlib.Path(levels["model"], "saved_model.pb").is_file()


VARIANTS = {
    "regression": (
        ["label={field: wind, kind: number, missing: skip}",
         "columns={tail: {kind: hashed, buckets: 20}, c: {kind: vocabulary, field: carrier},"
         " cv: {kind: indicator, of: c}, hour: {kind: numeric, normalize: moments}}",
         "estimator={name: DNNLinearCombinedRegressor, args: {linear_feature_columns: [tail],"
         " dnn_feature_columns: [cv, hour], dnn_hidden_units: [8]}}",
         "evaluate={slices: [carrier], thresholds: {rmse: {max: 100}}, min_slice_rows: 20}"],
        "rmse",
    ),
    "three classes": (
        ["label={field: grade, classes: 3}",
         "columns={carrier: {kind: vocabulary, top_k: 3}, cv: {kind: embedding, of: carrier,"
         " dimension: 2}, wind: {kind: bucketized, boundaries: [5, 10]}}",
         "estimator={name: DNNClassifier, args: {feature_columns: [cv], hidden_units: [8]}}",
         "evaluate={thresholds: {accuracy: {min: 0.1}}}"],
        "accuracy",
    ),
    "weights, a split by hash and TFRecord": (
        ["data={files: ['rows/train-*.csv'], split: {hash: {key: [tail, hour],"
         " eval_fraction: 0.3}}, examples: tfrecord}",
         "weight=weight",
         "estimator={name: LinearClassifier, args: {feature_columns: [carrier, hour]}}",
         "columns={carrier: {kind: vocabulary}, hour: {kind: bucketized, boundaries: [9, 17]}}",
         "evaluate={thresholds: {auc: {min: 0.1}}}"],
        "auc",
    ),
    "a split by column and early stopping": (
        ["data={files: ['rows/train-*.csv'], split: {column: {field: grade, eval: ['2'],"
         " validation: ['1']}}}",
         "train={max_steps: 60, batch_size: 16, evaluate_every_steps: 20,"
         " early_stopping: {metric: loss, patience: 1}}",
         "estimator={name: BaselineClassifier, args: {}}",
         "evaluate={thresholds: {accuracy: {min: 0.1}}}"],
        "accuracy",
    ),
}  # fmt: skip


LISTS = """
name: lists
data:
  split: {files: {train: [train.csv], eval: [eval.csv]}}
  fields:
    tags: {separator: "|"}
    scores: {kind: float, separator: "|"}
label: {field: y}
columns:
  tags: {kind: vocabulary}
  vector: {kind: embedding, of: tags, dimension: 2, combiner: sqrtn}
  scored: {kind: weighted, of: tags, weights: scores}
  kind: {kind: vocabulary}
  both: {kind: crossed, of: [kind, tags], buckets: 40}
  scored_vector: {kind: embedding, of: scored, dimension: 2}
estimator:
  name: DNNLinearCombinedClassifier
  args:
    linear_feature_columns: [tags, both, scored]
    dnn_feature_columns: [vector, scored_vector]
    dnn_hidden_units: [8]
    dnn_optimizer: {name: Adagrad, learning_rate: 0.6}
train: {batch_size: 16, epochs: 3}
evaluate: {thresholds: {auc: {min: 0.8}}}
"""


def write_lists(path, count, seed):
    rng = np.random.default_rng(seed)
    lines = ["tags,scores,kind,y"]
    for _ in range(count):
        tags = rng.choice(list("abcdefé"), int(rng.integers(0, 5))).tolist()
        scores = [f"{score:.2f}" for score in rng.uniform(0.5, 2, len(tags))]
        lines.append(f"{'|'.join(tags)},{'|'.join(scores)},{rng.choice(['x', 'y'])},"
                     f"{int('a' in tags)}")  # fmt: skip
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_fields_with_several_values_take_the_same_road(server, tmp_path):
    write_lists(tmp_path / "train.csv", 400, 0)
    write_lists(tmp_path / "eval.csv", 120, 1)
    (tmp_path / "config.yaml").write_text(LISTS)
    result, shown = execute(tmp_path, tmp_path / "out", server)
    assert result["evaluation"]["verdict"] == "blessed", result["evaluation"]["reasons"]
    assert any("120 raw rows score in a fresh process" in line for line in shown)
    scores = tmp_path / "scores.csv"
    rows = tmp_path / "eval.csv"
    command = ["predict", str(tmp_path / "out" / "serving"), str(rows), "-o", str(scores)]
    assert cli.main([*command, "--keep", "tags"]) == 0
    with scores.open(encoding="utf-8") as file:
        found = [(row["tags"], float(row["logistic"])) for row in csv.DictReader(file)]
    assert min(p for tags, p in found if "a" in tags) > max(p for tags, p in found if not tags)


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_tasks_and_splits_take_the_same_road(variant, project, server, tmp_path):
    settings, metric = VARIANTS[variant]
    result, _ = execute(project, tmp_path, server, *settings)
    assert result["evaluation"]["verdict"] == "blessed", result["evaluation"]["reasons"]
    assert result["evaluation"]["metrics"][metric]["value"] is not None
    assert pathlib.Path(result["model"], "saved_model.pb").is_file()
    shards = [path.name for path in tmp_path.glob("artifacts/**/train-00000-of-*")]
    assert any(name.endswith(".tfrecord.gz") for name in shards) == ("TFRecord" in variant)


def test_a_challenger_is_published_only_if_it_beats_the_champion(project, server, tmp_path):
    asks = "evaluate.changes={auc: {min: 0.001}}"
    first, _ = execute(project, tmp_path, server, asks)
    assert first["evaluation"]["verdict"] == "not_evaluated"
    assert "no model is serving" in first["evaluation"]["reasons"][0]
    first, _ = execute(project, tmp_path, server, asks, "evaluate.needs_baseline=false")
    assert pathlib.Path(first["model"]).name == "1"

    same, _ = execute(project, tmp_path, server, asks, "train.seed=1")
    comparison = same["evaluation"]["comparison"]
    assert comparison["model"] == str(tmp_path / "serving" / "1")
    assert comparison["changes"]["auc"]["value"] == pytest.approx(0, abs=1e-6)
    assert same["evaluation"]["verdict"] == "refused"
    assert same["model"] is None

    worse, _ = execute(project, tmp_path, server, asks, "train={max_steps: 1}")
    assert worse["evaluation"]["comparison"]["changes"]["auc"]["high"] < 0
    assert worse["model"] is None

    linear = "estimator={name: LinearClassifier, args: {feature_columns: [carrier]}}"
    allowed = "evaluate.changes={auc: {min: -1}}"
    other, _ = execute(project, tmp_path, server, allowed, linear)
    assert pathlib.Path(other["model"]).name == "2"


BROKEN = {
    "missing column": (
        lambda rows: rows.replace("wind", "wnid", 1),
        ["train-0.csv", "'wind'"],
    ),
    "text in a numeric column": (
        lambda rows: rows.replace("\r\n", "\r\n1,AA,N1,fast,9,1,1\r\n", 1),
        ["train-0.csv", "2", "'wind'", "'fast'"],
    ),
    "label out of range": (
        lambda rows: rows.replace("\r\n", "\r\n7,AA,N1,1,9,1,1\r\n", 1),
        ["train-0.csv", "2", "'late'", "7"],
    ),
    "ragged row": (
        lambda rows: rows.replace("\r\n", "\r\n1,AA\r\n", 1),
        ["train-0.csv", "2"],
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_bad_input_is_one_message_and_leaves_nothing(fault, project, server, tmp_path):
    damage, said = BROKEN[fault]
    broken = shutil.copytree(project, tmp_path / "project")
    path = broken / "rows" / "train-0.csv"
    path.write_bytes(damage(path.read_bytes().decode()).encode())
    refused(broken, server, tmp_path / "out", said)


def test_a_truncated_gzip_is_refused(project, server, tmp_path):
    broken = shutil.copytree(project, tmp_path / "project")
    path = broken / "rows" / "train-0.csv"
    path.write_bytes(gzip.compress(path.read_bytes())[:-500])
    refused(broken, server, tmp_path / "out", ["train-0.csv", "compressed file"])


def refused(project, server, output, said):
    with pytest.raises(EstimatorLibError) as caught:
        execute(project, output, server)
    assert caught.value.exit_code == 2
    assert "Traceback" not in caught.value.message
    for part in said:
        assert part in caught.value.message
    assert not list(output.glob("artifacts/**/manifest.json"))
    assert not list(output.rglob("*.attempt-*"))
    assert not (output / "report.html").exists()


def test_two_runs_cannot_share_an_output(project, server, tmp_path):
    with run_output.lease(tmp_path), pytest.raises(EstimatorLibError, match="Another run"):
        execute(project, tmp_path, server)


def test_the_published_model_is_warmed_up_and_says_what_serves_it(finished, capsys):
    output, _, _ = finished
    version = output / "serving" / "1"
    served = tf.saved_model.load(str(version))
    asked = []
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = getattr(log, log.WhichOneof("log_type")).request
        name = request.model_spec.signature_name
        if log.HasField("predict_log"):
            given = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        else:
            given = {"inputs": [e.SerializeToString() for e in request.input.example_list.examples]}
        inputs = served.signatures[name].structured_input_signature[1]
        answer = served.signatures[name](
            **{key: tf.constant(value, inputs[key].dtype) for key, value in given.items()}
        )
        assert {value.shape[0] for value in answer.values()} == {8}
        asked.append(name)
    assert asked == sorted(served.signatures)
    lineage = json.loads((version / "lineage.json").read_text())
    assert lineage["server"]["tensorflow"] == "2.10"
    given = ["--name", "small", "--storage-uri", "pvc://small/serving"]
    assert cli.main(["models", "kserve", str(output / "serving"), *given]) == 0
    assert "estimator-pipelines/tensorflow-serving: '>=2.10'" in capsys.readouterr().out


@pytest.fixture(scope="module")
def statistics(finished):
    output, _, _ = finished
    (found,) = output.glob("artifacts/*/preprocess/statistics")
    return str(found)


def requests_of(path, count, seed, *, late=False):
    """Logs rows as KServe's logger does; `late` ones are of another kind."""
    write_rows(path.with_suffix(".csv"), count, seed)
    with path.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["wind"] = float(row["wind"] or "nan") * (3 if late else 1)
        row["hour"] = float(row["hour"])
    inputs = ("carrier", "tail", "wind", "hour")
    bodies = [{"instances": [{n: row[n] for n in inputs} for row in rows[i::5]]} for i in range(5)]
    path.write_text("\n".join(json.dumps({"specversion": "1.0", "data": b}) for b in bodies))
    return path


@pytest.mark.parametrize("late", [False, True])
def test_logged_requests_are_compared_with_training(
    finished, statistics, tmp_path, capsys, monkeypatch, late
):
    told = []
    monkeypatch.setenv(notify.WEBHOOK, "https://hooks.example")
    monkeypatch.setattr(notify, "post", lambda address, message: told.append(message) or "")
    model = finished[0] / "serving"
    log = requests_of(tmp_path / "log.jsonl", 3000, 77, late=late)
    words = ["monitor", str(model), str(log), *(["--statistics", statistics] if late else []), "-o"]
    code = cli.main([*words, str(tmp_path / "found")])
    shown = capsys.readouterr()
    assert code == (3 if late else 0), shown
    found = json.loads((tmp_path / "found" / "monitor.json").read_text())
    assert found["verdict"] == ("differs" if late else "as_trained")
    assert found["rows"] == 3000
    over = [one["field"] for one in found["distances"] if one["over"]]
    assert over == (["wind"] if late else [])
    assert len(found["distances"]) == 4
    assert "wind" in (tmp_path / "found" / "statistics.html").read_text()
    manifest.verify(tmp_path / "found", deep=True)
    assert [message["state"] for message in told] == (["DIFFERS"] if late else [])


def test_requests_as_raw_rows_are_compared_too(finished, project, tmp_path, capsys):
    model = finished[0] / "serving"
    words = ["monitor", str(model), str(project / "rows" / "train-*.csv")]
    words += ["-o", str(tmp_path / "found")]
    assert cli.main(words) == 0, capsys.readouterr()
    found = json.loads((tmp_path / "found" / "monitor.json").read_text())
    assert {one["field"] for one in found["distances"]} == {"carrier", "tail", "wind", "hour"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["{model}", "nothing.jsonl", "--statistics", "{statistics}"], "nothing.jsonl"),
        (["{model}", "{log}.txt", "--statistics", "{statistics}"], "--format"),
        (["{model}/none", "{log}", "--statistics", "{statistics}"], "none"),
        (["{model}", "{log}", "--statistics", "{model}"], "manifest.json"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(
    finished, statistics, tmp_path, capsys, given, said
):
    log = tmp_path / "log.jsonl"
    log.write_text("{}")
    names = {"model": finished[0] / "serving", "statistics": statistics, "log": log}
    words = [word.format(**names) for word in given]
    assert cli.main(["monitor", *words, "-o", str(tmp_path / "found")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "found").exists()
