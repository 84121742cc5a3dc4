"""Labels, heads, quantiles, counts and importance."""

import numpy as np
import pytest
from sklearn import metrics as sk

from estimator_lib.core import config, labels
from estimator_lib.core.errors import ConfigError, DataError, PipelineError
from estimator_lib.evaluation import (
    Evaluation,
    Problem,
    evaluate,
    of_head,
    permutation_importance,
)
from estimator_lib.evaluation.bootstrap import measure
from estimator_lib.evaluation.results import FeatureImportance, Importance
from estimator_lib.report.model import ReportInput, model_card, render

LABELS = ("late", "lost", "<b>")
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    logits = rng.normal([-1.0, 0.0, 1.0], size=(500, 3))
    amount = rng.gamma(2.0, 5.0, 500)
    return {
        "y": (rng.random((500, 3)) < 1 / (1 + np.exp(-logits))).astype(int),
        "p": 1 / (1 + np.exp(-logits - 0.5 * rng.normal(size=(500, 3)))),
        "w": rng.uniform(0.5, 2, 500),
        "amount": amount,
        "quantiles": amount[:, None] * [0.6, 1.0, 1.5] * rng.uniform(0.7, 1.3, (500, 1)),
        "field": rng.choice(["a", "b"], 500),
    }


def multilabel(rows, **more):
    problem = Problem(task="multilabel", classes=LABELS)
    return evaluate(
        task=problem, labels=rows["y"], predictions=rows["p"], weights=rows["w"], **more
    )


def test_labels_have_metrics_of_their_own_and_in_common(rows):
    found = multilabel(rows)
    y, p, w = rows["y"], rows["p"], rows["w"]
    values = {name: metric.value for name, metric in found.metrics.items()}
    for at, name in enumerate(LABELS):
        expected = sk.roc_auc_score(y[:, at], p[:, at], sample_weight=w)
        assert values[f"auc/{name}"] == pytest.approx(expected)
    assert values["auc"] == pytest.approx(sk.roc_auc_score(y, p, average="macro", sample_weight=w))
    assert values["auc_precision_recall"] == pytest.approx(
        sk.average_precision_score(y, p, average="macro", sample_weight=w)
    )
    called = (p > 0.5).astype(int)
    assert values["exact_match"] == pytest.approx(sk.accuracy_score(y, called, sample_weight=w))
    assert values["accuracy"] == pytest.approx(1 - sk.hamming_loss(y, called, sample_weight=w))
    assert found.main_metrics == ("auc",)
    assert [part.name for part in found.parts] == list(LABELS)
    assert found.parts[0].curves.roc is not None
    assert Evaluation.from_json(found.to_json()) == found


def test_intervals_of_means_over_labels_draw_all_labels_of_a_row(rows):
    """Of three equal labels the mean is as uncertain as one, not less."""
    y, p = (np.repeat(rows[name][:, :1], 3, axis=1) for name in "yp")
    found = measure(Problem(task="multilabel"), y, p, intervals=True)
    assert found["loss"].low == pytest.approx(found["loss/0"].low)
    assert found["auc"].high == pytest.approx(found["auc/0"].high)


def test_a_label_that_is_not_finite_is_not_averaged_away(rows):
    p = rows["p"].copy()
    p[7, 1] = np.nan
    found = measure(Problem(task="multilabel", classes=LABELS), rows["y"], p)
    assert found["auc/late"].value is not None
    for name in ("auc", "loss", "exact_match", "auc/lost"):
        assert found[name].value is None
    assert found["auc"].reason == "of label lost, 1 of 500 predictions are not finite"


def test_a_label_with_one_class_is_left_out_of_the_mean(rows):
    y = rows["y"].copy()
    y[:, 2] = 1
    found = measure(Problem(task="multilabel", classes=LABELS), y, rows["p"])
    assert found["auc/<b>"].reason == "there are no negative labels"
    expected = np.mean([found[f"auc/{name}"].value for name in LABELS[:2]])
    assert found["auc"].value == pytest.approx(expected)


