"""Trains and evaluates wide and deep with tf.estimator 2.15: FOLDER STEPS BATCH..."""

import os
import sys
import tempfile
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from records import facts, records, tell

WARM = 50


def model(known, model_dir, **options):
    fc = tf.feature_column

    def scaled(mean, deviation):
        return lambda values: (values - mean) / deviation

    category = {
        name: fc.categorical_column_with_vocabulary_list(name, tokens, num_oov_buckets=1)
        for name, tokens in known["vocabularies"].items()
    }
    hour = fc.bucketized_column(fc.numeric_column("hour"), known["hours"])
    crosses = [
        fc.crossed_column(["carrier", "dest"], 10_000),
        fc.crossed_column(["origin", "month"], 1_000),
        fc.crossed_column([hour, "origin", "carrier"], 5_000),
    ]
    numbers = [
        fc.numeric_column(name, normalizer_fn=scaled(*known["moments"][name]))
        for name in known["numeric"]
    ]
    vectors = [fc.embedding_column(category[c], size) for c, size in known["dimensions"].items()]
    return tf.estimator.DNNLinearCombinedClassifier(
        model_dir=model_dir,
        linear_feature_columns=[*category.values(), *crosses],
        dnn_feature_columns=numbers + vectors,
        dnn_hidden_units=known["hidden"],
        config=tf.estimator.RunConfig(save_checkpoints_steps=10**6, log_step_count_steps=1000),
        **options,
    )


def main(folder, steps, batches):
    known = facts(folder)
    for batch in batches:
        with tempfile.TemporaryDirectory() as model_dir:
            estimator = model(known, model_dir)

            def seconds(count, batch=batch, estimator=estimator):
                began = time.perf_counter()
                estimator.train(
                    lambda: records(folder, known, batch, training=True).prefetch(tf.data.AUTOTUNE),
                    steps=count,
                )
                return time.perf_counter() - began

            seconds(WARM)
            fixed = seconds(WARM)
            rate = steps * batch / (seconds(WARM + steps) - fixed)
            began = time.perf_counter()
            estimator.evaluate(
                lambda batch=batch: records(folder, known, batch, training=False).prefetch(8)
            )
            passed = time.perf_counter() - began
            tell(batch=batch, train=rate, evaluate=known["rows"] / passed, call=fixed)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(b) for b in sys.argv[3:]])
