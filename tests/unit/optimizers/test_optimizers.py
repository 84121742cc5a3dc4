"""First steps of every optimizer against numpy, dense and by rows; minimize against both."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import optimizers, variables
from estimator_lib.core.errors import ConfigError
from estimator_lib.features import lookup
from estimator_lib.optimizers import schedules

START = np.float32([[1.0, -2.0], [0.5, 3.0], [0.0, 0.25]])
STEPS = [np.float32([[0.1, 0.2], [0, 0], [-0.3, 4.0]]), np.float32([[-1, 0.5], [0, 0], [2, 2]])]


def sgd(w, grads, rate=0.1):
    for g in grads:
        w = w - rate * g
    return w


def momentum(w, grads, rate=0.1, m=0.9):
    a = np.zeros_like(w)
    for g in grads:
        a = m * a - rate * g
        w = w + a
    return w


def adagrad(w, grads, rate=0.1):
    a = np.full_like(w, 0.1)
    for g in grads:
        a = a + g * g
        w = w - rate * g / (np.sqrt(a) + 1e-7)
    return w


def adam(w, grads, rate=0.1):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
    return w


def rmsprop(w, grads, rate=0.1):
    s = np.zeros_like(w)
    for g in grads:
        s = 0.9 * s + 0.1 * g * g
        w = w - rate * g / (np.sqrt(s) + 1e-7)
    return w


def ftrl(w, grads, rate=0.1, l1=0.0, l2=0.0):
    n, z = np.full_like(w, 0.1), np.zeros_like(w)
    for g in grads:
        new = n + g * g
        z = z + g - (np.sqrt(new) - np.sqrt(n)) / rate * w
        n = new
        w = np.where(np.abs(z) > l1, -(z - np.sign(z) * l1) / (np.sqrt(n) / rate + 2 * l2), 0.0)
    return w


CASES = {
    "SGD": (lambda: optimizers.SGD(0.1), sgd),
    "momentum": (lambda: optimizers.SGD(0.1, momentum=0.9), momentum),
    "Adagrad": (lambda: optimizers.Adagrad(0.1), adagrad),
    "Adam": (lambda: optimizers.Adam(0.1), adam),
    "RMSProp": (lambda: optimizers.RMSProp(0.1), rmsprop),
    "Ftrl": (lambda: optimizers.Ftrl(0.1), ftrl),
    "Ftrl regularized": (
        lambda: optimizers.Ftrl(
            0.1, l1_regularization_strength=0.2, l2_regularization_strength=0.3
        ),
        lambda w, g: ftrl(w, g, l1=0.2, l2=0.3),
    ),
}


def rows(gradient):
    """The gradient of rows 0 and 2, row 0 given in two halves."""
    values = np.stack([gradient[2], gradient[0] / 2, gradient[0] / 2])
    return tf.IndexedSlices(tf.constant(values), tf.constant([2, 0, 0], tf.int64), [3, 2])


@pytest.mark.parametrize("case", CASES)
def test_dense_steps_are_exact(case):
    make, expected = CASES[case]
    w, optimizer = tf.Variable(START), make()
    for g in STEPS:
        optimizer.apply_gradients([(tf.constant(g), w)])
    np.testing.assert_allclose(w, expected(START, STEPS), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_steps_by_rows_are_exact_and_equal_indices_add_up(case):
    make, expected = CASES[case]
    w, optimizer = tf.Variable(START), make()
    for g in STEPS:
        optimizer.apply_gradients([(rows(g), w)])
    want = expected(START, STEPS)
    if case != "Adam":  # Adam moves all rows; here row 1 has no history either
        want[1] = START[1]
    np.testing.assert_allclose(w, want, rtol=2e-6, atol=1e-6)


RULES = [
    optimizers.SGD(0.1),
    optimizers.SGD(0.1, momentum=0.9),
    optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    optimizers.Adagrad(0.1, epsilon=0.1),
    optimizers.Adam(0.1, beta_1=0.5, beta_2=0.7, epsilon=0.1),
    optimizers.RMSProp(0.1, rho=0.5, epsilon=0.1),
    optimizers.RMSProp(0.1, momentum=0.5, epsilon=0.1),
    optimizers.Ftrl(
        0.1, -0.6, l1_regularization_strength=0.1, l2_regularization_strength=0.2,
        l2_shrinkage_regularization_strength=0.1, beta=0.5,
    ),
]  # fmt: skip


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("optimizer", RULES, ids=lambda o: f"{o.name}{o.slots}")
def test_fused_operations_do_what_the_rule_says(optimizer, by_rows):
    optimizer = dataclasses.replace(optimizer)  # which has done no step
    w, want = tf.Variable(START), tf.constant(START)
    slots = [tf.fill([3, 2], initial) for initial in optimizer.slots.values()]
    for step, g in enumerate(STEPS):
        optimizer.apply_gradients([(rows(g) if by_rows else tf.constant(g), w)])
        now = optimizers.Now(tf.constant(0.1), tf.constant(float(step)))
        new, *after = optimizer.rule(tf.constant(g), want, slots, now)
        # By rows, row 1 has no gradient; it stays unless all move.
        stays = by_rows and not optimizer.moves_all_rows
        kept = tf.constant([[False], [stays], [False]])
        want = tf.where(kept, want, new)
        slots = [tf.where(kept, old, own) for old, own in zip(slots, after, strict=True)]
    np.testing.assert_allclose(w, want, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("optimizer", RULES, ids=lambda o: f"{o.name}{o.slots}")
def test_a_dense_gradient_stands_for_rows_where_said(optimizer):
    """Rows stay under a gradient of zeros, or are meant to move."""
    optimizer, w = dataclasses.replace(optimizer), tf.Variable(START)
    for g in STEPS:
        optimizer.apply_gradients([(tf.constant(g), w)])
    before = w.numpy()
    gradient = np.float32([[1, 1], [0, 0], [1, 1]])
    optimizer.apply_gradients([(tf.constant(gradient), w)])
    stayed = np.array_equal(w.numpy()[1], before[1])
    assert optimizer.rows_as_dense <= (stayed or optimizer.moves_all_rows)


class Model:
    """A traced step: a table read by ids, a table used whole, a kernel."""

    def __init__(self, make, table_rows=3):
        self.store = variables.VariableStore()
        self.make = make
        self.table_rows = table_rows

    def value(self, name):
        return self.store.variables[name].numpy()

    @tf.function
    def step(self, ids, x):
        with variables.trace(self.store):
            table = variables.get_variable("table", (self.table_rows, 2), initializer=0.5)
            kernel = variables.get_variable("kernel", (2, 1), initializer=1.0)
            mask = lookup.mask_of(ids)[:, None]
            loss = tf.reduce_sum((lookup.rows(table, ids) * mask + x) @ kernel) ** 2
            loss += tf.reduce_sum(table) * self.also_whole
            op = optimizers.minimize(loss, self.make())
            with tf.control_dependencies([op]):
                variables.global_step().assign_add(1)
            return loss

    also_whole = 0.0


@pytest.mark.parametrize("table_rows", [3, 5000])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam", "Ftrl", "RMSProp"])
@pytest.mark.parametrize("also_whole", [0.0, 0.1])
def test_minimize_agrees_with_gradient_tape(name, table_rows, also_whole):
    model = Model(lambda: optimizers.get(name, 0.1), table_rows)
    model.also_whole = also_whole
    ids, x = tf.constant([2, 0, 2, -1], tf.int64), tf.constant([[0.1, 0.2]])
    table = tf.Variable(tf.fill([table_rows, 2], 0.5))
    kernel = tf.Variable(tf.ones([2, 1]))
    plain = optimizers.get(name, 0.1)
    for _ in range(3):
        model.step(ids, x)
        with tf.GradientTape() as tape:
            read = tf.gather(table, tf.maximum(ids, 0)) * lookup.mask_of(ids)[:, None]
            loss = tf.reduce_sum((read + x) @ kernel) ** 2 + tf.reduce_sum(table) * also_whole
        grads = tape.gradient(loss, [table, kernel])
        plain.apply_gradients(zip(grads, [table, kernel], strict=True))
    np.testing.assert_allclose(model.value("table"), table, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.value("kernel"), kernel, rtol=1e-5, atol=1e-6)


def test_slots_are_named_after_variable_and_optimizer():
    model = Model(lambda: optimizers.Adam())
    model.step(tf.constant([0], tf.int64), tf.constant([[0.0, 0.0]]))
    assert set(model.store.variables) == {
        "table",
        "kernel",
        "table/Adam/m",
        "table/Adam/v",
        "kernel/Adam/m",
        "kernel/Adam/v",
        "global_step",
    }


def test_keras_optimizer_trains():
    optimizer = keras.optimizers.Adam(0.1)
    model = Model(lambda: optimizer)
    before = None
    for _ in range(2):
        before = model.step(tf.constant([0], tf.int64), tf.constant([[0.0, 0.0]]))
    assert model.step(tf.constant([0], tf.int64), tf.constant([[0.0, 0.0]])) < before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"clipvalue": 0.25}, np.clip(STEPS[0], -0.25, 0.25)),
        ({"clipnorm": 1.0}, STEPS[0] / np.linalg.norm(STEPS[0])),
        ({"global_clipnorm": 1.0}, STEPS[0] / np.linalg.norm(STEPS[0])),
    ],
)
def test_clipping(arguments, expected):
    w = tf.Variable(START)
    optimizers.SGD(1.0, **arguments).apply_gradients([(tf.constant(STEPS[0]), w)])
    np.testing.assert_allclose(w, START - expected, rtol=1e-5)


def test_weight_decay_is_decoupled_and_spares_biases():
    w, b = tf.Variable(START), tf.Variable([1.0])
    optimizer = optimizers.Adam(0.1, weight_decay=0.5)
    optimizer.apply_gradients([(tf.zeros_like(w), w), (tf.zeros([1]), b)])
    np.testing.assert_allclose(w, START * 0.95, rtol=1e-6)
    np.testing.assert_allclose(b, [1.0])


def test_schedules():
    assert schedules.CosineDecay(1.0, 10)(0.0) == 1
    assert schedules.CosineDecay(1.0, 10, alpha=0.1)(20.0) == np.float32(0.1)
    assert schedules.ExponentialDecay(1.0, 10, 0.5)(tf.constant(20.0)) == 0.25
    steps = schedules.PiecewiseConstant([2, 4], [1.0, 0.5, 0.1])
    np.testing.assert_allclose([steps(float(s)) for s in (1, 2, 4)], [1, 0.5, 0.1])
    warm = schedules.get_rate(
        {
            "name": "warm_up",
            "steps": 4,
            "after": {"name": "cosine", "initial": 1.0, "decay_steps": 10},
        }
    )
    assert warm(0.0) == 0.25
    assert warm(3.0) == 1
    assert warm(14.0) == 0


def test_schedule_is_asked_for_each_step():
    w = tf.Variable([0.0])
    optimizer = optimizers.SGD(lambda step: step)
    for _ in range(4):
        optimizer.apply_gradients([(tf.constant([-1.0]), w)])
    assert w.numpy() == 0 + 1 + 2 + 3


def test_get_takes_names_mappings_functions_and_instances():
    assert optimizers.get("adagrad", 0.3).learning_rate == 0.3
    assert (
        optimizers.get(
            {"name": "Ftrl", "l1_regularization_strength": 1.0}
        ).l1_regularization_strength
        == 1
    )
    assert isinstance(optimizers.get(lambda: optimizers.SGD()), optimizers.SGD)
    instance = keras.optimizers.Adam()
    assert optimizers.get(instance) is instance


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("Adagrat", "Did you mean 'Adagrad'"),
        ({"name": "Adam", "beta1": 1}, "Did you mean 'beta_1'"),
        ({"learning_rate": 1}, "has no name"),
        (3, "expected a name"),
        (lambda: 3, "expected a name"),
        ({"name": "SGD", "learning_rate": "fast"}, "learning_rate is invalid"),
        ({"name": "SGD", "learning_rate": {"name": "cosin"}}, "Did you mean 'cosine'"),
        ({"name": "SGD", "clipnorm": 1, "clipvalue": 1}, "at most one"),
    ],
)
def test_get_refuses_with_the_nearest_name(bad, message):
    with pytest.raises(ConfigError, match=message):
        optimizers.get(bad)
