"""Fault 4: quoting as in RFC 4180; an unclosed quote or a ragged row names its line.

Fails when the reader looks for lines before it looks for quotes, or when `_quote_problems` takes
the end of a file for the end of a quote.
"""

import pytest

from estimator_lib.core.errors import DataError, Reason
from transforms.testing import Job


def job(tmp_path, content):
    return Job(
        root=tmp_path,
        files={"train": [content], "eval": ["c,x,y\na,1,0\n"]},
        columns={"x": {"kind": "numeric"}, "c": {"kind": "vocabulary"}},
        label={"field": "y"},
        keep=["c"],
    )


def test_quoted_delimiters_quotes_and_line_breaks_survive(tmp_path):
    made = job(tmp_path, 'c,x,y\n"a,b",1,0\n"say ""hi""",2,1\n"two\nlines",3,0\n5" pipe,4,1\n')
    made.run()
    assert made.table()["raw.c"].to_pylist() == ["a,b", 'say "hi"', "two\nlines", '5" pipe']
    assert made.table()["x"].to_pylist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('c,x,y\na,1,0\n"b,2,1\nc,3,0\n', 3),
        ('c,x,y\na,1,0\nb,2,"1\nc,3,0\n', 3),
        ("c,x,y\na,1,0\nb,2\nc,3,0\n", 3),
        ("c,x,y\na,1,0\nb,2,1,9\n", 3),
        ('c,x,y\n"a\nb",1,0\nb,2\n', 4),
    ],
)
def test_unclosed_quote_or_ragged_row_is_refused_with_its_line(tmp_path, content, line):
    with pytest.raises(DataError) as caught:
        job(tmp_path, content).run()
    assert caught.value.reason == Reason.RECORD_MALFORMED
    assert f"data/train-0.csv:{line}" in caught.value.message
