"""The components' page names every input and output that the components really have."""

import pathlib
import re

import pytest
from kfp import compiler

from components.choose import choose
from components.draw import draw
from components.evaluate import evaluate
from components.export import export
from components.notify import notify
from components.predict import predict
from components.preprocess import preprocess
from components.train import train
from components.trial import trial
from components.tune import tune

PAGE = pathlib.Path("docs/components.md").read_text()


COMPONENTS = [
    preprocess, tune, draw, trial, choose, train, evaluate, export, predict, notify,
]  # fmt: skip


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.name)
def test_page_lists_inputs_and_outputs(component):
    section = PAGE.split(f"## {component.name}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith(("| in", "| out"))]
    listed = {
        way: set(re.findall(r"`(\w+)`", " ".join(r.split("|")[2] for r in rows if f"| {way}" in r)))
        for way in ("in", "out")
    }
    spec = component.component_spec
    assert listed["in"] == set(spec.inputs or ())
    assert listed["out"] == set(spec.outputs or ())


def test_the_pages_example_compiles(tmp_path):
    (example,) = re.findall(r"```python\n(from kfp.*?)```", PAGE, re.DOTALL)
    flights = "pipelines/examples/flights/config.yaml"
    found = {}
    exec(example.replace("my.yaml", flights), found)  # noqa: S102 - it is this project's page
    compiler.Compiler().compile(found["mine"], str(tmp_path / "mine.yaml"))
    assert "exec-export" in (tmp_path / "mine.yaml").read_text()


def test_every_file_beside_the_steps_declares_one_component():
    files = {path.stem for path in pathlib.Path("components").glob("*.py")} - {"__init__"}
    assert files == {component.name for component in COMPONENTS}
