"""Files scored by any model that says what it reads: shards, faults, and what is refused."""

import csv
import json

import numpy as np
import pytest

from estimator_lib.core import manifest
from estimator_lib.core.config import PredictPart
from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.core.units import Unit
from transforms import scoring


class Doubled:
    """A model of one number and one text."""

    @property
    def inputs(self):
        return {"x": ("float32", (None,)), "word": ("string", (None,))}

    def predict(self, rows, batch_size):
        lengths = np.array([len(word) for word in rows["word"]])
        return {"twice": rows["x"] * 2, "both": np.stack([rows["x"], lengths], 1)}


def load(directory):
    assert directory.endswith("model")
    return Doubled()


def score(tmp_path, files, **part):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = {"files": sorted(files), "format": "csv", "output": "csv", **part}
    part = PredictPart.from_json(json.dumps(given))
    return scoring.run(
        part, tmp_path / "model", load, str(tmp_path), tmp_path / "out", runner_options=()
    )


def test_each_file_gets_a_shard_in_the_order_of_its_rows(tmp_path):
    scored = score(
        tmp_path, {"a.csv": "x,word,id\n1,one,A\n2,,=B\n", "b.csv": "word,x,id\nsix,6,C\n"},
        keep=["id"],
    )  # fmt: skip
    found = manifest.read(tmp_path / "out", kind=scoring.KIND)
    assert (scored.rows, scored.files, scored.left_out) == (3, 2, 0)
    rows = [list(csv.reader((tmp_path / "out" / name).open())) for name in sorted(found.files)]
    assert rows == [
        [["id", "both_0", "both_1", "twice"], ["A", "1.0", "3.0", "2.0"],
         ["'=B", "2.0", "0.0", "4.0"]],
        [["id", "both_0", "both_1", "twice"], ["C", "6.0", "3.0", "12.0"]],
    ]  # fmt: skip
    joined = scoring.join(tmp_path / "out", "csv").decode().splitlines()
    assert joined == [
        "id,both_0,both_1,twice",
        "A,1.0,3.0,2.0",
        "'=B,2.0,0.0,4.0",
        "C,6.0,3.0,12.0",
    ]


def test_a_bad_row_is_refused_or_left_out_and_told(tmp_path):
    files = {"a.csv": "x,word\n1,one\nmany,two\n"}
    with pytest.raises(DataError, match=r"'x'.*'many' at a\.csv:3"):
        score(tmp_path, files)
    assert not (tmp_path / "out").exists()
    scored = score(tmp_path, files, on_bad_rows="skip")
    assert (scored.rows, scored.left_out) == (1, 1)
    assert "a.csv:3" in scored.faults[0]


def test_files_without_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no row to score: a\.csv"):
        score(tmp_path, {"a.csv": "x,word\n"})


@pytest.mark.parametrize("name", ["twice", "both_1"])
def test_a_kept_field_named_like_a_prediction_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=f"'{name}' of predict.keep"):
        score(tmp_path, {"a.csv": f"x,word,{name}\n1,one,A\n"}, keep=[name])
    assert not (tmp_path / "out").exists()


class Priced(Doubled):
    """A model that takes prices as texts, in its own marks."""

    @property
    def inputs(self):
        return {"price": ("string", (None,))}

    def predict(self, rows, batch_size):
        return {"twice": np.array(dollars_of(rows["price"])) * 2}


def dollars_of(texts):
    unit = Unit(sign="$", thousands=",")
    return [unit.number(text.decode()) for text in texts]


@pytest.mark.parametrize(
    ("said", "text"),
    [({}, '"$1,234.5"'), ({"decimal": ",", "thousands": "."}, '"$1.234,5"'),
     ({"decimal": ",", "thousands": " "}, '"1 234,5"')],
)  # fmt: skip
def test_prices_are_read_in_the_marks_of_the_file(tmp_path, said, text):
    (tmp_path / "model").mkdir()
    lineage = {"units": {"price": {"sign": "$", "decimal": ".", "thousands": ","}}}
    (tmp_path / "model" / manifest.LINEAGE).write_text(json.dumps(lineage))
    (tmp_path / "a.csv").write_text(f"price\n{text}\n")
    part = PredictPart(files=["a.csv"], format="csv", output="csv", **said)
    scoring.run(
        part, tmp_path / "model", lambda _: Priced(), str(tmp_path), tmp_path / "out",
        runner_options=(),
    )  # fmt: skip
    assert scoring.join(tmp_path / "out", "csv").decode().split() == ["twice", "2469.0"]
