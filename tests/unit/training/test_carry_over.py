"""A warm-started model scores as the serving one did, whatever became of its ids."""

import json

import numpy as np
import pytest

import estimator_lib
from components.steps import model
from estimator_lib.core import columns as fc
from estimator_lib.core.config import Estimator, Train, TrainPart
from estimator_lib.core.errors import ConfigError
from estimator_lib.inputs import arrays_input
from estimator_lib.training import carry_over

ARGS = {
    "linear_feature_columns": ["carrier", "route", "hour"],
    "dnn_feature_columns": ["carrier_vector", "origin_set", "hour", "wind"],
    "dnn_hidden_units": [5],
}
OLD = {"carriers": ("AA", "UA", "DL"), "origins": ("JFK", "EWR"), "cuts": (8.0, 12.0, 18.0)}
NEW = {"carriers": ("UA", "XX", "AA", "DL"), "origins": ("EWR", "LGA", "JFK"), "cuts": OLD["cuts"]}
HIDDEN = "dnn/hiddenlayer_0/kernel"


def columns(carriers, origins, cuts):
    carrier = fc.VocabularyColumn(key="carrier", vocabulary=carriers, num_oov_buckets=1)
    origin = fc.VocabularyColumn(key="origin", vocabulary=origins, num_oov_buckets=1)
    return {
        "carrier": carrier,
        "route": fc.crossed_column([carrier, origin], 5000),
        "hour": fc.bucketized_column(fc.numeric_column("hour"), cuts),
        "carrier_vector": fc.embedding_column(carrier, 3),
        "origin_set": fc.indicator_column(origin),
        "wind": fc.numeric_column("wind"),
    }


def rows(carriers, origins, count=200):
    rng = np.random.default_rng(0)
    return {
        "carrier": rng.choice(np.array(carriers, object), count),
        "origin": rng.choice(np.array(origins, object), count),
        "hour": rng.uniform(0, 24, count).astype(np.float32),
        "wind": rng.normal(size=count).astype(np.float32),
    }


def estimator(folder, by_name, start=None, rate=0.1, **changed):
    args = {
        name: [by_name[column] for column in value] if name.endswith("columns") else value
        for name, value in {**ARGS, **changed}.items()
    }
    sgd = {"name": "SGD", "learning_rate": rate}
    config = estimator_lib.RunConfig(model_dir=str(folder), tf_random_seed=1)
    return estimator_lib.DNNLinearCombinedClassifier(
        config=config,
        warm_start_from=start,
        linear_optimizer=sgd,
        dnn_optimizer=sgd,
        **args,
    )


def feed(features):
    labels = (features["carrier"] == "UA").astype(np.int64)
    return arrays_input(features, labels, batch_size=50, epochs=1, shuffle=False)


def probabilities(made, features):
    return [float(p["logistic"][0]) for p in made.predict(feed(features))]


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "3"
    made = estimator(folder, columns(**OLD))
    made.train(feed(rows((*OLD["carriers"], "??"), (*OLD["origins"], "??"))))
    carried = folder / carry_over.CARRIED
    carried.mkdir()
    described = {name: fc.to_json(column) for name, column in columns(**OLD).items()}
    (carried / "columns.json").write_text(json.dumps({"columns": described}))
    declared = {"name": "DNNLinearCombinedClassifier", "args": ARGS}
    (carried / "model.json").write_text(json.dumps({"config": {"estimator": declared}}))
    return folder, made


def started(serving, tmp_path, by_name, **changed):
    declared = Estimator(name="DNNLinearCombinedClassifier", args={**ARGS, **changed})
    settings = carry_over.settings(str(serving), by_name, declared, str(tmp_path / "rows"))
    made = estimator(tmp_path / "new", by_name, settings, rate=1e-12, **changed)
    with carry_over.explain_errors(str(serving), made):
        made.train(feed(rows(("UA", "XX"), ("JFK", "LGA"))))
    return made


def test_every_row_scores_as_before_also_what_was_unknown(serving, tmp_path):
    folder, old = serving
    seen = rows(("AA", "UA", "DL", "XX", "??"), ("JFK", "EWR", "LGA", "??"))
    new = started(folder, tmp_path, columns(**NEW))
    assert probabilities(new, seen) == pytest.approx(probabilities(old, seen), abs=1e-6)
    plain = estimator(tmp_path / "plain", columns(**NEW), str(folder))
    with pytest.raises(Exception, match="cannot be warm started"):  # what matching saves from
        plain.train(feed(seen))


def test_a_bucket_starts_from_the_one_its_middle_fell_into(serving, tmp_path):
    folder, old = serving
    moved = columns(OLD["carriers"], OLD["origins"], (7.0, 13.0, 14.0, 17.0, 23.0))
    new = started(folder, tmp_path, moved)
    name = "linear/linear_model/hour_bucketized/weights"
    expected = old.get_variable_value(name)[[0, 1, 2, 2, 3, 3]]
    assert new.get_variable_value(name) == pytest.approx(expected, abs=1e-6)


def test_another_width_is_refused_with_what_to_do(serving, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.warm_start=null") as caught:
        started(serving[0], tmp_path, columns(**NEW), dnn_hidden_units=[6])
    assert HIDDEN in caught.value.message


def test_a_function_that_takes_no_start_is_refused(tmp_path, monkeypatch):
    (tmp_path / "cold_models.py").write_text("def build(columns, config): ...")
    monkeypatch.syspath_prepend(tmp_path)
    part = TrainPart(
        columns=[], estimator=Estimator(function="cold_models:build"), train=Train(max_steps=1)
    )
    with pytest.raises(ConfigError, match="expected an argument warm_start_from"):
        model.build_estimator(part, {}, {}, None, warm_start_from="start")


def test_a_model_of_an_older_release_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="carries no"):
        carry_over.settings(str(tmp_path), {}, Estimator(name="DNNClassifier"), str(tmp_path))
