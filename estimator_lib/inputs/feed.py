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
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeAlias

import tensorflow as tf

from estimator_lib.protocols import Specs, State, Tensor

Rows: TypeAlias = Tensor | tuple["Rows", ...] | Mapping[str, "Rows"]
"""A batch or a chunk: nested tensors, `[rows, ...]` each."""


class Held(NamedTuple):
    """What one call of a loop leaves over for the next.

    Attributes:
        chunk: Rows that were read.
        at: The first row that no batch has taken, int64 scalar.
    """

    chunk: Rows
    at: tf.Tensor


class Looped(NamedTuple, Generic[State]):
    """What one call of a loop did.

    Attributes:
        done: Batches, int64 scalar.
        more: Whether the input has not ended, bool scalar.
        state: What the last step returned.
        held: What is left over; None where elements are batches.
    """

    done: tf.Tensor
    more: tf.Tensor
    state: State
    held: Held | None


class ChunkLooped(NamedTuple, Generic[State]):
    """What one call of a loop over a chunk did.

    Attributes:
        done: Batches, int64 scalar.
        at: The row that the next batch begins at, int64 scalar.
        state: What the last step returned.
        valid: False if the last batch is one that the ordinary loop refuses, bool scalar.
    """

    done: tf.Tensor
    at: tf.Tensor
    state: State
    valid: tf.Tensor


