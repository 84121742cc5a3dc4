"""How batches reach the compiled loops: one by one, or cut out of chunks of many batches.

Layer 3. Taking an element out of a tf.data iterator hands the step over to another thread and
back, which costs as much as a good part of a small step. Inputs that hold their rows in large
blocks therefore give chunks, and the loop cuts its batches out of them; what is left of a chunk
goes from one call of the loop to the next.

A loop over one chunk takes nothing from outside and can be compiled by XLA as a whole. Only
chunks of one size are given to it, the last one of an input filled up with zeros.
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
        chunk_rows: Rows of all chunks but the last, which may have fewer; whole batches.
        partial: Whether the last batch of all may have fewer rows.
    """

    dataset: Any
    batch_size: int | None = None
    chunk_rows: int | None = None
    partial: bool = True

    @property
    def element_spec(self) -> Any:
        """Specs of a batch."""
        return self.dataset.element_spec

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled loop over this feed depends on."""
        return repr(self.element_spec), self.batch_size, self.chunk_rows, self.partial

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
            held = (self.zeros(0), tf.constant(0, tf.int64))
        return Flow(self, held)

    def zeros(self, rows: int) -> Structure:
        """Returns a chunk of zeros."""
        return tf.nest.map_structure(
            lambda spec: tf.zeros([rows, *spec.shape[1:]], spec.dtype), self.element_spec
        )

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

    @property
    def chunk_signature(self) -> list[Any]:
        """Input signature of a `chunk_loop`'s function (chunk, at, end, limit)."""
        chunk = tf.nest.map_structure(
            lambda spec: tf.TensorSpec([self.chunk_rows, *spec.shape[1:]], spec.dtype),
            self.element_spec,
        )
        return [chunk, *[tf.TensorSpec([], tf.int64)] * 3]

    def chunk_loop(
        self,
        chunk: Structure,
        at: tf.Tensor,
        end: tf.Tensor,
        limit: tf.Tensor,
        state: Structure,
        step: Callable[[Any, Structure], Structure],
        goes_on: Callable[[Structure], Any],
    ) -> dict[str, Any]:
        """Like `loop`, over whole batches out of a single chunk, in static shapes.

        Args:
            chunk: `[chunk_rows, ...]` each.
            at: The row to begin at, int64 scalar.
            end: Rows of the chunk that count, int64 scalar.
            limit: See `loop`, as for the last three arguments.
            state: See `loop`.
            step: See `loop`.
            goes_on: See `loop`.

        Returns:
            `done`, `state` and the row `at` which the next batch begins.
        """
        rows = self.batch_size

        def body(done: Any, at: Any, state: Any) -> Any:
            batch = tf.nest.map_structure(
                lambda t: tf.slice(t, _first(at, t), [rows, *t.shape[1:]]), chunk
            )
            return done + 1, at + rows, step(batch, state)

        done, at, state = tf.while_loop(
            lambda done, at, state: (done < limit) & (at + rows <= end) & goes_on(state),
            body,
            (tf.constant(0, tf.int64), at, state),
            parallel_iterations=1,
        )
        return {"done": done, "at": at, "state": state}


class Flow:
    """A feed that is being read; see `Feed.start`."""

    def __init__(self, feed: Feed, held: Structure) -> None:
        self._feed = feed
        self._iterator = iter(feed.dataset)
        self._held = held
        self._padded: Any = None

    def trace(self, function: Any) -> None:
        """Traces a compiled loop without running it."""
        arguments = (self._iterator, self._held, tf.TensorSpec([], tf.int64))
        function.get_concrete_function(*arguments)

    def run(self, function: Any, limit: int, over_chunk: Any = None) -> dict[str, Any]:
        """Calls a compiled loop for at most `limit` batches.

        Args:
            function: A `Feed.loop`.
            limit: Batches at most.
            over_chunk: The same as a `Feed.chunk_loop`; it is preferred while there are whole
                batches. Its result has no `more`, but `valid`: false if the last batch is one
                that `function` would have refused.
        """
        if over_chunk is not None and self._has_whole_batch():
            return self._run_over_chunk(function, limit, over_chunk)
        result = dict(function(self._iterator, self._held, tf.constant(limit, tf.int64)))
        self._held, self._padded = result.pop("held"), None
        return result

    def _run_over_chunk(self, function: Any, limit: int, over_chunk: Any) -> dict[str, Any]:
        chunk, at = self._held
        if self._padded is None:
            self._padded = _padded(chunk, self._feed.chunk_rows)
        end = tf.constant(_rows(chunk), tf.int64)
        result = dict(over_chunk(self._padded, at, end, tf.constant(limit, tf.int64)))
        self._held = chunk, result.pop("at")
        if not result.pop("valid"):
            # XLA cannot say what is wrong with a batch: the other loop does.
            refused = chunk, self._held[1] - self._feed.batch_size
            function(self._iterator, refused, tf.constant(1, tf.int64))
        return result | {"more": True}

    def _has_whole_batch(self) -> bool:
        """Whether the chunk held, or the next one if nothing is left of it, has one."""
        chunk, at = self._held
        if int(at) == _rows(chunk):
            optional = self._iterator.get_next_as_optional()
            if not optional.has_value():
                return False
            chunk, at = optional.get_value(), tf.constant(0, tf.int64)
            self._held, self._padded = (chunk, at), None
        return int(at) + int(self._feed.batch_size or 0) <= _rows(chunk)


def _always(state: Structure) -> bool:
    del state
    return True


def _rows(chunk: Structure) -> int:
    return int(tf.nest.flatten(chunk)[0].shape[0])


def _padded(chunk: Structure, rows: int | None) -> Structure:
    missing = int(rows or 0) - _rows(chunk)
    if not missing:
        return chunk
    return tf.nest.map_structure(
        lambda t: tf.concat([t, tf.zeros([missing, *t.shape[1:]], t.dtype)], 0), chunk
    )


def _first(at: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """Where a slice of rows begins, int64 `[rank]`."""
    return tf.pad(tf.reshape(at, [1]), [[0, tensor.shape.rank - 1]])


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
