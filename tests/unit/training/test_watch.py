import tensorflow as tf

from estimator_lib.training.parameter_servers import Watch


def test_only_clients_without_a_sign_of_life_are_silent():
    now = [0.0]
    beats = tf.Variable([0, 0], dtype=tf.int64)
    watch = Watch(beats, 10.0, clock=lambda: now[0])
    assert watch.silent() == []
    now[0] = 8.0
    beats.assign([1, 0])
    assert watch.silent() == []
    now[0] = 12.0
    assert watch.silent() == [1]
    now[0] = 19.0
    assert sorted(watch.silent()) == [0, 1]
