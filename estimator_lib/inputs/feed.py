"""How batches reach the compiled loops: one by one, or cut out of chunks of many batches.

Layer 3. Taking an element out of a tf.data iterator hands the step over to another thread and
back, which costs as much as a good part of a small step. Inputs that hold their rows in large
blocks therefore give chunks, and the loop cuts its batches out of them; what is left of a chunk
goes from one call of the loop to the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

Structure = Any
"""Nested tensors, or a dataset's element."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feed:
    """Batches of one train or evaluate call.

    Attributes:
        dataset: Its elements are batches, or chunks of several batches.
        batch_size: Rows to cut out of a chunk; None if elements are batches.
        partial: Whether the last batch of all may have fewer rows.
    """

    dataset: Any
    batch_size: int | None = None
    partial: bool = True

    @property
    def element_spec(self) -> Any:
        """Specs of a batch."""
        return self.dataset.element_spec

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled loop over this feed depends on."""
        return repr(self.element_spec), self.batch_size, self.partial

    @property
    def signature(self) -> list[Any] | None:
        """Input signature of a loop's function (iterator, held, limit)."""
        if self.batch_size is None:
            return None
        held = (self.element_spec, tf.TensorSpec([], tf.int64))
        limit = tf.TensorSpec([], tf.int64)
        return [tf.data.IteratorSpec(self.element_spec), held, limit]

    def start(self) -> Flow:
        """Returns an iterator with nothing held."""
        held: Any = ()
        if self.batch_size is not None:
            nothing = tf.nest.map_structure(
                lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), self.element_spec
            )
            held = (nothing, tf.constant(0, tf.int64))
        return Flow(iter(self.dataset), held)

    def loop(
        self,
        iterator: Any,
        held: Structure,
        limit: tf.Tensor,
        state: Structure,
        step: Callable[[Any, Structure], Structure],
        goes_on: Callable[[Structure], Any] | None = None,
    ) -> dict[str, Any]:
        """Runs `step` on batches until there are `limit`, no more, or `goes_on` says no.

        Args:
            iterator: Over the dataset.
            held: What the last call left over.
            limit: int64 scalar.
            state: Goes through all steps.
            step: Takes a batch and the state; returns the state.
            goes_on: Takes the state; returns a bool scalar. None goes on always.

        Returns:
            `done` (batches, int64), `more` (bool: the input has not ended), `state`, `held`.
        """
        goes_on = goes_on or _always
        if self.batch_size is None:
            return _one_by_one(iterator, limit, state, step, goes_on)
        cut = _Cut(self.batch_size, 1 if self.partial else self.batch_size, self.element_spec)
        return cut.loop(iterator, held, limit, state, step, goes_on)


class Flow:
    """A feed that is being read; see `Feed.start`."""

    def __init__(self, iterator: Any, held: Structure) -> None:
        self._iterator = iterator
        self._held = held

    def trace(self, function: Any) -> None:
        """Traces a compiled loop without running it."""
        arguments = (self._iterator, self._held, tf.TensorSpec([], tf.int64))
        function.get_concrete_function(*arguments)

    def run(self, function: Any, limit: int) -> dict[str, Any]:
        """Calls a compiled loop for at most `limit` batches."""
        result = dict(function(self._iterator, self._held, tf.constant(limit, tf.int64)))
        self._held = result.pop("held")
        return result


def _always(state: Structure) -> bool:
    del state
    return True


def _one_by_one(iterator: Any, limit: Any, state: Any, step: Any, goes_on: Any) -> dict[str, Any]:
    def body(done: Any, more: Any, state: Any) -> Any:
        del more
        optional = iterator.get_next_as_optional()
        return tf.cond(
            optional.has_value(),
            lambda: (done + 1, True, step(optional.get_value(), state)),
            lambda: (done, False, state),
        )

    done, more, state = tf.while_loop(
        lambda done, more, state: (done < limit) & more & goes_on(state),
        body,
        (tf.constant(0, tf.int64), tf.constant(value=True), state),
        parallel_iterations=1,
    )
    return {"done": done, "more": more, "state": state, "held": ()}


@dataclasses.dataclass(frozen=True)
class _Cut:
    """Cuts batches of `rows` rows, `least` at the end, out of chunks."""

    rows: int
    least: int
    element_spec: Any

    def loop(
        self, iterator: Any, held: Any, limit: Any, state: Any, step: Any, goes_on: Any
    ) -> dict[str, Any]:
        def next_chunk(done: Any, more: Any, chunk: Any, at: Any, state: Any) -> Any:
            del more
            chunk, at, more = tf.cond(
                self._has_batch(chunk, at),
                lambda: (chunk, at, tf.constant(value=True)),
                lambda: self._fetched(iterator, chunk, at),
            )
            done, at, state = self._batches(chunk, at, done, limit, state, step, goes_on)
            return done, more, chunk, at, state

        chunk, at = held
        specs = (
            tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.bool), self.element_spec,
            tf.TensorSpec([], tf.int64), tf.nest.map_structure(tf.type_spec_from_value, state),
        )  # fmt: skip
        done, more, chunk, at, state = tf.while_loop(
            lambda done, more, _chunk, _at, state: (done < limit) & more & goes_on(state),
            next_chunk,
            (tf.constant(0, tf.int64), tf.constant(value=True), chunk, at, state),
            shape_invariants=specs,
            parallel_iterations=1,
        )
        return {"done": done, "more": more, "state": state, "held": (chunk, at)}

    def _has_batch(self, chunk: Any, at: Any) -> Any:
        rows = tf.shape(tf.nest.flatten(chunk)[0], out_type=tf.int64)[0]
        return at + self.least <= rows

    def _fetched(self, iterator: Any, chunk: Any, at: Any) -> Any:
        optional = iterator.get_next_as_optional()
        return tf.cond(
            optional.has_value(),
            lambda: (optional.get_value(), tf.constant(0, tf.int64), tf.constant(value=True)),
            lambda: (chunk, at, tf.constant(value=False)),
        )

    def _batches(
        self, chunk: Any, at: Any, done: Any, limit: Any, state: Any, step: Any, goes_on: Any
    ) -> Any:
        def body(done: Any, at: Any, state: Any) -> Any:
            begin, end = tf.reshape(at, [1]), tf.reshape(at + self.rows, [1])
            # Whole rows that begin at a multiple of the batch share the chunk's memory.
            batch = tf.nest.map_structure(lambda t: tf.strided_slice(t, begin, end), chunk)
            return done + 1, at + self.rows, step(batch, state)

        return tf.while_loop(
            lambda done, at, state: (done < limit) & goes_on(state) & self._has_batch(chunk, at),
            body,
            (done, at, state),
            parallel_iterations=1,
        )
