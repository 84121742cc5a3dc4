"""Programs of the shapes of libraries and samples that were built on tf.estimator.

Each takes the module that they import as `tf_estimator`, and a directory. 2.15 runs them too, with
`tf.compat.v1.estimator` for those that read pandas or export by the old name.
"""

import os

import numpy as np
import pandas as pd
import tensorflow as tf

v1 = tf.compat.v1


def _newest(directory):
    return tf.saved_model.load(os.path.join(directory, max(os.listdir(directory))))


def _example(values):
    def feature(value):
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {name: feature(value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


# --- A library of click models: two scopes, two optimizers, a head of its own ------------------


class ClickHead:
    """Makes the spec of a click model, and its train_op in each mode."""

    def create_estimator_spec(self, tf_estimator, mode, logits, labels, train_op_fn, chief_hooks):
        logits = tf.reshape(logits, [-1, 1])
        predictions = {"pred": tf.sigmoid(logits), "logits": logits}
        if mode == tf_estimator.ModeKeys.PREDICT:
            outputs = {"predict": tf_estimator.export.PredictOutput(predictions)}
            return tf_estimator.EstimatorSpec(
                mode=mode, predictions=predictions, export_outputs=outputs
            )
        labels = v1.to_float(tf.reshape(labels, [-1, 1]))
        each = v1.losses.sigmoid_cross_entropy(labels, logits, reduction=v1.losses.Reduction.NONE)
        total = v1.losses.compute_weighted_loss(each, reduction=v1.losses.Reduction.SUM)
        loss = total + v1.losses.get_regularization_loss()
        mean = v1.losses.compute_weighted_loss(each, reduction=v1.losses.Reduction.MEAN)
        metrics = {
            "prediction/mean": v1.metrics.mean(predictions["pred"]),
            "LogLoss": v1.metrics.mean(mean),
            "AUC": v1.metrics.auc(labels, predictions["pred"]),
        }
        v1.summary.scalar("AUC", metrics["AUC"][1])
        return tf_estimator.EstimatorSpec(
            mode=mode, predictions=predictions, loss=loss, train_op=train_op_fn(loss),
            eval_metric_ops=metrics, training_chief_hooks=chief_hooks,
        )  # fmt: skip


def _train_op_of_scopes(linear_optimizer, deep_optimizer):
    def train_op_fn(loss):
        step = v1.train.get_global_step()
        train_ops = []
        for optimizer, scope in ((deep_optimizer, "dnn"), (linear_optimizer, "linear")):
            found = v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, scope)
            if found:
                train_ops.append(optimizer.minimize(loss, var_list=found))
        with tf.control_dependencies([tf.group(*train_ops)]):
            return v1.assign_add(step, 1).op

    return train_op_fn


class CountingHook(v1.train.SessionRunHook):
    """Counts the steps that it saw."""

    def __init__(self):
        self.steps = 0

    def after_run(self, run_context, run_values):
        self.steps += 1


def _click_model_fn(tf_estimator, linear_columns, deep_columns, chief_hooks):
    def model_fn(features, labels, mode, config):
        with v1.variable_scope("linear"):
            linear_logits = v1.feature_column.linear_model(features, linear_columns)
            weights = v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, "linear")[:-1]
            for weight in weights:
                name = weight.name.split(":")[0] + "_l2loss"
                v1.losses.add_loss(
                    1e-5 * tf.nn.l2_loss(weight, name=name), v1.GraphKeys.REGULARIZATION_LOSSES
                )
        with v1.variable_scope("dnn"):
            fields, dense = [], []
            for column in deep_columns:
                value = v1.feature_column.input_layer(features, [column])
                if hasattr(column, "categorical_column"):
                    fields.append(tf.expand_dims(value, axis=1))
                    v1.losses.add_loss(
                        1e-5 * tf.nn.l2_loss(value), v1.GraphKeys.REGULARIZATION_LOSSES
                    )
                else:
                    dense.append(value)
            field = tf.concat(fields, axis=1)
            square = tf.square(tf.reduce_sum(field, axis=1)) - tf.reduce_sum(field**2, axis=1)
            pairs = 0.5 * tf.reduce_sum(square, axis=1, keepdims=True)
            flat = tf.concat([tf.keras.layers.Flatten()(field), *dense], axis=1)
            start = tf.keras.initializers.Constant(0.1)
            deep = tf.keras.layers.Dense(4, activation="relu", kernel_initializer=start)(flat)
            deep = tf.keras.layers.Dense(1, use_bias=False, kernel_initializer=start)(deep)
        return ClickHead().create_estimator_spec(
            tf_estimator, mode, linear_logits + pairs + deep, labels,
            _train_op_of_scopes(v1.train.FtrlOptimizer(0.005), v1.train.AdagradOptimizer(0.01)),
            chief_hooks,
        )  # fmt: skip

    return model_fn


