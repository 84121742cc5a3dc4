"""What the documentation shows works: its Python, its YAML, its links, the docstrings' examples."""

import doctest
import importlib
import pathlib
import re
import shlex

import click
import pytest
import yaml

from pipelines import cli

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
WITH_EXAMPLES = sorted(
    str(path.relative_to(ROOT))
    for package in ("estimator_lib", "transforms", "components", "pipelines")
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)
)


def blocks(page: pathlib.Path, language: str) -> list[str]:
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_yaml_can_be_read(page):
    for block in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_compiles_and_imports_what_there_is(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
        for line in re.findall(r"^(?:import|from) .*$", block, re.MULTILINE):
            exec(line, {})  # noqa: S102 - it is this project's page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_of_pages_have_their_options(page):
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^\$? ?(?:\.venv/bin/)?(estimator-pipelines \w.*)$", text, re.MULTILINE)
    for line in lines:
        context = cli.commands.make_context("estimator-pipelines", [], resilient_parsing=True)
        command, words = cli.commands, shlex.split(line.partition(" > ")[0], comments=True)[1:]
        while isinstance(command, click.Group):
            _, command, words = command.resolve_command(context, words)
        command.make_context(line, words)


def test_the_example_of_the_first_page_learns(capsys):
    (block,) = blocks(ROOT / "README.md", "python")
    exec(block, {})  # noqa: S102 - it is this project's page
    assert float(capsys.readouterr().out) > 0.85


@pytest.mark.parametrize("path", WITH_EXAMPLES)
def test_examples_of_docstrings(path, tmp_path):
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, optionflags=flags, extraglobs={"tmp_path": tmp_path})
    assert result.attempted
    assert not result.failed
