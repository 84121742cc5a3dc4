"""Statistics against a schema and against each other."""

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from estimator_lib.core.errors import SchemaError
from transforms.learning import statistics
from transforms.learning.analysis import FieldAnalysis, SplitAnalysis
from transforms.validating import anomalies

Info = anomalies_pb2.AnomalyInfo


def stats(**columns):
    split = SplitAnalysis()
    for name, values in columns.items():
        kind = {str: "string", int: "int", float: "float"}[
            next((type(v) for v in values if v is not None), str)
        ]
        array = pa.array(values, {"string": pa.string(), "int": pa.int64()}.get(kind, pa.float64()))
        split.fields[name] = FieldAnalysis(kind)
        split.fields[name].add(array)
        split.read = len(values)
    return split, statistics.dataset_statistics("train", split)


def schema_of(split, label=None):
    return statistics.infer_schema(split, {}, labels=[label] if label else [])


def kinds(result, name):
    return {reason.type for reason in result.anomaly_info[name].reason}


def test_data_follows_the_schema_inferred_from_it():
    split, proto = stats(c=["a", "b", None], x=[1.0, 2.0, None], i=[1, 2, 3])
    result = anomalies.validate(proto, schema_of(split))
    assert not result.anomaly_info
    anomalies.raise_for_errors(result)


@pytest.mark.parametrize(
    ("columns", "name", "kind"),
    [
        ({"c": ["a", "z"], "i": [1, 2]}, "c", Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES),
        ({"i": [1, 2]}, "c", Info.SCHEMA_MISSING_COLUMN),
        ({"c": [None, None], "i": [1, 2]}, "c", Info.SCHEMA_MISSING_COLUMN),
        ({"c": ["a", "b"], "i": [1, None]}, "i", Info.FEATURE_TYPE_LOW_FRACTION_PRESENT),
        ({"c": ["a", "b"], "i": [1.5, 2.5]}, "i", Info.UNEXPECTED_DATA_TYPE),
        ({"c": ["a", "b"], "i": [1, 2], "n": [1, 2]}, "n", Info.SCHEMA_NEW_COLUMN),
    ],
)
def test_change_of_the_data_is_an_anomaly(columns, name, kind):
    split, _ = stats(c=["a", "b"], i=[1, 2])
    _, proto = stats(**columns)
    result = anomalies.validate(proto, schema_of(split))
    assert set(result.anomaly_info) == {name}
    assert kinds(result, name) == {kind}


def test_errors_are_raised_as_a_table_and_warnings_are_not():
    split, _ = stats(c=["a", "b"], i=[1, 2])
    _, proto = stats(c=["z", "y"], n=[1, 2])
    with pytest.raises(SchemaError) as caught:
        anomalies.raise_for_errors(anomalies.validate(proto, schema_of(split)))
    assert "c: " in caught.value.message
    assert "i: " in caught.value.message
    assert "\n  n: " not in caught.value.message


def test_share_outside_the_domain_may_be_allowed():
    split, _ = stats(c=["a", "b"])
    schema = schema_of(split)
    schema.feature[0].distribution_constraints.min_domain_mass = 0.6
    _, proto = stats(c=["a", "a", "z"])
    assert not anomalies.validate(proto, schema).anomaly_info
    _, proto = stats(c=["a", "z", "z"])
    assert anomalies.validate(proto, schema).anomaly_info


def test_label_is_not_expected_when_serving():
    split, _ = stats(x=[1.0], y=[1])
    _, proto = stats(x=[1.0])
    schema = schema_of(split, label="y")
    assert not anomalies.validate(proto, schema, environment="SERVING").anomaly_info
    assert anomalies.validate(proto, schema, environment="TRAINING").anomaly_info


def test_numbers_outside_their_range():
    schema = text_format.Parse(
        'feature { name: "x" type: FLOAT float_domain { min: 0 max: 1 } }'
        'feature { name: "i" type: INT int_domain { min: 0 max: 3 } }',
        schema_pb2.Schema(),
    )
    _, proto = stats(x=[-1.0, 2.0], i=[-1, 4])
    result = anomalies.validate(proto, schema)
    assert kinds(result, "x") == {Info.FLOAT_TYPE_SMALL_FLOAT, Info.FLOAT_TYPE_BIG_FLOAT}
    assert kinds(result, "i") == {Info.INT_TYPE_SMALL_INT, Info.INT_TYPE_BIG_INT}