def click_model(tf_estimator, model_dir):
    """Metrics of a factorization machine with a network, trained from pandas, then from records."""
    draw = np.random.RandomState(3)
    rows = pd.DataFrame({"C1": draw.randint(0, 6, 120), "C2": draw.randint(0, 4, 120),
                         "I1": draw.rand(120).astype(np.float32)})  # fmt: skip
    rows["label"] = ((rows.C1 + rows.C2 > 4) & (rows.I1 > 0.2)).astype(np.float32)
    records = os.path.join(model_dir, "rows.tfrecords")
    with tf.io.TFRecordWriter(records) as writer:
        for c1, c2, i1, label in rows.itertuples(index=False):
            writer.write(_example({"C1": c1, "C2": c2, "I1": float(i1), "label": float(label)}))
    spec = {name: tf.io.FixedLenFeature([1], tf.int64) for name in ("C1", "C2")}
    spec |= {name: tf.io.FixedLenFeature([1], tf.float32) for name in ("I1", "label")}

    def from_records():
        def parsed(record):
            features = tf.io.parse_single_example(record, features=spec)
            return features, features.pop("label")

        dataset = tf.data.TFRecordDataset(records).map(parsed, num_parallel_calls=2)
        return v1.data.make_one_shot_iterator(dataset.batch(40).prefetch(40)).get_next()

    fc = tf.feature_column
    sparse = [fc.categorical_column_with_identity("C1", 6),
              fc.categorical_column_with_identity("C2", 4)]  # fmt: skip
    start = v1.constant_initializer(0.05)
    dense = fc.numeric_column("I1")
    deep = [*(fc.embedding_column(column, 4, initializer=start) for column in sparse), dense]
    counting = CountingHook()
    model = tf_estimator.Estimator(
        _click_model_fn(tf_estimator, [*sparse, dense], deep, [counting]),
        model_dir=os.path.join(model_dir, "clicks"),
        config=tf_estimator.RunConfig(tf_random_seed=2021, save_summary_steps=2),
    )
    columns = ["C1", "C2", "I1"]
    model.train(tf_estimator.inputs.pandas_input_fn(
        rows[columns], rows["label"], batch_size=40, num_epochs=4, shuffle=False
    ))  # fmt: skip
    model.train(from_records)
    result = model.evaluate(from_records)
    asked = tf_estimator.inputs.pandas_input_fn(rows[columns][:2], None, shuffle=False)
    return {
        "loss": float(result["loss"]),
        "LogLoss": float(result["LogLoss"]),
        "AUC": float(result["AUC"]),
        "mean": float(result["prediction/mean"]),
        "steps seen": counting.steps,
        "global_step": int(result["global_step"]),
        "variables": sorted(model.get_variable_names()),
        "predicted": [float(row["pred"][0]) for row in model.predict(asked)],
    }


# --- A library of rankers: groups that are scored, heads of two tasks ---------------------------


