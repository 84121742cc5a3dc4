"""Which numbers of a run are doubted, and that honest ones are not."""

import dataclasses

import pytest

from estimator_lib.core import labels
from estimator_lib.evaluation.cautions import cautions
from estimator_lib.evaluation.feature_statistics import FeatureComparison
from estimator_lib.evaluation.results import Evaluation, FeatureImportance, Importance, Part

LABEL = labels.ClassLabel(field="y", classes=("stayed", "churned"))
HISTORY = [
    {"step": step, "loss": loss, "metrics": {"average_loss": seen}}
    for step, loss, seen in ((10, 0.7, 0.69), (20, 0.6, 0.62), (30, 0.5, 0.6), (40, 0.5, 0.61))
]


def importance(base, worse_by, metric="auc"):
    fields = (FeatureImportance(field="x", worse_by=worse_by),)
    return Importance(metric=metric, base=base, rows=100, repeats=3, features=fields)


def feature(name, kind="number", **changes):
    statistics = {
        "name": name, "type": kind, "rows": 1000, "missing": 0, "missing_fraction": 0.0,
        "values": 1000, "distinct": 5, "mean": 0.5, "std": 1.0, "min": 0.0, "max": 1.0,
        "median": 0.5, "zeros": 1, "quantiles": [], "histogram": [], "top": [], "common": [],
    } | changes  # fmt: skip
    return FeatureComparison(name=name, type=kind, splits={"train": statistics}, shift=None)


def told(evaluation=None, **changes):
    given = {
        "label": LABEL,
        "counts": {
            "train": {"kept": 1000, "label": {"stayed": 900, "churned": 100}},
            "eval": {"kept": 300, "label": {"stayed": 200, "churned": 100}},
        },
        "features": [feature("x"), feature("c", "text")],
        "read": ["x", "c"],
        "vocabularies": {"c": 5},
        "history": HISTORY,
    } | changes
    evaluation = evaluation or Evaluation(
        task="binary", rows=300, weight=300.0, metrics={}, importance=importance(0.8, 0.2)
    )
    return cautions(evaluation, **given)


def test_an_honest_run_has_no_warning():
    assert told() == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": {"train": {"label": {"stayed": 9}},
                     "eval": {"kept": 900, "label": {"stayed": 450, "churned": 450}}}},
         "No train row of 'y' is churned"),
        ({"counts": {"train": {"label": {"stayed": 9, "churned": 1}}, "eval": {"kept": 20}}},
         "The eval split has 20 rows"),
        ({"counts": {"train": {"label": {"stayed": 9, "churned": 1}},
                     "eval": {"kept": 900, "label": {"stayed": 890, "churned": 10}}}},
         "churned 10"),
        ({"features": [feature("x", min=3.0, max=3.0)]}, "same value in every train row: x"),
        ({"features": [feature("c", "text", distinct=1)]}, "same value in every train row: c"),
        ({"vocabularies": {"c": 900}}, "'c' looks like an identifier: 900 different values"),
        ({"features": [feature("x", missing=1000)]}, "No value in every train row: x"),
        ({"history": [*HISTORY, {"step": 90, "metrics": {"average_loss": 0.9}}]},
         "best at step 30 (0.6)"),
        ({"history": [{"step": s, "loss": 1.0 * s} for s in (1, 2, 3, 9)]}, "grew from 1 to 9"),
        ({"history": [{"step": s, "loss": loss, "metrics": {"average_loss": loss}}
                      for s, loss in ((1, 99), (2, 150), (3, 140), (4, 180))]},
         "was 99 at first and is 180, where guesses without any field have 0.6931"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_said_once(changes, said):
    (sentence,) = told(**changes)
    assert said in sentence


@pytest.mark.parametrize(
    "changes",
    [
        {"features": [feature("other", min=3.0, max=3.0)]},
        {"features": [feature("x", min=3.0, max=3.0, missing=5)]},
        {"features": [feature("c", "text", distinct=900)], "vocabularies": {}},
        {"features": [feature("c", "text", distinct=90, values=100)], "vocabularies": {"c": 90}},
        # Texts seen once are left out of the vocabulary, and words are many to a row.
        {"features": [feature("c", "text", distinct=900)], "vocabularies": {"c": 100}},
        {"features": [feature("c", "text", values=9000)], "vocabularies": {"c": 900}},
        # The last window is of one batch.
        {
            "history": [
                {"step": s, "loss": loss} for s, loss in ((1, 1), (2, 0.9), (3, 0.8), (4, 9))
            ]
        },
        {"history": HISTORY[:2]},
    ],
)
def test_what_may_well_be_is_not_doubted(changes):
    assert told(**changes) == ()


def test_weights_that_training_came_back_to_are_not_overfitted():
    history = [*HISTORY, {"step": 90, "metrics": {"average_loss": 0.9}}]
    known = {"task": "binary", "rows": 300, "weight": 300.0, "metrics": {}}
    assert told(Evaluation(**known, step=30), history=history) == ()
    assert len(told(Evaluation(**known, step=90), history=history)) == 1


def test_fields_that_each_give_the_label_away_are_named_together():
    base = importance(0.99, 0.0, "accuracy")
    fields = [dataclasses.replace(base.features[0], field=f, alone=a)
              for f, a in (("copy", 1.0), ("other", 0.995), ("good", 0.98))]  # fmt: skip
    whole = Evaluation(task="multiclass", rows=300, weight=300.0, metrics={},
                       importance=dataclasses.replace(base, features=tuple(fields)))  # fmt: skip
    (sentence,) = told(whole)
    assert "AUC is 1.0000, 0.9950 without any model" in sentence
    assert sentence.startswith("Each of the fields 'copy', 'other' alone gives")


def test_a_field_that_gives_the_label_away_is_named():
    base = Evaluation(task="binary", rows=300, weight=300.0, metrics={})
    for shown, count in (
        (importance(0.999, 0.49), 1),
        (importance(0.999, 0.2), 0),
        (importance(0.9, 0.4), 0),
        (importance(0.99, 0.5, "accuracy"), 0),
    ):
        assert len(told(dataclasses.replace(base, importance=shown))) == count
    part = Part(name="late", task="binary", curves=base.curves, importance=importance(1.0, 0.5))
    (sentence,) = told(dataclasses.replace(base, task="multihead", parts=(part,)))
    assert "'x' alone gives the label of late away" in sentence
