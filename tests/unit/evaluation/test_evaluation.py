"""Verdicts, slices and the JSON form of an evaluation."""

import dataclasses
import json

import numpy as np
import pytest

from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, DataError, Reason
from estimator_lib.evaluation import bootstrap
from estimator_lib.evaluation.evaluation import Evaluation, evaluate


def rows(n=600, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 4, n)
    y = (rng.random(n) < p).astype(int)
    return y, np.clip(p + noise * rng.normal(size=n), 0, 1)


def run(options=None, *, noise=0.0, n=600, **more):
    y, p = rows(n, noise=noise)
    wanted = config.Evaluate.model_validate(options or {})
    return evaluate(task="binary", labels=y, predictions=p, options=wanted, **more)


def test_thresholds_that_hold_bless():
    found = run({"thresholds": {"auc": {"min": 0.55}, "loss": {"max": 0.9}}})
    assert found.verdict == "blessed"
    assert found.blessed
    assert [c.passed for c in found.checks] == [True, True]
    assert len(found.reasons) == 2


def test_a_missed_threshold_refuses_and_says_both_numbers():
    found = run({"thresholds": {"auc": {"min": 0.99}, "loss": {"max": 0.9}}})
    assert found.verdict == "refused"
    assert len(found.reasons) == 1
    assert "auc" in found.reasons[0]
    assert "0.99" in found.reasons[0]


def test_no_thresholds_is_not_evaluated():
    assert run().verdict == "not_evaluated"
    assert run().reasons


def test_unknown_metric_is_refused_with_a_suggestion():
    for section in ("thresholds", "changes"):
        with pytest.raises(ConfigError, match="'auc'") as caught:
            run({section: {"aucc": {"min": 0.5}}})
        assert caught.value.reason == Reason.UNKNOWN_NAME


def test_undefined_metric_never_passes():
    found = evaluate(
        task="binary",
        labels=[1, 1],
        predictions=[0.3, 0.4],
        options=config.Evaluate.model_validate({"thresholds": {"auc": {"max": 1.0}}}),
    )
    assert found.verdict == "refused"
    assert "undefined" in found.reasons[0]
    assert found.checks[0].actual is None


def test_predictions_that_are_not_finite_refuse():
    y, p = rows()
    p[3] = np.nan
    options = config.Evaluate.model_validate({"thresholds": {"loss": {"max": 9.0}}})
    slices = {"half": ["a"] * 300 + ["b"] * 300}
    found = evaluate(task="binary", labels=y, predictions=p, options=options, slices=slices)
    assert found.verdict == "refused"
    assert found.curves.roc is None
    assert [s.metrics["loss"].value is None for s in found.slices] == [True, False]
    assert Evaluation.from_json(found.to_json()) == found


def test_bound_equal_to_the_metric_passes():
    value = run().metrics["accuracy"].value
    assert run({"thresholds": {"accuracy": {"min": value, "max": value}}}).blessed
    missed = run({"thresholds": {"accuracy": {"min": np.nextafter(value, 1)}}})
    assert missed.verdict == "refused"
    assert repr(value) in missed.reasons[0]


# --- Against the serving model ----------------------------------------------------------------

GAIN = {"changes": {"auc": {"min": 0.001}}}


def test_better_than_baseline_is_blessed_and_worse_is_refused():
    good = run(model="2", data_fingerprint="d")
    bad = run(model="1", data_fingerprint="d", noise=0.4)
    better = run(GAIN, baseline=bad, data_fingerprint="d")
    assert better.blessed
    assert better.comparison is not None
    assert better.comparison.model == "1"
    change = better.comparison.changes["auc"]
    assert change == pytest.approx(good.metrics["auc"].value - bad.metrics["auc"].value)
    worse = run(GAIN, noise=0.4, baseline=good, data_fingerprint="d")
    assert worse.verdict == "refused"
    assert worse.checks[0].kind == "change"


@pytest.mark.parametrize("fingerprints", [("a", "b"), (None, None), ("a", None)])
def test_baseline_on_other_data_is_not_evaluated(fingerprints):
    mine, theirs = fingerprints
    baseline = run(data_fingerprint=theirs)
    found = run(
        {**GAIN, "thresholds": {"auc": {"min": 0.5}}}, baseline=baseline, data_fingerprint=mine
    )
    assert found.verdict == "not_evaluated"
    assert found.comparison is not None
    assert not found.comparison.comparable
    assert set(found.comparison.changes.values()) == {None}


