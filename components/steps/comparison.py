"""Raw rows compared with the statistics of training, by the schema of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from estimator_lib.core import manifest
from transforms import dataset
from transforms.validating import anomalies, schema_policy, statistics_page

if TYPE_CHECKING:
    from components.steps.monitor_job import Requests

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance:
    """How far the requests' values of one field are from those of training.

    Attributes:
        field: Its name.
        measure: "L-infinity" for texts, "Jensen-Shannon" for numbers.
        value: Between 0 and 1.
        limit: What is allowed.
    """

    field: str
    measure: str
    value: float
    limit: float

    @property
    def is_over(self) -> bool:
        """Whether it is more than is allowed."""
        return self.value > self.limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Both sides, and what is wrong.

    Attributes:
        training: Statistics of the model's inputs in training.
        requests: The same of the requests.
        schema: What was asked of them.
        found: Anomalies.
    """

    training: statistics_pb2.DatasetFeatureStatisticsList
    requests: statistics_pb2.DatasetFeatureStatisticsList
    schema: schema_pb2.Schema
    found: anomalies_pb2.Anomalies

    @property
    def rows(self) -> int:
        """Rows of the requests."""
        return int(self.requests.datasets[0].num_examples)

    @property
    def anomalies(self) -> list[str]:
        """A line per anomaly, errors first."""
        return anomalies.describe(self.found)

    @property
    def distances(self) -> list[Distance]:
        """Of each field that both sides have, largest first."""
        measured = [
            Distance(
                field=info.path.step[0],
                measure=_MEASURES[one.type],
                value=one.value,
                limit=one.threshold,
            )
            for info in self.found.drift_skew_info
            for one in info.skew_measurements
        ]
        return sorted(measured, key=lambda one: (-one.value, one.field))


def compare(
    requests: Requests,
    fields: Mapping[str, str],
    lineage: Mapping[str, Any],
    *,
    statistics: str,
    schema: str,
    max_skew: float,
    runner_options: Sequence[str],
) -> Compared:
    """Returns what rows are like beside training.

    Args:
        requests: The rows, CSV or Parquet.
        fields: The model's inputs: name -> type, as `columns.json` has them.
        lineage: The model's; says how texts hold several values and units.
        statistics: Of training.
        schema: Of training, as a path.
        max_skew: Of fields for which the schema has no threshold.
        runner_options: Beam options.

    Raises:
        EstimatorLibError: see `transforms.dataset.find` and `compute`.
    """
    training = _only(schema_policy.read_statistics(statistics), fields)
    asked = _inputs(schema_policy.read_schema(schema), fields)
    schema_policy.limit(asked, skew=max_skew)
    present = dataset.field_names(
        requests.patterns,
        file_format=requests.format,
        csv=requests.csv,
        encoding=requests.encoding,
    )
    units = {name: unit["sign"] for name, unit in lineage.get("units", {}).items()}
    separators = lineage.get("separators", {}) if requests.format == "csv" else {}
    found = dataset.find(
        requests.patterns,
        file_format=requests.format,
        missing=requests.missing,
        csv=requests.csv,
        encoding=requests.encoding,
        types={n: k.removesuffix("[]") for n, k in fields.items() if n in present},
        lists={n: s for n, s in separators.items() if n in present},
        units={n: s for n, s in units.items() if n in present and requests.format == "csv"},
    )
    computed = _only(dataset.compute(found, runner_options)[0], fields)
    judged = anomalies.validate(computed, asked, serving=training)
    return Compared(training=training, requests=computed, schema=asked, found=judged)


def write(writer: manifest.ArtifactWriter, compared: Compared) -> None:
    """Writes both statistics, their page, the schema and the anomalies."""
    statistics_page.write_statistics(
        writer,
        {"training": compared.training, "requests": compared.requests},
        compared.schema,
        {"requests": compared.found},
    )


def _only(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, fields: Mapping[str, str]
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """The statistics of all rows, of the model's inputs."""
    chosen = statistics_pb2.DatasetFeatureStatisticsList()
    first = chosen.datasets.add()
    first.CopyFrom(statistics.datasets[0])
    del first.features[:]
    first.features.extend(
        feature for feature in statistics.datasets[0].features if feature.path.step[0] in fields
    )
    return chosen


def _inputs(schema: schema_pb2.Schema, fields: Mapping[str, str]) -> schema_pb2.Schema:
    """What a schema asks of the model's inputs; how many rows there are is another matter."""
    chosen = schema_pb2.Schema()
    chosen.CopyFrom(schema)
    chosen.ClearField("dataset_constraints")
    chosen.ClearField("default_environment")
    del chosen.feature[:]
    chosen.feature.extend(feature for feature in schema.feature if feature.name in fields)
    return chosen
