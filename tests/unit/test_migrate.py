"""Programs for tf.estimator: what must change in them is found by reading."""

import pathlib
import re

import pytest

import estimator_lib
from estimator_lib import migrate
from estimator_lib.core.errors import DataError
from pipelines import cli

GUIDE = (pathlib.Path(estimator_lib.__file__).parents[1] / "docs" / "migration.md").read_text()
ROWS = re.findall(r"^\| `tf\.estimator\.([\w.]+)` \| (\w+) \| (.*)\|$", GUIDE, re.MULTILINE)
PROGRAM = """\
import tensorflow as tf


def model_fn(features, labels, mode, params):
    größe = tf.estimator.EstimatorSpec(mode, predictions=features["x"])  # tf.estimator
    return größe


model = tf.estimator.Estimator(model_fn, params={"a": "tf.estimator"})
(made,) = model.predict(
    lambda: tf.data.Dataset.from_tensors({"x": [[2.0]]}), checkpoint_path=None
) if False else (model,)
"""


def rewritten(source):
    return migrate.Program(pathlib.Path("p.py"), source, migrate.edits(source)).rewritten()


def test_only_names_are_rewritten_and_the_import_is_added():
    expected = PROGRAM.replace("tf.estimator.E", "tf_estimator.E").replace(
        "import tensorflow as tf\n",
        "import tensorflow as tf\nimport estimator_lib as tf_estimator\n",
    )
    assert rewritten(PROGRAM) == expected
    assert migrate.edits(expected) == ()
    names = {}
    exec(expected, names)  # noqa: S102 - the program above
    assert isinstance(names["made"], estimator_lib.Estimator)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from tensorflow import estimator", "import estimator_lib as estimator"),
        ("import tensorflow.estimator as e", "import estimator_lib as e"),
        ("from tensorflow_estimator import estimator", "import estimator_lib as estimator"),
        ("from tensorflow_estimator import estimator as e", "import estimator_lib as e"),
        (
            "from tensorflow.compat.v2.estimator import RunConfig as R, export",
            "from estimator_lib import RunConfig as R, export",
        ),
        (
            "from tensorflow.estimator.export import (\r\n    ExportOutput,\r\n)\r\n",
            "from estimator_lib.export import (\r\n    ExportOutput,\r\n)\r\n",
        ),
        ("m.export_savedmodel('d', f)", "m.export_saved_model('d', f)"),
        (
            "import tensorflow.compat.v1 as tf\nx = '\x0c'; e = tf.estimator; e.RunConfig()",
            "import tensorflow.compat.v1 as tf\nimport estimator_lib as tf_estimator\n"
            "x = '\x0c'; e = tf_estimator; e.RunConfig()",
        ),
        (
            "import mine\nmine.tf.estimator.RunConfig()",
            "import mine\nmine.tf.estimator.RunConfig()",
        ),
    ],
)
def test_imports_of_every_form(before, after):
    assert rewritten(before) == after
    assert rewritten(after) == after


@pytest.mark.parametrize("name", [name for name, state, _ in ROWS if state == "gone"])
def test_names_that_are_gone_are_told(name):
    (edit, *_) = [
        e
        for e in migrate.edits(f"import tensorflow as tf\ntf.estimator.{name}()")
        if "gone" in e.advice
    ]
    assert edit.line == 2
    assert edit.found.endswith(name)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name, _, text in ROWS
        for parameter in re.findall(r"`(\w+)`", text.partition("Without ")[2].partition(". ")[0])
    ],
)
def test_parameters_that_are_gone_are_told(name, parameter):
    found = migrate.edits(f"import tensorflow as tf\ntf.estimator.{name}({parameter}=1)")
    assert [e.found for e in found if e.advice.endswith("delete it")] == [f"{parameter}=1"]


@pytest.mark.parametrize("name", ["dense", "conv1d", "max_pooling2d", "average_pooling3d"])
def test_layers_of_the_first_version_need_no_edit(name):
    source = f"import tensorflow as tf\ntf.compat.v1.layers.{name}(x, 3)\n"
    assert not migrate.edits(source)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("tf.contrib.estimator.forward_features(e)", "forward_features"),
        ("tf.contrib.learn.Experiment()", "tf.contrib"),
        ("tf.compat.v1.layers.separable_conv2d(x, 3, 3)", "keras.layers"),
        ("tf.keras.layers.DenseFeatures(c)", "input_layer"),
        ("tf.keras.optimizers.legacy.Adam()", "estimator_lib.optimizers"),
        ("tf.compat.v1.train.Scaffold(init_feed_dict=f)", "init_fn"),
        ("tf.compat.v1.train.Scaffold(saver=s)", "keep_checkpoint_max"),
        ("tf.compat.v1.estimator.DNNClassifier([1], c)", "loss_reduction='sum'"),
        ("tf.compat.v1.estimator.tpu.TPUEstimator(f)", "TPU"),
        ("tf.keras.estimator.model_to_estimator(m)", "model_fn"),
        ("optimizer.get_updates(loss, [v])", "minimize"),
        ("from tensorflow_estimator.python.estimator.canned import head", "private"),
        ("from tensorflow.contrib import lookup", "tf.contrib"),
        ("tf.estimator.FinalOpsHook(x)", "function"),
    ],
)
def test_what_needs_thought_is_told_and_left(line, advice):
    source = f"import tensorflow as tf\n{line}\n"
    assert any(advice in e.advice and e.line == 2 for e in migrate.edits(source))
    left = rewritten(source).splitlines()[-1]
    assert left.removeprefix("tf_estimator") == re.sub(r"^tf(\.compat\.v1)?\.estimator", "", line)


def test_directories_and_files_are_read_and_written_whole(tmp_path):
    inner = tmp_path / "a" / "b.py"
    inner.parent.mkdir()
    inner.write_bytes(b"import tensorflow as tf\r\nc = tf.estimator.RunConfig\r\n")
    (tmp_path / "plain.py").write_text("x = 1\n")
    programs = migrate.read([tmp_path])
    assert [len(program.edits) for program in programs] == [2, 0]
    migrate.write(programs[0])
    assert inner.read_bytes() == (
        b"import tensorflow as tf\r\nimport estimator_lib as tf_estimator\r\n"
        b"c = tf_estimator.RunConfig\r\n"
    )


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "two.py").write_text("x = 1\nprint 'hello'\n")
    with pytest.raises(DataError, match=r"two\.py.*:2.*2to3"):
        migrate.read([tmp_path / "two.py"])
    with pytest.raises(DataError, match="does not exist"):
        migrate.read([tmp_path / "none.py"])


def test_the_command_tells_and_writes_only_when_asked(tmp_path, capsys):
    program = tmp_path / "p.py"
    source = "import tensorflow as tf\ntf.estimator.FeedFnHook(f)\n"
    program.write_text(source)
    assert cli.main(["migrate", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"{program}:2: tf.estimator.FeedFnHook: " in told
    assert "1 files read, 3 edits in 1: 2 that --write makes, 1 for you" in told
    assert program.read_text() == source
    assert cli.main(["migrate", "--write", str(program)]) == 0
    assert program.read_text().endswith("tf_estimator.FeedFnHook(f)\n")
    assert cli.main(["migrate", str(tmp_path / "none")]) == 2