class RankingHead:
    """A head of lists: labels and logits `[batch, list]`; a label below 0 is padding."""

    def __init__(self, tf_estimator, name, train_op_fn):
        self.name = name
        self._tf_estimator = tf_estimator
        self._train_op_fn = train_op_fn

    def create_loss(self, logits, labels):
        labels = tf.where(labels < 0, tf.zeros_like(labels), labels)
        return v1.losses.softmax_cross_entropy(labels, logits)

    def create_estimator_spec(self, mode, logits, labels=None):
        export, keys = self._tf_estimator.export, self._tf_estimator.ModeKeys
        with v1.name_scope(self.name, "head"):
            if mode == keys.PREDICT:
                outputs = {
                    "serving_default": export.RegressionOutput(logits),
                    "regression": export.RegressionOutput(logits),
                    "predict": export.PredictOutput(logits),
                }
                return self._tf_estimator.EstimatorSpec(
                    mode=mode, predictions=logits, export_outputs=outputs
                )
            loss = self.create_loss(logits, labels)
            if mode == keys.TRAIN:
                return self._tf_estimator.EstimatorSpec(
                    mode=mode, loss=loss, train_op=self._train_op_fn(loss), predictions=logits
                )
            valid = tf.reshape(labels >= 0, [-1])
            best = tf.gather(labels, tf.argmax(logits, axis=1), batch_dims=1)
            metrics = {
                "precision@1": v1.metrics.mean(best),
                "labels_mean": v1.metrics.mean(
                    tf.boolean_mask(tensor=tf.reshape(labels, [-1]), mask=valid)
                ),
            }
            return self._tf_estimator.EstimatorSpec(
                mode=mode, predictions=logits, loss=loss, eval_metric_ops=metrics
            )


def _joined_spec(tf_estimator, heads, mode, logits, labels, train_op_fn):
    specs = [
        head.create_estimator_spec(mode, logits[head.name], labels and labels[head.name])
        for head in heads
    ]
    if mode == tf_estimator.ModeKeys.PREDICT:
        outputs = {
            f"{head.name}/{key}": output
            for head, spec in zip(heads, specs, strict=True)
            for key, output in spec.export_outputs.items()
        }
        outputs["serving_default"] = specs[0].export_outputs["serving_default"]
        merged = {f"{head.name}/output": logits[head.name] for head in heads}
        outputs["predict"] = tf_estimator.export.PredictOutput(merged)
        return tf_estimator.EstimatorSpec(mode=mode, predictions=logits, export_outputs=outputs)
    loss = tf.add_n([spec.loss * weight for spec, weight in zip(specs, (1.0, 0.5), strict=True)])
    metrics = {
        f"{head.name}/{name}": pair
        for head, spec in zip(heads, specs, strict=True)
        for name, pair in spec.eval_metric_ops.items()
    }
    training = mode == tf_estimator.ModeKeys.TRAIN
    return tf_estimator.EstimatorSpec(
        mode=mode, predictions=logits, loss=loss, eval_metric_ops=metrics,
        train_op=train_op_fn(loss) if training else None,
    )  # fmt: skip


def _ranking_fn(tf_estimator, columns, own_steps):
    optimizer = v1.train.AdagradOptimizer(0.2)

    def train_op_fn(loss):
        update_ops = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        step = v1.train.get_global_step()
        return tf.group([optimizer.minimize(loss=loss, global_step=step), update_ops])

    def score(features, mode):
        training = mode == tf_estimator.ModeKeys.TRAIN
        flat = [v1.layers.flatten(features[name]) for name in sorted(features)]
        layer = tf.concat(flat, 1)
        v1.summary.scalar("input_sparsity", tf.nn.zero_fraction(layer))
        layer = v1.layers.batch_normalization(layer, training=training, momentum=0.5)
        start = v1.constant_initializer(0.3)
        layer = tf.nn.relu(v1.layers.dense(layer, units=4, kernel_initializer=start))
        layer = v1.layers.dropout(layer, rate=0.0, training=training)
        return v1.layers.dense(layer, units=1, kernel_initializer=start)

    def model_fn(features, labels, mode, params, config):
        with v1.name_scope("transform"):
            listwise = mode != tf_estimator.ModeKeys.PREDICT
            size = tf.shape(features["x"])[1] if listwise else 1
            rows = {name: tf.reshape(value, [-1, 1]) for name, value in features.items()}
            outputs = {}
            v1.feature_column.input_layer(
                features=rows, feature_columns=columns, cols_to_output_tensors=outputs,
                trainable=mode == tf_estimator.ModeKeys.TRAIN,
            )  # fmt: skip
        with v1.variable_scope("group_score"):
            scores = score({column.name: value for column, value in outputs.items()}, mode)
        scores = tf.reshape(scores, [-1, size])
        names = ("click", "buy")
        of_one = train_op_fn if own_steps else lambda loss: tf.no_op()
        heads = [RankingHead(tf_estimator, name, of_one) for name in names]
        logits = dict.fromkeys(names, scores)
        return _joined_spec(tf_estimator, heads, mode, logits, labels, train_op_fn)

    return model_fn


