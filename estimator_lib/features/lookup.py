"""Reads rows of tables by id, and remembers it, so that gradients need no generic machinery.

Layer 2. TensorFlow's gradient of a gather is an IndexedSlices behind half a dozen small shape
ops per table; on tabular models with dozens of tables these are most of a training step. Here
every read inside a traced step is remembered with its output; `optimizers.minimize`
differentiates with respect to the outputs and sums the rows itself. The reads are ordinary
gathers otherwise: any other code may differentiate them with respect to the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from estimator_lib import variables

_COLLECTION = "estimator_lib/lookups"
_SAFE_IDS = "estimator_lib/safe_ids"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """One read of a table.

    Attributes:
        table: The variable, `[rows, width]`.
        ids: int64 `[n]`; negative ones contribute nothing to the gradient.
        safe_ids: `max(ids, 0)`.
        output: float32 `[n, width]`: the rows at `max(ids, 0)`.
    """

    table: Any
    ids: tf.Tensor
    safe_ids: tf.Tensor
    output: tf.Tensor


def rows(table: Any, ids: tf.Tensor, safe_ids: tf.Tensor | None = None) -> tf.Tensor:
    """Returns `table[max(ids, 0)]`, float32 `[n, width]`; the caller masks missing ids out.

    Args:
        table: Variable `[rows, width]`.
        ids: int64 `[n]`, -1 for missing.
        safe_ids: `max(ids, 0)` if the caller has it already.

    Raises:
        tf.errors.InvalidArgumentError: an id is not below the number of rows.
    """
    if safe_ids is None:
        safe_ids = tf.maximum(ids, 0)
    if variables.for_xla():
        # Its gather takes the last row for ids beyond the table.
        variables.require(safe_ids < table.shape[0], list)
    output = tf.gather(table, safe_ids)
    # Variables of a strategy are split by replica; the generic gradient knows how.
    if not tf.executing_eagerly() and not tf.distribute.has_strategy():
        graph = tf.compat.v1.get_default_graph()
        read = Lookup(table=table, ids=ids, safe_ids=safe_ids, output=output)
        graph.add_to_collection(_COLLECTION, read)
    return output


def lookups() -> list[Lookup]:
    """Returns the reads made in the graph that is being traced now."""
    if tf.executing_eagerly():
        return []
    graph = tf.compat.v1.get_default_graph()
    return [read for read in graph.get_collection(_COLLECTION) if read.output.graph is graph]


def safe_ids(all_ids: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns `max(ids, 0)` of each tensor, int64 `[n]`, with few operations for all.

    Within one traced graph the same ids give the same tensor, so that what is derived of them
    (the distinct ids of a batch) is computed once for the wide and the deep part.
    """
    if tf.executing_eagerly() or variables.for_xla():
        return [_safe(ids) for ids in all_ids]
    kept = tf.compat.v1.get_default_graph().get_collection_ref(_SAFE_IDS)
    known = {id(ids): safe for ids, safe in kept}
    new = [ids for ids in all_ids if id(ids) not in known]
    if new:
        made = tf.unstack(tf.maximum(tf.stack(new), 0), num=len(new))
        kept.extend(zip(new, made, strict=True))
        known |= {id(ids): safe for ids, safe in zip(new, made, strict=True)}
    return [known[id(ids)] for ids in all_ids]


