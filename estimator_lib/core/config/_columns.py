"""Feature columns as a configuration declares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core import columns as fc
from estimator_lib.core.config._section import Buckets, Count, Dimension, Float32, Section
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean


class NumericSpec(Section):
    """A number."""

    kind: Literal["numeric"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    default: Float32 | Literal["mean"] | None = None
    """Stands for a missing value; "mean" is learned."""
    normalize: Literal["moments"] | None = None
    """"moments": learn mean and standard deviation and give (x - mean) / stddev."""


class MissingIndicatorSpec(Section):
    """1 where a field is missing, else 0."""

    kind: Literal["missing_indicator"]
    field: str
    """The raw field."""


class BucketizedSpec(Section):
    """A number cut at boundaries."""

    kind: Literal["bucketized"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    boundaries: Annotated[list[Float32], Field(min_length=1, max_length=32_768)] | None = None
    """Sorted boundaries, or"""
    quantiles: Annotated[int, Field(ge=2, le=32_768)] | None = None
    """the number of equal parts whose boundaries are learned."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.boundaries is None) == (self.quantiles is None):
            raise ValueError("give exactly one of boundaries, quantiles")
        return self


class PiecewiseLinearSpec(BucketizedSpec):
    """A number as its way through buckets: a vector that a network reads better."""

    kind: Literal["piecewise_linear"]  # type: ignore[assignment]
    dimension: Dimension | None = None
    """Width of a layer behind it; none, if not given."""


