import tensorflow as tf

from estimator_lib.training.claims import Claims


def test_each_number_is_given_out_once_and_none_beyond_the_last():
    counter = tf.Variable(0, dtype=tf.int64)
    workers = [Claims(counter, 3) for _ in range(2)]
    assert [claims.begin() for claims in workers] == [True, True]
    assert [int(claims.number) for claims in workers] == [0, 1]
    workers[0].next(workers[0].claim())
    assert int(workers[0].number) == 2
    workers[1].next(workers[1].claim())
    assert not bool(workers[1].are_left())
    assert workers[1].count() == 3


def test_a_claim_that_is_left_over_goes_to_another():
    counter = tf.Variable(0, dtype=tf.int64)
    first, second = Claims(counter, 1), Claims(counter, 1)
    assert first.begin()
    assert not second.begin()
    first.release()
    assert counter.numpy() == 0
    assert second.begin()
