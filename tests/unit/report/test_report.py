"""The report: one self-contained, well-formed, escaped page, whatever is in the data."""

import dataclasses
import html.parser
import importlib.util
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from estimator_lib.core import config
from estimator_lib.evaluation.evaluation import Serving, evaluate
from estimator_lib.evaluation.metrics import Problem
from estimator_lib.report import charts
from estimator_lib.report.model import ReportInput, model_card, render
from estimator_lib.report.wording import format_metric

_PLACE = pathlib.Path(__file__).with_name("sample.py")
_SPEC = importlib.util.spec_from_file_location("report_sample", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
sample = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sample)

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>]]>&amp;"


@pytest.fixture(scope="module")
def report():
    return sample.report(4000)


@pytest.fixture(scope="module")
def page(report):
    return render(report)


class _Page(html.parser.HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def parse(page):
    """Strict: the page is well-formed XML as well."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))  # noqa: S314 - ours


def test_page_is_well_formed_and_small(page):
    root = parse(page)
    assert root.tag == "html"
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert len(page.encode()) < 200_000


def test_page_needs_nothing_from_outside(page):
    assert not re.search(r"https?:|//[a-z0-9]|@import|url\(", page.replace("//<![CDATA[", ""))
    seen = _Page(page)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(seen.tags)
    assert not {"src", "href", "srcset"} & {name for name, _ in seen.attributes}
    assert seen.tags.count("script") == 1


def test_slice_values_are_escaped(page):
    assert "<script>alert" not in page
    assert "<script>alert(1)</script>" in "".join(_Page(page).text)


@pytest.mark.parametrize("field", ["name", "description", "created", "positive", "configuration"])
def test_every_text_is_escaped(report, field):
    evil = render(dataclasses.replace(report, **{field: EVIL}))
    parse(evil)
    seen = _Page(evil)
    assert seen.tags.count("script") == 1
    assert "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_names_from_data_and_facts_are_escaped(report):
    feature = dict(report.features[0], name=EVIL)
    evil = dataclasses.replace(
        report,
        features=[feature],
        rows={EVIL: 1},
        durations_s={EVIL: 1.0},
        facts={EVIL: EVIL},
        history=[{"step": 1, "loss": 1.0, "metrics": {EVIL: 1.0}}, {"step": 2, "loss": 0.5}],
        evaluation=dataclasses.replace(report.evaluation, model=EVIL, data_fingerprint=EVIL),
    )
    page = render(evil)
    parse(page)
    seen = _Page(page)
    assert seen.tags.count("script") == 1
    assert "img" not in seen.tags


def test_names_of_classes_fields_and_heads_are_escaped():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 300)
    y = p.argmax(1)
    classes = (EVIL, "<b>", "c")
    slices = {EVIL: ["<script>", "b"] * 150}
    several = Problem(
        task="multihead",
        heads={
            EVIL: Problem(task="multiclass", classes=classes),
            "labels": Problem(task="multilabel", classes=classes),
        },
    )
    one = Problem(task="multiclass", classes=classes)
    arrays = ({EVIL: y, "labels": np.eye(3)[y]}, {EVIL: p, "labels": p})
    for task, labels, predictions in ((one, y, p), (several, *arrays)):
        found = evaluate(task=task, labels=labels, predictions=predictions, slices=slices)
        report = ReportInput(name="n", evaluation=found)
        page = render(report)
        parse(page)
        seen = _Page(page)
        assert seen.tags.count("script") == 1
        assert not {"img", "b>"} & set(seen.tags)
        assert EVIL in "".join(seen.text)
        assert "<script>" not in model_card(report)


def test_axes_have_the_terms_of_the_field(page):
    for term in (
        "False positive rate", "True positive rate", "Recall", "Precision", "Chance",
        "Mean predicted probability", "Fraction that is late", "false positives", "false negatives",
    ):  # fmt: skip
        assert f">{term}" in page or f" {term}" in page, term


def test_everything_is_told(page):
    text = "".join(_Page(page).text)
    for part in (
        "Flight delays", "Blessed", "AUC", "Precision and recall", "Calibration", "Scores",
        "By carrier", "By origin", "How it learned", "Features", "temp", "Rows", "Time",
        "Run configuration", "flights-20261122-080000", "Envoy", "Against the serving model",
        "no clear difference", "What it relies on", "Delta \N{MULTIPLICATION SIGN} JFK",
    ):  # fmt: skip
        assert part in text, part


def test_worse_slices_come_first_and_are_marked(page):
    body = page[page.index("By carrier") :]
    first = body[body.index("<tbody>") :].split("</tr>")[0]
    assert "Envoy" in first
    assert 'class="worse"' in first


def test_refused_says_which_requirement(report):
    refused = dataclasses.replace(
        report, evaluation=sample.evaluation(2000, thresholds={"auc": {"min": 0.9}})
    )
    text = "".join(_Page(render(refused)).text)
    assert "Refused" in text
    assert "at least 0.9 is required" in text


def test_bounds_on_slices_and_sure_changes_are_told_in_words(report):
    more = {
        "changes": {"auc": {"min": 0.0, "confident": True}},
        "slice_thresholds": {"auc": {"min": 0.6}},
    }
    judged = dataclasses.replace(report, evaluation=sample.evaluation(4000, **more))
    text = "".join(_Page(render(judged)).text)
    assert "Change of AUC against the serving model is with 95% confidence at least" in text
    assert (
        "AUC where carrier = Envoy is" in text
        or "AUC where carrier \N{MULTIPLICATION SIGN}" in text
    )
    assert "below the minimum 0.6" in text


def test_an_evaluation_of_nothing_renders():
    for task in ("binary", "regression"):
        found = evaluate(task=task, labels=[], predictions=[], slices={"f": []})
        page = render(ReportInput(name="empty", evaluation=found))
        parse(page)
        assert "there are no rows" in page
        assert "n/a" in model_card(ReportInput(name="empty", evaluation=found))


def test_undefined_metrics_render_with_their_reason():
    found = evaluate(
        task="binary",
        labels=[1] * 50,
        predictions=np.linspace(0.1, 0.9, 50),
        slices={"f": ["a"] * 50},
        options=config.Evaluate(min_slice_rows=1),
    )
    page = render(ReportInput(name="one class", evaluation=found))
    parse(page)
    assert "there are no negative labels" in page


def test_other_tasks_render():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 300)
    y = p.argmax(1)
    slices = {"f": ["a", "b"] * 150}
    many = evaluate(task="multiclass", labels=y, predictions=p, slices=slices)
    page = render(ReportInput(name="m", evaluation=many))
    parse(page)
    assert "What it confuses" in page
    numbers = evaluate(task="regression", labels=y * 1e6, predictions=y * 1.1e6, slices=slices)
    page = render(ReportInput(name="r", evaluation=numbers))
    parse(page)
    assert "RMSE" in page


def test_comparison_shows_differences(report):
    options = config.Evaluate.model_validate({"changes": {"auc": {"min": -1.0}}})
    y = np.array([0, 1] * 100)
    p = np.where(y == 1, 0.4, 0.2) + 0.4 * np.random.default_rng(0).random(200)
    serving = Serving(model="6", predictions=p[::-1])
    new = evaluate(task="binary", labels=y, predictions=p, options=options, serving=serving)
    page = render(ReportInput(name="c", evaluation=new))
    parse(page)
    assert "Differences are against 6" in page
    assert 'class="delta yes"' in page


def test_thousands_of_slices_stay_below_a_megabyte():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 9000)
    found = evaluate(
        task="binary",
        labels=labels,
        predictions=rng.random(9000),
        slices={f"field {k}": [f"value {i % 900}" for i in range(9000)] for k in range(3)},
        options=config.Evaluate(min_slice_rows=5),
    )
    page = render(ReportInput(name="many", evaluation=found))
    assert len(page.encode()) < 1_000_000
    assert "700 smaller ones are measured and checked, but not listed" in page


def test_model_card_is_plain_markdown(report):
    evil = dataclasses.replace(report, name="a|b <script>\n# c", facts={"k|": "`x` |"})
    card = model_card(evil)
    assert "<script>" not in card
    assert "\n# c" not in card
    assert r"a\|b" in card
    assert "## Metrics" in card
    assert "Envoy" in card
    assert "## Against the serving model" in card
    assert "- hour: 0.0810" in card
    assert "&lt;b&gt;: 0.0040" in card


def test_a_fact_is_told_once(report):
    facts = {"data fingerprint": report.evaluation.data_fingerprint}
    page = render(dataclasses.replace(report, facts=facts))
    assert page.count(f">{report.evaluation.data_fingerprint[:12]}<") == 1
    assert "Eval data" not in page


def test_a_long_training_curve_is_thinned_and_sorted(report):
    rng = np.random.default_rng(0)
    history = [{"step": 20_000 - i, "loss": rng.random()} for i in range(20_000)]
    page = render(dataclasses.replace(report, history=history))
    assert len(page.encode()) < 100_000


def test_same_input_gives_the_same_page(report, page):
    assert render(report) == page


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("auc", 0.71649, "0.716"),
        ("accuracy", 0.5, "50.0%"),
        ("loss", 0.48678, "0.4868"),
        ("rmse", 20.2, "20.20"),
        ("rmse", 1234567.0, "1,234,567"),
        ("ece", 0.0021, "0.0021"),
        ("auc", None, "n/a"),
    ],
)
def test_metrics_read_well(name, value, text):
    assert format_metric(name, value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.07), (-3, 1e6), (5, 5), (0.61, 0.69)])
def test_ticks_are_round_and_inside(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low <= t <= high for t in found)


def test_evaluation_needs_no_tensorflow():
    code = (
        "import sys, estimator_lib.report.model, estimator_lib.evaluation.feature_statistics;"
        "bad = {'tensorflow', 'apache_beam', 'matplotlib', 'scipy', 'tensorflow_metadata'};"
        "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
