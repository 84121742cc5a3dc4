"""Stochastic dual coordinate ascent for linear models.

Layer 2. References: Shalev-Shwartz and Zhang, JMLR 14 (2013), arXiv 1209.1873.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import constraints
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.features.linear import LinearTerm

_PROBES = 64
_MAX_HASH = 2**63 - 1


class LinearSDCA:
    """Optimizer of Linear* that reaches the exact optimum of the regularized loss.

    It minimizes sum(weight * loss) + l1 * sum|w| + l2 / 2 * sum w^2 over all examples it has
    seen, bias included, where the loss is log(1 + exp(-y * logit)) of a binary head or half the
    squared error of a regression head. There is no learning rate. Each example's dual variable
    is kept in the checkpoint, by its id, so every example needs an id of its own, and the input
    is read several times, in any order.

    Args:
        example_id_column: Feature with the examples' ids, string or integer, one per row.
        num_loss_partitions: How many such trainers share one model; at least 1.
        num_table_shards: Not used; kept for compatibility.
        symmetric_l1_regularization: l1, at least 0.
        symmetric_l2_regularization: l2, above 0.
        adaptive: Whether examples that are far from their optimum are visited more often.
        max_examples: Room for so many ids; 24 to 48 bytes of checkpoint each.
    """

    @constraints.checked
    def __init__(
        self,
        example_id_column: constraints.Text,
        num_loss_partitions: constraints.Count = 1,
        num_table_shards: constraints.Count | None = None,
        symmetric_l1_regularization: constraints.NotNegative = 0.0,
        symmetric_l2_regularization: constraints.Positive = 1.0,
        adaptive: constraints.Switch = False,
        *,
        max_examples: constraints.Count = 1_000_000,
    ) -> None:
        del num_table_shards
        self.example_id_column = example_id_column
        self._partitions = num_loss_partitions
        self._l1 = float(symmetric_l1_regularization)
        self._l2 = float(symmetric_l2_regularization)
        self._adaptive = adaptive
        # A power of two, at most half full.
        self._slots = 1 << (2 * max_examples - 1).bit_length()

    def train_op(
        self,
        terms: Sequence[LinearTerm],
        *,
        example_ids: tf.Tensor | tf.SparseTensor,
        labels: tf.Tensor,
        weights: tf.Tensor | None,
        loss: str,
    ) -> tf.Operation:
        """Returns the op that improves the dual variables of a batch and the weights with them.

        Args:
            terms: All columns and the bias.
            example_ids: string or integer `[batch]`; no id twice in a batch.
            labels: float32 `[batch, 1]`; 0 or 1 for logistic.
            weights: float32 `[batch, 1]`; None means 1.
            loss: "logistic_loss" or "squared_loss".
        """
        table = _DualTable(self._slots)
        slots = table.slots_of(example_ids)
        labels = tf.reshape(labels, (-1,))
        importance = tf.ones_like(labels) if weights is None else tf.reshape(weights, (-1,))
        if any(isinstance(term.weights, variables.RemoteVariable) for term in terms):
            raise ConfigError(
                "LinearSDCA keeps a number per example, which parameter servers do not support. "
                "Use Ftrl, or train in one process.",
                reason=Reason.UNSUPPORTED,
            )
        by_id = [term for term in terms if term.ids is not None]
        dense = [term for term in terms if term.ids is None]
        found = [_present(term) for term in by_id]
        rows = [tf.unique(ids)[0] for _, ids, _ in found]
        kept = {id(term): self._unshrunk(term.weights) for term in terms}
        # Everything over l2: the kernel wants an l2 of at least 1 and the optimum is the same.
        result = tf.raw_ops.SdcaOptimizerV2(
            sparse_example_indices=[examples for examples, _, _ in found],
            sparse_feature_indices=[ids for _, ids, _ in found],
            sparse_feature_values=[values for _, _, values in found],
            dense_features=[term.values for term in dense],
            example_weights=importance / self._l2,
            example_labels=labels,
            sparse_indices=rows,
            sparse_weights=[
                tf.gather(tf.reshape(kept[id(term)], (-1,)), at)
                for term, at in zip(by_id, rows, strict=True)
            ],
            dense_weights=[tf.reshape(kept[id(term)], (-1,)) for term in dense],
            example_state_data=table.read(slots),
            loss_type=loss,
            l1=self._l1 / self._l2,
            l2=1.0,
            num_loss_partitions=self._partitions,
            num_inner_iterations=1,
            adaptive=self._adaptive,
        )
        with tf.control_dependencies([result.out_example_state_data]):
            updates = [table.write(slots, result.out_example_state_data)]
            for term, at, change in zip(by_id, rows, result.out_delta_sparse_weights, strict=True):
                # One row per id in `rows`; zeros stay elsewhere.
                size = term.weights.shape.num_elements()
                whole = tf.math.unsorted_segment_sum(tf.reshape(change, (-1,)), at, size)
                updates += self._apply(term.weights, kept[id(term)], whole)
            for term, change in zip(dense, result.out_delta_dense_weights, strict=True):
                updates += self._apply(term.weights, kept[id(term)], change)
        return tf.group(*updates, name="sdca")

    def _unshrunk(self, weights: tf.Variable) -> tf.Variable:
        """Returns the variable that l1 has not shrunk: with l1, the model's is made from it."""
        if not self._l1:
            return weights
        with variables.root_scope(), variables.scope(variables.name_of(weights)):
            return variables.get_variable(
                "LinearSDCA/unshrunk", weights.shape, initializer=0.0, trainable=False
            )

    def _apply(
        self, weights: tf.Variable, unshrunk: tf.Variable, change: tf.Tensor
    ) -> list[tf.Operation]:
        new = unshrunk + tf.reshape(change, unshrunk.shape)
        if not self._l1:
            return [weights.assign(new)]
        shrunk = tf.sign(new) * tf.maximum(tf.abs(new) - self._l1 / self._l2, 0.0)
        return [unshrunk.assign(new), weights.assign(shrunk)]


