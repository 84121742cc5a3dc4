"""What names of fields a transform can be written with: those that the check lets through."""

import types

import pytest

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError
from transforms.applying import graph


def source(names):
    """Rows of texts."""
    return types.SimpleNamespace(
        raw_fields=dict.fromkeys(names, "string"), derived=None, along={}, logical={}
    )


@pytest.mark.parametrize(
    "names",
    [
        ["a/b", "a.c", "1a"], ["inputs", "examples", "training"], ["args", "kwargs", "key"],
        ["cls", "a\\b", "x>y"], ["a" * 200, "None_"],
    ],
)  # fmt: skip
def test_names_that_pass_the_check_are_written(tmp_path, names):
    fc.check_field_names(names)
    columns = {name: fc.categorical_column_with_vocabulary_list(name, ["p", "q"]) for name in names}
    graph.write_transform(tmp_path, columns, source(names))


@pytest.mark.parametrize(
    "names",
    [["a b"], ["é"], ["a:0"], ["_x"], ["class"], ["self"], ["None"], ["A", "a"], ["a-b", "a_b"]],
)
def test_names_that_the_check_refuses_cannot_be_written(tmp_path, names):
    with pytest.raises(ConfigError):
        fc.check_field_names(names)
    columns = {name: fc.categorical_column_with_vocabulary_list(name, ["p", "q"]) for name in names}
    with pytest.raises((ValueError, TypeError)):
        graph.write_transform(tmp_path, columns, source(names))
