"""The CSV reader: what it reads, and where it says that something is wrong."""

import contextlib
import csv
import dataclasses
import gzip
import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, SchemaError
from estimator_lib.core.values import Logical
from transforms.reading import csv_reader
from transforms.reading.csv_reader import Field, Layout
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems


def layout(*fields, missing=("",), texts=(), delimiter=","):
    return Layout(fields=tuple(fields), missing=missing, texts=texts, delimiter=delimiter)


def text(name):
    return Field(name=name, type="string")


def read(tmp_path, content, wanted, block_bytes=1 << 20):
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file = InputFile(name="x.csv", path=str(path))
    columns = {field.name: [] for field in wanted.fields}
    problems = Problems()
    for rows in csv_reader.read_rows(file, wanted, block_bytes=block_bytes):
        problems += rows.problems
        for name, values in rows.batch.to_pydict().items():
            columns[name] += values
    return columns, problems


def good(tmp_path, content, wanted, **options):
    columns, problems = read(tmp_path, content, wanted, **options)
    problems.raise_if_any()
    return columns


def fault(tmp_path, content, wanted, **options):
    with pytest.raises(EstimatorLibError) as caught:
        good(tmp_path, content, wanted, **options)
    return caught.value


A, B = text("a"), text("b")
NUMBER = Field(name="a", type="float")
INTEGER = Field(name="a", type="int")


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\nx,1\ny,2\n",
        b"\xef\xbb\xbfa,b\nx,1\ny,2\n",
        b"a,b\r\nx,1\r\ny,2\r\n",
        b"a,b\nx,1\ny,2",
        b'"a","b"\n"x","1"\n"y","2"\n',
        b"b,a\n1,x\n2,y\n",
        b"a,b\nx,1\n\ny,2\n\n",
        b"a,b\rx,1\ry,2\r",
        gzip.compress(b"a,b\nx,1\ny,2\n", mtime=0),
        gzip.compress(b"a,b\nx,1\n", mtime=0) + gzip.compress(b"y,2\n", mtime=0),
    ],
)
def test_read_rows_of_any_writing_gives_the_same_rows(tmp_path, content):
    assert good(tmp_path, content, layout(A, B)) == {"a": ["x", "y"], "b": ["1", "2"]}


def test_read_rows_reads_quotes_as_rfc_4180_says(tmp_path):
    content = 'a,b\n"x, ""y""","line\nbreak"\nz,"\r\n"\n'
    assert good(tmp_path, content, layout(A, B)) == {
        "a": ['x, "y"', "z"],
        "b": ["line\nbreak", "\r\n"],
    }


@pytest.mark.parametrize("block_bytes", [1, 7, 16, 64])
def test_read_rows_with_any_block_size_gives_the_same_rows(tmp_path, block_bytes):
    rows = [(f'"{"x" * (i % 9)}\n,{i}"', str(i)) for i in range(40)]
    content = "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows)
    expected = {"a": [f"{'x' * (i % 9)}\n,{i}" for i in range(40)], "b": [b for _, b in rows]}
    assert good(tmp_path, content, layout(A, B), block_bytes=block_bytes) == expected


def test_read_rows_of_another_delimiter(tmp_path):
    assert good(tmp_path, "a;b\n1,5;2\n", layout(A, B, delimiter=";")) == {"a": ["1,5"], "b": ["2"]}


