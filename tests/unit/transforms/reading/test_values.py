"""Arrow columns by the value grammar: every physical type, and texts as `core.values` has them."""

import datetime as dt
import decimal
import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core import values as grammar
from estimator_lib.core.values import Logical
from tests.unit.core.test_values import WRITTEN
from transforms.reading import values

D = decimal.Decimal
UTC = dt.UTC
MOMENT = dt.datetime(2024, 1, 31, 10, 30, 0, 500000, UTC)
ID = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None], pa.int8()), "1"),
        (pa.array([1, None], pa.uint64()), "1"),
        (pa.array([2**64 - 1, None], pa.uint64()), str(2**64 - 1)),
        (pa.array([1.0, None], pa.float64()), "1"),
        (pa.array([1e16, None], pa.float64()), "10000000000000000"),
        (pa.array([1e22, None], pa.float64()), "1e22"),
        (pa.array([1e-7, None], pa.float64()), "1e-7"),
        (pa.array([0.1, None], pa.float32()), "0.1"),
        (pa.array([0.1, None], pa.float16()), "0.1"),
        (pa.array([D(1), None], pa.decimal128(38, 9)), "1"),
        (pa.array([D(0), None], pa.decimal128(38, 9)), "0"),
        (pa.array([D("0.1"), None], pa.decimal256(50, 20)), "0.1"),
        (pa.array([True, None]), "1"),
        (pa.array([dt.date(9999, 12, 31), None], pa.date32()), "9999-12-31"),
        (pa.array([dt.date(2024, 1, 31), None], pa.date64()), "2024-01-31"),
        *(
            (pa.array([MOMENT, None], pa.timestamp(unit, zone)), "2024-01-31 10:30:00.5")
            for unit in ("ms", "us", "ns")
            for zone in (None, "UTC", "Europe/Berlin")
        ),
        (pa.array([dt.datetime(9999, 12, 31, tzinfo=UTC), None], pa.timestamp("us")), "9999-12-31"),
        (pa.array([dt.datetime(1, 1, 1, tzinfo=UTC), None], pa.timestamp("s")), "0001-01-01"),
        (pa.array([dt.time(10, 30), None], pa.time32("s")), "10:30:00"),
        (pa.array([dt.time(10, 30, 0, 500000), None], pa.time64("ns")), "10:30:00.5"),
        (pa.array([dt.timedelta(minutes=1.5), None], pa.duration("ms")), "90"),
        (pa.array(["é", None], pa.large_string()), "é"),
        (pa.array(["é", None], pa.string_view()), "é"),
        (pa.array([b"abcd", None], pa.binary(4)), "abcd"),
        (pa.array(["a", None]).dictionary_encode(), "a"),
        (pa.array([ID.bytes, None], pa.uuid()), str(ID)),
        (pa.array([{"b": 1.0, "a": dt.date(2024, 1, 31)}, None]), '{"a":"2024-01-31","b":1}'),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), '{"k":1}'),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", None])), "{}"),
    ],
    ids=lambda given: str(given.type) if isinstance(given, pa.Array) else None,
)
def test_physical_type_has_one_text(column, expected):
    assert values.readable(column.type)
    plain, wrong = values.plain(column)
    assert not len(wrong)
    assert values.texts(plain).to_pylist() == [expected, None]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.month_day_nano_interval()])
def test_type_without_one_value_is_not_readable(kind):
    assert not values.readable(kind)


def test_bytes_that_are_no_text_are_told():
    plain, wrong = values.plain(pa.array([b"ok", b"\xff", b"a\0"], pa.binary()))
    assert plain[0].as_py() == "ok"
    assert wrong.tolist() == [1, 2]


def test_float32_is_the_decimal_number_that_its_text_says():
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    numbers = np.concatenate([numbers, np.round(numbers % 1000, 2)])
    plain, _ = values.plain(pa.array(numbers))
    assert plain.to_pylist() == [float(str(number)) for number in numbers]


POOL = st.one_of(
    st.sampled_from([text for text, _, _ in WRITTEN] + ["", "x", "-", "-0", "12.340", "00:00:00"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(alphabet="0123456789.-eT: ", max_size=12),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(POOL, min_size=1, max_size=5))
def test_columns_are_as_their_texts_one_by_one(texts):
    column = pa.array(texts, pa.string())
    narrowed = [grammar.narrow(text) if text else (None, "") for text in texts]
    assert values.canonical(column, None).to_pylist() == [text for _, text in narrowed]
    for logical in Logical:
        expected = [grammar.canonical(text, logical) for text in texts]
        assert values.canonical(column, logical).to_pylist() == expected
    kinds = {kind for kind, _ in narrowed if kind is not None}
    expected_kinds = {Logical.TEXT} if Logical.TEXT in kinds else kinds
    assert values.kinds(pa.array([t for t in texts if t], pa.string())) == expected_kinds


def test_canonical_of_nulls_keeps_them():
    column = pa.array([None, "1.0", "", "x"])
    assert values.canonical(column, None).to_pylist() == [None, "1", "", "x"]
