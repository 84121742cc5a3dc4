"""What must stay cheap to import stays cheap: no TensorFlow, Beam or kfp where nobody runs them."""

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "apache_beam", "tensorflow_transform")
CONFIG = "pipelines/examples/flights/config.yaml"


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    script = f"import sys\n{code}\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module",
    [
        "estimator_lib",
        "estimator_lib.core.columns",
        "estimator_lib.core.config",
        "estimator_lib.core.manifest",
        "transforms",
        "pipelines.cli",
        "pipelines.local.engine",
    ],
)
def test_import_loads_nothing_heavy(module):
    assert not loaded(f"import {module}") & {*HEAVY, "kfp", "pyarrow"}


def test_compile_loads_neither_tensorflow_nor_beam(tmp_path):
    code = f"""
from pipelines.cli import main
assert main(["compile", {CONFIG!r}, "-o", {str(tmp_path / "spec.yaml")!r}]) == 0
"""
    assert not loaded(code) & set(HEAVY)


def test_search_is_compiled_without_tensorflow_and_optuna(tmp_path):
    tune = "tune=@pipelines/examples/flights/tune.yaml"
    code = f"""
from pipelines.cli import main
given = [{CONFIG!r}, "-o", {str(tmp_path / "spec.yaml")!r}, "--set", {tune!r}]
assert main(["compile", *given, "--set", "pipeline=tuned_training"]) == 0
assert main(["katib", *given]) == 0
"""
    assert not loaded(code) & {*HEAVY, "optuna"}


def test_help_of_every_command_loads_no_configuration_library():
    code = """
import click
from pipelines import cli

def ask(command, words):
    assert cli.main([*words, "--help"]) == 0
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            ask(command.get_command(context, name), [*words, name])

ask(cli.commands, [])
"""
    assert not loaded(code) & {*HEAVY, "kfp", "pydantic", "yaml", "numpy"}
