"""Every argument that 2.15 took changes something that a user can see, or is refused.

The list of arguments comes from signatures: those of 2.15, kept with its checkpoints, those of the
installed `tf.feature_column`, and those of our own methods and optimizers. Each has a probe below,
and an argument without one fails. A probe gives another value than the usual one and expects that
what the thing does differs, or an error; what can make no difference says where the reader learns
that.
"""

import collections
import dataclasses
import functools
import inspect
import json
import logging
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib import experimental, export, optimizers
from estimator_lib.core.errors import ConfigError
from estimator_lib.features import dense, linear, sequences, upstream
from estimator_lib.training.hooks import StepContext

ROOT = pathlib.Path(estimator_lib.__file__).parents[1]
GUIDE = (ROOT / "docs" / "migration.md").read_text()
NAMES = json.loads(
    (ROOT / "tests" / "golden" / "tf_estimator_2_15" / "public_names.json").read_text()
)
ROWS = re.findall(
    r"^\| `(tf\.estimator\.[\w.]+)` \| (same|better|gone) \| (.*)\|$", GUIDE, re.MULTILINE
)
fc = tf.feature_column


# --- Probes -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Acts:
    """The thing does something else with `value` (a `Lazy` one is made first).

    With and without it, it is given `also`; with it, `instead` as well, in place of the usual.
    """

    value: object
    also: Mapping[str, object] = dataclasses.field(default_factory=dict)
    instead: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Refused:
    """`value` is refused, and the message says `said`."""

    value: object
    said: str
    also: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Idle:
    """`value` changes nothing, and `said` stands in the docstring or in the migration guide."""

    value: object
    said: str


class Lazy:
    """A value that is made when its probe runs."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


Probe = Acts | Refused | Idle


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something with arguments.

    Attributes:
        thing: A class or function of the library, or of `tf.feature_column`.
        do: Uses it with the given arguments and what else it needs; returns what is to be seen.
        probes: By argument.
    """

    thing: Callable[..., object]
    do: Callable[..., object]
    probes: Mapping[str, Probe]

    def done(self, given: Mapping[str, object] | None = None) -> object:
        """What is to be seen with `given` arguments, in a form that compares."""
        return plain(self.do(**made(given or {})))


def made(given: Mapping[str, object]) -> dict[str, object]:
    """Arguments whose `Lazy` values are made."""
    return {n: value.make() if isinstance(value, Lazy) else value for n, value in given.items()}


def plain(seen: object) -> object:
    """Numbers rounded, arrays as lists, everything in an order."""
    if isinstance(seen, Mapping):
        return sorted((str(key), plain(value)) for key, value in seen.items())
    if isinstance(seen, tf.Variable | tf.Tensor | np.ndarray):
        return plain(np.asarray(seen).tolist())
    if isinstance(seen, list | tuple):
        return [plain(item) for item in seen]
    if isinstance(seen, float | np.floating):
        return "NaN" if math.isnan(seen) else round(float(seen), 6)
    return str(seen)


@pytest.fixture(autouse=True, scope="module")
def _folders(tmp_path_factory):
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("arguments"))
    yield
    tempfile.tempdir = before


@functools.cache
def folder(name):
    return tempfile.mkdtemp(prefix=name)


# --- Data and models --------------------------------------------------------------------------

FEATURES = {
    "x": np.array([0.1, 0.9, 0.4, 0.6, 0.8, 0.2, 0.7, 0.3], np.float32),
    "w": np.array([1, 2, 1, 3, 1, 2, 1, 1], np.float32),
    "tags": np.array([["a", "b"], ["b", "c"], ["c", ""], ["a", "a"]] * 2),
    "steps": np.array([[0.1, 0.2], [0.5, 0.1]] * 4, np.float32),
}
CLASSES = np.array([0, 1, 0, 1, 1, 0, 1, 1])
NUMBER = fc.numeric_column("x")
TAGS = fc.categorical_column_with_vocabulary_list("tags", ["a", "b", "c"])
OTHER = fc.bucketized_column(NUMBER, [0.5])
SEEDED = estimator_lib.RunConfig(tf_random_seed=1, save_summary_steps=None)


def rows(features=FEATURES, labels=CLASSES, batch=4):
    return tf.data.Dataset.from_tensor_slices((dict(features), labels)).batch(batch)


def model(kind, **usual):
    """A ready-made model: what it evaluates to after two steps."""

    def do(labels=None, **given):
        vocabulary = given.get("label_vocabulary")
        texts = np.array(vocabulary[::-1])[CLASSES] if vocabulary else CLASSES
        wide = given.get("label_dimension", 1)
        numbers = np.tile(CLASSES[:, None], (1, wide)) if wide > 1 else texts
        data = functools.partial(rows, labels=numbers if labels is None else labels)
        made = kind(**{"config": SEEDED, **usual, **given})
        made.train(data, steps=2)
        named = made.model_dir if "given" in made.model_dir else ""
        return named, made.evaluate(data, steps=1)

    return do


def elsewhere(kind, **usual):
    """A directory with another model of a kind, for a warm start."""
    return Lazy(
        lambda: (
            kind(**{"config": SEEDED, **usual}).train(lambda: rows().repeat(), steps=8).model_dir
        )
    )


HEAD = estimator_lib.RegressionHead()
SHARED = {
    "model_dir": Acts(Lazy(lambda: tempfile.mkdtemp(prefix="given"))),
    "config": Acts(
        Lazy(lambda: estimator_lib.RunConfig(model_dir=tempfile.mkdtemp(prefix="given")))
    ),
    "n_classes": Acts(3),
    "weight_column": Acts("w"),
    "label_vocabulary": Acts(["no", "yes"]),
    "label_dimension": Acts(2),
    "loss_reduction": Acts("sum"),
    "optimizer": Acts("SGD"),
    "head": Acts(estimator_lib.PoissonRegressionHead()),
}


def of_model(name, usual, **own):
    """A ready-made model; `own` are the probes of arguments that few have."""
    kind = getattr(estimator_lib, name, None) or getattr(experimental, name)
    known = NAMES.get(f"tf.estimator.{name}") or NAMES[f"tf.estimator.experimental.{name}"]
    parameters = known["parameters"]
    probes = {**SHARED, "warm_start_from": elsewhere(kind, **usual), **own}
    probes["warm_start_from"] = Acts(probes["warm_start_from"])
    return Subject(kind, model(kind, **usual), {n: probes[n] for n in parameters if n in probes})


def models():
    with_head = {"head": HEAD}
    wide = {"feature_columns": [NUMBER, TAGS]}
    deep = {"feature_columns": [NUMBER], "hidden_units": [3]}
    both = {
        "linear_feature_columns": [TAGS], "dnn_feature_columns": [NUMBER], "dnn_hidden_units": [3],
    }  # fmt: skip
    for ending, needed in (("Classifier", {}), ("Regressor", {}), ("Estimator", with_head)):
        yield f"Baseline{ending}", of_model(f"Baseline{ending}", needed)
        yield f"Linear{ending}", of_model(
            f"Linear{ending}", {**needed, **wide},
            feature_columns=Acts([NUMBER]), sparse_combiner=Acts("mean"),
        )  # fmt: skip
        yield f"DNN{ending}", of_model(
            f"DNN{ending}", {**needed, **deep},
            feature_columns=Acts([NUMBER, OTHER]), hidden_units=Acts([2, 2]),
            activation_fn=Acts(tf.nn.tanh), dropout=Acts(0.5), batch_norm=Acts(True),
        )  # fmt: skip
        yield f"DNNLinearCombined{ending}", of_model(
            f"DNNLinearCombined{ending}", {**needed, **both},
            linear_feature_columns=Acts([TAGS, NUMBER]), linear_optimizer=Acts("SGD"),
            dnn_feature_columns=Acts([NUMBER, OTHER]), dnn_optimizer=Acts("SGD"),
            dnn_hidden_units=Acts([2, 2]), dnn_activation_fn=Acts(tf.nn.tanh),
            dnn_dropout=Acts(0.5), batch_norm=Acts(True), linear_sparse_combiner=Acts("mean"),
        )  # fmt: skip
    steps = fc.sequence_numeric_column("steps")
    for ending, needed in (
        ("Classifier", {}),
        ("Estimator", {"head": estimator_lib.BinaryClassHead()}),
    ):
        name = f"RNN{ending}"
        each = np.tile(CLASSES[:, None], (1, 2))
        yield f"experimental.{name}", of_model(
            name, {**needed, "sequence_feature_columns": [steps], "units": [2]},
            head=Acts(estimator_lib.BinaryClassHead(thresholds=[0.3])),
            sequence_feature_columns=Acts(
                [fc.sequence_numeric_column("steps", normalizer_fn=lambda x: x * 9)]
            ),
            context_feature_columns=Acts([NUMBER]), units=Acts([3]), cell_type=Acts("gru"),
            rnn_cell_fn=Acts(lambda: keras.layers.GRUCell(2), instead={"units": None}),
            return_sequences=Acts(True, instead={"labels": each}),
            sequence_mask=Refused(3, "sequence_mask"),
        )  # fmt: skip


