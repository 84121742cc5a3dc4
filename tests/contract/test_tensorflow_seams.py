"""The internals of TensorFlow and Keras that the library uses, held against the installed ones.

A new version that moves one of them fails here, by its name, and not in a user's training.
"""

import ast
import multiprocessing
import pathlib

import keras
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib import tensorflow_internals as internals
from estimator_lib.core.errors import Reason
from estimator_lib.errors import BadValueError, NotSavedError

ROOT = pathlib.Path(estimator_lib.__file__).parent
PRIVATE = ("tensorflow.python", "keras.src")


def private_imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names]
        yield from (name for name in names if name.startswith(PRIVATE))


def test_no_other_module_imports_what_is_private():
    found = {
        str(path.relative_to(ROOT)): names
        for path in ROOT.rglob("*.py")
        if (names := list(private_imports(path)))
    }
    assert set(found) == {"tensorflow_internals.py"}


@pytest.mark.parametrize("name", internals.__all__)
def test_each_name_is_there(name):
    assert getattr(internals, name) is not None


def test_errors_of_ours_are_tensorflows():
    for kind in (BadValueError, NotSavedError):
        error = kind("what is wrong", reason=Reason.INVALID_VALUE)
        assert (str(error), error.op, error.node_def) == ("what is wrong", None, None)
        assert error.experimental_payloads == {}
        with pytest.raises(tf.errors.OpError):
            raise error


def test_eager_mode_inside_of_a_graph():
    @internals.in_eager_mode
    def add(a, *, b):
        return (tf.constant(a) + b).numpy()

    with tf.Graph().as_default():
        assert add(1, b=2) == 3
    assert add(1, b=2) == 3


def runtime_started(answers):
    answers.put(internals.runtime_started())
    tf.constant(1)
    answers.put(internals.runtime_started())


def test_a_started_runtime_is_noticed():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=runtime_started, args=(answers,))
    process.start()
    found = [answers.get(timeout=120), answers.get(timeout=120)]
    process.join()
    assert found == [False, True]


def test_eager_tensors_of_a_type():
    kind = tf.float32.as_datatype_enum
    made = internals.convert_to_eager_tensor([1, 2], internals.eager_context(), kind)
    assert made.dtype == tf.float32


def test_a_graph_is_traced_once():
    traces = []

    def body(x):
        traces.append(x)
        with tf.init_scope():
            tf.Variable(1.0)
        return tf.constant(0)

    internals.trace_once("body", body, [tf.TensorSpec([2])])
    assert [trace.shape for trace in traces] == [(2,)]


def test_functions_made_anew_do_not_warn(caplog):
    def call(*, quiet):
        function = tf.function(same, autograph=False)
        (internals.without_warnings(function) if quiet else function)(tf.constant(1))

    def same(x):
        return x + 1

    for quiet in (True, False):
        caplog.clear()
        for _ in range(12):
            call(quiet=quiet)
        assert ("retracing" in caplog.text) is not quiet


def test_a_tensor_is_lifted_with_what_it_follows_from():
    with tf.Graph().as_default():
        fed = tf.compat.v1.placeholder(tf.float32, [])
        follows, made = fed * 2.0, tf.constant(2.0) * 3.0
    assert tf.function(lambda: internals.lift(made), autograph=False)().numpy() == 6.0
    with pytest.raises(Exception, match=r"[Pp]laceholder"):
        tf.function(lambda: internals.lift(follows), autograph=False)()


def test_variables_that_a_graph_reads_are_known():
    variable = tf.Variable(1.0)
    found = []

    @tf.function(autograph=False)
    def read():
        found.append(internals.variables_read())
        value = variable + 1.0
        found.append(internals.variables_read())
        return value

    read()
    before, after = found
    assert not before
    assert len(after) == 1
    assert after[0] is variable


def test_the_collections_of_the_first_version_hide_variables():
    with tf.Graph().as_default() as graph:
        tf.compat.v1.get_variable("v", [1])
        with pytest.raises(ValueError, match="already exists"):
            tf.compat.v1.get_variable("v", [1])
        for key in internals.VARIABLE_COLLECTIONS:
            graph.get_collection_ref(key).clear()
        tf.compat.v1.get_variable("v", [1])


