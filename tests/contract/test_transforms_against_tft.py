"""What is learned here equals what tensorflow-transform learns, on generated tables."""

import json

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_transform.tf_metadata import schema_utils

from transforms.testing import Job

COLUMNS = {
    "c": {"kind": "vocabulary"},
    "d": {"kind": "vocabulary", "top_k": 3, "min_count": 2, "oov_buckets": 2},
    "h": {"kind": "hashed", "field": "e", "buckets": 13},
    "x": {"kind": "numeric", "normalize": "moments", "default": "mean"},
    "b": {"kind": "bucketized", "field": "z", "quantiles": 3},
    "t": {"kind": "vocabulary"},
    "u": {"kind": "vocabulary", "rank_by": "weight", "weight": "w", "reserved": ["[pad]"]},
}
SEPARATOR = "\x1f"
LISTS = {
    "t": {"separator": SEPARATOR},
    "u": {"separator": SEPARATOR},
    "w": {"kind": "float", "separator": SEPARATOR},
}
TOKENS = st.one_of(
    st.none(),
    st.sampled_from(["a", "b", "B", "ä", "日本", " a", "a\nb", '"', "NA", "0"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4),
)
NUMBERS = st.floats(-1e6, 1e6, width=32)
PAIRS = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\x1f"), min_size=1, max_size=2),
        st.integers(1, 64).map(lambda n: n / 16),
    ),
    max_size=4,
)
ROWS = st.lists(
    st.tuples(TOKENS, TOKENS, TOKENS, st.one_of(st.none(), NUMBERS), NUMBERS, PAIRS),
    min_size=3,
    max_size=40,
)
# Every column needs something to learn from.
FLOOR = [
    ("a", "k", "e", 1.0, 1.0, [("p", 1.0), ("q", 3.0), ("p", 0.5)]),
    ("b", "k", "f", 2.0, 2.0, []),
    ("a", "k", "e", 4.0, 3.0, [("ü", 0.25)]),
]


def ours(root, rows):
    def written(value):
        if isinstance(value, list):
            value = SEPARATOR.join(v if isinstance(v, str) else repr(v) for v in value)
        text = "" if value is None else value if isinstance(value, str) else repr(value)
        return '"' + text.replace('"', '""') + '"'

    content = "c,d,e,x,z,t,u,w,y\n"
    for *plain, pairs in rows:
        tokens, weights = [t for t, _ in pairs], [w for _, w in pairs]
        content += ",".join(map(written, [*plain, tokens, tokens, weights])) + ",0\n"
    job = Job(
        root=root,
        files={"train": [content], "eval": [content]},
        columns=COLUMNS,
        label={"field": "y"},
        data={"fields": LISTS},
    )
    job.run()
    learned = json.loads((job.transform / "columns.json").read_text())["columns"]
    return learned, job.table().to_pydict()