Loop: TypeAlias = Callable[[tf.data.Iterator, Held | None, tf.Tensor], Looped[State]]
"""A compiled `Feed.loop`, of (iterator, held, limit)."""
ChunkLoop: TypeAlias = Callable[[Rows, tf.Tensor, tf.Tensor, tf.Tensor], ChunkLooped[State]]
"""A `Feed.chunk_loop` compiled by XLA, of (chunk, at, end, limit)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feed:
    """Batches of one train or evaluate call.

    Attributes:
        dataset: Its elements are batches, or chunks of several batches.
        batch_size: Rows to cut out of a chunk; None if elements are batches.
        chunk_rows: Rows of all chunks but the last, which may have fewer; whole batches.
        partial: Whether the last batch of all may have fewer rows.
    """

    dataset: tf.data.Dataset
    batch_size: int | None = None
    chunk_rows: int | None = None
    partial: bool = True

    @property
    def element_spec(self) -> Specs:
        """Specs of a batch."""
        return self.dataset.element_spec

    @property
    def key(self) -> tuple[object, ...]:
        """What a compiled loop over this feed depends on."""
        return repr(self.element_spec), self.batch_size, self.chunk_rows, self.partial

    @property
    def signature(self) -> list[Specs] | None:
        """Input signature of a `Loop`."""
        if self.batch_size is None:
            return None
        held = Held(self.element_spec, tf.TensorSpec([], tf.int64))
        limit = tf.TensorSpec([], tf.int64)
        return [tf.data.IteratorSpec(self.element_spec), held, limit]

    def start(self) -> Flow:
        """Returns an iterator with nothing held."""
        return Flow(self)

    def zeros(self, rows: int) -> Rows:
        """Returns a chunk of zeros."""
        return tf.nest.map_structure(
            lambda spec: tf.zeros([rows, *spec.shape[1:]], spec.dtype), self.element_spec
        )

    def loop(
        self,
        iterator: tf.data.Iterator,
        held: Held | None,
        limit: tf.Tensor,
        state: State,
        step: Callable[[Rows, State], State],
        goes_on: Callable[[State], tf.Tensor] | None = None,
    ) -> Looped[State]:
        """Runs `step` on batches until there are `limit`, no more, or `goes_on` says no.

        Args:
            iterator: Over the dataset.
            held: What the last call left over.
            limit: int64 scalar.
            state: Goes through all steps.
            step: Takes a batch and the state; returns the state.
            goes_on: Takes the state; returns a bool scalar. None goes on always.
        """
        ends = _Ends(limit, goes_on or (lambda _state: tf.constant(value=True)))
        if self.batch_size is None or held is None:
            return _one_by_one(iterator, ends, state, step)
        cut = _Cut(self.batch_size, 1 if self.partial else self.batch_size, self.element_spec)
        return cut.loop(iterator, held, ends, state, step)

    @property
    def chunk_signature(self) -> list[Specs]:
        """Input signature of a `ChunkLoop`."""
        chunk = tf.nest.map_structure(
            lambda spec: tf.TensorSpec([self.chunk_rows, *spec.shape[1:]], spec.dtype),
            self.element_spec,
        )
        return [chunk, *[tf.TensorSpec([], tf.int64)] * 3]

    def chunk_loop(
        self,
        chunk: Rows,
        at: tf.Tensor,
        end: tf.Tensor,
        limit: tf.Tensor,
        state: State,
        step: Callable[[Rows, State], tuple[State, tf.Tensor]],
        goes_on: Callable[[State], tf.Tensor],
    ) -> ChunkLooped[State]:
        """Like `loop`, over whole batches out of a single chunk, in static shapes.

        Args:
            chunk: `[chunk_rows, ...]` each.
            at: The row to begin at, int64 scalar.
            end: Rows of the chunk that count, int64 scalar.
            limit: int64 scalar.
            state: Goes through all steps.
            step: Takes a batch and the state; returns the state, and whether the batch is valid.
            goes_on: See `loop`.
        """
        rows = self.batch_size

        def body(
            done: tf.Tensor, at: tf.Tensor, state: State, valid: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, State, tf.Tensor]:
            del valid
            batch = tf.nest.map_structure(
                lambda t: tf.slice(t, _first(at, t), [rows, *t.shape[1:]]), chunk
            )
            return done + 1, at + rows, *step(batch, state)

        return ChunkLooped(
            *tf.while_loop(
                lambda done, at, state, valid: (
                    (done < limit) & (at + rows <= end) & goes_on(state) & valid
                ),
                body,
                (tf.constant(0, tf.int64), at, state, tf.constant(value=True)),
                parallel_iterations=1,
            )
        )


class Flow:
    """A feed that is being read; see `Feed.start`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._iterator = iter(feed.dataset)
        self._held: Held | None = None
        if feed.batch_size is not None:
            self._held = Held(feed.zeros(0), tf.constant(0, tf.int64))
        self._padded: Rows | None = None

    def trace(self, function: tf.types.experimental.PolymorphicFunction) -> None:
        """Traces a compiled loop without running it."""
        function.get_concrete_function(self._iterator, self._held, tf.TensorSpec([], tf.int64))

    def run(
        self, loop: Loop[State], limit: int, over_chunk: ChunkLoop[State] | None = None
    ) -> Looped[State]:
        """Calls a compiled loop for at most `limit` batches.

        Args:
            loop: A `Feed.loop`.
            limit: Batches at most.
            over_chunk: The same as a `Feed.chunk_loop`; it is preferred while there are whole
                batches.
        """
        at_most = tf.constant(limit, tf.int64)
        if over_chunk is not None and self._held is not None:
            held = self._whole_batch(self._held)
            if held is not None:
                return self._run_over_chunk(loop, held, at_most, over_chunk)
        ran = loop(self._iterator, self._held, at_most)
        self._held, self._padded = ran.held, None
        return ran

    def _run_over_chunk(
        self, loop: Loop[State], held: Held, limit: tf.Tensor, over_chunk: ChunkLoop[State]
    ) -> Looped[State]:
        if self._padded is None:
            self._padded = _padded(held.chunk, self._feed.chunk_rows)
        end = tf.constant(_count(held.chunk), tf.int64)
        ran = over_chunk(self._padded, held.at, end, limit)
        self._held = Held(held.chunk, ran.at)
        if not ran.valid:
            # XLA cannot say what is wrong with a batch: the other loop does.
            refused = Held(held.chunk, ran.at - self._feed.batch_size)
            loop(self._iterator, refused, tf.constant(1, tf.int64))
        return Looped(ran.done, tf.constant(value=True), ran.state, self._held)

    def _whole_batch(self, held: Held) -> Held | None:
        """Returns the chunk held, or the next one if nothing is left of it, if it has one."""
        if int(held.at) == _count(held.chunk):
            optional = self._iterator.get_next_as_optional()
            if not optional.has_value():
                return None
            held = Held(optional.get_value(), tf.constant(0, tf.int64))
            self._held, self._padded = held, None
        whole = int(held.at) + int(self._feed.batch_size or 0) <= _count(held.chunk)
        return held if whole else None


def _count(chunk: Rows) -> int:
    return int(tf.nest.flatten(chunk)[0].shape[0])


def _padded(chunk: Rows, rows: int | None) -> Rows:
    missing = int(rows or 0) - _count(chunk)
    if not missing:
        return chunk
    return tf.nest.map_structure(
        lambda t: tf.concat([t, tf.zeros([missing, *t.shape[1:]], t.dtype)], 0), chunk
    )


