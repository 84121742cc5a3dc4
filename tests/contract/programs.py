"""Programs of the shapes in which tf.estimator was used, written for 2.15.

Each takes the module that they import as `tf_estimator`, and a directory. 2.15 runs them too:

    python -c "import sys, tensorflow as tf; sys.path.insert(0, 'tests/contract')
    import programs; print(programs.fine_tuned(tf.estimator, '/tmp/bert'))"
"""

import functools
import os

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

# --- A transformer that is tuned for a task, with an optimizer of its own -----------------------

IDS = np.random.RandomState(0).randint(1, 20, (32, 6)).astype(np.int32)
TASK = (IDS[:, 0] > 10).astype(np.int32)


class DecayedAdam(v1.train.Optimizer):
    """Adam that decays weights, and makes its own slots."""

    def __init__(self, learning_rate, name="DecayedAdam"):
        super().__init__(use_locking=False, name=name)
        self.learning_rate = learning_rate

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        assignments = []
        for grad, param in grads_and_vars:
            if grad is None:
                continue
            slot = functools.partial(
                v1.get_variable, shape=param.shape.as_list(), dtype=tf.float32, trainable=False,
                initializer=v1.zeros_initializer(),
            )  # fmt: skip
            base = param.name.split(":")[0]
            m, v = slot(base + "/adam_m"), slot(base + "/adam_v")
            next_m = tf.multiply(0.9, m) + tf.multiply(0.1, grad)
            next_v = tf.multiply(0.999, v) + tf.multiply(0.001, tf.square(grad))
            step = next_m / (tf.sqrt(next_v) + 1e-6) + 0.01 * param
            assignments += [
                param.assign(param - self.learning_rate * step), m.assign(next_m), v.assign(next_v)
            ]  # fmt: skip
        return tf.group(*assignments, name=name)


def _drawn(shape, seed, scale):
    values = np.random.RandomState(seed).normal(0, scale, shape).astype(np.float32)
    return v1.constant_initializer(values)


def _encoder(ids):
    with v1.variable_scope("bert"):
        with v1.variable_scope("embeddings"):
            table = v1.get_variable(
                "word_embeddings", [20, 8], initializer=_drawn([20, 8], 1, 0.02)
            )
            tokens = tf.gather(table, ids)
        with v1.variable_scope("encoder"):
            query = v1.get_variable("query", [8, 8], initializer=_drawn([8, 8], 2, 0.5))
            scores = tf.nn.softmax(tf.einsum("bih,hk,bjk->bij", tokens, query, tokens))
            return (tf.matmul(scores, tokens) + tokens)[:, 0]


def _tuning_fn(tf_estimator, init_checkpoint, learning_rate, steps, warmup):
    def model_fn(features, labels, mode, params):
        del labels, params
        pooled = _encoder(features["input_ids"])
        weights = v1.get_variable("output_weights", [2, 8], initializer=_drawn([2, 8], 3, 0.02))
        bias = v1.get_variable("output_bias", [2], initializer=v1.zeros_initializer())
        logits = tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)
        trained = v1.trainable_variables()
        if init_checkpoint:
            known = {name for name, _ in tf.train.list_variables(init_checkpoint)}
            names = [variable.name.split(":")[0] for variable in trained]
            found = {name: name for name in names if name in known and name.startswith("bert/")}
            v1.train.init_from_checkpoint(init_checkpoint, found)
        if mode == tf_estimator.ModeKeys.PREDICT:
            predictions = {"probabilities": tf.nn.softmax(logits)}
            return tf_estimator.EstimatorSpec(mode, predictions=predictions)
        label_ids = features["label_ids"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)
        loss = tf.reduce_mean(losses)
        if mode == tf_estimator.ModeKeys.EVAL:
            predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
            metrics = {
                "eval_accuracy": v1.metrics.accuracy(labels=label_ids, predictions=predicted),
                "eval_loss": v1.metrics.mean(values=losses),
            }
            return tf_estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
        global_step = v1.train.get_or_create_global_step()
        rate = v1.train.polynomial_decay(learning_rate, global_step, steps, 0.0)
        done = tf.cast(global_step, tf.float32)
        rate = tf.where(done < warmup, learning_rate * done / warmup, rate)
        gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, trained), clip_norm=1.0)
        update = DecayedAdam(rate).apply_gradients(
            zip(gradients, trained, strict=True), global_step=global_step
        )
        train_op = tf.group(update, [global_step.assign(global_step + 1)])
        return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def _examples(is_training):
    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices({"input_ids": IDS, "label_ids": TASK})
        dataset = dataset.repeat() if is_training else dataset
        return dataset.batch(params["batch_size"], drop_remainder=is_training)

    return input_fn


def fine_tuned(tf_estimator, model_dir):
    """Evaluations of a model tuned from another's encoder, which was trained at a high rate."""

    def estimator(directory, checkpoint, rate):
        return tf_estimator.Estimator(
            _tuning_fn(tf_estimator, checkpoint, rate, steps=40, warmup=5.0),
            os.path.join(model_dir, directory),
            params={"batch_size": 8},
        )

    first = estimator("pretrained", None, 0.05)
    first.train(_examples(is_training=True), steps=20)
    tuned = estimator("tuned", first.latest_checkpoint(), 0.01)
    losses = []
    for last_step in (1, 10, 40):
        tuned.train(_examples(is_training=True), max_steps=last_step)
        result = tuned.evaluate(_examples(is_training=False))
        losses.append(float(result["eval_loss"]))
    row = next(iter(tuned.predict(_examples(is_training=False))))
    return {
        "losses": losses,
        "accuracy": float(result["eval_accuracy"]),
        "first row": row["probabilities"].tolist(),
    }


# --- A wide and deep model of a census, trained, evaluated and exported ------------------------