# --- Heads ------------------------------------------------------------------------------------


def head(kind, labels, **usual):
    """A head: its name, predictions, loss and metrics."""

    def do(**given):
        made = kind(**{**usual, **given})
        width = made.logits_dimension
        if isinstance(width, Mapping) or kind is estimator_lib.MultiHead:
            logits = {"a": tf.constant([[0.5], [-1.0]]), "b": tf.constant([[0.2], [3.0]])}
        else:
            logits = tf.constant(np.linspace(-1, 2, 2 * width).reshape(2, width), tf.float32)
        truth = labels(given.get("label_vocabulary"), width)
        features = {"w": tf.constant([[1.0], [3.0]])}
        metrics = made.update_metrics(made.metrics(), features, logits, truth)
        return (
            made.name, made.predictions(logits), made.loss(truth, logits, features, "train"),
            {key: metric.result() for key, metric in metrics.items()},
        )  # fmt: skip

    return do


def classes_of(vocabulary, width):
    del width
    return tf.constant([[vocabulary[1]], [vocabulary[0]]] if vocabulary else [[0], [1]])


def numbers_of(vocabulary, width):
    del vocabulary
    return tf.ones((2, width))


def squares(labels, logits):
    return tf.square(tf.cast(labels, tf.float32) - logits[..., :1])


def of_heads():
    common = {
        "weight_column": Acts("w"),
        "loss_reduction": Acts("sum"),
        "loss_fn": Acts(squares),
        "name": Acts("late"),
        "label_vocabulary": Acts(["no", "yes"]),
        "thresholds": Acts([0.3]),
        "label_dimension": Acts(2),
    }

    def subject(name, labels, usual, **own):
        kind = getattr(estimator_lib, name)
        parameters = NAMES[f"tf.estimator.{name}"]["parameters"]
        probes = {**common, **own}
        return name, Subject(
            kind, head(kind, labels, **usual), {n: probes[n] for n in parameters if n in probes}
        )

    yield subject("BinaryClassHead", classes_of, {})
    yield subject(
        "MultiClassHead", classes_of, {"n_classes": 3},
        n_classes=Acts(4), label_vocabulary=Acts(["no", "yes", "other"]),
    )  # fmt: skip
    yield subject(
        "MultiLabelHead", lambda texts, width: tf.constant(
            [[1] + [0] * (width - 1)] * 2
        ) if not texts else tf.ragged.constant([["no"], ["yes"]]),
        {"n_classes": 2},
        n_classes=Acts(3), loss_fn=Acts(lambda labels, logits: tf.abs(logits[:, :1])),
        classes_for_class_based_metrics=Acts([0]),
    )  # fmt: skip
    yield subject("RegressionHead", numbers_of, {}, inverse_link_fn=Acts(tf.exp),
                  loss_fn=Acts(lambda labels, logits: tf.abs(labels - logits) * 9))  # fmt: skip
    yield subject(
        "PoissonRegressionHead",
        lambda *_: tf.constant([[2.0], [3.0]]),
        {},
        compute_full_loss=Acts(False),
        label_dimension=Refused(0, "label_dimension"),
    )
    yield subject("LogisticRegressionHead", numbers_of, {})
    parts = [estimator_lib.RegressionHead(name="a"), estimator_lib.BinaryClassHead(name="b")]
    others = [estimator_lib.RegressionHead(name="a"), estimator_lib.RegressionHead(name="b")]
    yield subject(
        "MultiHead", lambda *_: {"a": tf.constant([[1.0], [0.0]]), "b": tf.constant([[1], [0]])},
        {"heads": parts}, heads=Acts(others), head_weights=Acts([1.0, 3.0]),
    )  # fmt: skip


LOGITS, TRUTH = tf.constant([[0.5], [-1.0]]), tf.constant([[1], [0]])
WEIGHED = {"w": tf.constant([[1.0], [3.0]])}
EXTRA = [tf.constant(2.0)]


def head_methods():
    usual = estimator_lib.BinaryClassHead(weight_column="w")
    data = {"labels": TRUTH, "logits": LOGITS, "features": WEIGHED}

    def updated(**given):
        wanted = {"eval_metrics": usual.metrics(EXTRA), "regularization_losses": EXTRA}
        found = usual.update_metrics(**{**wanted, **data, **given})
        return {key: metric.result() for key, metric in found.items()}

    shared = {
        "labels": Acts(1 - TRUTH),
        "logits": Acts(-LOGITS),
        "features": Acts({"w": tf.constant([[2.0], [1.0]])}),
        "regularization_losses": Acts([tf.constant(5.0)]),
    }
    cls = estimator_lib.BinaryClassHead
    yield "loss", Subject(
        cls.loss, lambda **given: usual.loss(**{**data, **given}),
        {**shared, "mode": Idle("eval", "mode: Not used")},
    )  # fmt: skip
    yield "predictions", Subject(
        cls.predictions, lambda **given: usual.predictions(**{"logits": LOGITS, **given}),
        {"logits": Acts(-LOGITS), "keys": Acts(["logistic"])},
    )  # fmt: skip
    yield "metrics", Subject(
        cls.metrics, lambda **given: sorted(usual.metrics(**given)),
        {"regularization_losses": Acts(EXTRA)},
    )  # fmt: skip
    yield "update_metrics", Subject(
        cls.update_metrics, updated,
        {**shared, "eval_metrics": Acts(Lazy(usual.metrics),
                                        instead={"regularization_losses": None})},
    )  # fmt: skip
    yield "create_estimator_spec", Subject(
        cls.create_estimator_spec, _spec_of_head,
        {
            "features": Acts(lambda features: {"w": features["w"] * [[1.0], [2.0], [3.0], [1.0]]}),
            "mode": Acts("eval"),
            "logits": Acts(lambda logits: -logits),
            "labels": Acts(lambda labels: 1 - labels),
            "optimizer": Acts(lambda _: "Adam"),
            "trainable_variables": Acts(lambda found: found[:1]),
            "train_op_fn": Acts(lambda _: lambda loss: optimizers.minimize(loss, "Adam"),
                                instead={"optimizer": lambda _: None}),
            "update_ops": Acts(lambda _: [other_variable().assign_add(10.0)]),
            "regularization_losses": Acts(lambda _: [tf.constant(1.0)]),
        },
    )  # fmt: skip


def other_variable():
    return tf.compat.v1.get_variable("other", [], trainable=False)


def _spec_of_head(**changes):
    """A step of a model whose head is given other things than usual."""
    seen = {}

    def model_fn(features, labels, mode):
        weight = tf.compat.v1.get_variable("a", [1, 1], initializer=tf.ones_initializer())
        bias = tf.compat.v1.get_variable("b", [1], initializer=tf.zeros_initializer())
        x = features["x"][:, tf.newaxis]
        given = {
            "features": {"w": features["w"][:, tf.newaxis]},
            "mode": changes.get("mode", mode),
            "logits": tf.matmul(x, weight) + bias,
            "labels": labels,
            "optimizer": "SGD",
            "trainable_variables": [weight, bias],
        }
        for name, change in changes.items():
            if name != "mode":
                given[name] = change(given.get(name))
        made = estimator_lib.BinaryClassHead(weight_column="w").create_estimator_spec(**given)
        seen.setdefault("mode", made.mode)
        return made if made.mode == mode else made._replace(mode=made.mode)

    built = estimator_lib.Estimator(model_fn, config=SEEDED)
    try:
        built.train(rows, steps=1)
    except ConfigError:
        return seen
    found = {name: built.get_variable_value(name) for name in ("a", "b")}
    found |= {"names": built.get_variable_names()}
    return seen, found, built.evaluate(rows, steps=1)["loss"] if "mode" not in changes else None


