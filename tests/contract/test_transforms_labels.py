"""What becomes of labels in a preprocess step: columns, missing ones, counts, refusals."""

import numpy as np
import pytest

import estimator_lib
from components.steps import model
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.export.saved_model import load_model
from estimator_lib.export.serving_inputs import build_transformed_serving_input_receiver_fn
from estimator_lib.inputs import examples_input
from transforms.testing import Job

COLUMNS = {"wind": {"kind": "numeric", "default": 0.0}}
TEXT = """late,minutes,rain,snow,tags,wind
1,20.5,1,0,b|a|b,1
0,-3,0,1,,2
,7,1,1,a,3
1,,0,0,c,4
0,0,0,0,a,5
"""
LISTS = {"fields": {"tags": {"separator": "|"}}}
TAGS = {"kind": "multilabel", "field": "tags", "values": ["a", "b", "c"]}


def job(tmp_path, text=TEXT, **given):
    return Job(root=tmp_path, files={"train": [text], "eval": [text]}, columns=COLUMNS, **given)


def first_batch(made):
    (_, labels), *_ = examples_input(made.examples, "train", batch_size=10).dataset()
    return labels


def test_a_row_goes_along_only_with_all_labels(tmp_path):
    labels = {
        "late": {"field": "late", "missing": "skip"},
        "delay": {"field": "minutes", "kind": "number", "missing": "skip"},
        "weather": {"kind": "multilabel", "fields": ["rain", "snow"]},
    }
    made = job(tmp_path, labels=labels)
    assert made.run().splits["train"].skipped == 2
    counts = made.metadata()["counts"]["train"]
    assert counts == {"read": 5, "kept": 3, "skipped": 2, "label": {"late": {"0": 2, "1": 1}}}
    found = first_batch(made)
    assert list(found) == ["late", "delay", "weather"]
    assert found["late"].numpy().tolist() == [1, 0, 0]
    assert found["delay"].numpy().tolist() == [20.5, -3, 0]
    assert found["weather"].numpy().tolist() == [[1, 0], [0, 1], [0, 0]]
    for field in ("late", "minutes", "rain", "snow"):
        schema = (made.statistics / "schema.pbtxt").read_text().split(f'name: "{field}"')[1]
        assert 'not_in_environment: "SERVING"' in schema.split("feature {")[0]


@pytest.mark.parametrize("output", ["parquet", "tfrecord"])
def test_values_of_a_field_are_classes(tmp_path, output):
    made = job(tmp_path, label=TAGS, data={**LISTS, "examples": output})
    made.run()
    expected = [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert first_batch(made).numpy().tolist() == expected
    assert "tags" not in made.metadata()["features"]


def test_whole_numbers_may_be_classes(tmp_path):
    made = job(
        tmp_path,
        TEXT.replace("a", "7").replace("b", "8").replace("l7te", "late").replace("t7gs", "tags")
        .replace("r7in", "rain"),
        label={**TAGS, "values": ["7", "8"]},
        data={"fields": {"tags": {"kind": "int", "separator": "|"}}, "missing": ["", "c"]},
    )  # fmt: skip
    made.run()
    assert np.sum(first_batch(made), axis=0).tolist() == [3, 1]


def test_a_value_that_is_no_class_is_refused_with_its_place(tmp_path):
    made = job(tmp_path, label={**TAGS, "values": ["a", "b"]}, data=LISTS)
    with pytest.raises(DataError) as caught:
        made.run()
    for part in ("'tags'", "expected one of ['a', 'b'], got 'c'", "train-0.csv:5"):
        assert part in caught.value.message


def test_such_a_row_may_go_to_quarantine(tmp_path):
    policy = {"on_bad_rows": "quarantine", "max_bad_fraction": 0.5}
    made = job(tmp_path, label={**TAGS, "values": ["a", "b"]}, data={**LISTS, **policy})
    assert made.run().splits["train"].kept == 4
    assert "expected one of" in (made.statistics / "quarantine.csv").read_text()


def test_a_missing_label_says_which_policy_lets_it_pass(tmp_path):
    labels = {"late": {"field": "late", "missing": "skip"}, "delay": {"field": "minutes"}}
    labels["delay"]["kind"] = "number"
    with pytest.raises(DataError, match=r"'minutes' is missing.*:5") as caught:
        job(tmp_path, labels=labels).run()
    assert "labels.delay.missing to skip" in caught.value.message


def test_mutual_information_needs_one_label_of_classes(tmp_path):
    columns = {"tags": {"kind": "vocabulary", "rank_by": "mutual_information"}}
    made = Job(
        root=tmp_path,
        files={"train": [TEXT], "eval": [TEXT]},
        columns=columns,
        labels={"late": {"field": "late", "missing": "skip"}, "rain": {"field": "rain"}},
        data=LISTS,
    )
    with pytest.raises(ConfigError, match="one label of kind 'class', got 'class', 'class'"):
        made.run()


def test_a_model_of_one_text_is_served_that_text(tmp_path):
    made = Job(
        root=tmp_path,
        files={"train": [TEXT], "eval": [TEXT]},
        columns={"tags": {"kind": "vocabulary"}},
        label={"field": "rain", "missing": "skip"},
    )
    made.run()
    (column,) = map(fc.transformed, model.read_columns(str(made.transform)).values())
    estimator = estimator_lib.LinearClassifier([column], model_dir=str(tmp_path / "model"))
    estimator.train(examples_input(made.examples, "train", batch_size=4), max_steps=1)
    receiver = build_transformed_serving_input_receiver_fn(str(made.transform))
    exported = estimator.export_saved_model(str(tmp_path / "export"), receiver).decode()
    served = load_model(exported)
    assert list(served.inputs) == ["tags"]
    assert served.predict({"tags": ["a", "b|a|b"]})["logistic"].shape == (2, 1)
    assert "examples:classification" in served.signature_names
