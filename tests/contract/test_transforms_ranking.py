"""Vocabularies ranked by weights and by what they tell about the label, as TFT ranks them."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import schema_utils

from estimator_lib.core.errors import ConfigError
from transforms import preprocess
from transforms.learning.informativeness import adjusted_mutual_information
from transforms.testing import Job

COLUMNS = {
    "c": {"kind": "vocabulary", "rank_by": "weight", "weight": "w"},
    "d": {"kind": "vocabulary", "field": "d", "rank_by": "mutual_information"},
    "tags": {"kind": "vocabulary", "rank_by": "mutual_information", "top_k": 4},
    "scored": {"kind": "vocabulary", "field": "s", "rank_by": "weight", "weight": "sw",
               "reserved": ["[pad]", "zz"]},
}  # fmt: skip
LISTS = {
    "tags": {"separator": "|"},
    "s": {"separator": "|"},
    "sw": {"kind": "float", "separator": "|"},
}


def rows(count=300):
    random = np.random.default_rng(5)
    found = []
    for _ in range(count):
        label = int(random.integers(3))
        d = str(random.choice(["a", "b", "ü", "d", ""])) if random.random() < 0.5 else f"y{label}"
        tags = sorted(set(random.choice(list("pqrst"), int(random.integers(0, 4)))))
        tags += [f"l{label}"] if random.random() < 0.3 else []
        s = random.choice(["m", "n", "zz"], int(random.integers(0, 3))).tolist()
        found.append({
            "c": str(random.choice(list("efgh"))), "w": float(random.integers(0, 64)) / 16,
            "d": d, "tags": tags, "s": s,
            "sw": [float(random.integers(1, 9)) / 4 for _ in s], "y": label,
        })  # fmt: skip
    return found


def job(root, found, shards=2, **changes):
    def text(value):
        return "|".join(map(str, value)) if isinstance(value, list) else str(value)

    lines = [",".join(text(v) for v in row.values()) + "\n" for row in found]
    header = ",".join(found[0]) + "\n"
    files = [header + "".join(lines[at::shards]) for at in range(shards)]
    given = {
        "files": {"train": files, "eval": [header + lines[0]]},
        "columns": COLUMNS,
        "label": {"field": "y", "classes": 3},
        "data": {"fields": LISTS},
    }
    return Job(root=root, **{**given, **changes})


def learned(made):
    content = json.loads((made.transform / "columns.json").read_text())["columns"]
    return {name: column["vocabulary"] for name, column in content.items()}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("job"), rows())
    made.run()
    return learned(made)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    root = tmp_path_factory.mktemp("tft")
    spec = {n: tf.io.VarLenFeature(tf.string) for n in ("d", "tags", "s")}
    spec |= {
        "c": tf.io.FixedLenFeature([], tf.string),
        "w": tf.io.FixedLenFeature([], tf.float32),
        "sw": tf.io.VarLenFeature(tf.float32),
        "y": tf.io.FixedLenFeature([], tf.int64),
    }
    data = [row | {"d": [row["d"]] if row["d"] else []} for row in rows()]

    def preprocessing_fn(raw):
        label = {"labels": raw["y"], "use_adjusted_mutual_info": True}
        tft.vocabulary(raw["c"], weights=raw["w"], vocab_filename="c", store_frequency=True)
        tft.vocabulary(raw["d"], **label, vocab_filename="d", store_frequency=True)
        tft.vocabulary(raw["tags"], **label, vocab_filename="tags", store_frequency=True)
        tft.vocabulary(
            raw["s"].values, weights=raw["sw"].values, vocab_filename="scored", store_frequency=True
        )
        return {"y": raw["y"]}

    metadata = tft.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with tft_beam.Context(temp_dir=str(root / "temp")):
        transform_fn = (data, metadata) | tft_beam.AnalyzeDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(str(root / "out"))
    output = tft.TFTransformOutput(str(root / "out"))
    found = {}
    for name in COLUMNS:
        lines = pathlib.Path(output.vocabulary_file_by_name(name)).read_text("utf-8").splitlines()
        found[name] = {t: float(a) for a, t in (line.split(" ", 1) for line in lines)}
    return found


def in_their_order(ours, ranks):
    got = [ranks[token] for token in ours]
    return got == sorted(got, reverse=True)


def test_weights_rank_as_tft_ranks(ours, theirs):
    assert set(ours["c"]) == set(theirs["c"])
    assert in_their_order(ours["c"], theirs["c"])


def test_mutual_information_ranks_as_tft_ranks(ours, theirs):
    assert set(ours["d"]) == set(theirs["d"])
    assert in_their_order(ours["d"], theirs["d"])
    best = sorted(theirs["tags"], key=lambda t: -theirs["tags"][t])[:4]
    assert set(ours["tags"]) == set(best)
    assert in_their_order(ours["tags"], theirs["tags"])


def test_mutual_information_is_tfts_to_rounding(theirs):
    # TFT counts in float32 and takes no probability for exactly 0.

    found = rows()
    totals = np.bincount([row["y"] for row in found], minlength=3)
    for field, values in (("d", lambda r: [r["d"]]), ("tags", lambda r: r["tags"])):
        for token, expected in theirs[field].items():
            joint = np.bincount([row["y"] for row in found if token in values(row)], minlength=3)[
                np.newaxis
            ]
            got = adjusted_mutual_information(joint, totals)[0]
            assert got == pytest.approx(expected, rel=1e-3, abs=0.01), (field, token)


def test_reserved_values_come_first_once(ours, theirs):
    assert ours["scored"][:2] == ["[pad]", "zz"]
    assert sorted(ours["scored"][2:]) == ["m", "n"]
    assert in_their_order(ours["scored"][2:], theirs["scored"])


def test_ranking_does_not_depend_on_shards_and_is_kept(tmp_path, ours):
    for name, shards, cached in (("one", 1, False), ("five", 5, True), ("five", 5, True)):
        made = job(tmp_path / name, rows(), shards)
        part = made.part()
        out = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        preprocess.run(
            part,
            base_dir=str(made.root),
            examples_dir=str(out / "e"),
            transform_dir=str(out / "transform"),
            statistics_dir=str(out / "s"),
            analysis_cache=str(tmp_path / "kept") if cached else None,
        )
        content = json.loads((out / "transform" / "columns.json").read_text())["columns"]
        assert {n: c["vocabulary"] for n, c in content.items()} == ours, name


def test_weights_stay_with_their_values_when_the_last_are_missing(tmp_path):
    lines = "s,sw,y\na|b,1|,0\nc|,2|9,0\nb|c,3|4,1\n"
    made = Job(
        root=tmp_path,
        files={"train": [lines], "eval": [lines]},
        columns={"s": {"kind": "vocabulary", "rank_by": "weight", "weight": "sw"}},
        label={"field": "y"},
        data={"fields": {name: LISTS[name] for name in ("s", "sw")}},
    )
    made.run()
    assert learned(made)["s"] == ["c", "b", "a"]
    assert "2 per row" in (made.statistics / "statistics.html").read_text()


def test_mutual_information_needs_classes(tmp_path):
    number = {"field": "y", "kind": "number"}
    with pytest.raises(ConfigError, match="mutual information"):
        job(tmp_path, rows(9), label=number).run()