@pytest.mark.parametrize("what", ["drift", "skew"])
def test_drift_and_skew_are_measured_and_compared_with_the_threshold(what):
    split, now = stats(c=["a"] * 9 + ["b"], x=[float(i) for i in range(10)])
    _, before = stats(c=["a"] * 5 + ["b"] * 5, x=[float(i) + 5 for i in range(10)])
    schema = schema_of(split)
    for feature in schema.feature:
        comparator = getattr(feature, f"{what}_comparator")
        if feature.name == "c":
            comparator.infinity_norm.threshold = 0.3
        else:
            comparator.jensen_shannon_divergence.threshold = 0.1
    other = {"previous" if what == "drift" else "serving": before}
    result = anomalies.validate(now, schema, **other)
    assert kinds(result, "c") == {Info.COMPARATOR_L_INFTY_HIGH}
    assert kinds(result, "x") == {Info.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH}
    measured = {
        i.path.step[0]: getattr(i, f"{what}_measurements")[0].value for i in result.drift_skew_info
    }
    assert measured["c"] == pytest.approx(0.4)
    assert 0.3 < measured["x"] < 0.8
    same = anomalies.validate(now, schema, **dict.fromkeys(other, now))
    assert not same.anomaly_info
    assert all(getattr(i, f"{what}_measurements")[0].value == 0 for i in same.drift_skew_info)


@pytest.mark.parametrize(
    ("schema", "columns", "name", "kind"),
    [
        ('feature { name: "a" type: INT bool_domain {} }', {"a": [0, 1, 2]}, "a",
         Info.BOOL_TYPE_BIG_INT),
        ('feature { name: "a" type: INT bool_domain {} }', {"a": [-1, 1]}, "a",
         Info.BOOL_TYPE_SMALL_INT),
        ('feature { name: "a" type: BYTES bool_domain { true_value: "y" false_value: "n" } }',
         {"a": ["y", "n", "yes"]}, "a", Info.BOOL_TYPE_UNEXPECTED_STRING),
        ('feature { name: "a" type: INT } dataset_constraints { min_examples_count: 3 }',
         {"a": [1, 2]}, "(dataset)", Info.DATASET_LOW_NUM_EXAMPLES),
        ('feature { name: "a" type: INT } dataset_constraints { max_examples_count: 1 }',
         {"a": [1, 2]}, "(dataset)", Info.DATASET_HIGH_NUM_EXAMPLES),
    ],
)  # fmt: skip
def test_boolean_domains_and_numbers_of_rows_are_judged(schema, columns, name, kind):
    _, proto = stats(**columns)
    result = anomalies.validate(proto, anomalies.parsed_schema(schema.encode(), "s"))
    assert kinds(result, name) == {kind}
    with pytest.raises(SchemaError):
        anomalies.raise_for_errors(result)
    good = schema.replace("count: 3", "count: 2").replace("count: 1", "count: 2")
    values = {"a": ["y", "n"]} if "BYTES" in schema else {"a": [0, 1]}
    _, proto = stats(**values)
    assert not anomalies.validate(proto, anomalies.parsed_schema(good.encode(), "s")).anomaly_info


def settable():
    """Every constraint of a feature that a schema can have, as text with a value."""
    for field in schema_pb2.Feature.DESCRIPTOR.fields:
        if field.message_type is not None:
            yield field.name


@pytest.mark.parametrize("name", sorted(settable()))
def test_a_constraint_is_judged_or_refused(name):
    feature = schema_pb2.Schema().feature.add(name="a", type=schema_pb2.INT)
    given = getattr(feature, name)
    if hasattr(given, "SetInParent"):
        given.SetInParent()
    else:
        given.add()
    schema = schema_pb2.Schema(feature=[feature])
    found = anomalies.list_unjudged(schema)
    judged = {
        "presence", "value_count", "shape", "int_domain", "float_domain", "string_domain",
        "bool_domain", "distribution_constraints", "drift_comparator", "skew_comparator",
        "annotation",
    }  # fmt: skip
    assert found == ([] if name in judged else [f"{name} of 'a'"])
