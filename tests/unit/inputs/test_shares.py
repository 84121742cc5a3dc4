"""Workers share an input: no batch twice, none left out, in the order of one process."""

import itertools

import pytest
import tensorflow as tf

from estimator_lib.inputs import arrays, datasets


def shares(batches, workers, replicas):
    source = tf.data.Dataset.range(batches)
    return [
        [
            int(batch)
            for batch in datasets.share(
                source, tf.distribute.InputContext(workers, worker, replicas)
            )
        ]
        for worker in range(workers)
    ]


@pytest.mark.parametrize(
    ("batches", "workers", "replicas"),
    [(12, 1, 1), (12, 3, 3), (13, 3, 3), (1, 3, 3), (0, 2, 2), (13, 2, 4), (9, 3, 6)],
)
def test_every_batch_goes_to_one_worker_in_order(batches, workers, replicas):
    found = shares(batches, workers, replicas)
    each = replicas // workers
    taken = []
    for step in itertools.count():
        here = [share[step * each : (step + 1) * each] for share in found]
        if not any(here):
            break
        taken += [batch for of_worker in here for batch in of_worker]
    assert taken == list(range(batches))


def test_a_share_begins_where_the_input_was_left_whoever_shares_it():
    source = arrays.arrays_input(list(range(20)), batch_size=2, shuffle=True, seed=1)
    whole = [batch.numpy().tolist() for batch in source.dataset(3)]
    halves = [
        [b.numpy().tolist() for b in datasets.share(source.dataset(3), context)]
        for context in (tf.distribute.InputContext(2, worker, 2) for worker in range(2))
    ]
    assert halves == [whole[0::2], whole[1::2]]


def test_seeds_that_are_drawn_agree_within_a_cluster(monkeypatch):
    assert arrays.random_seed() != arrays.random_seed()
    text = '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "%s", "index": 0}}'
    seeds = set()
    for role in ("chief", "worker"):
        monkeypatch.setenv("TF_CONFIG", text % role)
        seeds.add(arrays.random_seed())
    assert len(seeds) == 1


def test_an_input_fn_without_input_context_is_named(caplog):
    def whole():
        return tf.data.Dataset.range(3)

    caller = datasets.Caller(params={}, config=None)
    strategy = _Several()
    caller.dataset(whole, "train", strategy)
    assert "takes no input_context: each of the 2 workers reads all" in caplog.text
    assert "whole" in caplog.text


class _Several:
    def distribute_datasets_from_function(self, call):
        return call(tf.distribute.InputContext(2, 0, 2))
