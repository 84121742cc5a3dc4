"""The head that follows from a label, and what the model that has it predicts."""

import pytest
import tensorflow as tf

from components.steps import model
from estimator_lib import heads
from estimator_lib.core.config import Evaluate, Label, described
from estimator_lib.evaluation import configured

LABELS = {
    "late": Label(field="late"),
    "kind": Label(field="kind", classes=3),
    "delay": Label(field="delay", kind="number"),
    "things": Label(kind="multilabel", fields=["a", "b"]),
}


def test_every_kind_of_label_has_its_head_and_task():
    head = model.head_of(described(LABELS), "weight", {})
    assert {name: type(own) for name, own in head.heads.items()} == {
        "late": heads.BinaryClassHead,
        "kind": heads.MultiClassHead,
        "delay": heads.RegressionHead,
        "things": heads.MultiLabelHead,
    }
    problem = configured.problem(described(LABELS), Evaluate())
    tasks = {name: (own.task, own.classes) for name, own in problem.heads.items()}
    assert tasks == {
        "late": ("binary", ()),
        "kind": ("multiclass", ("0", "1", "2")),
        "delay": ("regression", ()),
        "things": ("multilabel", ("a", "b")),
    }
    alone = model.head_of(described({"": LABELS["delay"]}), None, {})
    assert isinstance(alone, heads.RegressionHead)


def test_weights_say_how_much_a_heads_loss_counts():
    label = described({"one": Label(field="a", kind="number"), "two": LABELS["delay"]})
    labels = {"one": tf.constant([[1.0]]), "two": tf.constant([[2.0]])}
    logits = {name: tf.constant([[0.0]]) for name in labels}
    for weights, loss in (({}, 5.0), ({"two": 0.5}, 3.0), ({"one": 0, "two": 1}, 4.0)):
        head = model.head_of(label, None, weights)
        assert float(head.loss(labels, logits)) == pytest.approx(loss)
