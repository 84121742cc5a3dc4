"""Stage 2 for linear models: columns -> logits.

Layer 2. Every category has a row of weights, every dense column a weight per number.
Variables: `linear_model/<column name>/weights` and `linear_model/bias_weights`, zeros at first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features import dense, lookup
from estimator_lib.features._lowering import Features

LAYER_SCOPE = "linear_model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearTerm:
    """What one column adds to the logit.

    Attributes:
        weights: Variable `[rows, 1]`, or `[1]` of the bias.
        ids: int64 `[batch]` or `[batch, n]`, -1 for missing; None for a dense column.
        values: float32; a weight for each id (None means 1), or `[batch, rows]` of a dense
            column.
    """

    weights: Any
    ids: tf.Tensor | None
    values: tf.Tensor | None


@tf.autograph.experimental.do_not_convert
def linear_logits(
    columns: Iterable[fc.Column],
    features: Features,
    units: int,
    sparse_combiner: str = "sum",
) -> tf.Tensor:
    """Returns the weighted sum of all columns plus a bias.

    Args:
        columns: Categorical or dense columns, raw or `core.columns.transformed`.
        features: The features they read.
        units: Logits per example.
        sparse_combiner: How several categories of one example are combined: "sum", "mean" or
            "sqrtn".

    Returns:
        float32 `[batch, units]`.
    """
    ordered = dense.sorted_columns(columns)
    dense.no_sequences(ordered)
    sources = dense.source_features(ordered, features)
    single: list[tuple[Any, tf.Tensor]] = []
    terms: list[tf.Tensor] = []
    with variables.scope(LAYER_SCOPE):
        for column in ordered:
            if isinstance(column, fc.CategoricalColumn):
                ids, amounts = lowering.ids_and_weights(column, sources)
                weights = _weights(column.name, column.rows, units, by_rows=True)
                if ids.shape.rank == 1 and amounts is None:
                    single.append((weights, ids))
                else:
                    terms.append(lookup.combined(weights, ids, sparse_combiner, weights=amounts))
                continue
            values = dense.dense_features([column], features, scope="")
            weights = _weights(column.name, int(values.shape[1]), units)
            terms.append(tf.matmul(values, weights))
        if single:
            terms.append(_single_valued(single))
        bias = variables.get_variable("bias_weights", (units,), initializer=0.0)
        return tf.nn.bias_add(tf.add_n(terms) if len(terms) > 1 else terms[0], bias)


def linear_terms(columns: Iterable[fc.Column], features: Features) -> list[LinearTerm]:
    """Returns the parts of `linear_logits` with one unit and combiner "sum", bias last."""
    ordered = dense.sorted_columns(columns)
    sources = dense.source_features(ordered, features)
    found = []
    with variables.scope(LAYER_SCOPE):
        for column in ordered:
            if isinstance(column, fc.CategoricalColumn):
                ids, amounts = lowering.ids_and_weights(column, sources)
                weights = _weights(column.name, column.rows, 1)
                found.append(LinearTerm(weights=weights, ids=ids, values=amounts))
            else:
                values = dense.dense_features([column], features, scope="")
                weights = _weights(column.name, int(values.shape[1]), 1)
                found.append(LinearTerm(weights=weights, ids=None, values=values))
        bias = variables.get_variable("bias_weights", (1,), initializer=0.0)
    term = found[0]
    rows = tf.shape(term.values if term.ids is None else term.ids)[0]
    return [*found, LinearTerm(weights=bias, ids=None, values=tf.ones((rows, 1)))]


def _single_valued(reads: list[tuple[Any, tf.Tensor]]) -> tf.Tensor:
    """Sums one row of every table, missing ids left out."""
    safe = lookup.safe_ids([ids for _, ids in reads])
    values = [lookup.rows(table, ids, at) for (table, ids), at in zip(reads, safe, strict=True)]
    return lookup.total(values, [ids for _, ids in reads])


def _weights(name: str, rows: int, units: int, *, by_rows: bool = False) -> Any:
    with variables.scope(name):
        return variables.get_variable("weights", (rows, units), initializer=0.0, by_rows=by_rows)