def theirs(root, rows):
    kinds = {"c": tf.string, "d": tf.string, "e": tf.string, "x": tf.float32, "z": tf.float32}
    several = {"t": tf.string, "w": tf.float32}
    schema = schema_utils.schema_from_feature_spec(
        {name: tf.io.VarLenFeature(kind) for name, kind in {**kinds, **several}.items()}
    )
    data = [
        {
            name: [] if value is None else [value.encode() if isinstance(value, str) else value]
            for name, value in zip(kinds, plain, strict=True)
        }
        | {"t": [t.encode() for t, _ in pairs], "w": [w for _, w in pairs]}
        for *plain, pairs in rows
    ]

    def preprocessing_fn(raw):
        tft.vocabulary(
            raw["t"].values,
            weights=raw["w"].values,
            vocab_filename="u",
            file_format="tfrecord_gzip",
        )
        return {
            "t": tft.compute_and_apply_vocabulary(
                raw["t"], num_oov_buckets=1, vocab_filename="t", file_format="tfrecord_gzip"
            ),
            "c": tft.compute_and_apply_vocabulary(
                raw["c"], num_oov_buckets=1, vocab_filename="c", file_format="tfrecord_gzip"
            ),
            "d": tft.compute_and_apply_vocabulary(
                raw["d"],
                top_k=3,
                frequency_threshold=2,
                num_oov_buckets=2,
                vocab_filename="d",
                file_format="tfrecord_gzip",
            ),
            "h": tft.hash_strings(raw["e"], 13),
            "x": tft.scale_to_z_score(raw["x"]),
            "z": raw["z"],
        }

    with tft_beam.Context(temp_dir=str(root / "temp")):
        (out, _), transform_fn = (
            data,
            tft.DatasetMetadata(schema),
        ) | tft_beam.AnalyzeAndTransformDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(str(root / "tft"))
    output = tft.TFTransformOutput(str(root / "tft"))
    return out, {name: [t.decode() for t in output.vocabulary_by_name(name)] for name in "cdtu"}


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(ROWS)
def test_analysis_and_transform_equal_tft(tmp_path_factory, rows):
    rows = FLOOR + rows
    root = tmp_path_factory.mktemp("job")
    learned, table = ours(root, rows)
    out, vocabularies = theirs(root, rows)
    # Vocabularies: the same tokens, both by count; TFT orders ties the other way round.
    for field, at in (("c", 0), ("d", 1)):
        tokens = [row[at] for row in rows if row[at] is not None]
        mine = learned[field]["vocabulary"]
        counts = [tokens.count(t) for t in mine]
        assert counts == [tokens.count(t) for t in vocabularies[field]]
        if field == "c":
            assert set(mine) == set(vocabularies[field])
        assert mine == sorted(mine, key=lambda t: (-tokens.count(t), t.encode()))
    sums = {}
    for *_, pairs in rows:
        for token, weight in pairs:
            sums[token] = sums.get(token, 0) + weight
    reserved, *mine = learned["u"]["vocabulary"]
    assert (reserved, set(mine)) == ("[pad]", set(vocabularies["u"]))
    assert mine == sorted(mine, key=lambda t: (-sums[t], t.encode()))
    assert [sums[t] for t in mine] == [sums[t] for t in vocabularies["u"]]
    assert set(learned["t"]["vocabulary"]) == set(vocabularies["t"])
    for i, row in enumerate(out):
        got = [learned["t"]["vocabulary"][k] for k in table["t"][i]]
        assert got == [vocabularies["t"][k] for k in np.ravel(row["t"])]
        assert np.ravel(got).tolist() == [t for t, _ in rows[i][5]]
        # Ids may differ among ties; the tokens behind them may not.
        ids = np.ravel(row["c"]).tolist()
        expected = [vocabularies["c"][k] for k in ids]
        got = [] if table["c"][i] < 0 else [learned["c"]["vocabulary"][table["c"][i]]]
        assert got == expected
        hashed = np.ravel(row["h"]).tolist()
        assert ([] if table["e"][i] < 0 else [table["e"][i]]) == hashed
        scaled = np.ravel(row["x"]).tolist()
        if scaled:
            np.testing.assert_allclose(table["x"][i], scaled[0], rtol=1e-4, atol=1e-5)
        else:
            assert abs(table["x"][i]) < 1e-5  # the mean, scaled
    present = np.array([row[3] for row in rows if row[3] is not None], np.float64)
    score = learned["x"]["normalizer"]
    np.testing.assert_allclose(
        [score["mean"], score["stddev"]], [present.mean(), present.std()], rtol=1e-9, atol=1e-9
    )


def test_quantiles_are_within_the_error_of_both_sketches(tmp_path):
    values = np.random.default_rng(3).lognormal(3, 2, 5000).astype(np.float32)
    learned, _ = ours(tmp_path, [("a", "k", "e", 1.0, float(v), []) for v in values] + FLOOR)
    cuts = learned["b"]["boundaries"]
    schema = schema_utils.schema_from_feature_spec({"z": tf.io.FixedLenFeature([], tf.float32)})
    with tft_beam.Context(temp_dir=str(tmp_path / "temp")):
        (out, _), _ = (
            [{"z": v} for v in values],
            tft.DatasetMetadata(schema),
        ) | tft_beam.AnalyzeAndTransformDataset(lambda raw: {"b": tft.bucketize(raw["z"], 3)})
    counts = np.bincount([int(row["b"]) for row in out], minlength=3) / len(values)
    mine = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=3) / len(values)
    np.testing.assert_allclose(mine, counts, atol=0.02)
    np.testing.assert_allclose(mine, 1 / 3, atol=0.001)
