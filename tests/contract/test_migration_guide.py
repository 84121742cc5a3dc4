"""The migration guide's table is true: of tf.estimator 2.15 on one side, of us on the other."""

import dataclasses
import importlib
import inspect
import json
import pathlib
import re

import pytest

import estimator_lib

ROOT = pathlib.Path(estimator_lib.__file__).parent
GUIDE = (ROOT.parent / "docs" / "migration.md").read_text()
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "tf_estimator_2_15"
NAMES = json.loads((GOLDEN / "public_names.json").read_text())
ROW = re.compile(r"^\| `(tf\.estimator\.[\w.]+)` \| (same|better|gone) \| (.*)\|$", re.MULTILINE)
ROWS = {name: (state, text) for name, state, text in ROW.findall(GUIDE)}
GONE_METHODS = set(
    re.findall(r"`(\w+)`", GUIDE.partition("Methods that no class has any more")[2])
) - {"export_saved_model"}


def _ours(name):
    module, _, last = name.rpartition(".")
    found = importlib.import_module("estimator_lib" + module.removeprefix("tf.estimator"))
    return getattr(found, last)


def test_every_name_is_in_the_table():
    assert len(NAMES) == 53 + 12 + 9
    assert list(ROWS) == list(NAMES)


@pytest.mark.parametrize("name", [n for n, (state, _) in ROWS.items() if state == "gone"])
def test_what_is_gone_is_gone_and_explained(name):
    with pytest.raises(AttributeError):
        _ours(name)
    assert ROWS[name][1].strip()


@pytest.mark.parametrize("name", [n for n, (state, _) in ROWS.items() if state != "gone"])
def test_what_is_there_takes_the_same_parameters(name):
    state, text = ROWS[name]
    thing = _ours(name)
    dropped = set(re.findall(r"`(\w+)`", text.partition("Without ")[2]))
    theirs = [p for p in NAMES[name]["parameters"] or [] if not p.startswith("*")]
    assert dropped <= set(theirs)
    assert not (state == "same" and dropped)
    assert state == "same" or text.strip()
    wanted = [p for p in theirs if p not in dropped]
    if wanted:
        parameters = list(inspect.signature(thing).parameters.values())[: len(wanted)]
        assert [p.name for p in parameters] == wanted
        by_keyword = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert all(f"`{p}` by keyword" in text for p in by_keyword)
    fields = {f.name for f in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else ()
    members = set(NAMES[name].get("members", ())) - GONE_METHODS - set(fields) - dropped
    source = inspect.getsource(thing)
    missing = {
        m
        for m in members
        if not hasattr(thing, m) and m not in wanted and f"self.{m}" not in source
    }
    if name.endswith(".EvalOutput"):
        missing = {m for m in missing if not m.isupper()}  # parts of its tensors' names
    assert not missing


def test_methods_called_gone_are_gone():
    for name, (state, _) in ROWS.items():
        if state != "gone" and NAMES[name]["kind"] == "class":
            assert not [m for m in GONE_METHODS if m in vars(_ours(name))], name


def test_modules_and_functions_named_in_the_text_exist():
    for module, name in re.findall(r"`(variables|optimizers|heads|inputs|export)\.(\w+)", GUIDE):
        assert hasattr(getattr(estimator_lib, module), name), f"{module}.{name}"
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", GUIDE):
        assert (ROOT / path).exists(), path


def test_names_outside_of_the_public_ones_have_a_successor_that_exists():
    successors = re.findall(r"`([A-Z]\w+)`[:;]", GUIDE.partition("kept elsewhere")[2])
    assert set(successors) == {"KMeansClustering"}
    for name in (*successors, "RNNRegressor"):
        assert name in estimator_lib.__all__
    ours = [n for n in dir(estimator_lib.feature_column) if n.startswith("sequence_")]
    assert set(ours) >= {"sequence_numeric_column", "sequence_categorical_column_with_identity"}


def test_example_of_a_model_fn_compiles():
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    for block in blocks:
        compile(block, "migration.md", "exec")
    assert len(blocks) == 2
