"""Every constructor refuses what the constraints beside its parameters refuse, and says what."""

import inspect
import typing

import keras
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib import heads, optimizers
from estimator_lib.core import columns as fc
from estimator_lib.core import constraints, constructors
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.optimizers import schedules
from estimator_lib.optimizers.sdca import LinearSDCA

MODELS = {name: getattr(estimator_lib, name) for name in constructors.signatures()}
HEADS = [getattr(heads, name) for name in heads.__all__ if name.endswith("Head")]
OPTIMIZERS = [optimizers.SGD, optimizers.Adagrad, optimizers.Adam, optimizers.Ftrl,
              optimizers.RMSProp, LinearSDCA]  # fmt: skip
SCHEDULES = [schedules.CosineDecay, schedules.ExponentialDecay, schedules.WarmUp]
CONCRETE = [kind for kind in HEADS if not inspect.isabstract(kind)]
KINDS = [*MODELS.values(), *CONCRETE, *OPTIMIZERS, *SCHEDULES]

NUMBER = fc.numeric_column("x")
STEPS = fc.sequence_numeric_column("steps")
BOTH = heads.MultiHead([heads.BinaryClassHead(name="a"), heads.RegressionHead(name="b")])
GOOD = {
    "after": 0.1,
    "decay_steps": 10,
    "dnn_feature_columns": [NUMBER],
    "dnn_hidden_units": [2],
    "example_id_column": "id",
    "feature_columns": [NUMBER],
    "group_column": "query",
    "head": heads.BinaryClassHead(),
    "heads": [heads.BinaryClassHead(name="a"), heads.RegressionHead(name="b")],
    "hidden_units": [2],
    "initial": 0.1,
    "n_classes": 3,
    "num_clusters": 3,
    "rate": 0.5,
    "sequence_feature_columns": [STEPS],
    "static_head": heads.BinaryClassHead(),
    "steps": 5,
    "units": 2,
}
NEEDED = {"dnn_feature_columns", "dnn_hidden_units", "units"}  # have a default that is refused
LOCAL = {"cell_type", "distance_metric", "kmeans_plus_plus_num_retries", "rnn_cell_fn", "seed"}
"""Arguments whose constraint only their module knows: `config check` cannot read those."""


def right(kind):
    """Arguments that construct it."""
    found = {
        name: GOOD[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty or name in NEEDED
    }
    return found | ({"head": BOTH} if kind is MODELS["MMoEEstimator"] else {})


def declared():
    return [(kind, name) for kind in KINDS for name in constraints.constraints_of(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_right_arguments_are_taken(kind):
    assert kind(**right(kind))


@pytest.mark.parametrize(("kind", "argument"), declared(), ids=lambda v: getattr(v, "__name__", v))
def test_wrong_arguments_are_refused_by_name(kind, argument):
    constraint = constraints.constraints_of(kind)[argument]
    others = {name: value for name, value in right(kind).items() if name != argument}
    if argument == "units":
        others.pop("rnn_cell_fn", None)
    tried = constraint.refused_examples
    assert tried
    for wrong in tried:
        with pytest.raises(ConfigError) as found:
            kind(**others, **{argument: wrong})
        assert f"{kind.__name__}: argument {argument} is invalid" in str(found.value)
        assert constraint.expected in str(found.value)
        assert quote(wrong) in str(found.value)
        assert isinstance(found.value, ValueError)
        assert isinstance(found.value, TypeError) == (constraint.reason is Reason.TYPE_MISMATCH)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_and_switch_has_a_constraint(kind):
    owner = kind if hasattr(kind, "__dataclass_fields__") else inspect.unwrap(kind.__init__)
    hints = typing.get_type_hints(owner)
    known = constraints.constraints_of(kind)
    plain = {
        name for name in inspect.signature(kind).parameters if hints[name] in (int, float, bool)
    }
    assert plain <= set(known)


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_is_refused_alike(name):
    found = constraints.constraints_of(MODELS[name])
    for argument in set(found) - LOCAL - {"head"}:
        for wrong in found[argument].refused_examples:
            with pytest.raises(ConfigError, match=rf"estimator\.args\.{argument}: expected"):
                constructors.check_arguments(name, {argument: wrong}, {})


def test_models_for_a_label_take_the_arguments_of_its_head():
    wanted = list(inspect.signature(estimator_lib.DCNEstimator).parameters)[1:]
    found = list(inspect.signature(estimator_lib.DCNClassifier).parameters)
    assert found[:6] == [*wanted[:3], "n_classes", "weight_column", "label_vocabulary"]
    assert found[6:] == [*wanted[3:], "loss_reduction", "auc_thresholds"]
    for name, model in MODELS.items():
        assert set(inspect.signature(model).parameters) - {"model_dir", "config"} == set(
            constructors.signatures()[name]
        )
    with pytest.raises(TypeError, match=r"DCNRegressor.*'n_classes'"):
        estimator_lib.DCNRegressor([NUMBER], n_classes=3)


def test_values_of_other_libraries_are_taken():
    assert optimizers.SGD(momentum=tf.constant(0.5).numpy()).momentum == 0.5
    assert heads.MultiClassHead(tf.constant(4)).logits_dimension == 4
    cells = estimator_lib.RNNClassifier([STEPS], units=[2], cell_type=keras.layers.GRUCell)
    assert isinstance(cells, estimator_lib.RNNEstimator)
    thresholds = tf.constant([0.25, 0.5]).numpy()
    assert (
        "recall/positive_threshold_0.25" in heads.BinaryClassHead(thresholds=thresholds).metrics()
    )
