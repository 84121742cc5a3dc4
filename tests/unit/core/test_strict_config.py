"""What a configuration says is used or refused, never changed."""

import contextlib
import copy
import json
import pathlib
import re
import types
import typing

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core import config
from estimator_lib.core.config import _yaml
from estimator_lib.core.errors import ConfigError
from tests.unit.core.test_config import VALID, load

CONTENT = yaml.safe_load(VALID) | {
    "evaluate": {"slices": ["carrier"], "thresholds": {"auc": {"min": 0.5}}},
    "tune": {"space": {"estimator.args.dnn_hidden_units": {"choice": [[4], [8]]}}},
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: 1\nb: 2\na: 3", ["a (line 3)", "first on line 1"]),
        ("a: {b: 1, b: 2}\nc: {d: 1, d: 2}", ["a.b (line 1)", "c.d (line 2)"]),
        ("x: &x {a: 1, a: 2}", ["x.a (line 1)"]),
        ("1: a", ["'1'", "not a text", "quotes"]),
        ("true: a", ["'true'", "not a text"]),
        ("? [a]\n: b", ["not a text"]),
        ("? {a: b}\n: b", ["not a text"]),
        ("a: [1, .nan]", ["a.1 (line 1)", "finite", "'.nan'"]),
        ("a: -.inf", ["finite"]),
        ("a: 1e999", ["finite"]),
        ("a: 1e-999", ["too small"]),
        ("a: 99999999999999999999", ["64 bits"]),
        ("a: " + "9" * 5000, ["a (line 1)"]),
        ("a: !!timestamp 2026-13-01", ["timestamp is not a value"]),
        ("a: !!binary aGk=", ["binary is not a value"]),
        ("a: !!set {x}", ["set is not a value"]),
        ("a: !!int x", ["'x'"]),
        ('a: "\\ud800"', ["half a character"]),
        ("a: &x [*x]", ["too large"]),
        ("[" * 3000, ["too large"]),
        ("x: &a [1,1,1,1,1,1,1,1,1,1]\n" + "\n".join(
            f"x{n}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]" for n in range(6)
        ), ["too large"]),
        ("#" * (5 << 20), ["too large", "4 MiB"]),
        ("a: 1\n---\nb: 2", ["single document"]),
    ],
)  # fmt: skip
def test_yaml_that_would_change_on_its_way_is_refused(text, names):
    with pytest.raises(ConfigError) as caught:
        _yaml.read(text, "File x.yaml")
    assert caught.value.message.startswith("File x.yaml ")
    for name in names:
        assert name in caught.value.message


def test_plain_values_mean_what_yaml_1_2_says():
    text = "{a: no, b: 2026-01-31, c: 010, d: 1e3, e: 1:30, f: true, g: 0x1f, h: ~, i: 1_000}"
    assert _yaml.read(text, "x") == {
        "a": "no", "b": "2026-01-31", "c": 10, "d": 1000.0, "e": "1:30", "f": True, "g": 31,
        "h": None, "i": "1_000",
    }  # fmt: skip
    merged = _yaml.read("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", "x")
    assert merged["y"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("given_", "names"),
    [
        (["columns.carrier.kind=hashed", "columns.carrier.buckets=0"], ["columns.carrier.buckets"]),
        (["columns.w={kind: periodic, frequencies: 0}"], ["columns.w.frequencies: "]),
        (["columns.w={kind: piecewise_linear, quantiles: 1}"], ["columns.w.quantiles: "]),
        (["columns.w={kind: sequence_numeric, default: 1e300}"], ["columns.w.default", "float32"]),
        (["columns.w={kind: embedding, of: carrier, dimension: 0.5}"], ["columns.w.dimension: "]),
        (["columns.w={kind: hashed, buckets: 10000000000000}"], ["columns.w.buckets: "]),
        (["columns.w={}"], ["columns.w.kind: missing"]),
        (["columns.w={kind: identity, buckets: 3, default: 3}"], ["columns.w", "no id below"]),
        (
            ["data.split={time: {field: t, eval_from: 2026-02-30}}"],
            ["data.split.time.eval_from", "'2026-02-30'", "day is out of range"],
        ),
        (["data.split={time: {field: t, eval_from: 1_000}}"], ["'1_000'"]),
        (["data.split={column: {field: t, eval: [a], validation: [a]}}"], ["'a' is listed twice"]),
        (["evaluate.thresholds.auc={min: 0.9, max: 0.1}"], ["evaluate.thresholds.auc", "0.9"]),
        (["evaluate.slices=[[carrier]]"], ["evaluate.slices.0"]),
        (["train.batch_size=100000000000"], ["train.batch_size"]),
        (["train.seed=-1"], ["train.seed"]),
        (["estimator.args.linear_feature_columns=[[carrier]]"], ["['carrier'] is not declared"]),
        (["estimator.args.linear_feature_columns=[{}]"], ["{} is not declared"]),
        (["estimator.args.dnn_feature_columns=[carrier]"], ["'carrier' is a vocab", "numbers"]),
        (["estimator.args.dnn_feature_columns=[]"], ["at least one column"]),
        (["estimator.args.dnn_feature_columns=[miles, miles]"], ["each once"]),
        (["estimator.args.dnn_hidden_units=[0]"], ["dnn_hidden_units", "integers from 1"]),
        (["estimator.args.dnn_hidden_units=8"], ["dnn_hidden_units", "a list"]),
        (["estimator.args.dnn_dropout=1"], ["dnn_dropout", "less than 1"]),
        (["estimator.args.label_vocabulary=[a, b]"], ["label_vocabulary", "label.classes"]),
        (["name=.nan"], ["Setting", "finite"]),
    ],
)  # fmt: skip
def test_load_names_the_place_of_a_value_that_cannot_be(tmp_path, given_, names):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, VALID, *given_)
    for name in names:
        assert name in caught.value.message
    assert "tagged" not in caught.value.message


