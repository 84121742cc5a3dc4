"""Fault 17: one raw row through the batch transform and through the saved graph.

Fails when the batch transform and the saved graph differ in a lookup, a hash, a default or a
boundary.
"""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.applying import materialize
from transforms.reading import records
from transforms.testing import Job

COLUMNS = {
    "c": {"kind": "vocabulary", "oov_buckets": 3},
    "h": {"kind": "hashed", "field": "d", "buckets": 50},
    "x": {"kind": "numeric", "normalize": "moments", "default": "mean"},
    "b": {"kind": "bucketized", "field": "x", "quantiles": 4},
    "missing": {"kind": "missing_indicator", "field": "x"},
    "i": {"kind": "identity", "buckets": 4, "default": 0},
    "c_x_d": {"kind": "crossed", "of": ["c", "d"], "buckets": 1000},
    "d_x_b": {"kind": "crossed", "of": ["d", "b"], "buckets": 1000},
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    lines = "".join(f"c{i % 5},d{i % 3},{i * i},{i % 4},0\n" for i in range(40))
    job = Job(
        root=tmp_path_factory.mktemp("job"),
        files={"train": ["c,d,x,i,y\n" + lines], "eval": ["c,d,x,i,y\nc1,d1,1,1,0\n"]},
        columns=COLUMNS,
        label={"field": "y"},
    )
    job.run()
    batch = materialize.transform_for((job.transform / "columns.json").read_text())
    return batch, tf.saved_model.load(str(job.transform / "transform_fn")).transform_fn


TEXT = st.one_of(st.none(), st.sampled_from(["", "c1", "d2", "unseen"]), st.text(max_size=5))
NUMBER = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 3.4e38, -3.4e38, 1e-45, 100.0]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
INT = st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-1, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, NUMBER, INT), min_size=1, max_size=8))
def test_features_are_equal(both, rows):
    batch_transform, graph = both
    c, d, x, i = (list(values) for values in zip(*rows, strict=True))
    batch = pa.RecordBatch.from_pydict(
        {
            "c": pa.array(c, pa.string()),
            "d": pa.array(d, pa.string()),
            "x": pa.array(x, pa.float64()),
            "i": pa.array(i, pa.int64()),
        }
    )
    kinds = {"c": "string", "d": "string", "x": "float", "i": "int"}
    batched = batch_transform(batch)
    for row in range(len(rows)):
        one = {
            name: tf.constant(records.raw_numpy(kind, batch.column(name).slice(row, 1)))
            for name, kind in kinds.items()
        }
        for name, values in graph(one).items():
            np.testing.assert_array_equal(
                batched[name].to_numpy()[row : row + 1], values.numpy(), err_msg=name
            )
