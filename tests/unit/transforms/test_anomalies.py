"""Statistics against a schema and against each other."""

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from estimator_lib.core.errors import SchemaError
from transforms import anomalies, statistics
from transforms.analysis import FieldAnalysis, SplitAnalysis

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
    return statistics.infer_schema(split, labels=[label] if label else [])


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
