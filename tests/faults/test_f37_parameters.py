"""Fault 37: parameters that would change on the way, or mean nothing, are never sent.

Fails when `cluster.arguments` rounds, cuts or interprets a value, or when anything is sent before
all values were looked at.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_lib.core.config import TrainPart
from estimator_lib.core.errors import ConfigError, Reason
from pipelines import specification
from pipelines.cluster import arguments, client, testing

SPEC = specification.check(
    testing.pipeline(
        {
            "steps": ("NUMBER_INTEGER", 20),
            "rate": ("NUMBER_DOUBLE", 0.5),
            "debug": ("BOOLEAN", False),
            "data": ("STRING", ""),
            "names": ("LIST", []),
            "options": ("STRUCT", {}),
        }
    ),
    "spec",
)


def check(**given):
    return arguments.check(SPEC, given)


def test_integral_double_becomes_an_integer_and_stays_one():
    checked = check(steps=20.0)
    assert checked == {"steps": 20}
    assert type(checked["steps"]) is int
    assert arguments.parse(SPEC, ["steps=20.0"]) == {"steps": 20.0}


def test_types_that_fit_pass_unchanged():
    given = {
        "steps": -(2**53), "rate": 3, "debug": True, "data": "", "names": [1, None],
        "options": {"a": {"b": [0.5]}},
    }  # fmt: skip
    assert check(**given) == given


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("steps", 20.5, Reason.TYPE_MISMATCH),
        ("steps", "20", Reason.TYPE_MISMATCH),
        ("steps", True, Reason.TYPE_MISMATCH),
        ("steps", "", Reason.TYPE_MISMATCH),
        ("steps", None, Reason.TYPE_MISMATCH),
        ("steps", 2**53 + 1, Reason.INVALID_VALUE),
        ("steps", math.nan, Reason.NOT_FINITE),
        ("rate", math.nan, Reason.NOT_FINITE),
        ("rate", -math.inf, Reason.NOT_FINITE),
        ("rate", "0.5", Reason.TYPE_MISMATCH),
        ("debug", "true", Reason.TYPE_MISMATCH),
        ("debug", 1, Reason.TYPE_MISMATCH),
        ("data", 7, Reason.TYPE_MISMATCH),
        ("data", b"x", Reason.TYPE_MISMATCH),
        ("data", "a\0b", Reason.INVALID_VALUE),
        ("data", "x" * 1_000_000, Reason.TOO_MANY_VALUES),
        ("names", "abc", Reason.TYPE_MISMATCH),
        ("names", [math.nan], Reason.NOT_FINITE),
        ("options", [], Reason.TYPE_MISMATCH),
        ("options", {1: 2}, Reason.TYPE_MISMATCH),
        ("options", {"deep": [{"big": 2**60 + 1}]}, Reason.INVALID_VALUE),
    ],
)
def test_value_that_would_change_or_break_is_refused(name, value, reason):
    with pytest.raises(ConfigError, match=name) as caught:
        check(**{name: value})
    assert caught.value.reason is reason
    assert len(caught.value.message) < 400


def test_unknown_name_is_refused_with_the_nearest_and_all_faults_at_once():
    with pytest.raises(ConfigError) as caught:
        check(stepz=1, rate=math.nan, data="fine")
    assert caught.value.reason is Reason.UNKNOWN_NAME
    assert "Did you mean 'steps'?" in caught.value.message
    assert "rate" in caught.value.message


def test_nothing_is_posted_for_bad_parameters():
    with testing.FakeServer() as server:
        connection = client.Connection(client.address(server.host, environment={}))
        with pytest.raises(ConfigError):
            connection.submit(SPEC, {"steps": 20.5})
        assert [r.method for r in server.requests] == ["GET"]


@pytest.mark.parametrize("setting", ["steps", "=3", "steps=", "debug=yes", "options={a}"])
def test_command_line_value_that_does_not_read_is_refused(setting):
    with pytest.raises(ConfigError):
        arguments.parse(SPEC, [setting])


def test_value_given_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        arguments.parse(SPEC, ["steps=1", "steps=2"])


def test_text_is_not_interpreted():
    assert arguments.parse(SPEC, ["data=007"]) == {"data": "007"}
    assert arguments.parse(SPEC, ["data=a=b"]) == {"data": "a=b"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(SPEC.parameters)), JSON)
def test_any_value_is_either_sent_as_it_is_or_refused(name, value):
    try:
        checked = check(**{name: value})
    except ConfigError:
        return
    assert checked == {name: value}


@pytest.mark.parametrize(
    "train",
    ['{"batch_size":20.0,"epochs":1}', '{"batch_size":"20","epochs":1}', '{"batch_size":NaN}'],
)
def test_step_refuses_what_reached_it_nevertheless(train):
    text = f'{{"columns":["x"],"estimator":{{"name":"M"}},"train":{train}}}'
    with pytest.raises(ConfigError):
        TrainPart.from_json(text)