CSV_COLUMNS = ["age", "workclass", "education", "hours", "income"]
CSV_DEFAULTS = [[0], [""], [""], [0.0], [""]]
_EDUCATION = ["HS", "BA", "MA"]


def census_file(path):
    """Writes 200 rows."""
    draw = np.random.RandomState(1)
    lines = []
    for _ in range(200):
        age, hours = draw.randint(18, 70), draw.randint(10, 60)
        work, education = draw.choice(["Private", "Gov"]), draw.choice(_EDUCATION)
        income = ">50K" if age + hours + 20 * (education == "MA") > 85 else "<=50K"
        lines.append(f"{age}, {work}, {education}, {hours}, {income}\n")
    with open(path, "w") as file:
        file.writelines(lines)
    return path


def _parse_csv(rows):
    columns = v1.decode_csv(tf.expand_dims(rows, -1), record_defaults=CSV_DEFAULTS)
    return dict(zip(CSV_COLUMNS, columns, strict=True))


def _census_input(filename, num_epochs, batch_size=20):
    def parsed(rows):
        features = {name: tf.strings.strip(value) if value.dtype == tf.string else value
                    for name, value in _parse_csv(rows).items()}  # fmt: skip
        return features, tf.cast(tf.equal(features.pop("income"), ">50K"), tf.int32)

    dataset = tf.data.TextLineDataset(filename).batch(batch_size).map(parsed).repeat(num_epochs)
    return v1.data.make_one_shot_iterator(dataset).get_next()


def _csv_serving_input_fn(tf_estimator):
    csv_row = v1.placeholder(shape=[None], dtype=tf.string)
    features = _parse_csv(csv_row)
    features.pop("income")
    return tf_estimator.export.ServingInputReceiver(features, {"csv_row": csv_row})


def census(tf_estimator, model_dir):
    """Evaluation of a linear model, of a wide and deep one, and what is served."""
    filename = census_file(os.path.join(model_dir, "adult.csv"))
    fc = tf.feature_column
    age = fc.numeric_column("age")
    ages = fc.bucketized_column(age, [25, 35, 45, 55])
    education = fc.categorical_column_with_vocabulary_list("education", _EDUCATION)
    work = fc.categorical_column_with_hash_bucket("workclass", 10, dtype=tf.string)
    wide = [fc.crossed_column([ages, "education"], 100), education, work, ages]
    deep = [age, fc.numeric_column("hours"), fc.indicator_column(education),
            fc.embedding_column(work, dimension=2)]  # fmt: skip
    train_input = functools.partial(_census_input, filename, None)
    eval_input = functools.partial(_census_input, filename, 1)
    linear = tf_estimator.LinearClassifier(wide, os.path.join(model_dir, "linear"))
    linear.train(train_input, steps=50)
    both = tf_estimator.DNNLinearCombinedClassifier(
        model_dir=os.path.join(model_dir, "both"),
        config=tf_estimator.RunConfig().replace(save_checkpoints_steps=20),
        linear_feature_columns=wide,
        dnn_feature_columns=deep,
        dnn_hidden_units=[8, 4],
    )
    exporter = tf_estimator.FinalExporter(
        "census", functools.partial(_csv_serving_input_fn, tf_estimator)
    )
    train_spec = tf_estimator.TrainSpec(train_input, max_steps=40)
    eval_spec = tf_estimator.EvalSpec(
        eval_input, steps=10, exporters=[exporter], name="census-eval", throttle_secs=0
    )
    metrics, _ = tf_estimator.train_and_evaluate(both, train_spec, eval_spec)
    exports = os.path.join(model_dir, "both", "export", "census")
    served = tf.saved_model.load(os.path.join(exports, sorted(os.listdir(exports))[-1]))
    answer = served.signatures["predict"](csv_row=tf.constant(["40, Gov, MA, 50, "]))
    return {
        "linear loss": float(linear.evaluate(eval_input)["average_loss"]),
        "global_step": int(metrics["global_step"]),
        "served": sorted(answer),
    }


# --- Flowers, from arrays ----------------------------------------------------------------------


def flowers(tf_estimator, model_dir):
    """Accuracy on three separated classes, and the prediction of one row."""
    draw = np.random.RandomState(2)
    species = draw.randint(0, 3, 120)
    names = ["SepalLength", "SepalWidth", "PetalLength", "PetalWidth"]
    rows = {
        name: (species * (at + 1) + draw.normal(0, 0.3, 120)).astype(np.float32)
        for at, name in enumerate(names)
    }

    def train_input_fn(features, labels, batch_size):
        dataset = tf.data.Dataset.from_tensor_slices((dict(features), labels))
        return dataset.shuffle(1000, seed=1).repeat().batch(batch_size)

    def eval_input_fn(features, labels, batch_size):
        inputs = dict(features) if labels is None else (dict(features), labels)
        return tf.data.Dataset.from_tensor_slices(inputs).batch(batch_size)

    columns = [tf.feature_column.numeric_column(key=key) for key in rows]
    classifier = tf_estimator.DNNClassifier(
        feature_columns=columns, hidden_units=[10, 10], n_classes=3, model_dir=model_dir,
        optimizer="Adam",
    )  # fmt: skip
    classifier.train(input_fn=lambda: train_input_fn(rows, species, 30), steps=200)
    result = classifier.evaluate(input_fn=lambda: eval_input_fn(rows, species, 30))
    one = {name: [2.0 * (at + 1)] for at, name in enumerate(names)}
    prediction = next(iter(classifier.predict(input_fn=lambda: eval_input_fn(one, None, 30))))
    class_id = prediction["class_ids"][0]
    return {
        "accuracy": float(result["accuracy"]),
        "class": int(class_id),
        "probability": float(prediction["probabilities"][class_id]),
    }
