"""Fault 16: new data that lacks, renames or retypes a field is refused with a table.

Fails when data is not judged by the schema it is given, or when only the first difference is told.
"""

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from estimator_lib.core.errors import Reason, SchemaError
from transforms.learning import statistics
from transforms.testing import Job
from transforms.validating import anomalies

COLUMNS = {"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "default": "mean"}}


def job(root, train, columns=COLUMNS):
    files = {"train": [train], "eval": [train]}
    return Job(root=root, files=files, columns=columns, label={"field": "y"})


def statistics_of(made):
    data = (made.statistics / "train.pb").read_bytes()
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(data)


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("old"), "c,x,y\na,1,0\nb,2,1\n")
    made.run()
    return statistics.read_schema((made.statistics / "schema.pbtxt").read_text())


def test_same_kind_of_data_is_fine(tmp_path, schema):
    made = job(tmp_path, "y,x,c\n0,5,b\n")
    made.run()
    anomalies.raise_for_errors(anomalies.validate(statistics_of(made), schema))


def test_renamed_and_retyped_fields_are_listed(tmp_path, schema):
    columns = {"c2": {"kind": "vocabulary"}, "x": {"kind": "vocabulary"}}
    made = job(tmp_path, "c2,x,y\na,high,0\nb,low,1\n", columns)
    made.run()
    with pytest.raises(SchemaError) as caught:
        anomalies.raise_for_errors(anomalies.validate(statistics_of(made), schema))
    assert caught.value.reason == Reason.TYPE_MISMATCH
    assert "c: Column has no values" in caught.value.message
    assert "x: Column has another type: expected FLOAT, got BYTES" in caught.value.message


def test_field_that_the_columns_read_is_refused_when_it_is_gone(tmp_path):
    with pytest.raises(SchemaError) as caught:
        job(tmp_path, "c,z,y\na,1,0\n").run()
    assert caught.value.reason == Reason.FIELD_MISSING
    assert "'x'" in caught.value.message
