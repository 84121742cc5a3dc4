"""Verdicts, slices and the JSON form of an evaluation."""

import dataclasses
import json

import numpy as np
import pytest

from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, DataError, Reason
from estimator_lib.evaluation import bootstrap
from estimator_lib.evaluation.evaluation import Evaluation, Serving, evaluate


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
    for section in ("thresholds", "changes", "slice_thresholds", "slice_changes"):
        with pytest.raises(ConfigError, match="'auc'") as caught:
            run({section: {"aucc": {"min": 0.5}}, "slices": ["f"]})
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


def challenged(options, *, noise=0.0, champion_noise=0.0, n=600, **more):
    """A model with some noise against a champion with some."""
    _, champion = rows(n, noise=champion_noise)
    serving = Serving(model="1", predictions=champion)
    return run(options, noise=noise, n=n, serving=serving, **more)


def test_better_than_the_champion_is_blessed_and_worse_is_refused():
    better = challenged(GAIN, champion_noise=0.4)
    assert better.blessed
    assert better.comparison is not None
    assert better.comparison.model == "1"
    difference = run().metrics["auc"].value - run(noise=0.4).metrics["auc"].value
    assert better.comparison.changes["auc"].value == pytest.approx(difference)
    worse = challenged(GAIN, noise=0.4)
    assert worse.verdict == "refused"
    assert worse.checks[0].kind == "change"


