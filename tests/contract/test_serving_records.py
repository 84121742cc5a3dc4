"""What is written for TF Serving, read by its own messages; what its releases can load."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import DataError, ExportError
from estimator_lib.export import prediction_log, server_versions, warmup
from estimator_lib.export.prediction_log import CLASSIFY, PREDICT, REGRESS, Logged

ROWS = {
    "dep time (h)": np.array([1.5, np.nan], np.float32),
    "carrier": np.array(["UA", ""], object),
    "class": np.array([[3, MISSING_INT], [MISSING_INT, MISSING_INT]], np.int64),
}


def save(folder, function, **shapes):
    module = tf.Module()
    specs = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in shapes.items()]
    made = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": made})
    return folder


@pytest.mark.parametrize("method", [PREDICT, CLASSIFY, REGRESS])
def test_requests_are_those_of_tf_serving_both_ways(method):
    tensor = tf.make_tensor_proto([1.5]).SerializeToString()
    given = Logged(
        signature="a:b",
        model="flights",
        method=method,
        tensors={"dep time (h)": tensor} if method == PREDICT else {},
        examples=() if method == PREDICT else (b"", tf.train.Example().SerializeToString()),
    )
    theirs = prediction_log_pb2.PredictionLog.FromString(prediction_log.encode(given))
    part = getattr(theirs, f"{method.rpartition('/')[2]}_log").request
    assert (part.model_spec.name, part.model_spec.signature_name) == ("flights", "a:b")
    if method == PREDICT:
        assert tf.make_ndarray(part.inputs["dep time (h)"]) == [1.5]
    else:
        assert len(part.input.example_list.examples) == 2
    theirs.log_metadata.sampling_config.sampling_rate = 0.5
    part.model_spec.version.value = 7
    assert prediction_log.decode(theirs.SerializeToString()) == given


def test_another_record_is_told_from_a_request():
    other = prediction_log_pb2.PredictionLog()
    other.session_run_log.SetInParent()
    assert prediction_log.decode(other.SerializeToString()) is None
    with pytest.raises(DataError, match="PredictionLog"):
        prediction_log.decode(b"\xff no message")


def test_warm_up_gives_each_signature_what_it_takes(tmp_path):
    save(
        tmp_path, lambda examples: {"y": tf.strings.length(examples)}, examples=([None], tf.string)
    )
    assert warmup.warm_every_signature(tmp_path, ROWS) == ["serving_default"]
    (record,) = tf.data.TFRecordDataset(str(tmp_path / warmup.FILE)).as_numpy_iterator()
    request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
    first, second = tf.make_ndarray(request.inputs["examples"])
    assert set(tf.train.Example.FromString(second).features.feature) == set()
    features = tf.train.Example.FromString(first).features.feature
    assert features["class"].int64_list.value == [3]
    assert features["carrier"].bytes_list.value == [b"UA"]
    assert features["dep time (h)"].float_list.value == [1.5]


def test_warm_up_that_lacks_an_input_is_refused(tmp_path):
    save(tmp_path, lambda x: {"y": x}, x=([None], tf.float32))
    with pytest.raises(ExportError, match=r"'x'.*carrier"):
        warmup.warm_every_signature(tmp_path, ROWS)


def test_the_oldest_server_follows_from_the_operations(tmp_path):
    def old(x):
        return {"y": x + 1}

    def new(x):
        ids = tf.constant([0], tf.int32)
        return {"y": tf.raw_ops.SegmentMaxV2(data=x[:1], segment_ids=ids, num_segments=1)}

    shape = {"x": ([None], tf.float32)}
    found = server_versions.needs(save(tmp_path / "old", old, **shape))
    assert found == server_versions.Needs(tensorflow=server_versions.OLDEST)
    found = server_versions.needs(save(tmp_path / "new", new, **shape))
    assert found == server_versions.Needs(tensorflow="2.13", because=("SegmentMaxV2",))
    path = tmp_path / "new" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].graph_def.versions.min_consumer = 2000
    path.write_bytes(saved.SerializeToString())
    assert server_versions.needs(tmp_path / "new").tensorflow == "2.19"


def test_an_operation_that_no_server_has_is_refused(tmp_path):
    save(tmp_path, lambda x: {"y": x}, x=([None], tf.float32))
    path = tmp_path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].graph_def.library.function[0].node_def.add(name="own", op="OurOwnOp")
    path.write_bytes(saved.SerializeToString())
    with pytest.raises(ExportError, match="OurOwnOp"):
        server_versions.needs(tmp_path)


def test_every_operation_of_the_table_is_one_of_tensorflow():
    known = set(dir(tf.raw_ops))
    names = [name for text in server_versions._OPERATIONS.values() for name in text.split()]
    assert len(names) == len(set(names))
    assert set(names) <= known
    versions = list(server_versions._GRAPHS.values())
    assert versions == sorted(versions)
