"""A kept predictor, asked for one row at a time: wide and deep over ten raw fields.

    python -m tests.benchmarks predictor

The first calls are left out; the figures are of 1,000 calls, each with another row.
"""

from __future__ import annotations

import statistics
import tempfile
import time

import numpy as np

from tests.benchmarks.figures import report

ROWS, WARM, CALLS = 256, 50, 1000


def trained(folder):
    """A model of seven categories, two crosses and three numbers, and rows by field."""
    import tensorflow as tf

    import estimator_lib
    from estimator_lib import feature_column as fc

    random = np.random.default_rng(0)
    values = [f"value {i}" for i in range(20)]
    rows = {f"category_{i}": random.choice(values, ROWS).astype(object) for i in range(7)}
    categories = [
        fc.categorical_column_with_vocabulary_list(name, values, num_oov_buckets=1) for name in rows
    ]
    rows |= {f"number_{i}": random.normal(size=ROWS).astype(np.float32) for i in range(3)}
    numbers = [fc.numeric_column(f"number_{i}") for i in range(3)]
    crosses = [fc.crossed_column([f"category_{i}", f"category_{i + 1}"], 1000) for i in (0, 2)]
    model = estimator_lib.DNNLinearCombinedClassifier(
        folder,
        [*categories, *crosses],
        dnn_feature_columns=[*numbers, *(fc.embedding_column(c, 8) for c in categories)],
        dnn_hidden_units=[128, 64],
    )
    labels = random.integers(0, 2, ROWS)
    model.train(lambda: tf.data.Dataset.from_tensor_slices((rows, labels)).batch(64), steps=1)
    return model, rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model, rows = trained(folder)
        single = [{k: v[i : i + 1] for k, v in rows.items()} for i in range(ROWS)]
        predictor = model.predictor(single[0])
        seconds = []
        for call in range(WARM + CALLS):
            row = single[call % ROWS]
            start = time.perf_counter()
            predictor(row)
            seconds.append(time.perf_counter() - start)
    calls = sorted(seconds[WARM:])
    report("kept predictor, one row, median", 1e3 * statistics.median(calls), "ms")
    report("kept predictor, one row, 99th percentile", 1e3 * calls[CALLS * 99 // 100], "ms")


if __name__ == "__main__":
    main()
