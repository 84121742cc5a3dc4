"""AUC of wide and deep with tf.estimator 2.15: FOLDER default|Adam PASSES."""

import os
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from records import facts, specification, tell
from train_tf_estimator import model

BATCH = 512
EVAL_SHARE = 0.2


def main(folder, optimizer, passes):
    known = facts(folder)
    rows = known["rows"]
    first_eval = round(rows * (1 - EVAL_SHARE))

    def batches(*, training):
        data = tf.data.TFRecordDataset(f"{folder}/flights.tfrecord")
        if training:
            data = data.take(first_eval).shuffle(first_eval, seed=1).repeat(passes)
        else:
            data = data.skip(first_eval)

        def parse(examples):
            features = tf.io.parse_example(examples, specification(known))
            label = features.pop(known["label"])
            return features, label

        return data.batch(BATCH).map(parse, num_parallel_calls=2).prefetch(8)

    options = {} if optimizer == "default" else {"dnn_optimizer": optimizer}
    with tempfile.TemporaryDirectory() as model_dir:
        estimator = model(known, model_dir, **options)
        estimator.train(lambda: batches(training=True))
        tell(auc=float(estimator.evaluate(lambda: batches(training=False))["auc"]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
