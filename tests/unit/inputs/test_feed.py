"""A loop that cuts its batches out of chunks sees the batches of the dataset, one by one."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.inputs import arrays
from estimator_lib.inputs.feed import Feed

CASES = [
    # rows, batch size, epochs, drop the remainder, first batch
    (20, 3, 1, False, 0),
    (20, 3, 1, True, 0),
    (20, 3, 2, False, 5),
    (7, 3, 3, False, 0),
    (7, 3, 3, True, 1),
    (2, 5, 1, False, 0),
    (2, 5, 1, True, 0),
    (16, 8, 2, False, 0),
    (20, 3, 1, False, 7),
]


def source(rows, batch_size, epochs, drop, seed=3):
    x = np.arange(rows, dtype=np.int64)
    return arrays.arrays_input(
        {"x": x, "v": np.stack([x, -x], 1).astype(np.float32), "s": x.astype(str)},
        x % 2,
        batch_size=batch_size,
        shuffle=True,
        seed=seed,
        epochs=epochs,
        drop_remainder=drop,
    )


def seen(feed, calls):
    """The values of x, v and s that a loop saw, batch by batch, in calls of so many steps."""
    batches = []

    def note(x, v, s, label):
        np.testing.assert_array_equal(v[:, 0], x)
        np.testing.assert_array_equal(s.astype(int), x)
        np.testing.assert_array_equal(label, x % 2)
        batches.append(x.tolist())
        return np.int64(len(x))

    def step(batch, rows):
        features, label = batch
        values = (features["x"], features["v"], features["s"], label)
        return rows + tf.ensure_shape(tf.numpy_function(note, values, tf.int64), [])

    @tf.function(autograph=False, input_signature=feed.signature)
    def run(iterator, held, limit):
        return feed.loop(iterator, held, limit, tf.constant(0, tf.int64), step)

    flow, more = feed.start(), True
    while more:
        before = len(batches)
        result = flow.run(run, calls)
        more = bool(result.more)
        new = batches[before:]
        assert int(result.done) == len(new)
        assert int(result.state) == sum(map(len, new))
    return batches


@pytest.mark.parametrize("calls", [2, 1000])
@pytest.mark.parametrize("case", CASES)
def test_chunks_give_the_batches_of_the_dataset(case, calls, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 8)
    *made, first = case
    wanted = [features["x"].numpy().tolist() for features, _ in source(*made).dataset(first)]
    chunks = source(*made).chunks(first)
    assert chunks.batch_size == made[1]
    assert seen(chunks, calls) == wanted
    assert seen(Feed(dataset=source(*made).dataset(first)), calls) == wanted


def test_a_loop_stops_when_the_state_says_so():
    feed = source(20, 2, None, False).chunks()

    def step(batch, rows):
        return rows + tf.shape(batch[1], out_type=tf.int64)[0]

    @tf.function(autograph=False, input_signature=feed.signature)
    def run(iterator, held, limit):
        start = tf.constant(0, tf.int64)
        return feed.loop(iterator, held, limit, start, step, lambda rows: rows < 6)

    result = feed.start().run(run, 100)
    assert (int(result.done), int(result.state), bool(result.more)) == (3, 6, True)


def test_one_trace_serves_every_chunk():
    feed = source(70_000, 16, 1, False).chunks()
    traces = []

    @tf.function(autograph=False, input_signature=feed.signature)
    def run(iterator, held, limit):
        traces.append(1)
        start = tf.constant(0, tf.int64)
        return feed.loop(iterator, held, limit, start, lambda batch, rows: rows + 1)

    flow = feed.start()
    while flow.run(run, 3000).more:
        pass
    assert len(traces) == 1
