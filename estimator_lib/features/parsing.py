"""What `tf.io.parse_example` needs to read the fields of feature columns.

Layer 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.features._lowering import Spec, parsed
from estimator_lib.features.upstream import columns_of


def make_parse_example_spec(feature_columns: Iterable[Any]) -> Spec:
    """Returns a feature specification of all fields that `feature_columns` read.

    Args:
        feature_columns: Columns of ours or of `tf.feature_column`.

    Returns:
        By field: FixedLenFeature for numbers, VarLenFeature for categories and sequences. A
        field that only a missing indicator reads is a float whose absence is NaN.

    Raises:
        ConfigError: two columns read one field in different ways, or a default must still be
            learned.
    """
    spec: Spec = {}
    columns = list(fc.walk(columns_of(feature_columns)))
    # The weights of categories are as many as the categories; walk lists them as plain numbers.
    weights = {c.weight_feature_key for c in columns if isinstance(c, fc.WeightedColumn)}
    spec |= {key: tf.io.VarLenFeature(tf.float32) for key in weights}
    for column in columns:
        if isinstance(column, fc.NumericColumn) and column.key in weights:
            continue
        for key, feature in parsed(column).items():
            known = spec.setdefault(key, feature)
            if known != feature:
                raise ConfigError(
                    f"Field {key!r} is parsed in two ways: column {column.name!r} needs {feature}, "
                    f"another column {known}. Make the columns agree.",
                    reason=Reason.CONFLICT,
                )
    for column in columns:
        if isinstance(column, fc.MissingIndicatorColumn):
            absent = tf.io.FixedLenFeature((1,), tf.float32, float("nan"))
            spec.setdefault(column.key, absent)
    return spec


def classifier_parse_example_spec(
    feature_columns: Iterable[Any],
    label_key: str,
    label_dtype: object = tf.int64,
    label_default: object = None,
    weight_column: object = None,
) -> Spec:
    """Returns `make_parse_example_spec` with the label and the weight of a classifier.

    Args:
        feature_columns: See `make_parse_example_spec`.
        label_key: Field of the label, one per example.
        label_dtype: int64, or string for a label vocabulary.
        label_default: For examples without a label; None refuses them.
        weight_column: Field, or numeric column, of the weight.

    Raises:
        ConfigError: the label or weight is a feature as well.
    """
    label = tf.io.FixedLenFeature((1,), label_dtype, label_default)
    return _with(make_parse_example_spec(feature_columns), label_key, label, weight_column)


def regressor_parse_example_spec(
    feature_columns: Iterable[Any],
    label_key: str,
    label_dtype: object = tf.float32,
    label_default: object = None,
    label_dimension: int = 1,
    weight_column: object = None,
) -> Spec:
    """Returns `make_parse_example_spec` with the label and the weight of a regressor.

    Args:
        feature_columns: See `make_parse_example_spec`.
        label_key: Field of the label.
        label_dtype: A number type.
        label_default: For examples without a label; None refuses them.
        label_dimension: Numbers per example.
        weight_column: Field, or numeric column, of the weight.

    Raises:
        ConfigError: the label or weight is a feature as well.
    """
    label = tf.io.FixedLenFeature((label_dimension,), label_dtype, label_default)
    return _with(make_parse_example_spec(feature_columns), label_key, label, weight_column)


def _with(spec: Spec, label_key: str, label: object, weight_column: object) -> Spec:
    _add(spec, "label_key", label_key, label)
    if weight_column is not None:
        key: Any = getattr(weight_column, "key", weight_column)
        feature: object = tf.io.FixedLenFeature((1,), tf.float32)
        if key is not weight_column:
            feature = make_parse_example_spec([weight_column])[key]
        _add(spec, "weight_column", key, feature)
    return spec


def _add(spec: Spec, argument: str, key: object, feature: object) -> None:
    if not isinstance(key, str):
        raise ConfigError(
            f"Argument {argument} is invalid: expected the name of a field, got {quote(key)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    if key in spec:
        raise ConfigError(
            f"Argument {argument} names {key!r}, which feature_columns read too. Remove that "
            "column.",
            reason=Reason.CONFLICT,
        )
    spec[key] = feature
