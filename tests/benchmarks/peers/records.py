"""What the peers share: the flights records as tf.data, and how a result is told."""

import json
import pathlib

import tensorflow as tf


def facts(folder):
    """Vocabularies, moments, dimensions and the rest of the table's declaration."""
    return json.loads(pathlib.Path(folder, "facts.json").read_text())


def specification(known):
    """Parsing specification of features and label."""
    texts = {c: tf.io.FixedLenFeature([1], tf.string) for c in known["dimensions"]}
    numbers = {c: tf.io.FixedLenFeature([1], tf.float32) for c in known["numeric"]}
    return {**texts, **numbers, known["label"]: tf.io.FixedLenFeature([1], tf.int64)}


def records(folder, known, batch, *, training):
    """Batches of (features, label): shuffled and endless in training, else one pass."""
    data = tf.data.TFRecordDataset(f"{folder}/flights.tfrecord")
    if training:
        data = data.shuffle(10_000, seed=1).repeat()

    def parse(examples):
        features = tf.io.parse_example(examples, specification(known))
        label = features.pop(known["label"])
        return features, label

    return data.batch(batch).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def tell(**values):
    """Prints what was measured."""
    print("RESULT " + json.dumps(values), flush=True)
