"""KMeansClustering against plain numpy."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.canned.kmeans import KMeansClustering
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError
from estimator_lib.training.run_config import RunConfig

RNG = np.random.default_rng(3)
TRUE = np.float32([[0, 0], [10, 0], [0, 10]])
POINTS = (TRUE[np.arange(60) % 3] + RNG.normal(size=(60, 2))).astype(np.float32)
START = np.float32([[1, 1], [8, 2], [-1, 7]])
CONFIG = RunConfig(tf_random_seed=5)


def input_fn(epochs=1, batch=60):
    def make():
        features = {"a": POINTS[:, 0], "b": POINTS[:, 1:]}
        return tf.data.Dataset.from_tensor_slices(features).repeat(epochs).batch(batch)

    return make


def distances(points, centres):
    return ((points[:, None] - centres) ** 2).sum(-1)


def test_full_batches_are_those_of_lloyd(tmp_path):
    model = KMeansClustering(3, str(tmp_path), START, use_mini_batch=False, config=CONFIG)
    centres = START
    for _ in range(4):
        near = distances(POINTS, centres).argmin(1)
        centres = np.stack([POINTS[near == i].mean(0) for i in range(3)])
    model.train(input_fn(4))
    np.testing.assert_allclose(model.cluster_centers(), centres, rtol=1e-4)
    expected = distances(POINTS, centres)
    np.testing.assert_allclose(model.score(input_fn(batch=25)), expected.min(1).sum(), rtol=1e-4)
    assert list(model.predict_cluster_index(input_fn())) == list(expected.argmin(1))
    far = np.sqrt(expected)
    np.testing.assert_allclose(list(model.transform(input_fn())), far, rtol=1e-3, atol=1e-2)


def test_mini_batches_are_running_means(tmp_path):
    model = KMeansClustering(3, str(tmp_path), START, config=CONFIG)
    centres, counts = START.copy(), np.ones(3)
    for _ in range(2):
        for at in range(0, 60, 20):
            batch = POINTS[at : at + 20]
            near = distances(batch, centres).argmin(1)
            for i in range(3):
                mine = batch[near == i]
                counts[i] += len(mine)
                if len(mine):
                    centres[i] += (mine - centres[i]).sum(0) / counts[i]
    model.train(input_fn(2, 20))
    np.testing.assert_allclose(model.cluster_centers(), centres, rtol=1e-4)


@pytest.mark.parametrize("initial", ["kmeans_plus_plus", lambda points, n: points[:n]])
def test_centres_are_found_from_the_data(initial, tmp_path):
    columns = [fc.numeric_column("a"), fc.numeric_column("b")]
    model = KMeansClustering(3, str(tmp_path), initial, feature_columns=columns, config=CONFIG)
    model.train(input_fn(8))
    found = model.cluster_centers()
    assert np.all(distances(TRUE, found).min(1) < 1)


def test_small_batches_fill_the_centres_and_iterations_hold_them(tmp_path):
    model = KMeansClustering(
        5, str(tmp_path), "random", mini_batch_steps_per_iteration=2, seed=1, config=CONFIG
    )
    model.train(input_fn(6, 2))
    before = model.score(input_fn())
    model.train(input_fn(6, 20))
    assert np.isfinite(before)
    assert model.score(input_fn()) <= before
    assert len(np.unique(model.cluster_centers(), axis=0)) == 5


def test_cosine_looks_at_directions_only(tmp_path):
    model = KMeansClustering(
        2,
        str(tmp_path),
        np.float32([[1, 0.1], [0.1, 1]]),
        "cosine",
        use_mini_batch=False,
        config=CONFIG,
    )
    data = {"a": np.float32([1, 9, 0, 0]), "b": np.float32([0, 0, 2, 5])}

    def cosine_input():
        return tf.data.Dataset.from_tensors(data)

    model.train(cosine_input)
    assert list(model.predict_cluster_index(cosine_input)) == [0, 0, 1, 1]
    assert model.score(cosine_input) == pytest.approx(0, abs=1e-5)


def test_training_ends_when_the_loss_stays(tmp_path):
    model = KMeansClustering(
        3, str(tmp_path), START, use_mini_batch=False, relative_tolerance=1e-6, config=CONFIG
    )
    model.train(input_fn(None), steps=50)
    assert model.get_variable_value("global_step") < 20


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_clusters": 0},
        {"num_clusters": 2, "distance_metric": "manhattan"},
        {"num_clusters": 2, "initial_clusters": "first"},
        {"num_clusters": 2, "initial_clusters": [[1.0, 2.0]]},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigError):
        KMeansClustering(**arguments)
