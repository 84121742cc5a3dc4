"""Fault 25: an input_fn that gives nothing, too much or what cannot be learned is named.

Fails when a label or weight reaches the loss unchecked, or when a mean over no weight is NaN.
"""

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, TrainingError
from estimator_lib.inputs import arrays_input

ROWS = {"x": np.arange(6, dtype=np.float32), "w": np.ones(6, np.float32)}
LABELS = np.array([0, 1, 2, 0, 1, 2])


def classifier(folder):
    return estimator_lib.LinearClassifier(
        [estimator_lib.feature_column.numeric_column("x")], str(folder), n_classes=3,
        weight_column="w",
    )  # fmt: skip


def rows(labels=LABELS, weights=None, batch=3):
    features = ROWS if weights is None else {**ROWS, "w": np.asarray(weights, np.float32)}
    return arrays_input(features, labels, batch_size=batch, epochs=1, shuffle=False)


def nothing():
    return tf.data.Dataset.from_tensor_slices((ROWS, LABELS)).take(0).batch(2)


def unlabelled():
    return tf.data.Dataset.from_tensor_slices(ROWS).batch(2)


def four_parts():
    return tf.data.Dataset.from_tensor_slices((ROWS, LABELS, LABELS, LABELS)).batch(2)


@pytest.mark.parametrize(
    ("input_fn", "said"),
    [
        (nothing, "nothing"),
        (unlabelled, "input_fn"),
        (four_parts, r"4 parts.*\(features, labels\)"),
    ],
)
def test_input_that_gives_no_labelled_rows_is_refused(tmp_path, input_fn, said):
    made = classifier(tmp_path)
    with pytest.raises(EstimatorLibError, match=said) as caught:
        made.train(input_fn)
    assert caught.value.exit_code == 2
    if input_fn is nothing:
        assert isinstance(caught.value, TrainingError)
        assert caught.value.reason is Reason.EMPTY_INPUT


@pytest.mark.parametrize("label", [-1, 3, 2**31])
def test_label_that_is_no_class_is_refused_with_its_value(tmp_path, label):
    with pytest.raises(DataError, match=str(label)) as caught:
        classifier(tmp_path).train(rows(np.array([0, 1, 2, 0, label, 2])))
    assert caught.value.reason is Reason.LABEL_OUT_OF_RANGE


def test_batches_without_weight_change_nothing_and_are_no_nan(tmp_path):
    made = classifier(tmp_path)
    made.train(rows(weights=np.zeros(6)))
    for name in made.get_variable_names():
        assert np.isfinite(made.get_variable_value(name)).all(), name
    result = made.evaluate(rows(weights=np.zeros(6)))
    assert not np.isnan(result["loss"])


@pytest.mark.parametrize("batch", [1, 4, 6, 100])
def test_last_batch_counts_whatever_its_size(tmp_path, batch):
    made = classifier(tmp_path)
    made.train(rows(batch=6))
    found = made.evaluate(rows(batch=batch))
    assert found["accuracy"] == pytest.approx(made.evaluate(rows(batch=6))["accuracy"])
    assert len(list(made.predict(rows(batch=batch)))) == 6