# --- Columns ----------------------------------------------------------------------------------

FED = {
    "x": tf.constant([[0.1], [0.9], [2.5]]),
    "pair": tf.constant([[0.1, 0.2], [0.9, 0.3], [2.5, 0.4]]),
    "tags": tf.constant([["a", "b"], ["c", "?"], ["b", "a"]]),
    "size": tf.constant([[1, 2], [2, 9], [0, 1]], tf.int64),
    "other": tf.constant([["a", "c"], ["b", "b"], ["c", "a"]]),
    "w": tf.constant([[1.0, 2.0], [3.0, 1.0], [1.0, 1.0]]),
    "sparse": tf.sparse.from_dense([[1.0, 0.0], [3.0, 1.0], [0.0, 0.0]]),
    "v": tf.constant([[5.0, 2.0], [3.0, 7.0], [1.0, 1.0]]),
}


def lowered(column):
    """A column: what examples it reads, and what it gives for `FED`."""
    tf.random.set_seed(1)
    spec = estimator_lib.classifier_parse_example_spec([column], "y")
    made = upstream.from_feature_column(column)
    if estimator_lib.core.columns.is_sequence(made):
        return [spec, made.name, lowered_sequence(made)]
    is_category = isinstance(made, estimator_lib.core.columns.CategoricalColumn)
    values = [spec, made.name]
    store = estimator_lib.variables.VariableStore()
    with estimator_lib.variables.trace(store, seed=3):
        if is_category:
            linear.linear_logits([made], FED, 1)
            for number, variable in enumerate(store.variables.values()):
                variable.assign(tf.random.stateless_normal(variable.shape, (3, number)))
            values.append(linear.linear_logits([made], FED, 1))
        else:
            values.append(dense.dense_features([made], FED))
    values += [(name, v.trainable, v.shape) for name, v in store.variables.items()]
    return values


def lowered_sequence(made):
    """A sequence column: its numbers, and how long each sequence is."""
    if isinstance(made, estimator_lib.core.columns.CategoricalColumn):
        made = estimator_lib.core.columns.indicator_column(made)
    with estimator_lib.variables.trace(estimator_lib.variables.VariableStore(), seed=3):
        return sequences.sequence_features([made], FED)


def usual_and_probes(usual, **probes):
    return usual, probes


def column(name, usual, **probes):
    make = getattr(fc, name)
    return name, Subject(make, lambda **given: lowered(make(**made({**usual, **given}))), probes)


def vocabulary_file(lines):
    path = pathlib.Path(folder("vocabulary")) / f"{len(lines)}{lines[0]}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def columns():
    tags = fc.categorical_column_with_vocabulary_list("tags", ["a", "b", "c"])
    other = fc.categorical_column_with_vocabulary_list("other", ["a", "b", "c"])
    yield column(
        "numeric_column",
        {"key": "x"},
        key=Acts("pair", instead={"shape": 2}),
        shape=Acts(2, instead={"key": "pair"}),
        default_value=Acts(3.0),
        dtype=Acts(tf.int64),
        normalizer_fn=Acts(lambda x: x * 2),
    )
    yield column(
        "bucketized_column",
        {"source_column": NUMBER, "boundaries": [0.5]},
        source_column=Acts(fc.numeric_column("pair", 2)),
        boundaries=Acts([0.5, 1.0]),
    )
    of_categories = {}
    of_categories["categorical_column_with_hash_bucket"] = usual_and_probes(
        {"key": "tags", "hash_bucket_size": 50},
        key=Acts("other"), hash_bucket_size=Acts(7), dtype=Acts(tf.int64, instead={"key": "size"}),
    )  # fmt: skip
    of_categories["categorical_column_with_identity"] = usual_and_probes(
        {"key": "size", "num_buckets": 10},
        key=Refused(3, "key"),
        num_buckets=Acts(11),
        default_value=Acts(1, also={"num_buckets": 5, "default_value": 0}),
    )
    of_categories["categorical_column_with_vocabulary_list"] = usual_and_probes(
        {"key": "tags", "vocabulary_list": ["a", "b", "c"]},
        key=Acts("other"),
        vocabulary_list=Acts(["b", "c"]),
        default_value=Acts(1),
        dtype=Acts(tf.int64, instead={"key": "size", "vocabulary_list": [0, 1, 2]}),
        num_oov_buckets=Acts(2),
    )
    of_categories["categorical_column_with_vocabulary_file"] = usual_and_probes(
        {"key": "tags", "vocabulary_file": Lazy(lambda: vocabulary_file("abc"))},
        key=Acts("other"),
        vocabulary_file=Acts(Lazy(lambda: vocabulary_file("bca"))),
        vocabulary_size=Acts(2),
        default_value=Acts(1),
        num_oov_buckets=Acts(2),
        dtype=Acts(
            tf.int64,
            instead={"key": "size", "vocabulary_file": Lazy(lambda: vocabulary_file("012"))},
        ),
        file_format=Refused("tfrecord_gzip", "tfrecord_gzip", {"vocabulary_size": 2}),
    )
    for name, (usual, probes) in of_categories.items():
        yield column(name, usual, **probes)
    yield column(
        "crossed_column",
        {"keys": [tags, "other"], "hash_bucket_size": 100},
        keys=Acts(["tags", "other"]),
        hash_bucket_size=Acts(90),
        hash_key=Acts(7),
    )
    for kind in ("hash_bucket", "identity", "vocabulary_list", "vocabulary_file"):
        name = f"categorical_column_with_{kind}"
        usual, probes = of_categories[name]
        parameters = inspect.signature(getattr(fc, f"sequence_{name}")).parameters
        yield column(f"sequence_{name}", usual, **{n: probes[n] for n in parameters})
    yield column(
        "sequence_numeric_column", {"key": "w"}, key=Acts("v"), shape=Acts(2),
        default_value=Acts(3.0, also={"key": "sparse"}), dtype=Acts(tf.int64),
        normalizer_fn=Acts(lambda x: x * 2),
    )  # fmt: skip
    yield column("indicator_column", {"categorical_column": tags}, categorical_column=Acts(other))
    yield column(
        "weighted_categorical_column",
        {"categorical_column": tags, "weight_feature_key": "w"},
        categorical_column=Acts(other),
        weight_feature_key=Acts("v"),
        dtype=Refused(tf.int64, "dtype"),
    )
    ones = tf.keras.initializers.Ones()
    table = {
        "dimension": Acts(3), "combiner": Acts("sum"), "initializer": Acts(ones),
        "ckpt_to_load_from": Refused("old", "warm_start_from", {"tensor_name_in_ckpt": "table"}),
        "tensor_name_in_ckpt": Refused("table", "warm_start_from", {"ckpt_to_load_from": "old"}),
        "max_norm": Acts(0.1), "trainable": Acts(False),
        "use_safe_embedding_lookup": Idle(False, "`use_safe_embedding_lookup`"),
    }  # fmt: skip
    yield column("embedding_column", {"categorical_column": tags, "dimension": 2},
                 categorical_column=Acts(other), **table)  # fmt: skip

    def shared(**given):
        wanted = {"categorical_columns": [tags, other], "dimension": 2, **given}
        with tf.Graph().as_default():
            made = fc.shared_embeddings(**wanted)
        return lowered(made[0])

    yield "shared_embeddings", Subject(
        fc.shared_embeddings, shared,
        {**table, "categorical_columns": Acts([other, tags]),
         "shared_embedding_collection_name": Acts("table")},
    )  # fmt: skip
    yield "make_parse_example_spec", Subject(
        fc.make_parse_example_spec,
        lambda **given: fc.make_parse_example_spec(**{"feature_columns": [NUMBER], **given}),
        {"feature_columns": Acts([NUMBER, tags])},
    )  # fmt: skip


# --- Runs -------------------------------------------------------------------------------------