def test_no_baseline_is_not_evaluated_unless_allowed():
    options = {**GAIN, "thresholds": {"auc": {"min": 0.5}}}
    assert run(options).verdict == "not_evaluated"
    assert run({**options, "needs_baseline": False}).verdict == "blessed"
    assert run({**GAIN, "needs_baseline": False}).verdict == "not_evaluated"


def test_a_missed_threshold_refuses_even_without_baseline():
    assert run({**GAIN, "thresholds": {"auc": {"min": 0.99}}}).verdict == "refused"


def test_a_change_without_bounds_is_refused():
    with pytest.raises(ValueError, match="give min, max or both"):
        config.Evaluate.model_validate({"changes": {"auc": {}}})


# --- Slices -----------------------------------------------------------------------------------


def test_slices_have_the_metrics_of_their_rows():
    y, p = rows()
    rng = np.random.default_rng(3)
    weights = rng.random(600)
    field = rng.choice(["x", "y", ""], 600, p=[0.5, 0.3, 0.2])
    found = evaluate(
        task="binary",
        labels=y,
        predictions=p,
        weights=weights,
        slices={"f": [v or None for v in field]},
        options=config.Evaluate(min_slice_rows=10),
    )
    assert [s.value for s in found.slices] == ["x", "y", ""]
    for part in found.slices:
        mine = field == part.value
        assert part.rows == mine.sum()
        alone = bootstrap.measure("binary", y[mine], p[mine], weights[mine])
        for name in set(alone) - {"ece"}:  # bins are those of the whole table
            assert part.metrics[name].value == pytest.approx(alone[name].value), name
        assert part.metrics["auc"].low < part.metrics["auc"].high


def test_small_slices_are_counted_but_not_shown():
    y, p = rows()
    field = ["big"] * 590 + ["small"] * 9 + ["tiny"]
    found = evaluate(
        task="binary",
        labels=y,
        predictions=p,
        slices={"f": field},
        options=config.Evaluate(min_slice_rows=100),
    )
    assert [s.value for s in found.slices] == ["big"]
    (field_summary,) = found.sliced_fields
    assert field_summary.values == 3
    assert field_summary.hidden_values == 2
    assert field_summary.hidden_rows == 10


def test_slice_of_wrong_length_is_refused():
    y, p = rows()
    with pytest.raises(DataError, match="'f'"):
        evaluate(task="binary", labels=y, predictions=p, slices={"f": ["a"]})


# --- JSON -------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_json_round_trip_is_exact_and_strict(task):
    y, p = rows()
    shaped = np.stack([1 - p, p], axis=1) if task == "multiclass" else p
    found = evaluate(
        task=task,
        labels=y,
        predictions=shaped,
        slices={"f": ["a"] * 598 + ["b"] * 2},
        options=config.Evaluate(min_slice_rows=1),
        step=12,
        model_digest="abc",
    )
    text = found.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert Evaluation.from_json(text) == found
    assert Evaluation.from_json(text).to_json() == text


def test_an_evaluation_of_nothing_is_valid_json():
    found = evaluate(task="binary", labels=[], predictions=[])
    assert all(m.value is None and m.reason for m in found.metrics.values())
    assert Evaluation.from_json(found.to_json()) == found


def _changed(place, value):
    content = json.loads(run().to_json())
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        _changed(["unknown"], 1),
        _changed(["metrics", "auc", "value"], "0.5"),
        _changed(["metrics", "auc", "value"], float("nan")),
        _changed(["metrics", "auc", "unknown"], None),
        _changed(["curves", "roc", "unknown"], None),
        _changed(["verdict"], "fine"),
        _changed(["format"], 2),
        '{"rows": 1, "rows": 2}',
    ],
)
def test_damaged_json_is_refused(text):
    with pytest.raises(DataError) as caught:
        Evaluation.from_json(text)
    assert caught.value.reason == Reason.CORRUPT_FILE


def test_nan_cannot_be_written():
    found = dataclasses.replace(run(), weight=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        found.to_json()
