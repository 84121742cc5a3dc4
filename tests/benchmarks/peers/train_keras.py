"""Trains wide and deep with Keras 3, FeatureSpace and fit(): FOLDER STEPS BATCH..."""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import tensorflow as tf
from keras import layers
from keras.utils import FeatureSpace
from records import facts, records, tell

STEPS_PER_EXECUTION = 100
CROSSES = {("carrier", "dest"): 10_000, ("origin", "month"): 1_000}


def feature_space(folder, known):
    space = FeatureSpace(
        features={
            **{
                name: FeatureSpace.string_categorical(num_oov_indices=1, output_mode="int")
                for name in known["dimensions"]
            },
            **{name: FeatureSpace.float_normalized() for name in known["numeric"]},
        },
        crosses=[
            FeatureSpace.cross(names, crossing_dim=size, output_mode="int")
            for names, size in CROSSES.items()
        ],
        output_mode="dict",
    )
    # In large batches: adapt() would take half a minute at the batch size of training.
    space.adapt(records(folder, known, 8192, training=False).map(lambda features, _: features))
    return space


def model(space, known):
    inputs = space.get_encoded_features()
    sizes = {c: space.preprocessors[c].vocabulary_size() for c in known["dimensions"]}

    def table(size, width, name):
        return layers.Flatten()(layers.Embedding(size, width)(inputs[name]))

    deep = [inputs[name] for name in known["numeric"]]
    deep += [table(sizes[c], width, c) for c, width in known["dimensions"].items()]
    net = layers.Concatenate()(deep)
    for units in known["hidden"]:
        net = layers.Dense(units, "relu")(net)
    wide = [table(sizes[c], 1, c) for c in known["dimensions"]]
    wide += [table(size, 1, "_X_".join(names)) for names, size in CROSSES.items()]
    logits = layers.Add()([layers.Dense(1)(net), *wide])
    return keras.Model(inputs, layers.Activation("sigmoid")(logits))


def main(folder, steps, batches):
    known = facts(folder)
    space = feature_space(folder, known)
    for batch in batches:
        network = model(space, known)
        network.compile(
            keras.optimizers.Adagrad(0.05),
            "binary_crossentropy",
            steps_per_execution=STEPS_PER_EXECUTION,
        )
        data = records(folder, known, batch, training=True)
        data = data.map(
            lambda features, label: (space(features), label), num_parallel_calls=tf.data.AUTOTUNE
        ).prefetch(8)
        network.fit(data, steps_per_epoch=STEPS_PER_EXECUTION, epochs=1, verbose=0)
        began = time.perf_counter()
        network.fit(data, steps_per_epoch=steps, epochs=1, verbose=0)
        tell(batch=batch, train=steps * batch / (time.perf_counter() - began))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(b) for b in sys.argv[3:]])
