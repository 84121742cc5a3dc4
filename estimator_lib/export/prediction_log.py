"""PredictionLog, the record in which TF Serving logs requests and is warmed up.

Layer 3; needs protobuf only. The messages have the field numbers of `tensorflow_serving/apis`
(model, input, predict, classification, regression and prediction_log); what is not read here is
left out. Tensors and tf.Examples are kept as the bytes that they are on the wire.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from estimator_lib.core.errors import DataError, Reason

CLASSIFY, REGRESS, PREDICT = (f"tensorflow/serving/{m}" for m in ("classify", "regress", "predict"))
"""Methods, as signatures name them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logged:
    """One request.

    Attributes:
        signature: The signature that was asked; "" for the default one.
        model: The name that the model is served under.
        tensors: Of a Predict request: input -> serialized TensorProto.
        examples: Of a Classify or Regress request: serialized tf.Examples.
        method: The signature's.
    """

    signature: str
    model: str = ""
    tensors: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    examples: Sequence[bytes] = ()
    method: str = PREDICT


def encode(request: Logged) -> bytes:
    """Returns a request as a serialized PredictionLog."""
    log = _PredictionLog()
    part = getattr(log, _LOGS[request.method]).request
    part.model_spec.name = request.model
    part.model_spec.signature_name = request.signature
    if request.method == PREDICT:
        part.inputs.update(request.tensors)
    else:
        part.input.example_list.examples.extend(request.examples)
    return bytes(log.SerializeToString(deterministic=True))


def decode(record: bytes) -> Logged | None:
    """Returns the request in a serialized PredictionLog; None for one of another kind.

    Raises:
        DataError: it is no PredictionLog.
    """
    try:
        log = _PredictionLog.FromString(record)
    except DecodeError as error:
        raise DataError(
            "The record is no PredictionLog of TF Serving.", reason=Reason.RECORD_MALFORMED
        ) from error
    for method, field in _LOGS.items():
        if log.HasField(field):
            part = getattr(log, field).request
            predict = method == PREDICT
            return Logged(
                method=method,
                model=part.model_spec.name,
                signature=part.model_spec.signature_name,
                tensors=dict(part.inputs) if predict else {},
                examples=() if predict else tuple(part.input.example_list.examples),
            )
    return None


_LOGS = {CLASSIFY: "classify_log", REGRESS: "regress_log", PREDICT: "predict_log"}
_Fields = Sequence[tuple[str, int, str]]
_MESSAGES: dict[str, _Fields] = {
    "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
    "ExampleList": [("examples", 1, "bytes*")],
    "Input": [("example_list", 1, "ExampleList")],
    "ClassificationRequest": [("model_spec", 1, "ModelSpec"), ("input", 2, "Input")],
    "RegressionRequest": [("model_spec", 1, "ModelSpec"), ("input", 2, "Input")],
    "PredictRequest": [
        ("model_spec", 1, "ModelSpec"), ("inputs", 2, "PredictRequest.InputsEntry*"),
    ],
    "ClassifyLog": [("request", 1, "ClassificationRequest")],
    "RegressLog": [("request", 1, "RegressionRequest")],
    "PredictLog": [("request", 1, "PredictRequest")],
    "PredictionLog": [
        ("classify_log", 2, "ClassifyLog"),
        ("regress_log", 3, "RegressLog"),
        ("predict_log", 6, "PredictLog"),
    ],
}  # fmt: skip
_PACKAGE = "estimator_lib.serving"


def _messages() -> Any:
    """Returns the class of PredictionLog, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="estimator_lib/prediction_log.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    entry = file.message_type[list(_MESSAGES).index("PredictRequest")].nested_type.add(
        name="InputsEntry"
    )
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string")
    _add_field(entry, "value", 2, "bytes")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.PredictionLog"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    """Adds a field: `string`, `bytes` or a message; a star stands for several."""
    form = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number)
    field.label = form.LABEL_REPEATED if kind.endswith("*") else form.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    plain = {"string": form.TYPE_STRING, "bytes": form.TYPE_BYTES}
    if kind in plain:
        field.type = plain[kind]
    else:
        field.type = form.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


_PredictionLog = _messages()
