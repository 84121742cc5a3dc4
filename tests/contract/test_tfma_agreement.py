"""Our metrics are those of TensorFlow Model Analysis, whole, by slice and by crossed slice."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from estimator_lib.core import config
from estimator_lib.evaluation import evaluate

_PLACE = pathlib.Path(__file__).parents[1] / "golden" / "make_tfma_metrics.py"
_SPEC = importlib.util.spec_from_file_location("make_tfma_metrics", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
golden = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden)

# TFMA counts scores in 10,000 bins and interpolates between points of the precision-recall
# curve, which lies above the average precision of a few rows; the rest differs by float32.
TOLERANCE = {"auc": 1e-3, "auc_precision_recall": 0.02}


@pytest.fixture(scope="module")
def content():
    return json.loads(golden.PLACE.read_text())


def ours(data, task):
    """Metrics by slice, as TFMA's."""
    found = evaluate(
        task=task,
        labels=data[task]["labels"],
        predictions=data[task]["predictions"],
        weights=data["weight"],
        slices={"carrier": data["carrier"], "origin": data["origin"]},
        options=config.Evaluate(slices=["carrier", ["carrier", "origin"]], min_slice_rows=1),
    )
    parts = {part.value.replace(" \N{MULTIPLICATION SIGN} ", " "): part for part in found.slices}
    measured = {"": found.metrics} | {value: part.metrics for value, part in parts.items()}
    return {value: {n: m.value for n, m in metrics.items()} for value, metrics in measured.items()}


def agree(mine, theirs):
    assert mine.keys() == theirs.keys()
    assert len(mine) == 7
    for value, metrics in theirs.items():
        for name, expected in metrics.items():
            tolerance = TOLERANCE.get(name, 1e-5)
            assert mine[value][name] == pytest.approx(expected, abs=tolerance, rel=1e-5), (
                value,
                name,
            )


@pytest.mark.parametrize("task", golden.NAMES)
def test_metrics_agree_with_the_figures_of_tfma(content, task):
    agree(ours(content["rows"], task), content["figures"][task])


def test_a_wrong_metric_would_be_found(content):
    mine = ours(content["rows"], "binary")
    mine["AA EWR"]["loss"] += 1e-3
    with pytest.raises(AssertionError, match="AA EWR"):
        agree(mine, content["figures"]["binary"])


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_model_analysis") is None,
    reason="needs the extra tfma: pip install 'estimator-pipelines[tfma]'",
)
@pytest.mark.parametrize("task", golden.NAMES)
def test_metrics_agree_with_tfma_itself(content, task):
    theirs = golden.figures(content["rows"], task)
    agree(ours(content["rows"], task), theirs)
    for value, metrics in theirs.items():
        assert metrics == pytest.approx(content["figures"][task][value], rel=1e-6)


def test_a_multi_label_model_is_measured_as_its_labels_one_by_one(content):
    from estimator_lib.evaluation import Problem

    data = content["rows"]
    labels = np.stack([data["binary"]["labels"], np.array(data["carrier"]) == "AA"], axis=1)
    scores = np.stack([data["binary"]["predictions"]] * 2, axis=1)
    found = evaluate(
        task=Problem(task="multilabel", classes=("late", "ours")),
        labels=labels,
        predictions=scores,
        weights=data["weight"],
    )
    for name, expected in content["figures"]["binary"][""].items():
        tolerance = TOLERANCE.get(name, 1e-5)
        assert found.metrics[f"{name}/late"].value == pytest.approx(expected, abs=tolerance)