def _first(at: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """Where a slice of rows begins, int64 `[rank]`."""
    return tf.pad(tf.reshape(at, [1]), [[0, tensor.shape.rank - 1]])


class _Ends(NamedTuple):
    """When a loop ends: after `limit` batches, or where `goes_on` says no."""

    limit: tf.Tensor
    goes_on: Callable[..., tf.Tensor]

    def not_yet(self, done: tf.Tensor, state: object) -> tf.Tensor:
        return (done < self.limit) & self.goes_on(state)


def _one_by_one(
    iterator: tf.data.Iterator,
    ends: _Ends,
    state: State,
    step: Callable[[Rows, State], State],
) -> Looped[State]:
    def body(done: tf.Tensor, more: tf.Tensor, state: State) -> tuple[tf.Tensor, tf.Tensor, State]:
        del more
        optional = iterator.get_next_as_optional()
        return tf.cond(
            optional.has_value(),
            lambda: (done + 1, True, step(optional.get_value(), state)),
            lambda: (done, False, state),
        )

    done, more, state = tf.while_loop(
        lambda done, more, state: ends.not_yet(done, state) & more,
        body,
        (tf.constant(0, tf.int64), tf.constant(value=True), state),
        parallel_iterations=1,
    )
    return Looped(done, more, state, None)


@dataclasses.dataclass(frozen=True)
class _Cut:
    """Cuts batches of `rows` rows, `least` at the end, out of chunks."""

    rows: int
    least: int
    element_spec: Specs

    def loop(
        self,
        iterator: tf.data.Iterator,
        held: Held,
        ends: _Ends,
        state: State,
        step: Callable[[Rows, State], State],
    ) -> Looped[State]:
        def next_chunk(
            done: tf.Tensor, more: tf.Tensor, held: Held, state: State
        ) -> tuple[tf.Tensor, tf.Tensor, Held, State]:
            del more
            held, more = tf.cond(
                self._has_batch(held),
                lambda: (held, tf.constant(value=True)),
                lambda: self._fetched(iterator, held),
            )
            done, at, state = self._batches(held, done, ends, state, step)
            return done, more, Held(held.chunk, at), state

        specs = (
            tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.bool),
            Held(self.element_spec, tf.TensorSpec([], tf.int64)),
            tf.nest.map_structure(tf.type_spec_from_value, state),
        )  # fmt: skip
        done, more, held, state = tf.while_loop(
            lambda done, more, _held, state: ends.not_yet(done, state) & more,
            next_chunk,
            (tf.constant(0, tf.int64), tf.constant(value=True), held, state),
            shape_invariants=specs,
            parallel_iterations=1,
        )
        return Looped(done, more, state, held)

    def _has_batch(self, held: Held) -> tf.Tensor:
        rows = tf.shape(tf.nest.flatten(held.chunk)[0], out_type=tf.int64)[0]
        return held.at + self.least <= rows

    def _fetched(self, iterator: tf.data.Iterator, held: Held) -> tuple[Held, tf.Tensor]:
        optional = iterator.get_next_as_optional()
        return tf.cond(
            optional.has_value(),
            lambda: (
                Held(optional.get_value(), tf.constant(0, tf.int64)), tf.constant(value=True)
            ),
            lambda: (held, tf.constant(value=False)),
        )  # fmt: skip

    def _batches(
        self,
        held: Held,
        done: tf.Tensor,
        ends: _Ends,
        state: State,
        step: Callable[[Rows, State], State],
    ) -> tuple[tf.Tensor, tf.Tensor, State]:
        def body(
            done: tf.Tensor, at: tf.Tensor, state: State
        ) -> tuple[tf.Tensor, tf.Tensor, State]:
            begin, end = tf.reshape(at, [1]), tf.reshape(at + self.rows, [1])
            # Whole rows that begin at a multiple of the batch share the chunk's memory.
            batch = tf.nest.map_structure(lambda t: tf.strided_slice(t, begin, end), held.chunk)
            return done + 1, at + self.rows, step(batch, state)

        return tf.while_loop(
            lambda done, at, state: (
                ends.not_yet(done, state) & self._has_batch(Held(held.chunk, at))
            ),
            body,
            (done, held.at, state),
            parallel_iterations=1,
        )
