"""Resolved columns -> a SavedModel in tensorflow-transform's layout.

`tft.TFTransformOutput(directory).transform_features_layer()` loads it, and so does
`tf.saved_model.load(directory / "transform_fn").transform_fn(raw)`. It is written with
TensorFlow alone: importing tensorflow_transform takes longer than the whole job.

Vocabularies go along as gzipped TFRecord assets, in which a token may hold any bytes, and are
found by `TFTransformOutput.vocabulary_by_name(name of the column)`.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from google.protobuf import text_format

from estimator_lib.core import columns as fc
from estimator_lib.core import description, storage
from estimator_lib.core.units import Unit
from estimator_lib.core.values import Logical
from estimator_lib.features import dates
from estimator_lib.features.texts import canonical as texts_of
from estimator_lib.features.texts import numbers as numbers_of
from estimator_lib.features.transform import FeatureTransform
from transforms.applying import tensors, user_function
from transforms.learning import statistics
from transforms.reading import records


def list_features(columns: Iterable[fc.Column], raw_fields: Mapping[str, str]) -> frozenset[str]:
    """Returns the transformed features with any number of values per row.

    Args:
        columns: All columns.
        raw_fields: Raw field -> type, "string[]" and the like where a record has several values.
    """
    return frozenset(
        name
        for name, column in fc.feature_sources(columns).items()
        if not isinstance(column, fc.MissingIndicatorColumn)
        and any(raw_fields[field].endswith("[]") for field in fc.raw_fields([column]))
    )


_LONGEST_NAME = 200
"""Bytes of a file's name, without its ending."""


class TransformModule(tf.Module):  # type: ignore[misc, unused-ignore]
    """Holds `transform_fn`: raw fields `[batch]` -> transformed features.

    Fields with several values per record, and what is made of them, are SparseTensors
    `[batch, n]`. A feature has the positions of the field it is made of, missing values among
    them, so that sequences keep their length; of a cross it has the ids there are.

    Args:
        columns: Resolved columns.
        raw_fields: Raw field -> "string", "int" or "float"; "string[]", "int[]" or "float[]".
        assets: Files to keep in the SavedModel.
        user: A `user_function.UserGraph` that makes fields of raw ones, before the columns.
        derived: Field that it gives -> type.
        along: Those that are features as they are.
        logical: Raw field -> what its texts are, which are brought into their canonical form.
        units: Raw field -> how its numbers are written, of a field that is text for its unit.
        required: Fields that every row must have; rows without, and infinite numbers of any
            field, are refused. None refuses nothing, for rows that are checked already.
    """

    def __init__(
        self,
        columns: Iterable[fc.Column],
        raw_fields: Mapping[str, str],
        assets: Iterable[str] = (),
        *,
        user: Any | None = None,
        derived: Mapping[str, str] | None = None,
        along: Iterable[str] = (),
        logical: Mapping[str, Logical] | None = None,
        units: Mapping[str, Unit] | None = None,
        required: Iterable[str] | None = None,
    ) -> None:
        super().__init__(name="transform")
        columns = tuple(columns)
        self.features = FeatureTransform(columns)
        self.assets = [tf.saved_model.Asset(path) for path in assets]
        sources = fc.feature_sources(columns)
        fields = {**raw_fields, **(derived or {})}
        self._lists = {name: sources[name] for name in sorted(list_features(columns, fields))}
        self._user = user
        self._along = tuple(along)
        self._logical = {n: kind for n, kind in (logical or {}).items() if n in raw_fields}
        self._units = dict(units or {})
        self._required = None if required is None else frozenset(required)
        specification = {n: tensors.spec(kind) for n, kind in sorted(raw_fields.items())}
        self.transform_fn = tf.function(
            self._transform, input_signature=[specification], autograph=False
        )

    def _transform(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        texts = {name: texts_of(raw[name], kind) for name, kind in self._logical.items()}
        texts |= {name: numbers_of(raw[name], unit) for name, unit in self._units.items()}
        raw = {**raw, **texts}
        if self._user is not None:
            raw = {**raw, **self._user(raw)}
        if self._required is not None:
            needed = self._required
            raw = {name: _checked(name, one, name in needed) for name, one in raw.items()}
        features = dict(self.features(raw))
        features |= {name: _numbers(raw[name]) for name in self._along}
        for name, column in self._lists.items():
            source = raw[next(iter(fc.raw_fields([column])))]
            features[name] = _as_sparse(column, features[name], source)
        return features


def _checked(name: str, values: tensors.Tensors, required: bool) -> Any:
    """A number or date that the columns can take, or the error of the request with another."""
    if not isinstance(values, tf.Tensor) or (values.dtype == tf.string and not required):
        return values
    if values.dtype == tf.string:
        fine = dates.moments(values).known
    elif values.dtype.is_floating:
        fine = tf.math.is_finite(values) if required else ~tf.math.is_inf(values)
    elif required:
        fine = values != fc.MISSING_INT
    else:
        return values
    kind = "date" if values.dtype == tf.string else "number"
    wrong = "no date" if kind == "date" else "not finite"
    found = f"is missing or {wrong}" if required else f"is {wrong}"
    message = (
        f"Field {name!r} {found}: expected a {kind}{' in every row' if required else ''}. Give the "
        f"value{', or train with a default for its column' if required else ''}."
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(fine), [message])]):
        return tf.identity(values)