def test_every_kind_of_column_has_its_faults_located(tmp_path):
    assert len(specs()) >= 14
    for kind in specs():
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, VALID, f"columns.w={{kind: {kind}, strange: 1}}")
        assert "columns.w.strange: unknown key" in caught.value.message


def specs():
    union, _ = typing.get_args(config.ColumnSpec)
    return {
        typing.get_args(s.model_fields["kind"].annotation)[0]: s for s in typing.get_args(union)
    }


def test_every_kind_of_column_is_on_the_page_and_public():
    table = pathlib.Path("docs/table.md").read_text().partition("| kind | gives |")[2]
    listed = re.findall(
        r"`(\w+)`", "".join(r.split("|")[1] for r in re.findall(r"\|.*", table)[:12])
    )
    assert set(listed) >= set(specs())
    assert {spec.__name__ for spec in specs().values()} <= set(config.__all__)


def sections() -> list[type[pydantic.BaseModel]]:
    found, stack = [], [config.Section]
    while stack:
        one = stack.pop()
        found.append(one)
        stack += one.__subclasses__()
    return found[1:]


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.__name__)
def test_null_is_the_default_wherever_it_is_allowed(section):
    """A part is written without its nulls, which must therefore say nothing."""
    for name, field in section.model_fields.items():
        members = typing.get_args(field.annotation)
        if types.NoneType in members:
            assert field.default is None, name


def paths(content, at=()):
    yield at
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from paths(value, (*at, key))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(VALID)), length=st.integers(0, 4), put=st.binary(max_size=4))
def test_mutated_bytes_end_in_one_error_or_a_configuration(tmp_path_factory, at, length, put):
    path = pathlib.Path(tmp_path_factory.getbasetemp()) / "bytes.yaml"
    whole = VALID.encode()
    path.write_bytes(whole[:at] + put + whole[at + length :])
    with contextlib.suppress(ConfigError):
        config.load(path)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.dates(), st.binary(max_size=3), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3) | st.integers(), st.text(max_size=3) | st.floats(),
                    max_size=2),
    st.sampled_from(["mean", "auto", "{}", "carrier", 0, -1, 2**31, 2**63, 1e39, 1e-320]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from([p for p in paths(CONTENT) if p]), value=ODD)
def test_a_mutated_configuration_is_refused_or_read_back_as_it_is(tmp_path_factory, place, value):
    content = copy.deepcopy(CONTENT)
    node = content
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    path = pathlib.Path(tmp_path_factory.getbasetemp()) / "mutated.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    try:
        loaded = config.load(path)
        parts = [
            loaded, loaded.preprocess_part(), loaded.train_part(), loaded.evaluate_part(),
            loaded.export,
        ]  # fmt: skip
        if loaded.tune is not None:
            parts.append(loaded.tune_part())
    except ConfigError:
        return
    for part in parts:
        written = part.to_json()
        json.loads(written, parse_constant=pytest.fail)
        assert type(part).from_json(written) == part


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["label.field=distance_missing"], ["'distance_missing'", "label"]),
        (["weight=carrier_X_hour_bucketized"], ["'carrier_X_hour_bucketized'", "weight"]),
        (
            ["columns.raw={kind: numeric, field: raw.id}", "evaluate.slices=[id]"],
            ["'raw.id'", "evaluate.slices"],
        ),
    ],
)
def test_feature_called_as_what_stands_beside_it_is_refused(tmp_path, overrides, names):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, VALID, *overrides)
    for name in names:
        assert name in caught.value.message


@pytest.mark.parametrize(
    "override",
    ["columns.carrier.field=''", "label.field=''", "data.split.hash.key=['']", "weight=''"],
)
def test_field_without_a_name_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="has the name ''"):
        load(tmp_path, VALID, override)