class Collected(logging.Handler):
    """What the library logs, without speeds and places."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(re.sub(r"\(\d+ rows/s\)|/\S+", "", record.getMessage()))

    def __enter__(self):
        logger = logging.getLogger("estimator_lib")
        self._level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger("estimator_lib").removeHandler(self)
        logging.getLogger("estimator_lib").setLevel(self._level)


def line_fn(features, labels, mode, params):
    """y = w x + noise at the start."""
    weight = tf.compat.v1.get_variable("w", [], initializer=tf.random_normal_initializer())
    y = weight * features["x"]
    loss = None if labels is None else tf.reduce_mean((y - tf.cast(labels, tf.float32)) ** 2)
    rate = params.get("rate", 0.1) if isinstance(params, dict) else 0.1
    train_op = None
    if mode == "train":
        train_op = tf.compat.v1.train.GradientDescentOptimizer(rate).minimize(
            loss, tf.compat.v1.train.get_global_step()
        )
    return estimator_lib.EstimatorSpec(mode, {"y": y, "twice": 2 * y}, loss, train_op)


def line(config=SEEDED, **given):
    return estimator_lib.Estimator(line_fn, **{"config": config, **given})


def again(features=FEATURES, labels=CLASSES, batch=4):
    return rows(features, labels, batch).repeat()


def files(directory):
    """What lies below a directory, without times, processes and hosts."""
    found = [str(p.relative_to(directory)) for p in pathlib.Path(directory).rglob("*")]
    return sorted({re.sub(r"events\.out.*", "events", re.sub(r"\d{9,}", "N", f)) for f in found})


def weight_of(built):
    return float(built.get_variable_value("w"))


def run_of(config):
    """Five steps of a run."""
    with Collected() as log:
        built = line(config())
        built.train(again, steps=5)
    return files(built.model_dir), pathlib.Path(built.model_dir).name.startswith("given"), (
        weight_of(built) if built.latest_checkpoint() else None
    ), log.lines  # fmt: skip


def run_config():
    def do(**given):
        return run_of(lambda: estimator_lib.RunConfig(**{"tf_random_seed": 1, **given}))

    other = object.__new__(tf.distribute.experimental.ParameterServerStrategy)
    often = {"save_checkpoints_steps": 1}
    return Subject(
        estimator_lib.RunConfig, do,
        {
            "model_dir": Acts(Lazy(lambda: folder("given run"))),
            "tf_random_seed": Acts(2),
            "save_summary_steps": Acts(None),
            "save_checkpoints_steps": Acts(2),
            "save_checkpoints_secs": Acts(None),
            "session_config": Acts(tf.compat.v1.ConfigProto(allow_soft_placement=True)),
            "keep_checkpoint_max": Acts(1, often),
            "keep_checkpoint_every_n_hours": Acts(1e-9, {**often, "keep_checkpoint_max": 1}),
            "log_step_count_steps": Acts(2),
            "train_distribute": Refused(other, "train_distribute"),
            "device_fn": Acts(lambda op: "/cpu:0"),
            "protocol": Acts("grpc"),
            "eval_distribute": Refused(other, "eval_distribute"),
            "experimental_distribute": Refused(other, "train_distribute"),
            "experimental_max_worker_delay_secs": Acts(5),
            "session_creation_timeout_secs": Refused(0, "session_creation_timeout_secs"),
            "checkpoint_save_graph_def": Acts(False),
        },
    )  # fmt: skip


def hook(kind, **usual):
    """A hook: six steps of training with it."""

    def do(during=None, **given):
        with Collected() as log:
            config = SEEDED.replace(save_checkpoints_steps=4)
            built = line(config)
            made = kind(**{**usual, **given}) if isinstance(kind, type) else kind(built, **given)
            built.train(again, hooks=[made], steps=6)
        values = getattr(made, "final_ops_values", None)
        step = built.get_variable_value("global_step")
        return step, files(built.model_dir), log.lines, values, during and during()

    return do


class Saved(estimator_lib.CheckpointSaverListener):
    """Stops training at the first checkpoint after the start."""

    def after_save(self, session, global_step_value):
        return global_step_value > 0


def hooks():
    lib = estimator_lib
    elsewhere_too = Lazy(lambda: tempfile.mkdtemp())

    def of(name, usual, **probes):
        kind = getattr(lib, name)
        return name, Subject(kind, hook(kind, **usual), probes)

    yield of(
        "StopAtStepHook",
        {"last_step": 5},
        num_steps=Acts(2, instead={"last_step": None}),
        last_step=Acts(3),
    )
    yield of(
        "LoggingTensorHook", {"tensors": ["loss"], "every_n_iter": 2},
        tensors=Acts(["global_step"]), every_n_iter=Acts(3),
        every_n_secs=Acts(0.0001, instead={"every_n_iter": None}), at_end=Acts(True),
        formatter=Acts(lambda values: "formatted"),
    )  # fmt: skip
    yield of(
        "StepCounterHook", {"every_n_steps": 1000}, every_n_steps=Acts(2),
        every_n_secs=Acts(1e-9), output_dir=Acts(elsewhere_too, also={"every_n_steps": 2}),
        summary_writer=Acts(Lazy(lambda: tf.summary.create_file_writer(tempfile.mkdtemp())),
                            also={"every_n_steps": 2}),
    )  # fmt: skip
    yield of(
        "SummarySaverHook", {"save_steps": 1000}, save_steps=Acts(2),
        save_secs=Acts(1e-9, instead={"save_steps": None}),
        output_dir=Acts(elsewhere_too, also={"save_steps": 2}),
        summary_writer=Acts(Lazy(lambda: tf.summary.create_file_writer(tempfile.mkdtemp())),
                            also={"save_steps": 2}),
    )  # fmt: skip
    yield of(
        "CheckpointSaverHook",
        {"save_steps": 3},
        checkpoint_dir=Refused("elsewhere", "checkpoint_dir"),
        save_secs=Acts(1000.0, instead={"save_steps": None}),
        save_steps=Acts(2),
        saver=Refused(object(), "saver"),
        checkpoint_basename=Refused("mine", "checkpoint_basename"),
        scaffold=Refused(tf.compat.v1.train.Scaffold(), "scaffold"),
        listeners=Acts([Saved()]),
    )
    yield of(
        "ProfilerHook",
        {"save_steps": 1000},
        save_steps=Acts(2),
        output_dir=Acts(elsewhere_too, also={"save_steps": 2}),
    )
    yield of("FinalOpsHook", {"final_ops": lambda: 1}, final_ops=Acts(lambda: 2))
    yield "NanTensorHook", Subject(
        lib.NanTensorHook, nan_hook,
        {"loss_tensor": Refused(lambda loss: loss + 1, "the model's loss"),
         "fail_on_nan_loss": Acts(False)},
    )  # fmt: skip

    def timer(**given):
        made = lib.SecondOrStepTimer(**{"every_steps": 3, **given})
        made.update_last_triggered_step(1)
        return [made.should_trigger_for_step(step) for step in range(1, 6)]

    yield "SecondOrStepTimer", Subject(
        lib.SecondOrStepTimer, timer,
        {"every_secs": Acts(100.0, instead={"every_steps": None}), "every_steps": Acts(2)},
    )  # fmt: skip


def nan_hook(loss_tensor=lambda loss: loss, **given):
    """Training whose loss is NaN."""

    def model_fn(features, labels, mode, params):
        x = {"x": features["x"] * math.nan}
        spec = line_fn(x, labels, mode, params)
        watching = estimator_lib.NanTensorHook(loss_tensor(spec.loss), **given)
        return spec._replace(training_hooks=[watching])

    built = estimator_lib.Estimator(model_fn, config=SEEDED)
    try:
        return built.train(again, steps=2).get_variable_value("global_step")
    except estimator_lib.NanLossDuringTrainingError as error:
        return type(error).__name__


@functools.cache
def evaluated():
    """An Estimator with a record of two evaluations."""
    built = line()
    record = pathlib.Path(built.eval_dir()) / "evaluations.jsonl"
    record.parent.mkdir(parents=True)
    found = [(2, {"up": 1, "down": 2, "zero": 0, "nine": 9}),
             (4, {"up": 2, "down": 1, "zero": 0, "nine": 9})]  # fmt: skip
    record.write_text(
        "".join(json.dumps({"step": step, "metrics": metrics}) + "\n" for step, metrics in found)
    )
    return built


def asked(made):
    """When a hook is asked next, and whether it stops training."""
    stopped = []
    for _ in range(2):
        context = StepContext(step=4, first_step=0, model_dir="", variables={})
        made.after_step(context)
        stopped.append(context.stop_requested)
    return made.next_step(3), stopped


def stopping_hooks():
    cases = {
        "stop_if_higher_hook": ("up", "threshold", 0.5, 100.0, "zero"),
        "stop_if_lower_hook": ("down", "threshold", 1.5, -1.0, "nine"),
        "stop_if_no_increase_hook": ("down", "max_steps_without_increase", 1, 100, "up"),
        "stop_if_no_decrease_hook": ("up", "max_steps_without_decrease", 1, 100, "down"),
    }
    every = {
        "run_every_secs": Acts(60, instead={"run_every_steps": None}),
        "run_every_steps": Acts(5),
    }
    each_step = {"run_every_secs": None, "run_every_steps": 1}
    for name, (metric, argument, stops, goes_on, other) in cases.items():
        usual = {"metric_name": metric, argument: stops, **each_step}
        make = getattr(experimental, name)
        yield (
            f"experimental.{name}",
            Subject(
                make,
                lambda make=make, usual=usual, **given: asked(
                    make(**{"estimator": evaluated(), **usual, **given})
                ),
                {
                    **every,
                    "estimator": Acts(Lazy(line)),
                    "metric_name": Acts(other),
                    argument: Acts(goes_on),
                    "eval_dir": Acts(Lazy(lambda: folder("no evaluations"))),
                    "min_steps": Acts(100),
                },
            ),
        )
    yield (
        "experimental.make_early_stopping_hook",
        Subject(
            experimental.make_early_stopping_hook,
            lambda **given: asked(
                experimental.make_early_stopping_hook(
                    **{
                        "estimator": evaluated(),
                        "should_stop_fn": lambda: True,
                        **each_step,
                        **given,
                    }
                )
            ),
            {**every, "estimator": Refused(3, "Estimator"), "should_stop_fn": Acts(lambda: False)},
        ),
    )

    def stopped_at(**given):
        built = line(estimator_lib.RunConfig(tf_random_seed=1, save_checkpoints_steps=1))
        usual = {"estimator": built, "last_step": 2, "wait_after_file_check_secs": 0}
        made = experimental.make_stop_at_checkpoint_step_hook(**{**usual, **given})
        return built.train(again, hooks=[made, Each()], steps=5).get_variable_value("global_step")

    yield "experimental.make_stop_at_checkpoint_step_hook", Subject(
        experimental.make_stop_at_checkpoint_step_hook, stopped_at,
        {"estimator": Acts(Lazy(line)), "last_step": Acts(3),
         "wait_after_file_check_secs": Acts(1000)},
    )  # fmt: skip

    def in_memory(**given):
        built = line()
        wanted = {"estimator": built, "input_fn": rows, "every_n_iter": 100, **given}
        made = experimental.InMemoryEvaluatorHook(**wanted)
        built.train(again, hooks=[made], steps=4)
        records = sorted(pathlib.Path(built.model_dir).glob("eval*/evaluations.jsonl"))
        return [
            (path.parent.name, [json.loads(text)["metrics"] for text in path.open()])
            for path in records
        ]

    yield "experimental.InMemoryEvaluatorHook", Subject(
        experimental.InMemoryEvaluatorHook, marked(in_memory),
        {
            "estimator": Acts(Lazy(line)), "input_fn": Acts(lambda: rows(labels=CLASSES * 3)),
            "steps": Acts(1), "hooks": Acts([Written()]), "name": Acts("named"),
            "every_n_iter": Acts(2),
        },
    )  # fmt: skip


class Each(estimator_lib.Hook):
    """Is asked after every step."""

    def after_step(self, context):
        pass


class Written(estimator_lib.Hook):
    """Leaves a mark."""

    marks: ClassVar = collections.Counter()

    def begin(self):
        self.marks["begin"] += 1


def marked(do):
    """What is seen, and how many marks hooks left."""

    def marking(**given):
        Written.marks.clear()
        return do(**given), dict(Written.marks)

    return marking


# --- Estimators, their methods and specs ------------------------------------------------------


def seen_in_training(input_fn=again, hooks=None, **given):
    """Training of a fresh model."""
    built = line(estimator_lib.RunConfig(tf_random_seed=1, save_checkpoints_steps=2))
    usual = {} if {"steps", "max_steps"} & set(given) else {"max_steps": 3}
    built.train(input_fn, hooks, **{**usual, **given})
    return weight_of(built), built.get_variable_value("global_step")


@functools.cache
def trained():
    """A model of two checkpoints; do not train it."""
    built = line(estimator_lib.RunConfig(tf_random_seed=1, save_checkpoints_steps=2))
    return built.train(again, steps=4)


def old_checkpoint():
    return trained().latest_checkpoint().replace("-4", "-2")


def exported(method="export_saved_model", **given):
    """The files of an export, and what it serves."""
    base = given.pop("export_dir_base", None) or tempfile.mkdtemp()
    usual = {"serving_input_receiver_fn": raw(x=[1.0, 2.0])}
    if method != "export_saved_model":
        usual = {"input_receiver_fn_map": {"infer": raw(x=[1.0, 2.0])}}
    path = getattr(trained(), method)(base, **{**usual, **given}).decode()
    return os.path.basename(base) == "given", files(path), served(path)


def served(path):
    """Inputs and outputs of the first signature of an export."""
    signatures = tf.saved_model.load(path).signatures
    key = "serving_default" if "serving_default" in signatures else sorted(signatures)[0]
    inputs = signatures[key].structured_input_signature[1]
    fed = {
        name: tf.ones([size or 2 for size in spec.shape], spec.dtype)
        for name, spec in inputs.items()
        if spec.dtype != tf.string
    }
    return key, sorted(inputs), signatures[key](**fed) if fed else None


def raw(**features):
    return export.build_raw_serving_input_receiver_fn(
        {name: tf.constant(values) for name, values in features.items()}
    )


def supervised():
    return experimental.build_raw_supervised_input_receiver_fn(
        {"x": tf.constant([1.0, 2.0])}, tf.constant([1.0, 2.0])
    )


def asset():
    path = pathlib.Path(folder("assets")) / "note.txt"
    path.write_text("note")
    return {"note.txt": str(path)}


def methods():
    kind = estimator_lib.Estimator
    yield "Estimator.train", Subject(
        kind.train, marked(seen_in_training),
        {
            "input_fn": Acts(lambda: again(labels=CLASSES * 3)), "hooks": Acts([Written()]),
            "steps": Acts(2), "max_steps": Acts(2), "saving_listeners": Acts([Saved()]),
        },
    )  # fmt: skip

    def evaluation(**given):
        found = trained().evaluate(**{"input_fn": rows, **given})
        return found, "eval_named" in files(trained().model_dir) and "name" in given

    yield "Estimator.evaluate", Subject(
        kind.evaluate, marked(evaluation),
        {
            "input_fn": Acts(lambda: rows(labels=CLASSES * 3)), "steps": Acts(1),
            "hooks": Acts([Written()]), "checkpoint_path": Acts(Lazy(old_checkpoint)),
            "name": Acts("named"),
        },
    )  # fmt: skip
    yield (
        "Estimator.predict",
        Subject(
            kind.predict,
            marked(lambda **given: list(trained().predict(**{"input_fn": rows, **given}))),
            {
                "input_fn": Acts(lambda: rows({"x": FEATURES["x"] * 2})),
                "predict_keys": Acts("y"),
                "hooks": Acts([Written()]),
                "checkpoint_path": Acts(Lazy(old_checkpoint)),
                "yield_single_examples": Acts(False),
            },
        ),
    )
    shared = {
        "export_dir_base": Acts(Lazy(lambda: os.path.join(tempfile.mkdtemp(), "given"))),
        "assets_extra": Acts(Lazy(asset)), "as_text": Acts(True),
        "checkpoint_path": Acts(Lazy(old_checkpoint)),
    }  # fmt: skip
    more = Lazy(lambda: raw(x=[1.0], z=[1.0]))
    yield (
        "Estimator.export_saved_model",
        Subject(
            kind.export_saved_model,
            exported,
            {
                **shared,
                "serving_input_receiver_fn": Acts(more),
                "experimental_mode": Acts(
                    "eval", instead={"serving_input_receiver_fn": Lazy(supervised)}
                ),
            },
        ),
    )
    yield "Estimator.experimental_export_all_saved_models", Subject(
        kind.experimental_export_all_saved_models,
        functools.partial(exported, "experimental_export_all_saved_models"),
        {**shared, "input_receiver_fn_map": Acts(Lazy(lambda: {"infer": more.make()}))},
    )  # fmt: skip
    yield (
        "Estimator.eval_dir",
        Subject(
            kind.eval_dir, lambda **given: trained().eval_dir(**given), {"name": Acts("named")}
        ),
    )
    yield (
        "Estimator.get_variable_value",
        Subject(
            kind.get_variable_value,
            lambda **given: trained().get_variable_value(**{"name": "w", **given}),
            {"name": Acts("global_step")},
        ),
    )

    def made(**given):
        built = estimator_lib.Estimator(**{"model_fn": line_fn, "config": SEEDED, **given})
        named = pathlib.Path(built.model_dir).name.startswith("given")
        return named, weight_of(built.train(again, steps=2))

    def steeper(features, labels, mode, params):
        return line_fn({"x": features["x"] * 3}, labels, mode, params)

    yield "Estimator", Subject(
        kind, made,
        {
            "model_fn": Acts(steeper), "params": Acts({"rate": 0.5}),
            "model_dir": Acts(Lazy(lambda: tempfile.mkdtemp(prefix="given"))),
            "config": Acts(estimator_lib.RunConfig(tf_random_seed=2)),
            "warm_start_from": Acts(Lazy(lambda: trained().model_dir)),
        },
    )  # fmt: skip


def spec():
    """EstimatorSpec: a model trained, evaluated, asked and exported with one more argument."""

    def do(during=("train", "eval", "infer"), **given):
        def model_fn(features, labels, mode, params):
            usual = line_fn(features, labels, mode, params)
            changes = {n: make(usual) for n, make in given.items()} if mode in during else {}
            if "mode" in changes:
                return estimator_lib.EstimatorSpec(**{**usual._asdict(), **changes})
            return usual._replace(**changes)

        built = estimator_lib.Estimator(model_fn, config=SEEDED)
        built.train(again, steps=2)
        path = built.export_saved_model(tempfile.mkdtemp(), raw(x=[1.0, 2.0])).decode()
        return weight_of(built), built.evaluate(rows), list(built.predict(rows)), served(path)

    hooked = Acts(lambda _: [Written()])
    return Subject(
        estimator_lib.EstimatorSpec,
        marked(do),
        {
            "mode": Refused(lambda _: "other", "mode"),
            "predictions": Acts(lambda usual: {"z": usual.predictions["y"]}),
            "loss": Acts(lambda usual: usual.loss * 2, instead={"during": ("eval",)}),
            "train_op": Refused(lambda _: None, "lacks train_op", {"during": ("train",)}),
            "eval_metric_ops": Acts(
                lambda _: {"more": tf.compat.v1.metrics.mean(tf.constant(1.0))},
                instead={"during": ("eval",)},
            ),
            "export_outputs": Acts(
                lambda usual: {"mine": export.PredictOutput({"z": usual.predictions["y"]})},
                instead={"during": ("infer",)},
            ),
            "training_chief_hooks": hooked,
            "training_hooks": hooked,
            "evaluation_hooks": hooked,
            "prediction_hooks": hooked,
            "scaffold": Refused(
                lambda _: tf.compat.v1.train.Scaffold(init_feed_dict={"x": 1}), "init_feed_dict"
            ),
        },
    )


def train_and_evaluate(**given):
    """A training in parts: what it returns, and which marks hooks left."""
    built = given.get("estimator") or line(
        estimator_lib.RunConfig(tf_random_seed=1, save_checkpoints_steps=1)
    )
    train = estimator_lib.TrainSpec(**{"input_fn": again, "max_steps": 4, **given.get("train", {})})
    evaluate = {"input_fn": rows, "throttle_secs": 0, **given.get("evaluation", {})}
    result, paths = estimator_lib.train_and_evaluate(
        built, given.get("train_spec", train),
        given.get("eval_spec", estimator_lib.EvalSpec(**evaluate)),
    )  # fmt: skip
    records = sorted(pathlib.Path(built.model_dir).glob("eval*/evaluations.jsonl"))
    return result, len(paths), [(p.parent.name, len(p.read_text().splitlines())) for p in records]


def specs():
    do = marked(train_and_evaluate)
    seldom = estimator_lib.TrainSpec(again, 3)
    yield "train_and_evaluate", Subject(
        estimator_lib.train_and_evaluate, do,
        {
            "estimator": Acts(Lazy(lambda: line(estimator_lib.RunConfig(tf_random_seed=9)))),
            "train_spec": Acts(seldom), "eval_spec": Acts(estimator_lib.EvalSpec(rows, 1)),
        },
    )  # fmt: skip
    yield "TrainSpec", Subject(
        estimator_lib.TrainSpec, lambda **given: do(train=given),
        {
            "input_fn": Acts(lambda: again(labels=CLASSES * 3)), "max_steps": Acts(3),
            "hooks": Acts([Written()]), "saving_listeners": Acts([Saved()]),
        },
    )  # fmt: skip
    exporter = estimator_lib.FinalExporter("final", raw(x=[1.0]))
    yield "EvalSpec", Subject(
        estimator_lib.EvalSpec, lambda **given: do(evaluation=given),
        {
            "input_fn": Acts(lambda: rows(labels=CLASSES * 3)), "steps": Acts(1),
            "name": Acts("named"), "hooks": Acts([Written()]), "exporters": Acts(exporter),
            "start_delay_secs": Refused(-1, "start_delay_secs"), "throttle_secs": Acts(1000),
        },
    )  # fmt: skip

    def warm(**given):
        settings = {
            "ckpt_to_initialize_from": trained().model_dir,
            "vars_to_warm_start": "w",
            **given,
        }

        def model_fn(features, labels, mode, params):
            tf.compat.v1.get_variable("v", [], initializer=tf.ones_initializer())
            return line_fn(features, labels, mode, params)

        built = estimator_lib.Estimator(
            model_fn, config=SEEDED, warm_start_from=estimator_lib.WarmStartSettings(**settings)
        )
        built.train(again, steps=1)
        return weight_of(built), built.get_variable_value("v")

    yield "WarmStartSettings", Subject(
        estimator_lib.WarmStartSettings, warm,
        {
            "ckpt_to_initialize_from": Acts(Lazy(old_checkpoint)),
            "vars_to_warm_start": Acts(None),
            "var_name_to_vocab_info": Refused(Lazy(lambda: {"nothing": words()}), "nothing"),
            "var_name_to_prev_var_name": Acts({"v": "w"}, instead={"vars_to_warm_start": ".*"}),
        },
    )  # fmt: skip


@functools.cache
def old_table():
    """A model with a table `[3, 2]` of numbers 0 to 5."""

    def model_fn(features, labels, mode, params):
        table = tf.range(6, dtype=tf.float32)
        tf.compat.v1.get_variable("table", initializer=tf.reshape(table, [3, 2]))
        return line_fn(features, labels, mode, params)

    return estimator_lib.Estimator(model_fn, config=SEEDED).train(again, steps=1).model_dir


def words(**given):
    usual = {
        "new_vocab": vocabulary_file("cab"), "new_vocab_size": 2, "num_oov_buckets": 1,
        "old_vocab": vocabulary_file("abc"),
    }  # fmt: skip
    return estimator_lib.VocabInfo(**{**usual, **given})


def vocabularies():
    def do(**given):
        info = words(**given)
        size = info.new_vocab_size + info.num_oov_buckets
        shape = [2, size] if info.axis else [size, 2]

        def model_fn(features, labels, mode, params):
            tf.compat.v1.get_variable("table", shape, initializer=tf.zeros_initializer())
            return line_fn(features, labels, mode, params)

        settings = estimator_lib.WarmStartSettings(old_table(), "table", {"table": info})
        built = estimator_lib.Estimator(model_fn, config=SEEDED, warm_start_from=settings)
        return built.train(again, steps=1).get_variable_value("table")

    return Subject(
        estimator_lib.VocabInfo, do,
        {
            "new_vocab": Acts(Lazy(lambda: vocabulary_file("bca"))), "new_vocab_size": Acts(3),
            "num_oov_buckets": Acts(2), "old_vocab": Acts(Lazy(lambda: vocabulary_file("cba"))),
            "old_vocab_size": Acts(1),
            "backup_initializer": Acts(tf.ones_initializer(),
                                       also={"new_vocab": Lazy(lambda: vocabulary_file("xyz"))}),
            "axis": Refused(2, "axis"),
        },
    )  # fmt: skip


class Model:
    """What an exporter needs of an Estimator; it notes what it is asked for."""

    model_dir = "model"

    def __init__(self):
        self.asked = []

    def export_saved_model(self, base, receiver_fn, assets_extra, as_text, checkpoint_path):
        made = pathlib.Path(base) / str(100 + len(self.asked))
        made.mkdir(parents=True)
        self.asked.append((receiver_fn, assets_extra, as_text, checkpoint_path))
        return bytes(made)


def exporters():
    def exporting(kind, usual):
        def do(**given):
            made, built = kind(**{**usual, **given}), Model()
            if "model_dir" in given.get("event_file_pattern", ""):
                built.model_dir = "/"
            base = tempfile.mkdtemp()
            for number, loss in enumerate((2.0, 3.0, 1.0)):
                made.export(built, base, f"model.ckpt-{number}", {"loss": loss}, number == 2)
            return made.name, built.asked, sorted(os.listdir(base))

        return do

    shared = {
        "name": Acts("other"), "serving_input_receiver_fn": Acts(max),
        "assets_extra": Acts({"a": "b"}), "as_text": Acts(True), "exports_to_keep": Acts(1),
    }  # fmt: skip
    usual = {"name": "usual", "serving_input_receiver_fn": min}
    for name in ("FinalExporter", "LatestExporter", "BestExporter"):
        kind = getattr(estimator_lib, name)
        found = {n: shared[n] for n in NAMES[f"tf.estimator.{name}"]["parameters"] if n in shared}
        if name == "BestExporter":
            found["compare_fn"] = Acts(
                lambda best_eval_result, current_eval_result: (
                    current_eval_result["loss"] > best_eval_result["loss"]
                )
            )
            found["event_file_pattern"] = Acts(Lazy(events))
        yield name, Subject(kind, exporting(kind, usual), found)


def events():
    """The pattern of event files of evaluations with a small loss."""
    place = pathlib.Path(folder("events"))
    summary = tf.compat.v1.Summary
    with tf.io.TFRecordWriter(str(place / "events.out.tfevents.1")) as out:
        for step in (1, 2):
            value = summary.Value(tag="loss", simple_value=1.5)
            event = tf.compat.v1.Event(step=step, summary=summary(value=[value]))
            out.write(event.SerializeToString())
    return str(place / "*")


def receivers():
    """What an export of features and alternatives serves."""
    tensors = {"x": tf.constant([1.0])}

    def kept(kind, usual, **probes):
        def do(**given):
            return tuple(kind(**{**usual, **given}))

        return Subject(kind, do, probes)

    fed, other = {"fed": tf.constant(["a"])}, {"other": tf.constant(["b"])}
    alternatives = {"more": {"z": tf.constant([1.0])}}
    for name, features, others in (
        ("ServingInputReceiver", tensors, {"x": tf.constant([2.0])}),
        ("TensorServingInputReceiver", tensors["x"], tf.constant([2.0])),
    ):
        yield f"export.{name}", kept(
            getattr(export, name), {"features": features, "receiver_tensors": fed},
            features=Acts(others), receiver_tensors=Acts(other),
            receiver_tensors_alternatives=Acts(alternatives),
        )  # fmt: skip
    one, two = {"y": tf.constant([1.0])}, {"z": tf.constant([2.0])}

    with_graph = {"outputs": one}
    yield "export.PredictOutput", of_output(export.PredictOutput, with_graph, outputs=Acts(two))
    yield (
        "export.RegressionOutput",
        of_output(
            export.RegressionOutput, {"value": tf.constant([1.0])}, value=Acts(tf.constant([2.0]))
        ),
    )
    yield "export.ClassificationOutput", of_output(
        export.ClassificationOutput, {"scores": tf.constant([[1.0]])},
        scores=Acts(tf.constant([[2.0]])), classes=Acts(tf.constant([["a"]])),
    )  # fmt: skip
    yield "export.EvalOutput", of_output(
        export.EvalOutput, {"loss": {"loss": tf.constant(1.0)}},
        loss=Acts({"loss": tf.constant(2.0)}), predictions=Acts({"y": tf.constant([1.0])}),
        metrics=Acts({"m": (tf.constant(1.0), tf.constant(1.0))}),
    )  # fmt: skip
    train = tf.compat.v1.train
    for name, fields in (
        ("SessionRunValues", {"results": 1, "options": None, "run_metadata": None}),
        ("SessionRunContext", {"original_args": 1, "session": None}),
    ):
        kind = getattr(train, name)
        yield (
            name,
            Subject(
                kind,
                lambda kind=kind, fields=fields, **given: [
                    getattr(kind(**{**fields, **given}), field) for field in fields
                ],
                {field: Acts(2) for field in fields},
            ),
        )


def of_output(kind, usual, **probes):
    return Subject(kind, lambda **given: vars(kind(**{**usual, **given})), probes)


def session_arguments():
    def do(**given):
        class Fetching(tf.compat.v1.train.SessionRunHook):
            seen = None

            def before_run(self, run_context):
                return tf.compat.v1.train.SessionRunArgs(**{"fetches": "loss", **given})

            def after_run(self, run_context, run_values):
                self.seen = run_values.results

        hook = Fetching()
        line().train(again, hooks=[hook], steps=1)
        return hook.seen

    return Subject(
        tf.compat.v1.train.SessionRunArgs, do,
        {
            "fetches": Acts("global_step"), "feed_dict": Refused({"x:0": 1}, "feeds"),
            "options": Refused(tf.compat.v1.RunOptions(trace_level=3), "options"),
        },
    )  # fmt: skip


def functions():
    def metrics(**given):
        wanted = {"estimator": trained(), "metric_fn": lambda labels: {"rows": mean(labels)}}
        return estimator_lib.add_metrics(**{**wanted, **given}).evaluate(rows)

    yield "add_metrics", Subject(
        estimator_lib.add_metrics, metrics,
        {"estimator": Acts(Lazy(lambda: line(estimator_lib.RunConfig(tf_random_seed=7)))),
         "metric_fn": Acts(lambda predictions: {"y": mean(predictions["y"])})},
    )  # fmt: skip

    def logits(**given):
        wanted = {
            "logit_fn": lambda features, mode, params, config: {
                "x": features["x"], "others": tf.constant([mode, params, config]),
            },
            "features": {"x": tf.constant(1.0)}, "mode": "train", "params": "p", "config": "c",
        }  # fmt: skip
        return experimental.call_logit_fn(**{**wanted, **given})

    yield "experimental.call_logit_fn", Subject(
        experimental.call_logit_fn, logits,
        {
            "logit_fn": Acts(lambda features: features["x"] * 2), "params": Acts("q"),
            "features": Acts({"x": tf.constant(2.0)}), "mode": Acts("eval"), "config": Acts("d"),
        },
    )  # fmt: skip
    for name in ("classifier_parse_example_spec", "regressor_parse_example_spec"):
        make = getattr(estimator_lib, name)
        usual = {"feature_columns": [NUMBER], "label_key": "y"}
        found = {
            "feature_columns": Acts([TAGS]), "label_key": Acts("z"), "weight_column": Acts("w"),
            "label_dtype": Acts(tf.string), "label_default": Acts(1), "label_dimension": Acts(2),
        }  # fmt: skip
        parameters = NAMES[f"tf.estimator.{name}"]["parameters"]
        yield name, Subject(
            make, lambda make=make, usual=usual, **given: make(**{**usual, **given}),
            {n: found[n] for n in parameters},
        )  # fmt: skip

    def received(make, usual):
        def do(**given):
            with tf.Graph().as_default():
                made = make(**{**usual(), **given})()
                return [(t.name, t.shape, t.dtype) for t in tf.nest.flatten(
                    [made.features, made.receiver_tensors, getattr(made, "labels", ())]
                )]  # fmt: skip

        return do

    size = Acts(5)
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
    more = {"z": tf.io.FixedLenFeature([2], tf.float32)}
    parsing = export.build_parsing_serving_input_receiver_fn
    yield "export.build_parsing_serving_input_receiver_fn", Subject(
        parsing, received(parsing, lambda: {"feature_spec": spec}),
        {"feature_spec": Acts(more), "default_batch_size": size},
    )  # fmt: skip
    one, two = {"x": tf.constant([1.0])}, {"z": tf.constant([1.0])}
    plainly = export.build_raw_serving_input_receiver_fn
    yield "export.build_raw_serving_input_receiver_fn", Subject(
        plainly, received(plainly, lambda: {"features": one}),
        {"features": Acts(two), "default_batch_size": size},
    )  # fmt: skip
    labelled = experimental.build_raw_supervised_input_receiver_fn
    yield (
        "experimental.build_raw_supervised_input_receiver_fn",
        Subject(
            labelled,
            received(labelled, lambda: {"features": one, "labels": {"y": tf.constant([1.0])}}),
            {
                "features": Acts(two),
                "labels": Acts({"l": tf.constant([1])}),
                "default_batch_size": size,
            },
        ),
    )


def mean(values):
    made = keras.metrics.Mean()
    made.update_state(values)
    return made


# --- Optimizers -------------------------------------------------------------------------------


def steps_of(kind):
    """Weights of a vector and a table after three steps."""

    def do(**given):
        def model_fn(features, labels, mode):
            vector = tf.compat.v1.get_variable("v", initializer=[1.0, -2.0, 3.0])
            table = tf.compat.v1.get_variable("t", initializer=[[0.5], [1.0]])
            loss = tf.reduce_sum(vector**2) * 3 + tf.reduce_sum(tf.gather(table, [0, 0]) ** 2)
            op = None if mode != "train" else optimizers.minimize(loss, kind(**given))
            return estimator_lib.EstimatorSpec(mode, loss=loss, train_op=op)

        built = estimator_lib.Estimator(model_fn, config=SEEDED).train(again, steps=3)
        return built.get_variable_value("v"), built.get_variable_value("t")

    return do


def of_optimizers():
    values = {
        "learning_rate": Acts(0.5),
        "momentum": Acts(0.5),
        "nesterov": Acts(True, also={"momentum": 0.5}),
        "clipnorm": Acts(0.1),
        "global_clipnorm": Acts(0.1),
        "clipvalue": Acts(0.1),
        "weight_decay": Acts(0.1),
        "initial_accumulator_value": Acts(0.5),
        "epsilon": Acts(0.5),
        "beta_1": Acts(0.5),
        "beta_2": Acts(0.5),
        "learning_rate_power": Acts(-0.3),
        "l1_regularization_strength": Acts(0.5),
        "l2_regularization_strength": Acts(0.5),
        "l2_shrinkage_regularization_strength": Acts(0.5),
        "beta": Acts(0.5),
        "rho": Acts(0.5),
    }
    for name in ("SGD", "Adagrad", "Adam", "Ftrl", "RMSProp"):
        kind = getattr(optimizers, name)
        found = {n: values[n] for n in inspect.signature(kind).parameters if n in values}
        larger = {
            n: dataclasses.replace(p, also={"learning_rate": 0.1, **p.also})
            for n, p in found.items()
            if n != "learning_rate"
        }
        yield f"optimizers.{name}", Subject(kind, steps_of(kind), {**found, **larger})

    ids = np.array([str(i) for i in range(8)])

    def dual(**given):
        wanted = {"example_id_column": "id", "symmetric_l2_regularization": 0.5, **given}
        with_ids = {**FEATURES, "id": ids}
        built = estimator_lib.LinearClassifier(
            [NUMBER, OTHER], config=SEEDED, optimizer=experimental.LinearSDCA(**wanted)
        )
        return built.train(lambda: rows(with_ids, batch=1).repeat(), steps=12).evaluate(rows)

    yield "experimental.LinearSDCA", Subject(
        experimental.LinearSDCA, dual,
        {
            "example_id_column": Refused("missing", "missing"), "num_loss_partitions": Acts(3),
            "num_table_shards": Idle(4, "num_table_shards: Not used"),
            "symmetric_l1_regularization": Acts(0.5), "symmetric_l2_regularization": Acts(5.0),
            "adaptive": Refused("yes", "adaptive"),  # it draws examples within a batch
        },
    )  # fmt: skip


# --- Which arguments there are ----------------------------------------------------------------


def subjects():
    yield from models()
    yield from of_heads()
    for name, subject in head_methods():
        yield f"Head.{name}", subject
    for name, subject in columns():
        yield f"feature_column.{name}", subject
    yield "RunConfig", run_config()
    yield from hooks()
    yield from stopping_hooks()
    yield from methods()
    yield "EstimatorSpec", spec()
    yield from specs()
    yield "VocabInfo", vocabularies()
    yield from exporters()
    yield from receivers()
    yield "SessionRunArgs", session_arguments()
    yield from functions()
    yield from of_optimizers()


SUBJECTS = dict(subjects())


def arguments():
    """Each thing of 2.15 that is here, each kind of column, method and optimizer: its arguments."""
    found = {}
    for name, state, text in ROWS:
        if state != "gone":
            dropped = set(re.findall(r"`(\w+)`", text.partition("Without ")[2]))
            found[name.removeprefix("tf.estimator.")] = [
                p
                for p in NAMES[name]["parameters"] or []
                if not p.startswith("*") and p not in dropped
            ]
    for name in dir(fc):
        if inspect.isfunction(getattr(fc, name)):
            found[f"feature_column.{name}"] = inspect.signature(getattr(fc, name)).parameters
    for kind, prefix in (
        (estimator_lib.Estimator, "Estimator"),
        (estimator_lib.BinaryClassHead, "Head"),
    ):
        for name in {p.rpartition(".")[2] for p in SUBJECTS if p.startswith(f"{prefix}.")}:
            found[f"{prefix}.{name}"] = [
                p for p in inspect.signature(getattr(kind, name)).parameters if p != "self"
            ]
    for name in ("SGD", "Adagrad", "Adam", "Ftrl", "RMSProp"):
        found[f"optimizers.{name}"] = inspect.signature(getattr(optimizers, name)).parameters
    return {name: set(parameters) for name, parameters in found.items() if parameters}


def test_every_argument_has_a_probe():
    probed = {name: set(subject.probes) for name, subject in SUBJECTS.items()}
    assert {
        n: p - probed.get(n, set()) for n, p in arguments().items() if p - probed.get(n, set())
    } == {}
    assert {n: p - arguments().get(n, set()) for n, p in probed.items()} == {
        n: set() for n in probed
    }


@functools.cache
def usually(name, also=()):
    """What a thing does without the argument; twice the same."""
    subject = SUBJECTS[name]
    return subject.done(dict(also))


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, subject in SUBJECTS.items() for argument in subject.probes],
)
def test_an_argument_acts_or_is_refused(name, argument):
    subject = SUBJECTS[name]
    probe = subject.probes[argument]
    if isinstance(probe, Refused):
        with pytest.raises(ValueError, match=probe.said):
            subject.done({**probe.also, argument: probe.value})
        return
    if isinstance(probe, Idle):
        assert subject.done({argument: probe.value}) == usually(name)
        assert probe.said in GUIDE + (inspect.getdoc(subject.thing) or "")
        return
    given = {**probe.also, **probe.instead, argument: probe.value}
    usual = subject.done(probe.also) if probe.also else usually(name)
    assert subject.done(given) != usual


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_seen_is_the_same_each_time(name):
    assert SUBJECTS[name].done() == usually(name)