def test_interval_of_a_difference_is_paired():
    found = challenged(GAIN, noise=0.02, n=3000)
    change, alone = found.comparison.changes["auc"], found.metrics["auc"]
    assert change.low < change.value < change.high
    # What both models get wrong cancels out: far narrower than two separate intervals.
    assert change.high - change.low < 0.25 * (alone.high - alone.low)
    same = challenged(GAIN).comparison.changes["auc"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_a_confident_change_asks_the_whole_interval():
    plain = {"changes": {"auc": {"min": 0.0}}}
    confident = {"changes": {"auc": {"min": 0.0, "confident": True}}}
    noise = {"champion_noise": 0.1}
    change = challenged(plain, **noise).comparison.changes["auc"]
    assert change.low < 0 < change.value
    assert challenged(plain, **noise).blessed
    refused = challenged(confident, **noise)
    assert refused.verdict == "refused"
    assert refused.checks[0].actual == change.low
    assert "lower end" in refused.reasons[0]
    assert challenged(confident, champion_noise=0.4).blessed


@pytest.mark.parametrize("predictions", [[0.5] * 7, [[0.2, 0.8]] * 600, [2.0] * 600])
def test_a_champion_that_predicts_something_else_is_not_evaluated(predictions):
    serving = Serving(model="1", predictions=predictions)
    found = run({**GAIN, "thresholds": {"auc": {"min": 0.5}}}, serving=serving)
    assert found.verdict == "not_evaluated"
    assert "cannot be compared" in found.reasons[0]
    assert not found.comparison.comparable
    assert {m.value for m in found.comparison.changes.values()} == {None}


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


def sliced(options, values, *, noise=0.0, **more):
    """A model that is bad where `values` is "bad"."""
    y, p = rows()
    values = np.array(values)
    p = np.where(values == "bad", 1 - p, p)
    return evaluate(
        task="binary",
        labels=y,
        predictions=p,
        slices={"f": values, "g": ["x", "y"] * 300},
        options=config.Evaluate.model_validate({"min_slice_rows": 50, **options}),
        **more,
    )


HALVES = ["good"] * 400 + ["bad"] * 200


def test_crossed_slices_are_the_combinations_that_occur():
    found = sliced({"slices": ["f", ["f", "g"]]}, HALVES)
    assert [f.field for f in found.sliced_fields] == ["f", "f × g"]  # noqa: RUF001
    assert [f.values for f in found.sliced_fields] == [2, 4]
    crossed = {s.value: s for s in found.slices if s.field == "f × g"}  # noqa: RUF001
    assert {name: part.rows for name, part in crossed.items()} == {
        "good × x": 200, "good × y": 200, "bad × x": 100, "bad × y": 100,  # noqa: RUF001
    }  # fmt: skip
    y, p = rows()
    mine = (np.array(HALVES) == "good") & (np.arange(600) % 2 == 0)
    alone = bootstrap.measure("binary", y[mine], p[mine])
    assert crossed["good × x"].metrics["auc"].value == pytest.approx(alone["auc"].value)  # noqa: RUF001


def test_missing_values_have_a_name_in_a_cross():
    values = ["good"] * 400 + [None] * 200
    y, p = rows()
    options = config.Evaluate(slices=[["f", "g"]])
    given = {"f": values, "g": ["x"] * 600}
    found = evaluate(task="binary", labels=y, predictions=p, slices=given, options=options)
    assert [s.value for s in found.slices] == ["good × x", "(missing) × x"]  # noqa: RUF001


def test_a_cross_of_an_unknown_field_is_refused():
    with pytest.raises(ConfigError, match="'h'"):
        sliced({"slices": [["f", "h"]]}, HALVES)


def test_a_bound_on_slices_names_the_slices_that_miss_it():
    bound = {"slices": ["f"], "slice_thresholds": {"auc": {"min": 0.5}}}
    found = sliced(bound, HALVES)
    assert found.verdict == "refused"
    (check,) = found.checks
    assert (check.kind, check.slices, check.failed_slices) == ("slice_value", 2, ("f = bad",))
    assert "f = bad" in found.reasons[0]
    assert {s.value: s for s in found.slices}["bad"].metrics["auc"].value == check.actual
    assert sliced(bound, ["good"] * 600).blessed


def test_a_bound_on_slices_can_leave_small_ones_alone():
    bound = {"slices": ["f"], "slice_thresholds": {"auc": {"min": 0.5, "min_rows": 201}}}
    found = sliced(bound, HALVES)
    assert found.blessed
    assert found.checks[0].slices == 1


def test_a_bound_on_slices_that_meets_none_is_not_evaluated():
    bound = {"slices": ["f"], "slice_thresholds": {"auc": {"min": 0.1, "min_rows": 601}}}
    found = sliced({**bound, "thresholds": {"loss": {"max": 9.0}}}, HALVES)
    assert found.verdict == "not_evaluated"
    assert "no slice has enough rows" in found.reasons[0]


def test_a_slice_whose_metric_is_undefined_misses_its_bound():
    y = np.array([0] * 60 + [0, 1] * 30)
    found = evaluate(
        task="binary",
        labels=y,
        predictions=np.linspace(0.1, 0.9, 120),
        slices={"f": ["none"] * 60 + ["some"] * 60},
        options=config.Evaluate.model_validate(
            {"slices": ["f"], "slice_thresholds": {"auc": {"min": 0.0}}, "min_slice_rows": 10}
        ),
    )
    assert found.verdict == "refused"
    assert "there are no positive labels" in found.reasons[0]


def test_a_bound_beyond_chance_forgives_what_noise_explains():
    y, p = rows()
    low = bootstrap.measure("binary", y[:60], p[:60])["auc"].value
    values = ["small"] * 60 + ["large"] * 540

    def judge(limit, **more):
        bound = {"slices": ["f"], "slice_thresholds": {"auc": {"min": limit, **more}}}
        return sliced(bound, values)

    assert judge(low + 0.01).verdict == "refused"
    forgiven = judge(low + 0.01, beyond_chance=True)
    assert forgiven.blessed
    assert judge(0.99, beyond_chance=True).verdict == "refused"


def test_a_slice_may_not_fall_against_the_serving_model():
    _, p = rows()
    serving = Serving(model="1", predictions=p)
    bound = {"slices": ["f"], "slice_changes": {"auc": {"min": -0.02}}}
    found = sliced(bound, HALVES, serving=serving)
    assert found.verdict == "refused"
    assert found.checks[0].failed_slices == ("f = bad",)
    by_value = {s.value: s.changes["auc"] for s in found.slices}
    assert by_value["good"].value == pytest.approx(0.0)
    assert by_value["bad"].high < -0.02
    assert sliced(bound, ["good"] * 600, serving=serving).blessed
    assert sliced(bound, HALVES).verdict == "not_evaluated"  # no model is serving


def test_listed_slices_are_bounded_and_the_rest_is_checked_and_counted():
    values = [f"v{i % 10}" for i in range(600)]
    values[:60] = ["bad"] * 60
    options = {
        "slices": ["f"], "max_slices": 3, "slice_thresholds": {"auc": {"min": 0.45}},
    }  # fmt: skip
    found = sliced(options, values)
    listed = [s.value for s in found.slices]
    assert len(listed) <= 3 + len(found.checks[0].failed_slices)
    assert "bad" in listed
    (field,) = found.sliced_fields
    assert field.unlisted_values == 11 - len(listed)
    assert field.unlisted_rows == 600 - sum(s.rows for s in found.slices)
    assert found.checks[0].slices == 11


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slice_thresholds": {"auc": {"min": 0.5}}}, "needs slices"),
        ({"slices": ["f"], "slice_changes": {"auc": {"min": 0, "min_rows": 9}}}, "min_slice_rows"),
        ({"slices": [["f"]]}, "at least 2"),
        ({"slices": [["f", "f"]]}, "different fields"),
        ({"slices": [1]}, "expected a field"),
        ({"slices": ["f", ["f", "g"], ["f", "g"]]}, "twice"),
        ({"quantiles": [0.5, 0.1]}, "ascending"),
        ({"importance": {"rows": -1}}, "greater than or equal to 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        config.Evaluate.model_validate(options)


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
        _changed(["format"], 1),
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
