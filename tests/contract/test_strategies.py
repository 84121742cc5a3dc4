"""Two replicas train and evaluate as one device does with batches of twice the size."""

import pathlib
import subprocess
import sys
import textwrap

SCRIPT = textwrap.dedent("""
    import os, sys
    import keras, numpy as np, tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    import estimator_lib as E
    from estimator_lib import feature_column as fc
    from estimator_lib.inputs.arrays import arrays_input

    REPLICAS = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    rng = np.random.default_rng(0)
    X = {
        "x": rng.normal(size=64).astype("float32"),
        "k": rng.integers(-1, 5, 64),
        "w": rng.uniform(0.5, 2, 64).astype("float32"),
    }
    Y = rng.integers(0, 2, 64)
    k = fc.categorical_column_with_identity("k", 5)
    dense = [fc.numeric_column("x"), fc.embedding_column(k, 2)]

    def source(replicas, epochs=3):
        return arrays_input(X, Y, batch_size=16 // replicas, epochs=epochs, shuffle=True, seed=1)

    def config(strategy, **options):
        return E.RunConfig(
            train_distribute=strategy, eval_distribute=strategy, tf_random_seed=1, **options
        )

    def keras_model(optimizer):
        def model_fn(features, labels, mode):
            net = keras.layers.Dense(3, "tanh")(features["x"][:, None])
            logits = keras.layers.Dense(1)(net)
            return E.BinaryClassHead().create_estimator_spec(
                features, mode, logits, labels, optimizer=optimizer()
            )
        return lambda model_dir, config: E.Estimator(model_fn, model_dir, config)

    def wide_and_deep(model_dir, config, **options):
        return E.DNNLinearCombinedClassifier(
            model_dir, linear_feature_columns=[k], dnn_feature_columns=dense,
            dnn_hidden_units=[4], weight_column="w", config=config, **options,
        )

    MODELS = {
        "wide and deep, Ftrl and Adagrad": wide_and_deep,
        "summed loss": lambda d, c: wide_and_deep(d, c, loss_reduction="sum"),
        "RMSProp": lambda d, c: E.DNNClassifier([4], dense, d, optimizer="RMSProp", config=c),
        "Keras layers, Keras optimizer": keras_model(lambda: keras.optimizers.Adam(0.1)),
    }

    def all_variables(model):
        return {n: model.get_variable_value(n) for n in model.get_variable_names()}

    def equal(one, two, case, rtol=1e-4):
        assert set(one) == set(two), (case, set(one) ^ set(two))
        for name in one:
            np.testing.assert_allclose(
                one[name], two[name], rtol=rtol, atol=rtol / 10, err_msg=f"{case}: {name}"
            )

    for number, (case, make) in enumerate(MODELS.items()):
        results = []
        for replicas, strategy in ((1, None), (2, REPLICAS)):
            model = make(f"{sys.argv[1]}/{number}/{replicas}", config(strategy))
            model.train(source(replicas))
            results.append((all_variables(model), model.evaluate(source(replicas, epochs=1))))
        assert results[0][0]["global_step"] == 12
        equal(results[0][0], results[1][0], case)
        equal(results[0][1], results[1][1], case)
        print("ok", case)

    # A stopped training goes on at the batch where it stopped.
    stopped = f"{sys.argv[1]}/stopped"
    wide_and_deep(stopped, config(REPLICAS)).train(source(2), steps=5)
    again = wide_and_deep(stopped, config(REPLICAS)).train(source(2))
    # So does a model that was used on one device before.
    whole = wide_and_deep(
        f"{sys.argv[1]}/whole", E.RunConfig(train_distribute=REPLICAS, tf_random_seed=1)
    )
    whole.evaluate(source(1, epochs=1))
    whole.train(source(2))
    equal(all_variables(again), all_variables(whole), "resumed", rtol=1e-6)

    print("ok all")
    sys.stdout.flush()
    os._exit(0)
""")


def test_two_replicas_equal_one_device(tmp_path):
    root = str(pathlib.Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={"PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "ok all"
