"""Fault 28: what is undefined, NaN or infinite holds no bound, in a verdict or an exporter.

Fails when `evaluation.gate` lets any comparison with such a number pass, or when `BestExporter`
lets one win.
"""

import json
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from estimator_lib.core import config
from estimator_lib.evaluation import gate
from estimator_lib.evaluation.evaluation import Serving, evaluate
from estimator_lib.evaluation.metrics import Metric
from estimator_lib.evaluation.results import Comparison, Slice
from estimator_lib.export import exporters

ODD = [None, math.nan, math.inf, -math.inf]
BOTH = {"min": -1, "max": 1}
NUMBER = st.one_of(st.sampled_from([*ODD, 0.0, -0.0, 0.5, 1.0]), st.floats())
METRIC = st.builds(Metric, value=NUMBER, low=NUMBER, high=NUMBER)
METRICS = st.dictionaries(st.sampled_from(["auc", "loss"]), METRIC)
LIMIT = st.one_of(st.none(), st.floats(-1, 1, allow_nan=False))


def bounds(kind, **more):
    return st.builds(dict, min=LIMIT, max=LIMIT, **more).filter(
        lambda given: given["min"] is not None or given["max"] is not None
    ).filter(
        lambda given: None in (given["min"], given["max"]) or given["min"] <= given["max"]
    ).map(kind.model_validate)  # fmt: skip


def section(kind, **more):
    return st.dictionaries(st.sampled_from(["auc", "loss"]), bounds(kind, **more), max_size=2)


WANTED = st.builds(
    lambda *given: config.Evaluate(slices=["f"], min_slice_rows=1).model_copy(
        update=dict(
            zip(("thresholds", "slice_thresholds", "changes", "slice_changes"), given, strict=True)
        )
    ),
    section(config.Threshold),
    section(config.SliceThreshold, beyond_chance=st.booleans()),
    section(config.Change, confident=st.booleans()),
    section(config.SliceThreshold, beyond_chance=st.booleans()),
)
SLICES = st.lists(
    st.builds(Slice, field=st.just("f"), value=st.text(max_size=2), rows=st.integers(1, 9),
              metrics=METRICS, changes=METRICS), max_size=3,
)  # fmt: skip
COMPARISON = st.none() | st.builds(
    Comparison, model=st.just("1"), metrics=METRICS, changes=METRICS, comparable=st.booleans(),
    reason=st.just("why"),
)  # fmt: skip


def holds(metric, given):
    """Whether a defined, finite value is within bounds."""
    if metric is None or metric.value is None or not math.isfinite(metric.value):
        return False
    low = -math.inf if given.min is None else given.min
    high = math.inf if given.max is None else given.max
    return low <= metric.value <= high


@hypothesis.settings(deadline=None, max_examples=400)
@hypothesis.given(overall=METRICS, slices=SLICES, comparison=COMPARISON, wanted=WANTED)
def test_blessed_means_that_every_bound_was_met_by_a_finite_number(
    overall, slices, comparison, wanted
):
    checks = gate.check(overall, slices, comparison, wanted)
    verdict, reasons = gate.decide(checks, comparison, wanted)
    assert reasons
    assert all(check.actual is None or math.isfinite(check.actual) for check in checks)
    if verdict != "blessed":
        return
    assert checks
    for name, given in wanted.thresholds.items():
        assert holds(overall.get(name), given)
    if wanted.changes or wanted.slice_changes:
        assert comparison is None or comparison.comparable
        assert comparison is not None or not wanted.needs_baseline
    for name, given in wanted.changes.items() if comparison is not None else ():
        assert holds(comparison.changes.get(name), given)
    for name, given in wanted.slice_thresholds.items():
        assert slices
        for part in slices:
            value = part.metrics.get(name, Metric(value=None)).value
            assert value is not None
            assert math.isfinite(value)
            if not given.beyond_chance:
                assert holds(part.metrics.get(name), given)


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("bound", [{"min": 0.1}, {"max": 0.1}])
def test_odd_number_is_refused_by_a_minimum_and_by_a_maximum(value, bound):
    wanted = config.Evaluate.model_validate({"thresholds": {"auc": bound}})
    for overall in ({"auc": Metric(value=value)}, {}):
        verdict, _ = gate.decide(gate.check(overall, [], None, wanted), None, wanted)
        assert verdict == "refused"


def test_bound_that_nobody_checked_is_not_evaluated():
    wanted = config.Evaluate.model_validate({"thresholds": {"auc": {"min": 0}, "loss": {"max": 1}}})
    checks = gate.check({"auc": Metric(value=1.0), "loss": Metric(value=0.0)}, [], None, wanted)
    assert gate.decide(checks, None, wanted)[0] == "blessed"
    verdict, reasons = gate.decide(checks[:1], None, wanted)
    assert (verdict, reasons) == ("not_evaluated", ("The maximum of loss was not checked.",))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_prediction_that_is_no_number_is_never_blessed(bad):
    wanted = {"thresholds": {"loss": {"max": 1e300}, "auc": {"min": 0}}, "changes": {"auc": BOTH}}
    good, odd = [0.1, 0.2, 0.9], [0.1, bad, 0.9]
    for ours, theirs in ((odd, good), (good, odd), (odd, odd)):
        found = evaluate(
            task="binary", labels=[0, 1, 1], predictions=ours,
            serving=Serving(model="1", predictions=theirs),
            options=config.Evaluate.model_validate(wanted),
        )  # fmt: skip
        assert found.verdict != "blessed"


def test_evaluation_of_what_is_undefined_is_strict_json_and_refused():
    found = evaluate(
        task="binary", labels=[1, 1], predictions=[0.3, 0.4],
        options=config.Evaluate.model_validate({"thresholds": {"auc": {"min": 0.0}}}),
    )  # fmt: skip

    def refuse(token):
        raise AssertionError(token)

    told = json.loads(found.to_json(), parse_constant=refuse)
    assert told["metrics"]["auc"]["value"] is None
    assert told["metrics"]["auc"]["reason"]
    assert found.verdict == "refused"


class Saves:
    """Stands in for the Estimator of an exporter, which only asks it to export."""

    def __init__(self):
        self.count = 0

    def export_saved_model(self, base, *args, **kwargs):
        from estimator_lib.export import retention

        self.count += 1
        fill = retention.commit(base, lambda d: (d / "saved_model.pb").write_text("x"))
        return str(fill).encode()


@pytest.mark.parametrize("odd", ODD)
def test_metric_that_is_no_number_never_becomes_the_best(tmp_path, odd):
    model = Saves()
    exporter = exporters.BestExporter("best", lambda: None)

    def export(loss):
        return exporter.export(model, str(tmp_path), "ckpt", {"loss": loss}, False)

    assert export(odd) is None
    assert export(0.5) is not None
    assert export(odd) is None
    assert export(0.4) is not None
    assert model.count == 2