def test_read_rows_of_one_field_keeps_empty_lines_as_missing_values(tmp_path):
    assert good(tmp_path, "a\n1\n\n3\n", layout(NUMBER)) == {"a": [1.0, None, 3.0]}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1.0), ("-2.5", -2.5), ("+3", 3.0), (".5", 0.5), ("4.", 4.0), ("1e3", 1000.0),
        (" 7 ", 7.0), ("1e-400", 0.0), ("", None), ("NA", None),
    ],
)  # fmt: skip
def test_read_rows_converts_numbers(tmp_path, written, value):
    wanted = layout(NUMBER, B, missing=("", "NA"))
    assert good(tmp_path, f"a,b\n{written},x\n", wanted)["a"] == [value]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("abc", Reason.VALUE_UNPARSABLE),
        ("NA", Reason.VALUE_UNPARSABLE),
        ("null", Reason.VALUE_UNPARSABLE),
        ('"1,5"', Reason.VALUE_UNPARSABLE),
        ("0x10", Reason.VALUE_UNPARSABLE),
        ("1_000", Reason.VALUE_UNPARSABLE),
        ("٣", Reason.VALUE_UNPARSABLE),
        ("inf", Reason.NOT_FINITE),
        ("-Infinity", Reason.NOT_FINITE),
        (" nan ", Reason.NOT_FINITE),
        ("1e400", Reason.NOT_FINITE),
        ("3.5e38", Reason.NOT_FINITE),
    ],
)
def test_read_rows_refuses_what_is_no_finite_number(tmp_path, written, reason):
    error = fault(tmp_path, f"a,b\n1,x\n{written},x\n", layout(NUMBER, B))
    assert error.reason == reason
    assert "'a'" in error.message
    assert "x.csv:3" in error.message


@pytest.mark.parametrize(("written", "value"), [("12", 12), ("-0", 0), ("007", 7), ("+7", 7)])
def test_read_rows_converts_integers(tmp_path, written, value):
    assert good(tmp_path, f"a,b\n{written},x\n", layout(INTEGER, B))["a"] == [value]


@pytest.mark.parametrize("written", ["1.5", "0x10", "9223372036854775808", "-9223372036854775808"])
def test_read_rows_refuses_what_is_no_int64(tmp_path, written):
    error = fault(tmp_path, f"a,b\n{written},x\n", layout(INTEGER, B))
    assert (type(error), error.reason) == (DataError, Reason.VALUE_UNPARSABLE)


def test_read_rows_names_the_line_behind_quoted_line_breaks_and_empty_lines(tmp_path):
    content = 'a,b\n1,"x\ny"\n\n2,z\nbad,w\n'
    assert "x.csv:6" in fault(tmp_path, content, layout(NUMBER, B)).message


def test_read_rows_lists_the_first_twenty_faults_and_counts_all(tmp_path):
    content = "a,b\n" + "bad,x\n" * 50
    error = fault(tmp_path, content, layout(NUMBER, B))
    assert "50 problems" in error.message
    assert error.message.count(" at x.csv:") == 20


def test_read_rows_missing_tokens_are_only_those_declared(tmp_path):
    wanted = layout(A, B, missing=("NA",))
    assert good(tmp_path, "a,b\nNA,null\n,nan\n", wanted) == {
        "a": [None, None],
        "b": ["null", "nan"],
    }


def test_read_rows_checks_classes(tmp_path):
    label = Field(
        name="a", type="int", low=0, high=1, category=True, reason=Reason.LABEL_OUT_OF_RANGE
    )
    assert good(tmp_path, "a,b\n1.0,x\n0,x\n", layout(label, B))["a"] == [1, 0]
    error = fault(tmp_path, "a,b\n1,x\n2,x\n", layout(label, B))
    assert error.reason == Reason.LABEL_OUT_OF_RANGE
    assert "x.csv:3" in error.message
    assert fault(tmp_path, "a,b\n0.5,x\n", layout(label, B)).reason == Reason.VALUE_UNPARSABLE


@pytest.mark.parametrize(
    ("content", "reason", "place"),
    [
        (b"a,b\n1,2\n3\n", Reason.RECORD_MALFORMED, "x.csv:3"),
        (b"a,b\n1,2\n3,4,5\n6,7\n", Reason.RECORD_MALFORMED, "x.csv:3"),
        (b'a,b\n1,2\n3,"4\n5,6\n', Reason.RECORD_MALFORMED, "x.csv:3"),
        (b"a,b\n1,2\n3,\xff\n", Reason.ENCODING, "x.csv:3"),
        (b"a,b\n1,2\n3,\0\n", Reason.ENCODING, "x.csv:3"),
        ("a,b\n1,2\n".encode("utf-16"), Reason.ENCODING, "x.csv:1"),
        ("a,b\n1,2\n".encode("utf-16-le"), Reason.ENCODING, "x.csv:1"),
        (b"", Reason.EMPTY_INPUT, "x.csv"),
        (gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:-10], Reason.CORRUPT_FILE, "x.csv"),
        (gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:40], Reason.CORRUPT_FILE, "x.csv"),
    ],
)
def test_read_rows_refuses_damaged_files_and_names_the_place(tmp_path, content, reason, place):
    error = fault(tmp_path, content, layout(A, B))
    assert (error.reason, place in error.message) == (reason, True), error.message


