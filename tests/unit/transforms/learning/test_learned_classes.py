"""Labels as people write them: which classes they have, and in which order."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estimator_lib.core import config, labels
from estimator_lib.core.errors import DataError
from transforms.reading import labels as label_fields
from transforms.reading.files import find
from transforms.testing import Job
from transforms.validating import first_look

COLUMNS = {"x": {"kind": "numeric"}}


def learned(tmp_path, values, label=None):
    rows = "x,y\n" + "".join(f"{at},{value}\n" for at, value in enumerate(values))
    job = Job(
        root=tmp_path, files={"train": [rows], "eval": [rows]}, columns=COLUMNS,
        label={"field": "y"} | (label or {}),
    )  # fmt: skip
    part = job.part()
    inputs = find(part.data.patterns(), str(tmp_path))
    return first_look.learned_classes(part, inputs).label.described()


@pytest.mark.parametrize(
    ("values", "label", "classes"),
    [
        (["1", "0", "1"], {}, ("0", "1")),
        (["0", "0"], {}, ("0", "1")),
        (["1.0", "0.0"], {}, ("0", "1")),
        (["yes", "no", "yes"], {}, ("no", "yes")),
        (["2", "1", "1"], {}, ("1", "2")),
        (["1"] * 20_000 + ["2"], {}, ("1", "2")),
        (["2.0", "1.0"], {}, ("1", "2")),
        (["10", "9"], {}, ("9", "10")),
        (["-1", "1"], {}, ("-1", "1")),
        (["True", "False"], {}, ("false", "true")),
        (["", "yes", "no"], {"missing": "skip"}, ("no", "yes")),
        (["c", "b", "a"], {"classes": 3}, ("a", "b", "c")),
        (["b", "a"], {"classes": ["b", "a"]}, ("b", "a")),
        (["b", "a"], {"classes": ["b", "a", "never"]}, ("b", "a", "never")),
        (["0", "1"], {"classes": [1, 0]}, ("1", "0")),
    ],
)
def test_classes_are_those_of_the_rows_or_those_given(tmp_path, values, label, classes):
    assert learned(tmp_path, values, label).classes == classes


@pytest.mark.parametrize(
    ("values", "label", "said"),
    [
        (["a", "b", "c"], {}, "more classes than declared: expected 2, got 3"),
        (["a", "a"], {}, "fewer classes than declared: expected 2, got 1"),
        (["0.5", "0.25", "0.75"], {}, "kind: number"),
        (["a", "b"], {"classes": 3}, "expected 3, got 2"),
    ],
)
def test_another_number_of_classes_is_refused(tmp_path, values, label, said):
    with pytest.raises(DataError, match=said):
        learned(tmp_path, values, label)


@pytest.mark.parametrize(
    ("values", "label", "said"),
    [
        (["no", "yes", "yess"], {"classes": ["no", "yes"]}, "'yess' at data/train-0.csv:4"),
        (["0", "1", "7"], {}, "'7' at data/train-0.csv:4"),
        (["0", "1", "no"], {}, "'no' at data/train-0.csv:4"),
    ],
)
def test_a_value_that_is_no_class_is_found_where_it_stands(tmp_path, values, label, said):
    rows = "x,y\n" + "".join(f"{at},{value}\n" for at, value in enumerate(values))
    job = Job(
        root=tmp_path, files={"train": [rows], "eval": ["x,y\n0,1\n1,0\n"]}, columns=COLUMNS,
        label={"field": "y"} | label,
    )  # fmt: skip
    if label:
        job.files = {"train": [rows], "eval": ["x,y\n0,no\n"]}
    with pytest.raises(DataError) as caught:
        job.run()
    assert said in caught.value.message
    assert "classes" in caught.value.message


def test_examples_hold_ids_and_counts_speak_names(tmp_path):
    rows = "x,c,y\n1,a,yes\n2,b,no\n3,a,yes\n4,,\n"
    job = Job(
        root=tmp_path, files={"train": [rows], "eval": [rows]},
        columns=COLUMNS | {"c": {"kind": "vocabulary", "rank_by": "mutual_information"}},
        label={"field": "y", "missing": "skip"}, keep=["y"],
    )  # fmt: skip
    job.run()
    assert job.table()["y"].to_pylist() == [1, 0, 1]
    assert job.table()["raw.y"].to_pylist() == ["yes", "no", "yes"]
    metadata = job.metadata()
    assert metadata["label"] == {"field": "y", "kind": "class", "classes": ["no", "yes"]}
    assert metadata["counts"]["train"]["label"] == {"no": 1, "yes": 2}
    assert labels.from_json(metadata["label"]).positive == "yes"


@pytest.mark.parametrize(
    ("values", "given", "ids"),
    [
        (pa.array(["yes", "no", "yes"]), ["yes", "no"], [0, 1, 0]),
        (pa.array([2, 1, 2]), [1, 2], [1, 0, 1]),
        (pa.array([2.0, 1.0, 2.0]), [1, 2], [1, 0, 1]),
        (pa.array([True, False, True]), [True, False], [0, 1, 0]),
        (pa.array(["yes", "no", "yes"]).dictionary_encode(), ["no", "yes"], [1, 0, 1]),
    ],
)
def test_parquet_holds_the_same_classes(tmp_path, values, given, ids):
    job = Job(
        root=tmp_path, files={"train": [b""], "eval": [b""]}, columns=COLUMNS, suffix=".parquet",
        label={"field": "y", "classes": given}, data={"format": "parquet"},
    )  # fmt: skip
    part = job.part()
    for split in ("train", "eval"):
        table = pa.table({"x": [1.0, 2.0, 3.0], "y": values})
        pq.write_table(table, tmp_path / "data" / f"{split}-0.parquet")
    source = first_look.records.source(part, {}, {})
    for rows in first_look.first_rows(find(part.data.patterns(), str(tmp_path))[0], source.layout):
        assert label_fields.class_ids(part.label, rows.batch).tolist() == ids


@pytest.mark.parametrize(
    "label",
    [
        labels.ClassLabel(field="y", classes=("0", "1")),
        labels.ClassLabel(field="y", classes=("stayed", "churned")),
        labels.NumberLabel(field="y"),
        labels.MultiLabel(fields=("a", "b"), classes=("x", "y")),
    ],
)
def test_a_label_survives_the_manifest(label):
    assert labels.from_json(labels.to_json(label)) == label
    several = labels.SeveralLabels(heads={"one": label, "two": labels.NumberLabel(field="z")})
    assert labels.from_json(labels.to_json(several)) == several


def test_yaml_truth_values_and_numbers_name_classes():
    label = config.Label(field="y", classes=[False, True])
    assert label.class_names == ("false", "true")
    assert config.Label(field="y", classes=[1, 2.0]).class_names == ("1", "2")
    for wrong in (["a"], ["a", "a"], ["1", 1], ["", "a"], [None, "a"], [["a"], "b"]):
        with pytest.raises(ValueError, match="class"):
            config.Label(field="y", classes=wrong)
