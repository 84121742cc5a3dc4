"""The schema section of a run: what the data must be like, and what happens if it is not."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from estimator_lib.core import config, manifest, storage, stores
from estimator_lib.core.errors import DataError, Reason
from estimator_lib.core.places import Place
from transforms.reading.records import Source
from transforms.reading.rows import Field
from transforms.validating import anomalies

_LOG = logging.getLogger(__name__)
TRAINING = "TRAINING"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchemaPolicy:
    """A schema section with its files read.

    Attributes:
        schema: The Schema, with the thresholds of the section where it has none itself.
        previous: Statistics of the span before, or None.
        serving: Statistics of serving data, or None.
        fail: Whether an error ends the step; else it is a warning.
        quarantine: Whether records with values that the schema does not allow are faults of
            theirs, instead of the data's.
    """

    schema: Any
    previous: Any | None
    serving: Any | None
    fail: bool
    quarantine: bool

    def add_bounds(self, source: Source) -> Source:
        """Returns a source whose records are held to the schema, if it puts them in quarantine.

        Each must have a value where all have, texts of the domain if it is a whole one, and
        numbers of the range. What only many records together show is left to `judge`.
        """
        if not self.quarantine:
            return source
        fields = tuple(self._bound_field(field) for field in source.layout.fields)
        return dataclasses.replace(source, layout=dataclasses.replace(source.layout, fields=fields))

    def _bound_field(self, field: Field) -> Field:
        feature = next((f for f in self.schema.feature if f.name == field.name), None)
        if feature is None or not anomalies.expected(feature, self.schema, self._environment):
            return field
        if field.role == "Field":
            field = dataclasses.replace(field, required=feature.presence.min_fraction >= 1)
        domains = {domain.name: domain for domain in self.schema.string_domain}
        domain = anomalies.string_domain(feature, domains)
        whole = (feature.distribution_constraints.min_domain_mass or 1.0) >= 1
        if field.type == "string" and domain is not None and whole:
            return dataclasses.replace(field, values=tuple(domain.value))
        which = feature.WhichOneof("domain_info")
        if field.type == "string" or which not in ("int_domain", "float_domain"):
            return field
        domain = getattr(feature, which)
        lows = [domain.min] if domain.HasField("min") else []
        highs = [domain.max] if domain.HasField("max") else []
        return dataclasses.replace(
            field,
            low=max([*lows, *([] if field.low is None else [field.low])], default=None),
            high=min([*highs, *([] if field.high is None else [field.high])], default=None),
        )

    @property
    def _environment(self) -> str | None:
        return TRAINING if TRAINING in self.schema.default_environment else None

    def judge(self, by_split: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the Anomalies of every split; only fields that were read are judged.

        Args:
            by_split: DatasetFeatureStatisticsList by split. Drift and skew are those of train.

        Raises:
            SchemaError: the policy is to fail, and there is an error.
        """
        judged = {}
        for split, statistics in by_split.items():
            of_train = split == "train"
            judged[split] = anomalies.validate(
                statistics,
                _only(self.schema, statistics),
                environment=self._environment,
                previous=self.previous if of_train else None,
                serving=self.serving if of_train else None,
            )
        for split, found in judged.items():
            if self.fail:
                anomalies.raise_for_errors(found, what=f"{split} split")
            for line in anomalies.describe(found):
                _LOG.warning("%s split: %s", split, line)
        return judged


def load(section: config.DataSchema, base_dir: str) -> SchemaPolicy:
    """Reads what a schema section names.

    Args:
        section: The section.
        base_dir: Directory that relative paths start from and stay below.

    Raises:
        DataError: a file is missing or holds no statistics.
        SchemaError: the schema cannot be read.
        SecurityError: a path leads out of `base_dir`.
    """
    schema = read_schema(_located(section.path, base_dir))
    limit(schema, drift=section.max_drift, skew=section.max_skew)
    previous, serving = (
        None if path is None else read_statistics(_located(path, base_dir))
        for path in (section.previous, section.serving)
    )
    return SchemaPolicy(
        schema=schema,
        previous=previous,
        serving=serving,
        fail=section.on_anomaly != "warn",
        quarantine=section.on_anomaly == "quarantine",
    )


def limit(
    schema: schema_pb2.Schema, *, drift: float | None = None, skew: float | None = None
) -> None:
    """Sets the largest distance from other data, for the fields for which a schema has none.

    Args:
        schema: Gets the thresholds.
        drift: From the span before; None sets none.
        skew: From serving data; None sets none.
    """
    for feature in schema.feature:
        for comparator, most in (("drift_comparator", drift), ("skew_comparator", skew)):
            if most is not None and not feature.HasField(comparator):
                norm = "infinity_norm" if _textual(feature) else "jensen_shannon_divergence"
                getattr(getattr(feature, comparator), norm).threshold = most


def read_schema(path: str | os.PathLike[str]) -> Any:
    """Reads a Schema in text form.

    Raises:
        DataError: there is no such file.
        SchemaError: it holds something else, or a constraint that is not judged.
    """
    return anomalies.parsed_schema(_read(path), os.fspath(path))


def read_statistics(path: str | os.PathLike[str]) -> Any:
    """Reads a DatasetFeatureStatisticsList: a .pb file, or the first split of an artifact.

    Args:
        path: A path or URI.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    place = Place.parse(path)
    if place.path.is_dir() if place.is_local else not place.name.endswith(".pb"):
        found = manifest.read(place, kind="statistics")
        place = manifest.locate(place) / f"{found.metadata['splits'][0]}.pb"
    try:
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(_read(place))
    except DecodeError as error:
        raise DataError(
            f"File {place} cannot be read: expected statistics (DatasetFeatureStatisticsList). "
            "Name the file or the directory that a preprocess or statistics step wrote.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def _located(path: str, base_dir: str) -> str:
    if not (place := Place.parse(path)).is_local:
        stores.of(place)  # refused before any work
        return path
    return path if os.path.isabs(path) else str(storage.safe_join(base_dir, path))


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        place = Place.parse(path)
        return place.path.read_bytes() if place.is_local else stores.read(place)
    except OSError as error:
        raise DataError(
            f"File {path} cannot be read: {error.strerror or error}. Correct the path.",
            reason=Reason.FILE_NOT_FOUND if isinstance(error, FileNotFoundError) else Reason.IO,
        ) from error


def _textual(feature: schema_pb2.Feature) -> bool:
    return bool(feature.type == schema_pb2.BYTES)


def _only(
    schema: schema_pb2.Schema, statistics: statistics_pb2.DatasetFeatureStatisticsList
) -> Any:
    """The schema without the fields that were not read, which are no fault of the data."""
    read = {feature.path.step[0] for feature in statistics.datasets[0].features}
    chosen = schema_pb2.Schema()
    chosen.CopyFrom(schema)
    del chosen.feature[:]
    chosen.feature.extend(feature for feature in schema.feature if feature.name in read)
    return chosen