def test_read_rows_refuses_bad_utf8_in_a_field_that_nobody_wants(tmp_path):
    assert fault(tmp_path, b"a,b\n1,\xff\n", layout(A)).reason == Reason.ENCODING


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a,c", Reason.FIELD_MISSING),
        ("1,2", Reason.FIELD_MISSING),
        ("a,b,a", Reason.DUPLICATE),
    ],
)
def test_read_rows_refuses_a_wrong_header(tmp_path, header, reason):
    error = fault(tmp_path, header + "\n1,2\n", layout(A, B))
    assert isinstance(error, SchemaError)
    assert error.reason == reason


def test_infer_types_finds_the_narrowest_type(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("i,f,s,e\n1,1,1,\n2,1.5,x,\n,,,\n")
    file = InputFile(name="x.csv", path=str(path))
    assert csv_reader.infer_types(file, ["i", "f", "s", "e"], layout()) == {
        "i": "int",
        "f": "float",
        "s": "string",
        "e": "string",
    }


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    block_bytes=st.sampled_from([3, 50, 1 << 20]),
)
def test_read_rows_reads_back_what_quoting_wrote(tmp_path_factory, rows, end, block_bytes):
    quoted = [",".join('"' + v.replace('"', '""') + '"' for v in row) for row in rows]
    content = end.join(["a,b", *quoted]) + end
    columns = good(
        tmp_path_factory.mktemp("csv"), content.encode(), layout(A, B), block_bytes=block_bytes
    )
    assert columns["a"] == [a or None for a, _ in rows]
    assert columns["b"] == [b or None for _, b in rows]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(TEXT.map(lambda t: t.replace("\r", "")), st.sampled_from(["1", "fast"])),
        min_size=1,
        max_size=12,
    ),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    before=st.sampled_from(["", "\ufeff"]),
    last=st.booleans(),
    part_bytes=st.sampled_from([10, 30, 90]),
)
def test_parts_of_a_file_give_its_rows_and_the_lines_of_its_faults(
    tmp_path_factory, rows, end, before, last, part_bytes
):
    quoted = [f'"{text.replace(chr(34), chr(34) * 2)}",{number}' for text, number in rows]
    content = before + end.join(["a,b", *quoted]) + end * last
    wanted = layout(A, Field(name="b", type="float"))
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(content.encode())
    file = InputFile(name="x.csv", path=str(path))
    parts = csv_reader.divide(file, wanted, part_bytes)
    size = path.stat().st_size
    if size > part_bytes:
        ends = [one.part.end for one in parts]
        assert [one.part.begin for one in parts] == [0, *ends[:-1]]
        assert ends[-1] == size
        assert len(parts) > 1 or len(rows) == 1
    found = [
        [rows for one in files for rows in csv_reader.read_rows(one, wanted)]
        for files in ([file], parts)
    ]
    whole, pieces = (
        (
            [row for rows in several for row in rows.batch.to_pylist()],
            [problem.line for rows in several for problem in rows.problems.first],
        )
        for several in found
    )
    assert pieces == whole


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_read_rows_reads_back_every_float(tmp_path_factory, values):
    content = "a,b\n" + "".join(f"{v!r},x\n" for v in values)
    columns = good(tmp_path_factory.mktemp("csv"), content, layout(NUMBER, B))
    assert columns["a"] == values
    assert all(not math.isnan(v) for v in columns["a"])


# --- Dialects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('a,b\n1,"x"y\n', 2),
        ('a,b\n1,""N\n', 2),
        ('a,b\n1,"x" ,\n', 2),
        ('a,b\n0,0\n1,"x\n2,y\n3,w\n4,"z\n5,q\n', 3),
        ('a,b\n1,5" pipe\n2,"y\n3,z\n', 3),
        ('a,b\n"x\ny","z\n3,4\n', 3),
    ],
)
@pytest.mark.parametrize("block_bytes", [5, 1 << 20])
def test_quote_out_of_place_is_refused_where_it_opens(tmp_path, content, line, block_bytes):
    error = fault(tmp_path, content, layout(A, B), block_bytes=block_bytes)
    assert error.reason == Reason.RECORD_MALFORMED
    assert f"x.csv:{line}." in error.message


