"""Fault 29: no bound, no baseline, other data or another definition: never an implicit pass.

Fails when `evaluation.gate.decide` blesses without a check, when a comparison is made of models
that do not predict the same (another field, other classes), or when export believes an evaluation
of something else.
"""

import json

import numpy as np
import pytest

from components.steps import export, scoring
from estimator_lib.core import config, manifest, storage
from estimator_lib.core.errors import ConfigError, EstimatorLibError, ExportError, Reason
from estimator_lib.evaluation.evaluation import Serving, evaluate

BETTER = {"changes": {"auc": {"min": -1.0}}}


def run(options, predictions=None):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    ours = np.clip(labels * 0.3 + rng.random(300) * 0.6, 0, 1)
    serving = None if predictions is None else Serving(model="1", predictions=predictions)
    return evaluate(
        task="binary", labels=labels, predictions=ours,
        options=config.Evaluate.model_validate(options), serving=serving,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "serving", "verdict"),
    [
        ({}, None, "not_evaluated"),
        ({"thresholds": {}}, None, "not_evaluated"),
        (BETTER, None, "not_evaluated"),
        ({**BETTER, "needs_baseline": False}, None, "not_evaluated"),
        (BETTER, "the same rows", "blessed"),
        (BETTER, "fewer rows", "not_evaluated"),
        (BETTER, "classes", "not_evaluated"),
        (BETTER, "not a number", "refused"),
        ({**BETTER, "thresholds": {"auc": {"min": 0.1}}}, "fewer rows", "not_evaluated"),
    ],
)
def test_without_something_to_compare_nothing_is_blessed(options, serving, verdict):
    given = {
        None: None,
        "the same rows": np.full(300, 0.5),
        "fewer rows": np.full(299, 0.5),
        "classes": np.full((300, 3), 1 / 3),
        "not a number": np.full(300, np.nan),
    }[serving]
    found = run(options, given)
    assert found.verdict == verdict
    assert found.reasons


@pytest.mark.parametrize("limit", [".nan", ".inf", "-.inf"])
def test_bound_that_is_no_number_opens_no_gate(limit):
    setting = f"evaluate.thresholds={{auc: {{min: {limit}}}}}"
    try:
        wanted = config.load("pipelines/examples/flights/config.yaml", [setting])
    except ConfigError:
        return
    assert run(wanted.evaluate.model_dump()).verdict == "refused"


@pytest.fixture
def made(tmp_path):
    """An evaluation of a model on examples, as the step writes it."""

    def make(name, kind, content, **metadata):
        with manifest.committed_artifact(tmp_path / name) as writer:
            writer.kind = kind
            writer.metadata.update(metadata)
            storage.write_json(writer.directory / "evaluation.json", content)
        return str(tmp_path / name)

    examples = make("examples", "examples", {})
    digest = manifest.read(examples).digest

    def evaluation(**other):
        told = {"verdict": "blessed", **other.pop("told", {})}
        metadata = {"verdict": "blessed", "model": "m" * 64, "examples": digest, **other}
        return make("evaluation", "evaluation", told, **metadata), "m" * 64, examples

    return evaluation


def test_blessed_evaluation_of_this_model_and_these_examples_is_believed(made):
    export._require_blessing("blessed", *made())


@pytest.mark.parametrize(
    ("verdict", "other", "reason"),
    [
        ("refused", {}, Reason.CONFLICT),
        ("", {}, Reason.CONFLICT),
        ("Blessed", {}, Reason.CONFLICT),
        ("blessed", {"verdict": "refused"}, Reason.CONFLICT),
        ("blessed", {"verdict": None}, Reason.CONFLICT),
        ("blessed", {"told": {"verdict": "not_evaluated"}}, Reason.CONFLICT),
        ("blessed", {"model": "n" * 64}, Reason.DIGEST_MISMATCH),
        ("blessed", {"model": None}, Reason.DIGEST_MISMATCH),
        ("blessed", {"examples": "o" * 64}, Reason.DIGEST_MISMATCH),
        ("blessed", {"examples": None}, Reason.DIGEST_MISMATCH),
    ],
)
def test_any_other_evaluation_publishes_nothing(made, verdict, other, reason):
    with pytest.raises(ExportError) as caught:
        export._require_blessing(verdict, *made(**other))
    assert caught.value.reason is reason


def test_evaluation_that_was_changed_afterwards_publishes_nothing(made, tmp_path):
    given = made(verdict="refused", told={"verdict": "refused"})
    path = tmp_path / "evaluation" / "evaluation.json"
    path.write_text(json.dumps({"verdict": "blessed"}))
    with pytest.raises(EstimatorLibError):
        export._require_blessing("blessed", *given)


LATE = {"field": "late", "kind": "class", "classes": ["no", "yes"]}
TAGS = {"kind": "multilabel", "fields": ["wet", "windy"], "classes": ["wet", "windy"]}


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (LATE, LATE, None),
        (LATE, {**LATE, "field": "diverted"}, "it predicts diverted, expected late"),
        (LATE, {**LATE, "classes": ["yes", "no"]}, "its classes of 'late' are yes, no"),
        (LATE, TAGS, "it predicts wet, windy"),
        (TAGS, {**TAGS, "fields": ["windy", "wet"]}, "it predicts windy, wet"),
        (LATE, {"field": "delay", "kind": "number", "classes": None}, "it predicts delay"),
        (LATE, {"field": "late", "kind": "guess", "classes": 7}, "damaged"),
        (LATE, "[", "damaged"),
    ],
)
def test_serving_model_of_something_else_is_no_baseline(tmp_path, ours, theirs, said):
    text = theirs if isinstance(theirs, str) else json.dumps({"label": theirs})
    (tmp_path / manifest.LINEAGE).write_text(text)
    if said is None:
        scoring._require_same_label(str(tmp_path), ours)
        return
    with pytest.raises(EstimatorLibError, match=said):
        scoring._require_same_label(str(tmp_path), ours)