def side_by_side(parts: Sequence[tf.Tensor], ids: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """Concatenates columns; those that were read by a missing id become zeros.

    Args:
        parts: float32 `[batch, width]` each.
        ids: int64 `[batch]` each: what a part was read by; None for one that was not.

    Returns:
        float32 `[batch, columns]`.
    """
    if variables.for_xla():
        return tf.concat([_known(p, i) for p, i in zip(parts, ids, strict=True)], 1)
    stacked = tf.stack([at for at in ids if at is not None])
    spread, always = _owners([int(part.shape[1]) for part in parts], ids)
    missing = _any_missing(stacked)

    def product(matrix: tf.Tensor) -> tf.Tensor:
        def masked() -> tf.Tensor:
            return matrix * (tf.matmul(mask_of(stacked), spread, transpose_a=True) + always)

        return _if(missing, masked, lambda: tf.identity(matrix))

    @tf.custom_gradient
    def joined(*columns: tf.Tensor) -> Any:
        widths = [column.shape[1] for column in columns]
        return product(tf.concat(columns, 1)), lambda g: tf.split(product(g), widths, 1)

    return joined(*parts)


def total(values: Sequence[tf.Tensor], ids: Sequence[tf.Tensor]) -> tf.Tensor:
    """Adds rows up, leaving out those that were read by a missing id.

    Args:
        values: float32 `[batch, width]` each, all of one width.
        ids: int64 `[batch]` each: what `values` were read by.

    Returns:
        float32 `[batch, width]`.
    """
    if variables.for_xla():
        return tf.add_n([_known(v, i) for v, i in zip(values, ids, strict=True)])
    stacked = tf.stack(ids)
    missing = _any_missing(stacked)

    def mask() -> tf.Tensor:
        return mask_of(stacked)[:, :, tf.newaxis]

    @tf.custom_gradient
    def added(*rows: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> Any:
            return _if(
                missing,
                lambda: tf.unstack(upstream * mask(), num=len(rows)),
                lambda: [tf.identity(upstream) for _ in rows],
            )

        result = _if(
            missing,
            lambda: tf.reduce_sum(tf.stack(rows) * mask(), 0),
            lambda: tf.add_n(rows),
        )
        return result, gradient

    return added(*values)


def _safe(ids: tf.Tensor) -> tf.Tensor:
    if tf.executing_eagerly():
        return tf.maximum(ids, 0)
    kept = tf.compat.v1.get_default_graph().get_collection_ref(_SAFE_IDS)
    for known, safe in kept:
        if known is ids:
            return safe
    safe = tf.maximum(ids, 0)
    kept.append((ids, safe))
    return safe


def _known(rows: tf.Tensor, ids: tf.Tensor | None) -> tf.Tensor:
    """Returns `rows` with zeros for missing ids; XLA makes one kernel of this and its use."""
    return rows if ids is None else tf.where(ids[:, tf.newaxis] >= 0, rows, 0.0)


def _owners(widths: Sequence[int], ids: Sequence[tf.Tensor | None]) -> tuple[Any, Any]:
    """Whose the columns of parts side by side are.

    Returns:
        float32 `[tables, columns]`, 1 where a column belongs to a table; and float32
        `[columns]`, 1 where it belongs to none.
    """
    tables = [i for i, at in enumerate(ids) if at is not None]
    part = np.repeat(np.arange(len(widths)), widths)
    spread = (part == np.reshape(tables, (-1, 1))).astype(np.float32)
    return spread, 1.0 - spread.sum(0)


def _any_missing(ids: tf.Tensor) -> tf.Tensor | None:
    """Whether an id is missing, bool scalar; None where asking costs more than masking."""
    return tf.reduce_min(ids) < 0 if only_cpu() else None


def only_cpu() -> bool:
    """Whether there is no accelerator."""
    return tf.config.list_logical_devices("CPU") == tf.config.list_logical_devices()


def _if(missing: tf.Tensor | None, masked: Callable[[], Any], plain: Callable[[], Any]) -> Any:
    """Most batches miss nothing and need no mask."""
    return masked() if missing is None else tf.cond(missing, masked, plain)


def mask_of(ids: tf.Tensor) -> tf.Tensor:
    """Returns 1.0 for ids and 0.0 for missing ones."""
    return tf.cast(ids >= 0, tf.float32)


def combined(
    table: Any,
    ids: tf.Tensor,
    combiner: str,
    *,
    weights: tf.Tensor | None = None,
    max_norm: float | None = None,
) -> tf.Tensor:
    """Returns the rows of one or several ids per example, combined.

    Args:
        table: Variable `[rows, width]`.
        ids: int64 `[batch]` or `[batch, n]`, -1 for missing.
        combiner: "sum", "mean" (by the sum of weights) or "sqrtn" (by the root of the sum of
            squared weights).
        weights: float32 of the ids' shape; None means 1.
        max_norm: Longer rows are scaled down to this length.

    Returns:
        float32 `[batch, width]`; zeros for an example without any id.
    """
    width = table.shape[1]
    if ids.shape.rank == 1:
        ids = ids[:, tf.newaxis]
        weights = None if weights is None else weights[:, tf.newaxis]
    values = rows(table, tf.reshape(ids, (-1,)))
    if max_norm is not None:
        values = tf.clip_by_norm(values, max_norm, axes=[1])
    values = tf.reshape(values, tf.concat([tf.shape(ids), [width]], 0))
    share = mask_of(ids) if weights is None else mask_of(ids) * weights
    total = tf.reduce_sum(values * share[:, :, tf.newaxis], axis=1)
    if combiner == "mean":
        return tf.math.divide_no_nan(total, tf.reduce_sum(share, 1, keepdims=True))
    if combiner == "sqrtn":
        norm = tf.sqrt(tf.reduce_sum(tf.square(share), 1, keepdims=True))
        return tf.math.divide_no_nan(total, norm)
    return total