def ranker(tf_estimator, model_dir, own_steps=False):
    """Metrics of two tasks of lists, and what is exported.

    With `own_steps`, each head makes a step of the optimizer, of which 2.15 ran the joint one only.
    """
    draw = np.random.RandomState(4)
    lists = {"x": draw.rand(30, 4).astype(np.float32), "y": draw.rand(30, 4).astype(np.float32)}
    best = np.eye(4, dtype=np.float32)[np.argmax(lists["x"] - lists["y"], axis=1)]
    best[:, 3] = np.where(best[:, 3] > 0, 1, -1)
    columns = [tf.feature_column.numeric_column(name) for name in ("x", "y")]

    def inputs(epochs):
        def input_fn():
            labels = {"click": best, "buy": best}
            dataset = tf.data.Dataset.from_tensor_slices((lists, labels)).repeat(epochs).batch(10)
            return v1.data.make_one_shot_iterator(dataset).get_next()

        return input_fn

    spec = tf.feature_column.make_parse_example_spec(columns)
    exporter = tf_estimator.LatestExporter(
        "latest_exporter",
        serving_input_receiver_fn=tf_estimator.export.build_parsing_serving_input_receiver_fn(spec),
    )
    model = tf_estimator.Estimator(
        model_fn=_ranking_fn(tf_estimator, columns, own_steps),
        config=tf_estimator.RunConfig(os.path.join(model_dir, "ranker"), save_checkpoints_steps=30),
    )
    result, _ = tf_estimator.train_and_evaluate(
        model,
        tf_estimator.TrainSpec(input_fn=inputs(None), max_steps=30),
        tf_estimator.EvalSpec(
            input_fn=inputs(1), steps=3, exporters=exporter, start_delay_secs=0, throttle_secs=0
        ),
    )
    served = _newest(os.path.join(model.model_dir, "export", "latest_exporter"))
    answer = served.signatures["predict"](tf.constant([_example({"x": 0.9, "y": 0.1})]))
    return {
        "loss": float(result["loss"]),
        "click precision": float(result["click/precision@1"]),
        "labels": float(result["buy/labels_mean"]),
        "signatures": sorted(served.signatures),
        "score": {name: float(value[0, 0]) for name, value in sorted(answer.items())},
    }


# --- A library that makes ensembles of others' models ------------------------------------------


class IterationHook(v1.train.SessionRunHook):
    """Ends an iteration, and tells its mixture."""

    def __init__(self, last_step, mixture, told):
        self._last_step, self._mixture, self._told = last_step, mixture, told

    def begin(self):
        self._step = v1.train.get_global_step()

    def before_run(self, run_context):
        return v1.train.SessionRunArgs({"step": self._step})

    def after_run(self, run_context, run_values):
        if run_context.session.run(self._step) >= self._last_step:
            run_context.request_stop()

    def end(self, session):
        mixture, step = session.run((self._mixture, self._step))
        self._told.append((int(step), float(mixture.sum())))