def test_labels_can_be_bounded_and_sliced(rows):
    options = config.Evaluate.model_validate(
        {
            "slices": ["f"],
            "thresholds": {"auc/late": {"min": 0.99}},
            "slice_thresholds": {"exact_match": {"min": 0.1}},
        }
    )
    found = multilabel(rows, slices={"f": rows["field"]}, options=options)
    assert found.verdict == "refused"
    assert [check.passed for check in found.checks] == [False, True]
    mine = rows["field"] == "a"
    part = next(s for s in found.slices if s.value == "a")
    alone = measure("binary", rows["y"][mine, 0], rows["p"][mine, 0], rows["w"][mine])
    assert part.metrics["auc/late"].value == pytest.approx(alone["auc"].value)


HEADS = Problem(
    task="multihead",
    heads={
        "late": Problem(task="binary"),
        "delay": Problem(task="quantile", quantiles=LEVELS),
        "mean": Problem(task="regression"),
        "things": Problem(task="multilabel", classes=LABELS),
    },
)


def heads(rows, **more):
    labels = {"late": rows["y"][:, 0], "things": rows["y"]}
    labels |= dict.fromkeys(("delay", "mean"), rows["amount"])
    predictions = {
        "late": rows["p"][:, 0],
        "delay": rows["quantiles"],
        "mean": rows["quantiles"][:, 1],
        "things": rows["p"],
    }
    return evaluate(task=HEADS, labels=labels, predictions=predictions, **more)


def test_heads_have_the_metrics_of_their_tasks(rows):
    options = config.Evaluate.model_validate(
        {"thresholds": {"auc/late": {"min": 0.5}, "pinball/0.9/delay": {"max": 0.0}}}
    )
    found = heads(rows, options=options)
    alone = measure("regression", rows["amount"], rows["quantiles"][:, 1])
    assert found.metrics["rmse/mean"].value == pytest.approx(alone["rmse"].value)
    late = measure("binary", rows["y"][:, 0], rows["p"][:, 0])
    assert found.metrics["auc/late"].value == found.metrics["auc/late/things"].value
    assert found.metrics["auc/late"].value == pytest.approx(late["auc"].value)
    assert found.main_metrics[0] == "auc/late"
    assert [check.passed for check in found.checks] == [True, False]
    assert Evaluation.from_json(found.to_json()) == found


def test_every_head_and_label_is_told(rows):
    report = ReportInput(name="several", evaluation=heads(rows, slices={"f": rows["field"]}))
    page, card = render(report), model_card(report)
    for text in ("Head late", "Head delay", "Head mean", "Head things", "Coverage"):
        assert f"{text}</h" in page
    assert "&lt;b&gt;" in page
    assert "Quantile loss, 0.9, delay" in card
    labels = render(ReportInput(name="labels", evaluation=multilabel(rows)))
    assert "Label by label" in labels
    assert "<b></summary>" not in labels


def test_every_head_has_its_weak_slices_and_what_it_relies_on(rows):
    field = FeatureImportance(field="wind", worse_by=0.1, low=0.05, high=0.2)
    relied = Importance(metric="auc", base=0.8, rows=50, repeats=2, features=(field,))
    weak = np.where(np.abs(rows["amount"] - rows["quantiles"][:, 1]) > 2, "off", "near")
    options = config.Evaluate(slices=["weak"], min_slice_rows=10)
    found = heads(rows, slices={"weak": weak}, options=options, importance={"late": relied})
    assert found.main_metrics == ("auc/late", "pinball/delay", "rmse/mean", "auc/things")
    assert found.importance is None
    assert [part.importance for part in found.parts] == [relied, None, None, None]
    report = ReportInput(name="several", evaluation=found)
    page, card = render(report), model_card(report)
    for head in ("late", "delay", "mean", "things"):
        assert f"Where {head} is weak</h2>" in page
    assert "mean is weakest where weak is <b>off</b>" in page
    assert "weak = off: RMSE, mean" in card
    for text in (page, card):
        assert "What late relies on" in text
        assert "What delay relies on" not in text


def test_a_head_without_labels_is_refused(rows):
    one = {"late": rows["y"][:, 0]}
    with pytest.raises(DataError, match="'delay'"):
        evaluate(task=HEADS, labels=one, predictions=one)
    with pytest.raises(DataError, match="multi-label"):
        measure(Problem(task="multilabel"), rows["y"], rows["p"][:, :2])


# --- Numbers ----------------------------------------------------------------------------------