def test_text_behind_a_closing_quote_is_left_out_where_others_are_read(tmp_path):
    kept = dataclasses.replace(layout(A, B), quarantine=True)
    columns, problems = read(tmp_path, 'a,b\n1,x\n2,"y"z\n3,"w"\n', kept)
    assert columns == {"a": ["1", "3"], "b": ["x", "w"]}
    assert [problem.line for problem in problems.first] == [3]


def test_escape_stands_before_what_is_text(tmp_path):
    content = 'a,b\n"say \\"hi\\", you",x\\,y\n'
    escaped = dataclasses.replace(layout(A, B), escape="\\")
    assert good(tmp_path, content, escaped) == {"a": ['say "hi", you'], "b": ["x,y"]}
    assert "data.escape" in fault(tmp_path, content, layout(A, B)).message


def test_other_quote_or_none(tmp_path):
    other = dataclasses.replace(layout(A, B), quote="'")
    assert good(tmp_path, "a,b\n'x,1','it''s'\n", other) == {"a": ["x,1"], "b": ["it's"]}
    none = dataclasses.replace(layout(A, B), quote="")
    assert good(tmp_path, 'a,b\n"x,1"\n', none) == {"a": ['"x'], "b": ['1"']}


@pytest.mark.parametrize(
    ("decimal", "thousands", "written", "expected"),
    [
        (",", "", "1,5", 1.5),
        (",", ".", "1.234.567,5", 1234567.5),
        (".", ",", '"1,234.5"', 1234.5),
        (".", "'", "1'000", 1000.0),
        (",", " ", "-12 345,25", -12345.25),
        (",", "", ",5", 0.5),
        (",", "", "true", 1.0),
    ],
)
def test_numbers_are_read_as_the_dialect_writes_them(
    tmp_path, decimal, thousands, written, expected
):
    dialect = {"delimiter": ";" if decimal == "," else ",", "decimal": decimal}
    text = Field(name="b", type="string", logical=Logical.REAL)
    given = dataclasses.replace(layout(NUMBER, text), thousands=thousands, **dialect)
    content = f"a{given.delimiter}b\n{written}{given.delimiter}{written}\n"
    columns = good(tmp_path, content, given)
    assert columns["a"] == [expected]
    if written != "true":
        assert float(columns["b"][0]) == expected


@pytest.mark.parametrize("logical", [None, Logical.TEXT])
def test_text_stays_as_it_is_written_whatever_the_marks(tmp_path, logical):
    text = Field(name="b", type="string", logical=logical)
    given = dataclasses.replace(layout(NUMBER, text), delimiter=";", decimal=",", thousands=".")
    content = "a;b\n1,5;0,\n1;1.234\n1;1,5\n1;1.50\n"
    assert good(tmp_path, content, given)["b"] == ["0,", "1.234", "1,5", "1.50"]
    kept = dataclasses.replace(given, texts=("b",))
    (rows,) = csv_reader.read_rows(InputFile(name="x.csv", path=str(tmp_path / "x.csv")), kept)
    assert rows.texts["b"].to_pylist() == ["0,", "1.234", "1,5", "1.50"]


def test_number_of_another_dialect_stays_a_text_among_numbers(tmp_path):
    text = Field(name="b", type="string", logical=Logical.REAL)
    given = dataclasses.replace(layout(NUMBER, text), delimiter=";", decimal=",")
    assert good(tmp_path, "a;b\n1;1,50\n1;1.50\n", given)["b"] == ["1.5", "1.50"]


def test_missing_number_is_missing_in_the_marks_of_the_file(tmp_path):
    text = Field(name="b", type="string")
    given = dataclasses.replace(layout(NUMBER, text, missing=("-1",)), delimiter=";", decimal=",")
    assert good(tmp_path, "a;b\n1;-1,0\n1;-1.0\n", given)["b"] == [None, "-1.0"]


