"""Which steps a process makes, where several share one counter of steps.

Layer 3. A step is made by whoever has claimed its number, and every number is given out once. The
next number is claimed while a step computes, so that nobody waits for it.
"""

from __future__ import annotations

import tensorflow as tf


class Claims:
    """The numbers of the steps that this process makes.

    Args:
        counter: Counts the steps that all have claimed, int64 scalar.
        last: No step is made at this global step or beyond.
    """

    def __init__(self, counter: tf.Variable, last: int) -> None:
        self._counter = counter
        self._last = last
        self._claimed = tf.Variable(last, dtype=tf.int64, trainable=False)
        self._holds = False
        # Executed by itself, the operation does not know the form of another process's variable.
        self._claim_one = tf.function(self.claim, autograph=False)

    @property
    def number(self) -> tf.Tensor:
        """The number of the step to be made now, int64 scalar."""
        return self._claimed.read_value()

    def are_left(self) -> tf.Tensor:
        """Whether there is a step to be made, bool scalar."""
        return self._claimed.read_value() < self._last

    def claim(self) -> tf.Tensor:
        """Takes the next number, int64 scalar; `next` lets it count."""
        return tf.raw_ops.ResourceCountUpTo(
            resource=self._counter.handle, limit=2**63 - 1, T=tf.int64
        )

    def next(self, claimed: tf.Tensor) -> tf.Operation:
        """Makes a claimed number that of the next step."""
        return self._claimed.assign(claimed)

    def begin(self) -> bool:
        """Claims the first step of a call; returns whether there is one to be made."""
        self._claimed.assign(self._claim_one())
        self._holds = True
        if bool(self.are_left()):
            return True
        self.release()
        return False

    def count(self) -> int:
        """Returns the steps that all have claimed; what is claimed beyond the last is no step."""
        return min(int(self._counter.numpy()), self._last)

    def release(self) -> None:
        """Gives back the claim that a call has left over."""
        if self._holds:
            self._counter.assign_sub(1)
            self._holds = False