def _ensemble_fn(tf_estimator, candidates, head, last_step, told):
    def train_op_fn(loss):
        optimizer = v1.train.GradientDescentOptimizer(0.5)
        return optimizer.minimize(loss, global_step=v1.train.get_global_step())

    def model_fn(features, labels, mode, config):
        all_logits, training = [], mode == tf_estimator.ModeKeys.TRAIN
        for name, candidate in sorted(candidates.items()):

            def call(candidate=candidate):
                return candidate.model_fn(
                    features=features, labels=None, mode=tf_estimator.ModeKeys.PREDICT,
                    config=config,
                )  # fmt: skip

            spec = v1.make_template(f"candidate_{name}", call)()
            all_logits.append(spec.predictions["logits"])
        with v1.variable_scope("ensemble"):
            start = v1.constant_initializer(1 / len(all_logits))
            mixture = v1.get_variable("mixture", [len(all_logits)], initializer=start)
            logits = tf.add_n([mixture[at] * value for at, value in enumerate(all_logits)])
        spec = head.create_estimator_spec(
            features, mode, logits, labels=labels, train_op_fn=train_op_fn,
            trainable_variables=v1.trainable_variables(),
        )  # fmt: skip
        hooks = [IterationHook(last_step, mixture, told)] if training else []
        return spec._replace(training_hooks=tuple(spec.training_hooks) + tuple(hooks))

    return model_fn


def ensemble(tf_estimator, model_dir):
    """Evaluations of a mixture of a linear model and a network, of two iterations."""
    draw = np.random.RandomState(5)
    rows = {"x": draw.normal(size=(80, 2)).astype(np.float32)}
    labels = (rows["x"][:, :1] > rows["x"][:, 1:]).astype(np.float32)
    columns = [tf.feature_column.numeric_column("x", shape=2)]
    head = tf_estimator.BinaryClassHead()
    candidates = {
        "linear": tf_estimator.LinearEstimator(head=head, feature_columns=columns),
        "dnn": tf_estimator.DNNEstimator(head=head, feature_columns=columns, hidden_units=[4]),
    }

    def inputs(epochs):
        return lambda: tf.data.Dataset.from_tensor_slices((rows, labels)).repeat(epochs).batch(20)

    losses, told = [], []
    for iteration in (1, 2):
        last_step = 20 * iteration
        model = tf_estimator.Estimator(
            _ensemble_fn(tf_estimator, candidates, head, last_step, told),
            config=tf_estimator.RunConfig(model_dir=os.path.join(model_dir, "ensemble")),
        )
        model.train(inputs(None), max_steps=1000)
        result = model.evaluate(inputs(1))
        losses.append(float(result["average_loss"]))
    return {
        "losses": losses,
        "told": told,
        "global_step": int(result["global_step"]),
        "variables": sorted(model.get_variable_names()),
    }


# --- A pipeline's trainer of taxi rides ---------------------------------------------------------


