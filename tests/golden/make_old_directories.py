"""Makes the fixtures in old_directories/: model directories of many kinds by tf.estimator 2.15.

It needs the environment of `make_tf_estimator_checkpoints.py`:

    /tmp/tf215/bin/python tests/golden/make_old_directories.py [kind ...]

For each kind of `KINDS`: the checkpoint of step 6 as 2.15 wrote it, and `expected.npz` with what
2.15 says of it: its evaluation (`evaluation/...`), its predictions (`predictions/...`) and the
losses of the three steps after it (`losses`).

The tests make the same models by the same functions with estimator_lib. A function is given the
`World` that it is in and no more: so a kind differs between the two in nothing but the import,
or in what `World` names.
"""

from __future__ import annotations

import dataclasses
import gzip
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent / "old_directories"
ROWS, BATCH, STEPS, MORE = 40, 10, 6, 3
LARGE = 1 << 20
"""Files of more bytes are packed."""


@dataclasses.dataclass(frozen=True)
class World:
    """What differs between the program of 2.15 and the one that goes on.

    Attributes:
        tf: TensorFlow.
        estimator: tf.estimator, or estimator_lib.
        first: tf.compat.v1.estimator, or estimator_lib.
        keras: Keras.
        optimizers: The module whose classes stand for those of Keras.
        summed: The reduction that the first version took where none is given.
        old: Whether this is 2.15.
    """

    tf: Any
    estimator: Any
    first: Any
    keras: Any
    optimizers: Any
    summed: str
    old: bool

    def before(self, **arguments: Any) -> dict[str, Any]:
        """Returns arguments that only the constructors of 2.15 have."""
        return arguments if self.old else {}