def _numbers(values: tensors.Tensors) -> Any:
    """A feature as it is, `[batch]` if it has one number per row: float32 or int64."""
    dtype = tf.float32 if values.dtype.is_floating else tf.int64
    if isinstance(values, tf.RaggedTensor):
        values = values.to_sparse()
    values = tf.cast(values, dtype)
    if not isinstance(values, tf.SparseTensor) and values.shape.rank == 2 and values.shape[1] == 1:
        return tf.squeeze(values, 1)
    return values


def _as_sparse(column: fc.Column, values: tensors.Tensors, source: tensors.Tensors) -> Any:
    """A padded feature at the positions that its field has; of a cross, where there is an id."""
    if isinstance(source, tf.RaggedTensor):
        source = source.to_sparse()
    if isinstance(column, fc.CrossedColumn) or not isinstance(source, tf.SparseTensor):
        at = tf.where(values >= 0)
        return tf.SparseTensor(at, tf.gather_nd(values, at), tf.shape(values, tf.int64))
    flat = tf.gather_nd(values, source.indices)
    return tf.SparseTensor(source.indices, flat, source.dense_shape)


def num_buckets(columns: Iterable[fc.Column]) -> dict[str, int | None]:
    """Returns the transformed features by name: how many ids, or None for a number."""
    return {
        name: column.num_buckets if isinstance(column, fc.CategoricalColumn) else None
        for name, column in fc.feature_sources(columns).items()
    }


def content_digest(columns: Mapping[str, fc.Column], source: records.Source) -> str:
    """Returns what two transforms have in common exactly when they do the same.

    The bytes of a SavedModel differ from one process to the next; this does not.
    """
    described = _described(columns, source).to_json()
    if source.derived is not None:
        described["function"] = source.derived.digest
    if source.units:
        described["units"] = {n: dataclasses.asdict(u) for n, u in source.units.items()}
    text = storage.canonical_json(described)
    return hashlib.sha256(text.encode()).hexdigest()


def _described(columns: Mapping[str, fc.Column], source: records.Source) -> description.Description:
    return description.Description(
        columns=columns, raw_fields=source.raw_fields, types=source.logical
    )


def write_transform(
    directory: pathlib.Path, columns: Mapping[str, fc.Column], source: records.Source
) -> None:
    """Writes the transform graph, both schemas, the vocabularies and `columns.json`.

    Args:
        directory: An empty staging directory.
        columns: Resolved columns by their names in the run configuration.
        source: How the rows are read: raw fields, what their texts are, a learned function.
    """
    raw_fields, derived = source.raw_fields, source.derived
    given = derived.outputs if derived is not None else {}
    features = dict(source.along)
    vocabularies = {
        column.name: column.vocabulary
        for column in fc.walk(columns.values())
        if isinstance(column, fc.VocabularyColumn)
    }
    staged = directory / "vocabularies"
    storage.make_directory(staged)
    assets = []
    names = _asset_names(vocabularies)
    for name, tokens in sorted(vocabularies.items()):
        assets.append(str(staged / f"{names[name]}.tfrecord.gz"))
        _write_vocabulary(assets[-1], tokens)  # type: ignore[arg-type]
    module = TransformModule(
        columns.values(),
        raw_fields,
        assets,
        user=user_function.UserGraph(derived.directory, derived.inputs) if derived else None,
        derived=given,
        along=features,
        logical=source.logical,
        units={name: unit for name, unit in source.units.items() if name in raw_fields},
        required=fc.required_fields(columns),
    )
    tf.saved_model.save(
        module,
        str(directory / "transform_fn"),
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
    storage.remove(directory / "transform_fn" / "fingerprint.pb")  # drawn anew at each attempt
    storage.remove(staged)
    lists = list_features(columns.values(), {**raw_fields, **given})
    lists |= {name for name, kind in features.items() if kind.endswith("[]")}
    whole = [name for name, kind in features.items() if kind.startswith("int")]
    transformed = statistics.transformed_schema(
        {**num_buckets(columns.values()), **dict.fromkeys(features)}, lists, whole
    )
    for folder, schema in (
        ("metadata", statistics.raw_schema(raw_fields)),
        ("transformed_metadata", transformed),
    ):
        storage.write_text(directory / folder / "schema.pbtxt", text_format.MessageToString(schema))
    storage.write_json(directory / description.NAME, _described(columns, source).to_json())


def _asset_names(columns: Iterable[str]) -> dict[str, str]:
    """Returns the file names that tensorflow_transform looks for; others where it sees twins."""
    plain = {
        name: re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "_", name).strip()) for name in columns
    }
    times = collections.Counter(found.casefold() for found in plain.values())
    return {
        name: found
        if times[found.casefold()] == 1 and len(found.encode()) <= _LONGEST_NAME
        else f"{found[:50]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        for name, found in plain.items()
    }


def _write_vocabulary(path: str, tokens: Iterable[str | int]) -> None:
    with storage.errors_of_libraries(), tf.io.TFRecordWriter(path, options="GZIP") as sink:
        for token in tokens:
            sink.write(str(token).encode())
