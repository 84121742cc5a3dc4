"""The statistics page: self-contained, safe, complete."""

import re

import pyarrow as pa

from transforms.learning import statistics
from transforms.learning.analysis import FieldAnalysis, SplitAnalysis
from transforms.validating import statistics_page


def proto(split, **columns):
    analysis = SplitAnalysis()
    for name, values in columns.items():
        analysis.fields[name] = FieldAnalysis(
            "string" if pa.types.is_string(values.type) else "float"
        )
        analysis.fields[name].add(values)
        analysis.read = len(values)
    return statistics.dataset_statistics(split, analysis)


def page():
    return statistics_page.render(
        {
            "train": proto(
                "train",
                same=pa.array(["a", "b"] * 50),
                moved=pa.array([float(i) for i in range(100)]),
                empty=pa.array([None] * 100, pa.float64()),
                evil=pa.array(["<script>alert(1)</script>", None] * 50),
            ),
            "eval": proto(
                "eval",
                same=pa.array(["a", "b"] * 5),
                moved=pa.array([float(i) + 90 for i in range(10)]),
                empty=pa.array([1.0] * 10),
                evil=pa.array(['"&', None] * 5),
            ),
        },
        title="A <title>",
    )


def test_page_needs_nothing_from_elsewhere():
    text = page()
    assert not re.search(r"(src|href)=|@import|url\(", text)
    assert text.count("<section") == text.count("</section>") == 4


def test_page_escapes_what_comes_from_data():
    text = page()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "A &lt;title&gt;" in text


def test_page_shows_fields_that_differ_first_and_missing_rates():
    names = re.findall(r"<h2>(\w+)</h2>", page())
    assert names[-1] == "same"
    assert names.index("moved") < names.index("same")
    assert "100.0%" in page()
    assert "50.0%" in page()