def test_quantiles_agree_with_scikit_learn(rows):
    y, q, w = rows["amount"], rows["quantiles"], rows["w"]
    found = measure(Problem(task="quantile", quantiles=LEVELS), y, q, w)
    losses = [
        sk.mean_pinball_loss(y, q[:, at], alpha=level, sample_weight=w)
        for at, level in enumerate(LEVELS)
    ]
    for level, loss in zip(LEVELS, losses, strict=True):
        assert found[f"pinball/{level:g}"].value == pytest.approx(loss)
    assert found["pinball"].value == pytest.approx(np.mean(losses))
    below = [np.average(y <= q[:, at], weights=w) for at in range(3)]
    assert found["coverage/0.9"].value == pytest.approx(below[2])
    missed = np.mean(np.abs(np.array(below) - LEVELS))
    assert found["coverage_error"].value == pytest.approx(missed)
    inside = (y >= q[:, 0]) & (y <= q[:, 2])
    assert found["interval_coverage"].value == pytest.approx(np.average(inside, weights=w))
    width = np.average(q[:, 2] - q[:, 0], weights=w)
    assert found["interval_width"].value == pytest.approx(width)


def test_quantiles_of_the_wrong_number_are_refused(rows):
    with pytest.raises(DataError, match=r"\[rows, 2\]"):
        measure(Problem(task="quantile", quantiles=(0.1, 0.9)), rows["amount"], rows["quantiles"])


def test_counts_have_a_deviance_and_other_numbers_a_reason(rows):
    y, p = np.floor(rows["amount"]), rows["quantiles"][:, 1]
    found = measure("regression", y, p, rows["w"])
    expected = sk.mean_poisson_deviance(y, p, sample_weight=rows["w"])
    assert found["poisson_deviance"].value == pytest.approx(expected)
    below = measure("regression", y - 1, p)["poisson_deviance"]
    assert below.value is None
    assert below.reason == "a label is negative or a prediction is not positive"


def test_quantiles_of_a_class_are_refused_before_any_work():
    from estimator_lib.evaluation.configured import problem

    amount = labels.NumberLabel(field="amount")
    assert problem(amount, config.Evaluate(quantiles=[0.5])).task == "quantile"
    kind = labels.ClassLabel(field="kind", classes=("a", "b", "c"))
    assert problem(kind, config.Evaluate()) == Problem(task="multiclass", classes=("a", "b", "c"))


def test_several_numbers_without_levels_are_refused(rows):
    with pytest.raises(ConfigError, match=r"evaluate\.quantiles"):
        of_head({"predictions": rows["quantiles"]}, "regression")
    assert of_head({"predictions": rows["quantiles"]}, "quantile").shape == (500, 3)


def test_predictions_of_another_head_are_refused(rows):
    with pytest.raises(PipelineError, match="no 'logistic'"):
        of_head({"predictions": rows["amount"]}, "binary")
    with pytest.raises(PipelineError, match="nothing for head 'late'"):
        of_head({("other", "logistic"): rows["p"]}, HEADS)


# --- Importance -------------------------------------------------------------------------------


def test_importance_is_how_much_worse_the_metric_gets(rows):
    y, p = rows["y"][:, 0], rows["p"][:, 0]
    shuffled = {"little": [p, p], "much": [1 - p, np.full(500, 0.5)]}
    found = permutation_importance("binary", y, p, shuffled)
    auc = sk.roc_auc_score(y, p)
    much, little = found.features
    assert (much.field, little.field) == ("much", "little")
    assert much.low == pytest.approx(auc - 0.5)
    assert much.high == pytest.approx(auc - (1 - auc))
    assert much.worse_by == pytest.approx((much.low + much.high) / 2)
    assert little.worse_by == 0.0
    assert (found.metric, found.rows, found.repeats) == ("auc", 500, 2)
    errors = permutation_importance("regression", rows["amount"], rows["amount"], {"f": [p]})
    assert errors.features[0].worse_by > 0


def test_importance_of_an_undefined_metric_has_a_reason(rows):
    p = rows["p"][:, 0]
    found = permutation_importance("binary", np.ones(500), p, {"f": [p]})
    assert found.features[0].worse_by is None
    assert found.features[0].reason == "there are no negative labels"
