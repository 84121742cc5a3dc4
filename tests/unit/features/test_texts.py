"""A request may write a value as files do: one grammar in Python and in TensorFlow."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core import values
from estimator_lib.core.values import Logical
from estimator_lib.features.texts import canonical

NUMBERS = st.from_regex(values.REAL, fullmatch=True)
MOMENTS = st.from_regex(values.TIMESTAMP, fullmatch=True) | st.from_regex(
    values.DATE, fullmatch=True
)
TIMES = st.from_regex(values.CLOCK, fullmatch=True)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize(
    ("texts", "logical"),
    [(NUMBERS, Logical.REAL), (MOMENTS, Logical.TIMESTAMP), (TIMES, Logical.TIME)],
    ids=["numbers", "moments", "times"],
)
def test_served_text_has_the_form_that_files_are_read_in(texts, logical, data):
    drawn = data.draw(st.lists(texts, min_size=1, max_size=100))
    held = [text for text in drawn if values.holds(logical, values.narrow(text)[0])]
    found = [text.decode() for text in canonical(tf.constant(held, tf.string), logical).numpy()]
    assert found == [values.canonical(text, logical) for text in held]


@pytest.mark.parametrize(
    ("text", "logical", "written"),
    [
        ("1.50e3", Logical.REAL, "1500"),
        ("-12E-9", Logical.REAL, "-1.2e-8"),
        ("0e5", Logical.REAL, "0"),
        ("e5", Logical.REAL, "e5"),
        ("123456789012345678901e1", Logical.REAL, "1.23456789012345678901e21"),
        ("2024-01-01T01:30:00.50+02:00", Logical.TIMESTAMP, "2023-12-31 23:30:00.5"),
        ("2024-02-29 00:00 -0100", Logical.TIMESTAMP, "2024-02-29 01:00:00"),
        ("2023-12-31 22:00:00-02", Logical.DATE, "2024-01-01"),
        ("2023-02-29 10:00:00+01:00", Logical.TIMESTAMP, "2023-02-29 10:00:00+01:00"),
        ("0001-01-01 00:00:00+01:00", Logical.TIMESTAMP, "0001-01-01 00:00:00+01:00"),
    ],
)
def test_numbers_with_an_exponent_and_times_of_a_zone_are_read(text, logical, written):
    sparse = tf.SparseTensor([[0, 1]], [text], [1, 2])
    assert canonical(sparse, logical).values.numpy().tolist() == [written.encode()]
    dense = canonical(tf.constant([["", text], ["x", "3"]]), logical)
    assert dense.numpy().tolist() == [[b"", written.encode()], [b"x", b"3"]]
