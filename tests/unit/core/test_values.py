"""The value grammar: the kind, the one text and the number of what people and programs write."""

import decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core.values import Logical, canonical, json_text, logical_of, narrow, to_number

TEXT, INTEGER, REAL, BOOLEAN = Logical.TEXT, Logical.INTEGER, Logical.REAL, Logical.BOOLEAN
DATE, TIMESTAMP = Logical.DATE, Logical.TIMESTAMP
WRITTEN = [
    ("1", INTEGER, "1"),
    ("1.0", INTEGER, "1"),
    ("1.", INTEGER, "1"),
    ("1e3", INTEGER, "1000"),
    ("-0.0", INTEGER, "0"),
    ("0E-9", INTEGER, "0"),
    ("1.000000000", INTEGER, "1"),
    ("1e+16", INTEGER, "10000000000000000"),
    ("1e22", REAL, "1e22"),
    (".5", REAL, "0.5"),
    ("0.10", REAL, "0.1"),
    ("1e-05", REAL, "0.00001"),
    ("0.00000015", REAL, "1.5e-7"),
    ("007", TEXT, "007"),
    ("+1", TEXT, "+1"),
    ("1_000", TEXT, "1_000"),
    ("1,5", TEXT, "1,5"),
    ("1234567890123456789012", TEXT, "1234567890123456789012"),
    ("nan", TEXT, "nan"),
    ("True", BOOLEAN, "true"),
    ("FALSE", BOOLEAN, "false"),
    ("tRUE", TEXT, "tRUE"),
    ("2024-01-31", DATE, "2024-01-31"),
    ("2024-01-31 00:00:00", DATE, "2024-01-31"),
    ("2024-01-31T00:00:00.000Z", DATE, "2024-01-31"),
    ("2024-01-31T10:30", TIMESTAMP, "2024-01-31 10:30:00"),
    ("2024-01-31 10:30:00.500000", TIMESTAMP, "2024-01-31 10:30:00.5"),
    ("2024-01-31T10:30:00.123456789+02:00", TIMESTAMP, "2024-01-31 08:30:00.123456789"),
    ("2024-01-31 22:00:00-0200", DATE, "2024-02-01"),
    ("2024-01-31 10:30:00 UTC", TIMESTAMP, "2024-01-31 10:30:00"),
    ("2024-13-01", TEXT, "2024-13-01"),
    ("2024-02-30 10:00:00", TEXT, "2024-02-30 10:00:00"),
    ("9999-12-31", DATE, "9999-12-31"),
    ("10:30", Logical.TIME, "10:30:00"),
    ("10:30:00.50", Logical.TIME, "10:30:00.5"),
    ("1 days 02:00:00", INTEGER, "93600"),
    ("0 days 00:00:00.500000", REAL, "0.5"),
    ("-1 days +23:00:00", INTEGER, "-3600"),
    (
        "550E8400-E29B-41D4-A716-446655440000",
        Logical.UUID,
        "550e8400-e29b-41d4-a716-446655440000",
    ),
    ('{"b": 1.0, "a": [2]}', Logical.JSON, '{"a":[2],"b":1}'),
    ('{"a": NaN}', TEXT, '{"a": NaN}'),
    ('{"a": 1, "a": 2}', TEXT, '{"a": 1, "a": 2}'),
]


@pytest.mark.parametrize(("text", "kind", "expected"), WRITTEN)
def test_text_has_one_kind_and_one_form(text, kind, expected):
    assert narrow(text) == (kind, expected)
    assert narrow(expected) == (kind, expected)


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(alphabet='0123456789.-+eE:TZ {}[]"truefalsday', min_size=1, max_size=30),
        st.text(min_size=1, max_size=10),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.datetimes().map(str),
    )
)
def test_canonical_text_is_its_own_canonical_text(text):
    kind, found = narrow(text)
    assert narrow(found) == (kind, found)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_of_a_number_is_that_number(number):
    _, text = narrow(repr(number))
    assert float(text) == number
    assert to_number(text) == decimal.Decimal(repr(number))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (set(), TEXT),
        ({BOOLEAN}, BOOLEAN),
        ({BOOLEAN, INTEGER}, INTEGER),
        ({INTEGER, REAL}, REAL),
        ({DATE, TIMESTAMP}, TIMESTAMP),
        ({DATE, INTEGER}, TEXT),
        ({TEXT, INTEGER}, TEXT),
    ],
)
def test_field_has_the_narrowest_type_of_its_values(kinds, expected):
    assert logical_of(kinds) is expected


@pytest.mark.parametrize(
    ("text", "logical", "expected"),
    [
        ("1.0", TEXT, "1.0"),
        ("1.0", REAL, "1"),
        ("True", INTEGER, "1"),
        ("1.0", BOOLEAN, "true"),
        ("n/a", INTEGER, "n/a"),
        ("1.50", INTEGER, "1.50"),
        ("2024-01-31T00:00:00", DATE, "2024-01-31"),
        ("", REAL, ""),
    ],
)
def test_value_in_a_field_is_written_as_the_field_is(text, logical, expected):
    assert canonical(text, logical) == expected


def test_json_has_keys_in_order_and_no_constants():
    assert json_text({"b": float("nan"), "a": 2.0}) == '{"a":2,"b":null}'