def test_the_step_is_read_from_its_collection(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.compat.v1.train.create_global_step()
        known = tf.constant(7)
        graph.add_to_collection(internals.GLOBAL_STEP_READ_KEY, known)
        hook = tf.compat.v1.train.StepCounterHook(output_dir=str(tmp_path))
        hook.begin()
        assert hook.before_run(None).fetches is known


def test_tables_are_noted():
    found = []
    with internals.tracking_resources(found):
        tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a"], [1], tf.string, tf.int64), -1
        )
    assert len(found) >= 1


def test_a_writer_is_the_default_one_for_a_while(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    assert not tf.summary.should_record_summaries()
    with internals.default_writer(writer), tf.summary.record_if(True):
        assert tf.summary.experimental.write_raw_pb(b"", step=1).numpy()
    assert not tf.summary.should_record_summaries()


def test_summaries_of_the_first_version_stay_in_the_graph(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))

    @tf.function
    def made():
        tf.summary.experimental.set_step(1)
        with writer.as_default(), internals.own_summaries_of_first_version():
            tf.compat.v1.summary.scalar("mean", 1.0)
        return len(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SUMMARIES))

    assert made() == 1


def test_savers_make_no_operations():
    with tf.Graph().as_default() as graph, internals.savers_without_operations():
        tf.compat.v1.train.Saver()
        assert not graph.get_operations()


def test_variables_of_saved_objects_are_named(tmp_path):
    variable = tf.Variable(1.0, name="weight")
    path = tf.train.Checkpoint(kept=variable).write(str(tmp_path / "c"))
    saved = tf.train.load_checkpoint(path).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    found = internals.variables_of_objects(saved)
    assert found["weight"] == "kept/.ATTRIBUTES/VARIABLE_VALUE"


def test_distribution():
    alone = tf.distribute.OneDeviceStrategy("CPU:0")
    assert not internals.is_distributed(alone)
    assert not internals.is_distributed(tf.distribute.get_strategy())
    assert not tf.distribute.get_strategy().extended._in_multi_worker_mode()


def test_specs_and_variables_of_replicas():
    spec = tf.TensorSpec([2])
    assert internals.of_one_replica(spec) is spec
    plain = tf.Variable(1.0)
    assert internals.of_all_replicas(plain) is plain
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        mirrored = tf.Variable(1.0)
    (part,) = strategy.experimental_local_results(mirrored)
    assert internals.of_all_replicas(part) is mirrored


def test_the_dataset_of_an_iterator():
    dataset = tf.data.Dataset.range(3)
    assert internals.dataset_of(iter(dataset)) is dataset


def test_shared_embeddings_say_how_they_are_made():
    initializer = tf.keras.initializers.Ones()
    key = tf.feature_column.categorical_column_with_identity("a", 3)
    with tf.Graph().as_default():
        (column,) = tf.feature_column.shared_embeddings(
            [key], 2, initializer=initializer, shared_embedding_collection_name="table",
            trainable=False,
        )  # fmt: skip
    made = internals.shared_table(column.shared_embedding_column_creator)
    assert made == (initializer, "table", False, None)


def test_iterators_of_the_first_version_are_made_by_one_module():
    assert callable(internals.dataset_ops.make_one_shot_iterator)
    assert callable(internals.dataset_ops.make_initializable_iterator)
    assert isinstance(iter(tf.data.Dataset.range(1)), internals.OwnedIterator)


def test_layers_are_numbered_anew():
    def name():
        return keras.layers.Dense(1).name

    keras.backend.clear_session()
    assert name() == "dense"
    with internals.numbering_layers_anew():
        assert name() == "dense"
    assert name() == "dense_1"


def test_the_path_of_a_layer_being_built():
    found = []

    class Layer(keras.layers.Layer):
        def build(self, shape):
            found.append(internals.current_path())

    Layer(name="outer").build((1, 2))
    assert found == ["outer"]