def test_types_are_inferred_by_the_marks(tmp_path):
    given = dataclasses.replace(layout(), delimiter=";", decimal=",")
    (tmp_path / "x.csv").write_text("a;b\n1,5;1.5\n")
    file = InputFile(name="x.csv", path=str(tmp_path / "x.csv"))
    assert csv_reader.infer_types(file, ["a", "b"], given) == {"a": "float", "b": "string"}


@pytest.mark.parametrize("written", ["1.5", "1.5,5", "1,2,3"])
def test_number_of_another_dialect_is_refused(tmp_path, written):
    given = dataclasses.replace(layout(NUMBER, B), delimiter=";", decimal=",")
    error = fault(tmp_path, f"a;b\n{written};x\n", given)
    assert error.reason == Reason.VALUE_UNPARSABLE
    assert f"'{written}'" in error.message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04rest", "Excel"),
        (b"\xd0\xcf\x11\xe0rest", "Excel"),
        (b"PAR1rest", "data.format"),
        (b"a;b\n1;2\n", "Set data.delimiter to ';'"),
        (b"a\tb\n1\t2\n", "data.delimiter"),
        (b"a,b\n1,caf\xe9\n", "data.encoding"),
    ],
)
def test_file_of_another_kind_is_recognised(tmp_path, content, told):
    assert told in fault(tmp_path, content, layout(A, B)).message


def _as_python_reads(content, given):
    rows = [
        record
        for record in csv.reader(
            io.StringIO(content, newline=""),
            delimiter=given.delimiter,
            quotechar=given.quote,
            escapechar=given.escape or None,
            strict=True,
        )
        if record
    ]
    if any(len(row) != 2 for row in rows):
        raise csv.Error("ragged")
    return [tuple(row) for row in rows[1:]]


PIECE = st.sampled_from([",", ",", "\n", "\n", "\r\n", '"', '"', '""', "x", " ", "y1"])
ESCAPED = st.sampled_from([",", "\n", '"', '"', "x", '\\"', "\\\\", "\\,"])


@pytest.mark.parametrize("block_bytes", [*range(4, 24), 1 << 20])
def test_a_doubled_quote_at_the_end_of_a_block_ends_no_field(tmp_path, block_bytes):
    content = 'a,b\n,xy1"\n,",,""\r\n"'  # the first quote is text, in a field that none begins
    columns = good(tmp_path, content, layout(A, B), block_bytes=block_bytes)
    assert columns == {"a": [None, None], "b": ['xy1"', ',,"\r\n']}


@settings(max_examples=400, deadline=None)
@given(
    pieces=st.one_of(
        st.tuples(st.just(""), st.lists(PIECE, max_size=25)),
        st.tuples(st.just("\\"), st.lists(ESCAPED, max_size=25)),
    ),
    block_bytes=st.sampled_from([4, 9, 1 << 20]),
)
def test_file_is_read_as_strict_csv_of_python_reads_it(tmp_path_factory, pieces, block_bytes):
    escape, parts = pieces
    content = "a,b\n" + "".join(parts)
    given_layout = dataclasses.replace(layout(A, B), escape=escape)
    try:
        expected = _as_python_reads(content, given_layout)
    except csv.Error:
        expected = None
    folder = tmp_path_factory.mktemp("csv")
    try:
        columns = good(folder, content, given_layout, block_bytes=block_bytes)
    except EstimatorLibError:
        assert expected is None
    else:
        found = zip(columns["a"], columns["b"], strict=True)
        assert [tuple(value or "" for value in row) for row in found] == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.booleans(), st.integers(0, 3))
def test_any_bytes_give_rows_or_a_typed_error(tmp_path_factory, noise, quarantine, at):
    content = b'a,b\n1,"x"\n2,"y ""z"""\n'
    content = content[: 6 * at] + noise + content[6 * at :]
    given_layout = dataclasses.replace(layout(INTEGER, B), quarantine=quarantine, escape="\\")
    with contextlib.suppress(EstimatorLibError):
        read(tmp_path_factory.mktemp("csv"), content, given_layout, block_bytes=16)