def taxi(tf_estimator, model_dir):
    """Metrics of a trained model, and what raw examples are answered."""
    raw = {"trip_miles": tf.io.FixedLenFeature([], tf.float32),
           "hour": tf.io.FixedLenFeature([], tf.int64)}  # fmt: skip

    def transformed(features):
        return {"trip_miles_xf": (features["trip_miles"] - 5.0) / 3.0,
                "hour_xf": features["hour"]}  # fmt: skip

    draw = np.random.RandomState(6)
    path = os.path.join(model_dir, "rides.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for _ in range(120):
            miles, hour = float(draw.rand() * 10), int(draw.randint(24))
            tip = int(miles > 5 and hour > 6)
            example = {"trip_miles_xf": (miles - 5) / 3, "hour_xf": hour, "tips_xf": tip}
            writer.write(_example(example))
    spec = {"trip_miles_xf": tf.io.FixedLenFeature([], tf.float32),
            "hour_xf": tf.io.FixedLenFeature([], tf.int64),
            "tips_xf": tf.io.FixedLenFeature([], tf.int64)}  # fmt: skip

    def input_fn():
        return tf.data.experimental.make_batched_features_dataset(
            file_pattern=path, batch_size=40, features=spec, label_key="tips_xf",
            reader=lambda files: tf.data.TFRecordDataset(files, compression_type="GZIP"),
        )  # fmt: skip

    def serving_receiver_fn():
        receiver = tf_estimator.export.build_parsing_serving_input_receiver_fn(
            raw, default_batch_size=None
        )()
        return tf_estimator.export.ServingInputReceiver(
            transformed(receiver.features), receiver.receiver_tensors
        )

    fc = tf.feature_column
    config = tf_estimator.RunConfig(save_checkpoints_steps=999, keep_checkpoint_max=5)
    config = config.replace(model_dir=os.path.join(model_dir, "taxi"))
    model = tf_estimator.DNNLinearCombinedClassifier(
        config=config,
        linear_feature_columns=[
            fc.categorical_column_with_identity("hour_xf", num_buckets=24, default_value=0)
        ],
        dnn_feature_columns=[fc.numeric_column("trip_miles_xf", shape=())],
        dnn_hidden_units=[max(2, int(8 * 0.7**layer)) for layer in range(2)],
        warm_start_from=None,
    )
    result, _ = tf_estimator.train_and_evaluate(
        model,
        tf_estimator.TrainSpec(input_fn, max_steps=60),
        tf_estimator.EvalSpec(
            input_fn, steps=3, name="chicago-taxi-eval",
            exporters=[tf_estimator.FinalExporter("chicago-taxi", serving_receiver_fn)],
        ),
    )  # fmt: skip
    served = _newest(os.path.join(model.model_dir, "export", "chicago-taxi"))
    ride = tf.constant([_example({"trip_miles": 9.0, "hour": 12})])
    return {
        "global_step": int(result["global_step"]),
        "metrics": sorted(result),
        "evaluated": os.path.isdir(os.path.join(model.model_dir, "eval_chicago-taxi-eval")),
        "signatures": sorted(served.signatures),
        "scores": served.signatures["classification"](ride)["scores"].shape.as_list(),
    }


# --- Wide and deep models of the first version, with hooks, exported by the old name ------------


class ExamplesHook(v1.train.SessionRunHook):
    """Tells how many examples a second were seen."""

    def __init__(self, batch_size, every_n_steps):
        self._batch_size = batch_size
        self._timer = v1.train.SecondOrStepTimer(every_steps=every_n_steps)
        self.told = []

    def begin(self):
        self._global_step_tensor = v1.train.get_global_step()

    def before_run(self, run_context):
        return v1.train.SessionRunArgs(self._global_step_tensor)

    def after_run(self, run_context, run_values):
        step = run_values.results
        if self._timer.should_trigger_for_step(step):
            seconds, steps = self._timer.update_last_triggered_step(step)
            if seconds:
                self.told.append(self._batch_size * steps / seconds)


def films(tf_estimator, model_dir):
    """Evaluation of a regressor of ratings, trained for two rounds, exported for its columns."""
    draw = np.random.RandomState(7)
    rows = {"user": draw.randint(0, 10, (100, 1)), "genres": draw.rand(100, 3).astype(np.float32)}
    ratings = (rows["user"] / 3 + rows["genres"][:, :1]).astype(np.float32)

    def input_fn():
        return tf.data.Dataset.from_tensor_slices((rows, ratings)).repeat(2).batch(20)

    fc = tf.feature_column
    user = fc.categorical_column_with_identity("user", num_buckets=10)
    columns = [fc.embedding_column(user, 4, max_norm=2.0), fc.numeric_column("genres", shape=(3,))]
    config = tf_estimator.RunConfig().replace(
        session_config=v1.ConfigProto(
            device_count={"GPU": 0}, inter_op_parallelism_threads=0, intra_op_parallelism_threads=0
        )
    )
    model = tf_estimator.DNNRegressor(
        model_dir=os.path.join(model_dir, "films"), feature_columns=columns, hidden_units=[8, 4],
        optimizer="Adam", activation_fn=tf.nn.sigmoid, dropout=0.3,
        loss_reduction="sum_over_batch_size", config=config,
    )  # fmt: skip
    hook = ExamplesHook(batch_size=20, every_n_steps=4)
    for _ in range(2):
        model.train(input_fn=input_fn, hooks=[hook])
        result = model.evaluate(input_fn=input_fn)
    example_input_fn = tf_estimator.export.build_parsing_serving_input_receiver_fn(
        fc.make_parse_example_spec(columns)
    )
    path = model.export_saved_model(os.path.join(model_dir, "exported"), example_input_fn)
    served = tf.saved_model.load(os.fsdecode(path))
    return {
        "global_step": int(result["global_step"]),
        "metrics": sorted(result),
        "told": len(hook.told) > 0,
        "signatures": sorted(served.signatures),
    }


# --- Irises, by a model of one's own -----------------------------------------------------------


def irises(tf_estimator, model_dir):
    """Evaluation of layers of the first version on columns, and what CSV lines are answered."""
    draw = np.random.RandomState(8)
    species = draw.randint(0, 3, 90)
    names = ["SepalLength", "SepalWidth", "PetalLength"]
    frame = pd.DataFrame({name: species + draw.normal(0, 0.2, 90) for name in names})

    def my_model(features, labels, mode, params):
        net = v1.feature_column.input_layer(features, params["feature_columns"])
        start = v1.constant_initializer(np.random.RandomState(9).normal(0, 0.5, (3, 4)))
        for units in params["hidden_units"]:
            net = v1.layers.dense(net, units=units, activation=tf.nn.relu, kernel_initializer=start)
        zeros = v1.zeros_initializer()
        logits = v1.layers.dense(
            net, params["n_classes"], activation=None, kernel_initializer=zeros
        )
        predicted = tf.argmax(logits, 1)
        if mode == tf_estimator.ModeKeys.PREDICT:
            predictions = {"class_ids": predicted[:, tf.newaxis],
                           "probabilities": tf.nn.softmax(logits)}  # fmt: skip
            return tf_estimator.EstimatorSpec(mode, predictions=predictions)
        loss = v1.losses.softmax_cross_entropy(
            onehot_labels=tf.one_hot(labels, 3, 1, 0), logits=logits
        )
        accuracy = v1.metrics.accuracy(labels=labels, predictions=predicted, name="acc_op")
        v1.summary.scalar("accuracy", accuracy[1])
        if mode == tf_estimator.ModeKeys.EVAL:
            return tf_estimator.EstimatorSpec(
                mode, loss=loss, eval_metric_ops={"accuracy": accuracy}
            )
        optimizer = v1.train.AdagradOptimizer(learning_rate=0.1)
        train_op = optimizer.minimize(loss, global_step=v1.train.get_global_step())
        return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    def inputs(epochs):
        dataset = tf.data.Dataset.from_tensor_slices((dict(frame), species))
        return v1.data.make_one_shot_iterator(dataset.repeat(epochs).batch(30)).get_next()

    def csv_receiver():
        csv_input = v1.placeholder(tf.string, (None,))
        fields = v1.decode_csv(csv_input, [[0.0]] * len(names))
        return tf_estimator.export.ServingInputReceiver(
            dict(zip(names, fields, strict=True)), csv_input
        )

    classifier = tf_estimator.Estimator(
        model_fn=my_model,
        model_dir=os.path.join(model_dir, "irises"),
        params={"feature_columns": [tf.feature_column.numeric_column(key=key) for key in names],
                "hidden_units": [4], "n_classes": 3},
    )  # fmt: skip
    classifier.train(lambda: inputs(None), steps=30)
    result = classifier.evaluate(lambda: inputs(1))
    path = classifier.export_saved_model(os.path.join(model_dir, "exported"), csv_receiver)
    served = tf.saved_model.load(os.fsdecode(path)).signatures["serving_default"]
    answer = served(tf.constant(["2.0,2.1,1.9"]))
    return {
        "accuracy": float(result["accuracy"]),
        "loss": float(result["loss"]),
        "probabilities": answer["probabilities"][0].numpy().tolist(),
    }