class _DualTable:
    """Four numbers per example, by the fingerprint of its id: open addressing in variables."""

    def __init__(self, slots: int) -> None:
        self._size = slots
        with variables.root_scope(), variables.scope("LinearSDCA"):
            self._keys = variables.get_variable(
                "example_keys", (slots,), initializer=0, dtype=tf.int64, trainable=False
            )
            self._state = variables.get_variable(
                "example_state", (slots, 4), initializer=0.0, trainable=False
            )

    def slots_of(self, ids: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
        """Returns the place of each id, int64 `[batch]`, made for new ones."""
        if isinstance(ids, tf.SparseTensor):
            ids = ids.values
        ids = tf.reshape(tf.convert_to_tensor(ids), (-1,))
        text = ids if ids.dtype == tf.string else tf.strings.as_string(ids)
        key = tf.strings.to_hash_bucket_fast(text, _MAX_HASH) + 1
        stride = (key // self._size) * 2 + 1  # odd, so that it visits all slots
        mask = self._size - 1

        def probe(
            turn: tf.Tensor, at: tf.Tensor, found: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            wanted = (found < 0) & tf.equal(tf.gather(self._keys, at), 0)
            claim = tf.IndexedSlices(tf.boolean_mask(key, wanted), tf.boolean_mask(at, wanted))
            # Of several that claim one slot, one gets it; the others go on.
            with tf.control_dependencies([self._keys.scatter_update(claim)]):
                mine = tf.equal(tf.gather(self._keys, at), key)
            found = tf.where((found < 0) & mine, at, found)
            return turn + 1, tf.bitwise.bitwise_and(at + stride, mask), found

        start = tf.bitwise.bitwise_and(key, mask)
        _, _, found = tf.while_loop(
            lambda turn, _, found: (turn < _PROBES) & tf.reduce_any(found < 0),
            probe,
            (0, start, -tf.ones_like(key)),
            parallel_iterations=1,
        )
        full = (
            "LinearSDCA has no room for another example id: raise max_examples, or give each "
            "example the same id in every pass."
        )
        with tf.control_dependencies(variables.require(found >= 0, lambda: [full])):
            return tf.identity(found)

    def read(self, slots: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[batch, 4]`."""
        return tf.gather(self._state, slots)

    def write(self, slots: tf.Tensor, state: tf.Tensor) -> tf.Operation:
        """Keeps the numbers of a batch."""
        return self._state.scatter_update(tf.IndexedSlices(state, slots))


def _present(term: LinearTerm) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns example, id and value of every id that is not missing, int64, int64, float32."""
    ids = term.ids
    assert ids is not None  # noqa: S101 - only called for terms by id
    ids = ids[:, tf.newaxis] if ids.shape.rank == 1 else ids
    at = tf.where(ids >= 0)
    values = tf.ones_like(ids, tf.float32)
    if term.values is not None:
        values = tf.reshape(term.values, tf.shape(ids))
    return at[:, 0], tf.gather_nd(ids, at), tf.gather_nd(values, at)