class PeriodicSpec(Section):
    """A number, standardized, as sines and cosines at learned frequencies."""

    kind: Literal["periodic"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    frequencies: Dimension = 16
    """How many."""
    scale: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the frequencies at first."""
    dimension: Dimension = 16
    """Width of the layer behind it."""


class VocabularySpec(Section):
    """Categories, their vocabulary learned from the train split or given."""

    kind: Literal["vocabulary"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    values: list[str] | None = None
    """The vocabulary, where it is known; else it is learned."""
    top_k: Buckets | None = None
    """Keep at most this many values."""
    min_count: Count = 1
    """Keep values seen at least this often, or whose weights sum to this."""
    rank_by: Literal["count", "weight", "mutual_information"] = "count"
    """What orders the values: how often they are seen, the sum of `weight`, or what they tell
    about the label (adjusted for chance)."""
    weight: str | None = None
    """The field of weights, where `rank_by` is weight."""
    reserved: list[str] = []
    """Values that come first, seen or not."""
    oov_buckets: Annotated[int, Field(ge=0, le=1_000_000_000)] = 1
    """Ids for unseen values."""

    @pydantic.model_validator(mode="after")
    def _ranking(self) -> Self:
        if (self.weight is not None) != (self.rank_by == "weight"):
            raise ValueError("weight and rank_by: weight go together; give both or neither")
        if self.values is not None and (self.rank_by != "count" or self.reserved):
            raise ValueError("values are given; rank_by and reserved are for learned ones")
        return self


class HashedSpec(Section):
    """Categories hashed into a fixed number of ids."""

    kind: Literal["hashed"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    buckets: Buckets
    """How many ids."""


class IdentitySpec(Section):
    """Integers that are ids already."""

    kind: Literal["identity"]
    field: str | None = None
    """The raw field; by default the column's own name."""
    buckets: Buckets
    """How many ids."""
    default: Annotated[int, Field(ge=0)] | None = None
    """Takes the place of a value outside; without it such a value is refused."""

    @pydantic.model_validator(mode="after")
    def _inside(self) -> Self:
        if self.default is not None and self.default >= self.buckets:
            raise ValueError(f"default {self.default} is no id below buckets = {self.buckets}")
        return self


class CrossedSpec(Section):
    """Combinations of categories, hashed."""

    kind: Literal["crossed"]
    of: Annotated[list[str], Field(min_length=2)]
    """Columns of this file (vocabulary, bucketized, identity) or raw text fields."""
    buckets: Buckets
    """How many ids."""


class WeightedSpec(Section):
    """Categories of a field with several values, each with a weight."""

    kind: Literal["weighted"]
    of: str
    """The categorical column."""
    weights: str
    """The raw field with one weight per value."""


class SequenceSpec(Section):
    """Categories whose order counts, for models of sequences."""

    kind: Literal["sequence"]
    of: str
    """The categorical column; its field has several values."""


class SequenceNumericSpec(Section):
    """Numbers whose order counts, for models of sequences."""

    kind: Literal["sequence_numeric"]
    field: str | None = None
    """The raw field, with several values; by default the column's own name."""
    default: Float32 = 0.0
    """Stands for a missing value."""


class IndicatorSpec(Section):
    """One-hot form of a categorical column."""

    kind: Literal["indicator"]
    of: str
    """The categorical column."""


class EmbeddingSpec(Section):
    """A learned vector per category."""

    kind: Literal["embedding"]
    of: str
    """The categorical column."""
    dimension: Dimension | Literal["auto"] = "auto"
    """Length of the vector; "auto" takes it from the number of categories."""
    combiner: Literal["mean", "sqrtn", "sum"] = "mean"
    """How the vectors of several values become one."""


ColumnSpec = Annotated[
    NumericSpec
    | MissingIndicatorSpec
    | BucketizedSpec
    | PiecewiseLinearSpec
    | PeriodicSpec
    | VocabularySpec
    | HashedSpec
    | IdentitySpec
    | CrossedSpec
    | WeightedSpec
    | SequenceSpec
    | SequenceNumericSpec
    | IndicatorSpec
    | EmbeddingSpec,
    Field(discriminator="kind"),
]


def build_columns(specs: Mapping[str, Any]) -> dict[str, fc.Column]:
    """Returns the declared columns under their names in the file.

    Raises:
        ConfigError: a column refers to one that is not there, or to itself.
    """
    built: dict[str, fc.Column] = {}

    def get(name: str, by: str, path: tuple[str, ...]) -> fc.Column:
        if name in path:
            raise ConfigError(
                f"Column {by!r} refers to itself: {' -> '.join((*path, name))}.",
                reason=Reason.CONFLICT,
            )
        if name not in specs:
            raise ConfigError(
                f"Column {by!r} refers to {name!r}, which is not declared under columns."
                + did_you_mean(name, specs),
                reason=Reason.UNKNOWN_NAME,
            )
        if name not in built:
            built[name] = make(name, specs[name], (*path, name))
        return built[name]

    def categorical(name: str, by: str, path: tuple[str, ...]) -> fc.CategoricalColumn:
        column = get(name, by, path)
        if not isinstance(column, fc.CategoricalColumn):
            raise ConfigError(
                f"Column {by!r} needs a categorical column, got {name!r}, which is {column.kind}.",
                reason=Reason.TYPE_MISMATCH,
            )
        return column

    def make(name: str, spec: Any, path: tuple[str, ...]) -> fc.Column:
        match spec:
            case NumericSpec():
                default = fc.Mean() if spec.default == "mean" else spec.default
                normalizer = fc.Moments() if spec.normalize else None
                return fc.numeric_column(
                    spec.field or name, default_value=default, normalizer_fn=normalizer
                )
            case MissingIndicatorSpec():
                return fc.missing_indicator_column(spec.field)
            case BucketizedSpec():
                cuts = spec.boundaries or fc.Quantiles(buckets=spec.quantiles or 2)
                number = fc.numeric_column(spec.field or name)
                if isinstance(spec, PiecewiseLinearSpec):
                    return fc.piecewise_linear_embedding(number, cuts, spec.dimension)
                return fc.bucketized_column(number, cuts)
            case PeriodicSpec():
                number = fc.numeric_column(spec.field or name, normalizer_fn=fc.Moments())
                return fc.periodic_embedding(number, spec.frequencies, spec.scale, spec.dimension)
            case VocabularySpec(values=list() as values):
                return fc.categorical_column_with_vocabulary_list(
                    spec.field or name, values, num_oov_buckets=spec.oov_buckets
                )
            case VocabularySpec():
                return fc.categorical_column_with_vocabulary(
                    spec.field or name,
                    spec.top_k,
                    spec.min_count,
                    spec.oov_buckets,
                    weight=spec.weight,
                    informative=spec.rank_by == "mutual_information",
                    reserved=spec.reserved,
                )
            case HashedSpec():
                return fc.categorical_column_with_hash_bucket(spec.field or name, spec.buckets)
            case IdentitySpec():
                return fc.categorical_column_with_identity(
                    spec.field or name, spec.buckets, spec.default
                )
            case CrossedSpec():
                keys = [categorical(k, name, path) if k in specs else k for k in spec.of]
                return fc.crossed_column(keys, spec.buckets)
            case WeightedSpec():
                inner = categorical(spec.of, name, path)
                return fc.weighted_categorical_column(inner, spec.weights)
            case SequenceSpec():
                return fc.sequence_categorical_column(categorical(spec.of, name, path))
            case SequenceNumericSpec():
                return fc.sequence_numeric_column(spec.field or name, (1,), spec.default)
            case IndicatorSpec():
                return fc.indicator_column(categorical(spec.of, name, path))
            case EmbeddingSpec():
                inner = categorical(spec.of, name, path)
                return fc.embedding_column(inner, spec.dimension, spec.combiner)
        raise AssertionError(spec)  # the union is closed

    for name in specs:
        get(name, name, ())
    return {name: built[name] for name in specs}
