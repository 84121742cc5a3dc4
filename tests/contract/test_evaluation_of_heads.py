"""What the heads say of themselves while training agrees with what an evaluation finds."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import heads
from estimator_lib.evaluation import Problem, evaluate, of_head

ROWS = 400
NAMES = ("late", "lost", "torn")


@pytest.fixture(scope="module")
def both():
    """Metrics of a MultiHead of four heads, and of an evaluation of its predictions."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(ROWS, 1 + 3 + 3 + 1)).astype(np.float32)
    labels = {
        "hurry": rng.integers(0, 2, ROWS),
        "kind": rng.integers(0, 3, ROWS),
        "things": rng.integers(0, 2, (ROWS, 3)),
        "count": rng.poisson(1.0, ROWS).astype(np.float32),
    }
    head = heads.MultiHead(
        [
            heads.BinaryClassHead(name="hurry"),
            heads.MultiClassHead(3, name="kind"),
            heads.MultiLabelHead(3, name="things", classes_for_class_based_metrics=[0, 1, 2]),
            heads.PoissonRegressionHead(name="count", more_metrics=("rmse", "mae", "r2")),
        ]
    )
    tensors = {name: tf.constant(values) for name, values in labels.items()}
    own = head.update_metrics(head.metrics(), {}, tf.constant(logits), tensors)
    problem = Problem(
        task="multihead",
        heads={
            "hurry": Problem(task="binary"),
            "kind": Problem(task="multiclass"),
            "things": Problem(task="multilabel", classes=NAMES),
            "count": Problem(task="regression"),
        },
    )
    found = evaluate(
        task=problem, labels=labels, predictions=of_head(head.predictions(logits), problem)
    )
    values = {name: float(metric.result()) for name, metric in own.items()}
    return values, {name: metric.value for name, metric in found.metrics.items()}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("average_loss/hurry", "loss/hurry"),
        ("accuracy/hurry", "accuracy/hurry"),
        ("precision/hurry", "precision/hurry"),
        ("recall/hurry", "recall/hurry"),
        ("prediction/mean/hurry", "prediction_mean/hurry"),
        ("average_loss/kind", "loss/kind"),
        ("accuracy/kind", "accuracy/kind"),
        ("average_loss/things", "loss/things"),
        ("probability_mean/class0/things", "prediction_mean/late/things"),
        ("rmse/count", "rmse/count"),
        ("mae/count", "mae/count"),
        ("r2/count", "r2/count"),
    ],
)
def test_metrics_of_heads_agree(both, theirs, ours):
    assert both[1][ours] == pytest.approx(both[0][theirs], rel=1e-4)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("auc/hurry", "auc/hurry"),
        *((f"auc/class{at}/things", f"auc/{name}/things") for at, name in enumerate(NAMES)),
    ],
)
def test_auc_of_heads_agrees_but_for_their_bins(both, theirs, ours):
    assert both[1][ours] == pytest.approx(both[0][theirs], abs=5e-3)


def test_a_poisson_head_has_a_deviance(both):
    assert both[1]["poisson_deviance/count"] > 0