def inputs() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features by name, `[40]`, and labels 0 and 1, `[40]`."""
    random = np.random.default_rng(3)
    features = {
        "x": random.normal(0, 1, ROWS).astype(np.float32),
        "y": random.uniform(0, 2, ROWS).astype(np.float32),
        "c": random.choice(list("abcdef"), ROWS).astype(object),
        "d": random.choice(list("cdefgh"), ROWS).astype(object),
        "two": np.arange(ROWS) % 2,
        "id": np.array([f"row {i}" for i in range(ROWS)], object),
    }
    labels = (features["x"] + (features["c"] == "a") > 0).astype(np.int64)
    return features, labels


def input_fn(tf: Any, name: str, epochs: int | None = 1) -> Callable[[], Any]:
    """The rows in order, 10 at a time; clusters have no labels."""
    rows = inputs()[0] if name.startswith("kmeans") else inputs()
    return lambda: tf.data.Dataset.from_tensor_slices(rows).batch(BATCH).repeat(epochs)


def feature_spec(tf: Any) -> dict[str, Any]:
    """How serialized examples are parsed."""
    kinds = {"f": tf.float32, "i": tf.int64, "O": tf.string}
    features, _ = inputs()
    return {
        name: tf.io.FixedLenFeature([], kinds[values.dtype.kind])
        for name, values in features.items()
    }


def numbers(tf: Any) -> list[Any]:
    """Dense columns of the numbers."""
    return [tf.feature_column.numeric_column(name) for name in "xy"]


def letters(tf: Any, field: str = "c") -> Any:
    """The category of a field of letters."""
    return tf.feature_column.categorical_column_with_vocabulary_list(field, list("abcdefgh"))


def dense(tf: Any) -> list[Any]:
    """Numbers and an embedding."""
    return [*numbers(tf), tf.feature_column.embedding_column(letters(tf), 3)]


# --- Optimizers of Keras ----------------------------------------------------------------------

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {"learning_rate": 0.01}),
    "adam_amsgrad": ("Adam", {"learning_rate": 0.01, "amsgrad": True}),
    "adagrad": ("Adagrad", {"learning_rate": 0.05}),
    "sgd_nesterov": ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01}),
    "rmsprop_centered": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.5, "centered": True}),
    "ftrl": ("Ftrl", {"learning_rate": 0.1, "l1_regularization_strength": 0.01}),
    "adamax": ("Adamax", {"learning_rate": 0.01}),
    "nadam": ("Nadam", {"learning_rate": 0.01}),
    "adadelta": ("Adadelta", {"learning_rate": 0.5}),
}
"""Kind to the class and its arguments."""


def with_optimizer(name: str) -> Callable[..., Any]:
    """A DNN that an optimizer of Keras trains; every batch reads all rows of its table.

    Optimizers of Keras 3 move the others too, most of those of Keras 2 did not.
    """
    kind, arguments = OPTIMIZERS[name]

    def make(world: World, **common: Any) -> Any:
        two = world.tf.feature_column.categorical_column_with_identity("two", 2)
        return world.estimator.DNNClassifier(
            [4],
            [*numbers(world.tf), world.tf.feature_column.embedding_column(two, 3)],
            optimizer=lambda: getattr(world.optimizers, kind)(**arguments),
            **common,
        )

    return make


# --- Canned models of the first version -------------------------------------------------------

FIRST: dict[str, tuple[str, dict[str, Any]]] = {
    "v1_adam": ("AdamOptimizer", {"learning_rate": 0.01}),
    "v1_momentum": ("MomentumOptimizer", {"learning_rate": 0.05, "momentum": 0.9}),
    "v1_rmsprop_centered": (
        "RMSPropOptimizer",
        {"learning_rate": 0.01, "momentum": 0.5, "centered": True},
    ),
    "v1_adadelta": ("AdadeltaOptimizer", {"learning_rate": 0.5}),
    "v1_ftrl": ("FtrlOptimizer", {"learning_rate": 0.1, "l1_regularization_strength": 0.01}),
    "v1_proximal": ("ProximalAdagradOptimizer", {"learning_rate": 0.1}),
}
"""Kind to the class of `tf.compat.v1.train` and its arguments."""


def with_first_optimizer(name: str) -> Callable[..., Any]:
    """A DNN of the first version that one of its optimizers trains."""
    kind, arguments = FIRST[name]

    def make(world: World, **common: Any) -> Any:
        return world.first.DNNClassifier(
            [4],
            dense(world.tf),
            optimizer=getattr(world.tf.compat.v1.train, kind)(**arguments),
            loss_reduction=world.summed,
            **common,
        )

    return make


def v1_linear_regressor(world: World, **common: Any) -> Any:
    """Losses added up; the default optimizer."""
    columns = [*numbers(world.tf), letters(world.tf)]
    return world.first.LinearRegressor(columns, loss_reduction=world.summed, **common)


def v1_dnn_regressor(world: World, **common: Any) -> Any:
    """Losses added up; Adagrad at the rate that was its default."""
    return world.first.DNNRegressor(
        [4],
        dense(world.tf),
        optimizer=world.tf.compat.v1.train.AdagradOptimizer(0.05),
        loss_reduction=world.summed,
        **common,
    )


def v1_wide_deep(world: World, **common: Any) -> Any:
    """Two optimizers of the first version."""
    train = world.tf.compat.v1.train
    return world.first.DNNLinearCombinedClassifier(
        linear_feature_columns=[letters(world.tf)],
        linear_optimizer=train.FtrlOptimizer(0.1),
        dnn_feature_columns=dense(world.tf),
        dnn_hidden_units=[4],
        dnn_optimizer=train.AdagradOptimizer(0.05),
        loss_reduction=world.summed,
        **common,
    )


def v1_baseline(world: World, **common: Any) -> Any:
    """The default optimizer."""
    return world.first.BaselineClassifier(loss_reduction=world.summed, **common)


# --- Tables in parts --------------------------------------------------------------------------


def parts(world: World, count: int) -> Any:
    """A partitioner into `count` parts."""
    return world.tf.compat.v1.fixed_size_partitioner(count)


def parts_linear(world: World, **common: Any) -> Any:
    """Ftrl, two slots in three parts."""
    columns = [*numbers(world.tf), letters(world.tf)]
    return world.first.LinearClassifier(
        columns,
        loss_reduction=world.summed,
        **world.before(partitioner=parts(world, 3)),
        **common,
    )


def parts_dnn(world: World, **common: Any) -> Any:
    """Two parts of the table and of its slots."""
    return world.first.DNNClassifier(
        [4],
        dense(world.tf),
        optimizer=world.tf.compat.v1.train.AdamOptimizer(0.01),
        loss_reduction=world.summed,
        **world.before(input_layer_partitioner=parts(world, 2)),
        **common,
    )


def parts_wide_deep(world: World, **common: Any) -> Any:
    """Each layer in two parts; an optimizer of the own kind goes on for that of the first."""
    train = world.tf.compat.v1.train
    dnn_optimizer = train.AdagradOptimizer(0.05)
    if not world.old:
        dnn_optimizer = world.estimator.optimizers.Adagrad(0.05, epsilon=0.0)
    return world.first.DNNLinearCombinedRegressor(
        linear_feature_columns=[letters(world.tf)],
        linear_optimizer=train.FtrlOptimizer(0.1),
        dnn_feature_columns=dense(world.tf),
        dnn_hidden_units=[4],
        dnn_optimizer=dnn_optimizer,
        loss_reduction=world.summed,
        **world.before(input_layer_partitioner=parts(world, 4)),
        **common,
    )


# --- Shared tables ----------------------------------------------------------------------------


def shared(world: World, **common: Any) -> Any:
    """Tables that two fields share."""
    both = [letters(world.tf, "c"), letters(world.tf, "d")]
    with world.tf.Graph().as_default():
        columns = world.tf.feature_column.shared_embeddings(both, 3)
    return world.estimator.DNNClassifier(
        [4], [*numbers(world.tf), *columns], optimizer="Adagrad", **common
    )


def v1_shared(world: World, **common: Any) -> Any:
    """Tables that two fields share, by the columns of the first version."""
    both = [letters(world.tf, "c"), letters(world.tf, "d")]
    with world.tf.Graph().as_default():
        columns = world.tf.compat.v1.feature_column.shared_embedding_columns(both, 3)
    return world.first.DNNClassifier(
        [4],
        [*numbers(world.tf), *columns],
        optimizer=world.tf.compat.v1.train.AdagradOptimizer(0.05),
        loss_reduction=world.summed,
        **common,
    )


def v1_shared_wide_deep(world: World, **common: Any) -> Any:
    """The same beside a linear part, under a name of its own."""
    both = [letters(world.tf, "c"), letters(world.tf, "d")]
    with world.tf.Graph().as_default():
        columns = world.tf.compat.v1.feature_column.shared_embedding_columns(
            both, 3, shared_embedding_collection_name="letters"
        )
    train = world.tf.compat.v1.train
    return world.first.DNNLinearCombinedClassifier(
        linear_feature_columns=[letters(world.tf)],
        linear_optimizer=train.FtrlOptimizer(0.1),
        dnn_feature_columns=[*numbers(world.tf), *columns],
        dnn_hidden_units=[4],
        dnn_optimizer=train.AdagradOptimizer(0.05),
        loss_reduction=world.summed,
        **common,
    )


# --- Duals and clusters -----------------------------------------------------------------------


def _sdca(world: World, **arguments: Any) -> Any:
    return world.estimator.experimental.LinearSDCA("id", **arguments)


def sdca(world: World, **common: Any) -> Any:
    """Duals of every example, and weights before they are shrunk."""
    columns = [*numbers(world.tf), letters(world.tf)]
    optimizer = _sdca(world, symmetric_l1_regularization=0.5, symmetric_l2_regularization=2.0)
    return world.estimator.LinearClassifier(columns, optimizer=optimizer, **common)


def kmeans_embedding(world: World, **common: Any) -> Any:
    """Points of which a part is an embedding, which is never trained."""
    kind = world.first.experimental.KMeans if world.old else world.estimator.KMeansClustering
    return kind(3, seed=2, use_mini_batch=False, feature_columns=dense(world.tf), **common)


# --- Models of one's own ----------------------------------------------------------------------


def _stacked(world: World, features: Any) -> Any:
    return world.tf.stack([features["x"], features["y"]], 1)


def _spec(
    world: World,
    mode: str,
    logits: Any,
    labels: Any,
    train: Callable[[Any], Any],
    out: str = "logits",
) -> Any:
    tf = world.tf
    predictions = {out: logits}
    if mode == world.estimator.ModeKeys.PREDICT:
        return world.estimator.EstimatorSpec(mode, predictions)
    logits = tf.reshape(logits, [-1])
    loss = tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(labels, tf.float32), logits)
    )
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.LOSSES, loss)
    train_op = train(loss) if mode == world.estimator.ModeKeys.TRAIN else None
    return world.estimator.EstimatorSpec(mode, predictions, loss, train_op)


def own_parts(world: World, **common: Any) -> Any:
    """Variables in parts by `get_variable`, slots of the first version, running means."""
    v1 = world.tf.compat.v1

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        with v1.variable_scope("tower", partitioner=v1.fixed_size_partitioner(2)):
            kernel = v1.get_variable("kernel", [2, 3])
            out = v1.get_variable("out", [3, 1])
        hidden = world.tf.tanh(world.tf.matmul(_stacked(world, features), kernel))
        logits = world.tf.matmul(hidden, out)

        def train(loss: Any) -> Any:
            step = v1.train.get_global_step()
            optimizer = v1.train.MomentumOptimizer(0.1, 0.9)
            return optimizer.minimize(loss, global_step=step)

        return _spec(world, mode, logits, labels, train)

    return world.estimator.Estimator(model_fn, **common)


def own_parts_keras(world: World, **common: Any) -> Any:
    """Variables in parts, and an optimizer of Keras, which kept a slot for each part."""
    v1 = world.tf.compat.v1

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        with v1.variable_scope("tower", partitioner=v1.fixed_size_partitioner(2)):
            kernel = v1.get_variable("kernel", [2, 1])
        logits = world.tf.matmul(_stacked(world, features), kernel)
        optimizer = world.optimizers.Adam(0.05)
        if world.old:
            optimizer.iterations = v1.train.get_or_create_global_step()
        return world.estimator.BinaryClassHead().create_estimator_spec(
            features,
            mode,
            logits,
            labels,
            optimizer=optimizer,
            trainable_variables=v1.trainable_variables(),
        )

    return world.estimator.Estimator(model_fn, **common)


def own_averages(world: World, **common: Any) -> Any:
    """Adam of the first version and running means of the weights, which evaluation reads."""
    v1 = world.tf.compat.v1

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        kernel = v1.get_variable("kernel", [2, 1])
        averages = v1.train.ExponentialMovingAverage(0.9)

        def train(loss: Any) -> Any:
            step = v1.train.get_global_step()
            update = v1.train.AdamOptimizer(0.1).minimize(loss, global_step=step)
            with world.tf.control_dependencies([update]):
                return averages.apply([kernel])

        logits = world.tf.matmul(_stacked(world, features), kernel)
        return _spec(world, mode, logits, labels, train)

    return world.estimator.Estimator(model_fn, **common)


def own_layers(world: World, **common: Any) -> Any:
    """Layers of the first version, batch normalization among them."""
    v1 = world.tf.compat.v1

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        training = mode == world.estimator.ModeKeys.TRAIN
        net = v1.layers.dense(_stacked(world, features), 4, activation=world.tf.nn.relu)
        net = v1.layers.batch_normalization(net, training=training)
        net = v1.layers.dropout(net, 0.0, training=training)
        logits = v1.layers.dense(net, 1, name="logits")

        def train(loss: Any) -> Any:
            step = v1.train.get_global_step()
            updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
            with world.tf.control_dependencies(updates):
                return v1.train.AdagradOptimizer(0.1).minimize(loss, global_step=step)

        return _spec(world, mode, logits, labels, train)

    return world.estimator.Estimator(model_fn, **common)


def own_keras(world: World, **common: Any) -> Any:
    """Layers of Keras, and an optimizer of Keras by a head."""
    layers = world.keras.layers

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        net = layers.Dense(4, activation="relu")(_stacked(world, features))
        logits = layers.Dense(1, name="last")(net)
        optimizer = world.optimizers.Adam(0.05)
        if world.old:
            optimizer.iterations = world.tf.compat.v1.train.get_or_create_global_step()
        return world.estimator.BinaryClassHead().create_estimator_spec(
            features,
            mode,
            logits,
            labels,
            optimizer=optimizer,
            trainable_variables=world.tf.compat.v1.trainable_variables(),
        )

    return world.estimator.Estimator(model_fn, **common)


def _keras_model(keras: Any) -> Any:
    layers = keras.layers
    fields = {name: keras.Input((), name=name) for name in "xy"}
    net = layers.Concatenate()([layers.Reshape((1,))(field) for field in fields.values()])
    net = layers.Dense(4, activation="tanh", name="hidden")(net)
    return keras.Model(fields, layers.Dense(1, name="out")(net))


def keras_model(world: World, **common: Any) -> Any:
    """`model_to_estimator`: names of objects, not of variables; gone on with in a model_fn."""
    tf = world.tf
    if world.old:
        model = _keras_model(world.keras)
        loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(world.optimizers.Adam(0.01), loss)
        return tf.keras.estimator.model_to_estimator(model, **common)

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        logits = _keras_model(world.keras)({name: features[name] for name in "xy"})

        def train(loss: Any) -> Any:
            return world.estimator.optimizers.minimize(loss, world.optimizers.Adam(0.01))

        return _spec(world, mode, logits, labels, train, out="out")

    return world.estimator.Estimator(model_fn, **common)


def keras_model_saver(world: World, **common: Any) -> Any:
    """The same with names of variables."""
    tf = world.tf
    if not world.old:
        return keras_model(world, **common)
    model = _keras_model(world.keras)
    loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(world.optimizers.Adam(0.01), loss)
    return tf.keras.estimator.model_to_estimator(model, checkpoint_format="saver", **common)


KINDS: dict[str, Callable[..., Any]] = {
    **{name: with_optimizer(name) for name in OPTIMIZERS},
    **{name: with_first_optimizer(name) for name in FIRST},
    "v1_linear_regressor": v1_linear_regressor,
    "v1_dnn_regressor": v1_dnn_regressor,
    "v1_wide_deep": v1_wide_deep,
    "v1_baseline": v1_baseline,
    "parts_linear": parts_linear,
    "parts_dnn": parts_dnn,
    "parts_wide_deep": parts_wide_deep,
    "shared": shared,
    "v1_shared": v1_shared,
    "v1_shared_wide_deep": v1_shared_wide_deep,
    "sdca": sdca,
    "kmeans_embedding": kmeans_embedding,
    "own_parts": own_parts,
    "own_parts_keras": own_parts_keras,
    "own_averages": own_averages,
    "own_layers": own_layers,
    "own_keras": own_keras,
    "keras_model": keras_model,
    "keras_model_saver": keras_model_saver,
}
"""Kind of directory to what makes its model."""


# --- Made by tf.estimator 2.15 ----------------------------------------------------------------


def old_world() -> World:
    """That of 2.15."""
    import tensorflow as tf

    return World(
        tf=tf,
        estimator=tf.estimator,
        first=tf.compat.v1.estimator,
        keras=tf.keras,
        optimizers=tf.keras.optimizers.legacy,
        summed=tf.compat.v1.losses.Reduction.SUM,
        old=True,
    )


def losses_hook(world: World) -> Any:
    """A hook that keeps the losses of the steps in `values`."""
    v1 = world.tf.compat.v1

    class Losses(world.estimator.SessionRunHook):
        def __init__(self) -> None:
            self.values: list[float] = []

        def begin(self) -> None:
            self.loss = v1.get_collection(v1.GraphKeys.LOSSES)[-1]

        def before_run(self, run_context: Any) -> Any:
            return world.estimator.SessionRunArgs(self.loss)

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.values.append(run_values.results)

    return Losses()


def make(world: World, name: str) -> None:
    """Writes the fixture of one kind."""
    tf, folder = world.tf, HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = tf.estimator.RunConfig(
        tf_random_seed=5, save_summary_steps=None, checkpoint_save_graph_def=False
    )

    def build(model_dir: str) -> Any:
        return KINDS[name](world, model_dir=model_dir, config=config)

    with tempfile.TemporaryDirectory() as model_dir:
        model = build(model_dir)
        model.train(input_fn(tf, name, None), steps=STEPS)
        arrays = {f"evaluation/{k}": v for k, v in model.evaluate(input_fn(tf, name)).items()}
        rows = list(model.predict(input_fn(tf, name)))
        for key in rows[0]:
            values = np.array([row[key] for row in rows])
            arrays[f"predictions/{key}"] = (
                values.astype(bytes) if values.dtype == object else values
            )
        for path in pathlib.Path(model_dir).glob(f"model.ckpt-{STEPS}.*"):
            if path.suffix != ".meta":
                shutil.copy(path, folder)
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{STEPS}"\n')
        losses = losses_hook(world)
        build(model_dir).train(input_fn(tf, name, None), steps=MORE, hooks=[losses])
    arrays["losses"] = np.array(losses.values, np.float32)
    np.savez_compressed(folder / "expected.npz", **arrays)
    for path in list(folder.iterdir()):
        if path.stat().st_size > LARGE:  # the empty places of a table, such as SDCA's
            packed = gzip.compress(path.read_bytes(), mtime=0)
            path.with_name(f"{path.name}.gz").write_bytes(packed)
            path.unlink()


def main() -> None:
    """Makes all."""
    world = old_world()
    world.tf.compat.v1.logging.set_verbosity(world.tf.compat.v1.logging.ERROR)
    for name in sys.argv[1:] or KINDS:
        make(world, name)


if __name__ == "__main__":
    main()
