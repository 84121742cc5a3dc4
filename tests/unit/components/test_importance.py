"""Which features a raw field's shuffle takes along, and what the model then gets to see."""

import numpy as np
import tensorflow as tf

from components import importance
from estimator_lib.core import columns as fc
from estimator_lib.core.config import Importance


def test_everything_that_reads_a_field_is_shuffled_with_it():
    carrier = fc.categorical_column_with_vocabulary_list("carrier", ["AA", "UA"])
    columns = {
        "carrier": carrier,
        "carrier_vector": fc.embedding_column(carrier, 2),
        "route": fc.crossed_column([carrier, "dest"], 10),
        "wind": fc.numeric_column("wind"),
        "no_wind": fc.missing_indicator_column("wind"),
    }
    sources = fc.feature_sources(columns.values())
    found = importance.features_by_field(columns, dict.fromkeys(sources))
    by_reading = {
        field: sorted(n for n, c in sources.items() if field in fc.raw_fields([c]))
        for field in ("carrier", "dest", "wind")
    }
    assert found == by_reading
    assert len(found["carrier"]) == 2
    assert len(found["wind"]) == 2
    assert importance.features_by_field(columns, {}) == {}
    assert importance.features_by_field(columns, {"made": None}) == {"made": ["made"]}


def test_batches_are_the_rows_as_they_are_and_then_each_shuffle():
    features = {
        "a": tf.range(6),
        "b": 10 * tf.range(6),
        "many": tf.RaggedTensor.from_row_lengths(tf.range(9), [0, 1, 2, 3, 1, 2]),
    }
    wanted = Importance(rows=6, repeats=2)
    batches = list(importance._shuffles(features, [["a", "many"], ["b"]], 6, wanted)())
    assert len(batches) == 1 + 2 * 2
    before = {name: features[name].numpy().tolist() for name in "ab"}
    seen = [{name: batch[name].numpy().tolist() for name in "ab"} for batch in batches]
    assert (seen[0]["a"], seen[0]["b"]) == (before["a"], before["b"])
    for at, moved, still in ((1, "a", "b"), (2, "a", "b"), (3, "b", "a"), (4, "b", "a")):
        assert seen[at][still] == before[still]
        assert seen[at][moved] != before[moved]
        assert sorted(seen[at][moved]) == before[moved]
    # The features of one field move together, and every field by the same two orders.
    order = seen[1]["a"]
    assert batches[1]["many"].to_list() == tf.gather(features["many"], order).to_list()
    assert seen[3]["b"] == [10 * i for i in order]
    assert seen[1]["a"] != seen[2]["a"]
    again = list(importance._shuffles(features, [["a", "many"], ["b"]], 6, wanted)())
    assert np.array_equal(again[1]["a"], batches[1]["a"])
