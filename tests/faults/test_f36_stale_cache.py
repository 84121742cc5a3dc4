"""Fault 36: a cached step is taken only where code, data and parameters are the same and whole.

Fails when `code_version` looks at fewer modules, when a fingerprint is of size and time, when
`engine._is_whole` does not read the content, or when user's directories come first on the path.
"""

import json
import os
import pathlib
import shutil
import textwrap

import pytest
from kfp import dsl

from estimator_lib.core import files
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.places import Place
from pipelines import code_version
from pipelines.local.engine import execute
from pipelines.local.output import Output
from pipelines.local.warm_steps import WarmSteps


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def prepare(text: str, data_fingerprint: str, code_version: str, out: dsl.Output[dsl.Dataset]):
    from estimator_lib.core import manifest

    with manifest.committed_artifact(out.path) as writer:
        (writer.directory / "x").write_text(text)


@dsl.pipeline(name="one")
def one(text: str = "a", data_fingerprint: str = "d", code_version: str = "c"):
    prepare(text=text, data_fingerprint=data_fingerprint, code_version=code_version)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "steps.log"
    with WarmSteps(log, modules=("kfp.dsl.executor",)) as server:
        yield server


@pytest.fixture
def run(steps, tmp_path):
    def run(**arguments):
        output = Output(Place(str(tmp_path)), tmp_path)
        return execute(lambda: one, arguments, output=output, steps=steps, show=lambda _: None)

    return run


def test_same_code_data_and_parameters_are_taken_from_the_cache(run):
    run()
    assert list(run().cached) == ["prepare"]


@pytest.mark.parametrize("name", ["text", "data_fingerprint", "code_version"])
def test_any_difference_computes_anew(run, name):
    run()
    assert list(run(**{name: "other"}).cached) == []


@pytest.mark.parametrize(
    "damage",
    [
        "delete",
        "delete a file",
        "cut a file",
        "flip a bit",
        "no manifest",
        "an empty manifest",
        "no list of files",
        "a file elsewhere",
    ],
)
def test_artifact_that_is_not_whole_is_made_again(run, damage):
    from estimator_lib.core import manifest

    made = run().outputs["prepare.out"]
    match damage:
        case "delete":
            shutil.rmtree(made)
        case "delete a file":
            (made / "x").unlink()
        case "cut a file":
            (made / "x").write_text("")
        case "flip a bit":
            (made / "x").write_text("b")
        case "no manifest":
            (made / manifest.NAME).unlink()
        case "an empty manifest":
            (made / manifest.NAME).write_text("")
        case "no list of files":
            (made / manifest.NAME).write_text('{"kind": "x", "files": [], "metadata": {}}')
        case "a file elsewhere":
            listed = (made / manifest.NAME).read_text()
            (made / manifest.NAME).write_text(listed.replace('"x"', '"../../x"'))
    again = run()
    assert list(again.cached) == []
    manifest.verify(again.outputs["prepare.out"], deep=True)


@pytest.mark.parametrize("text", ["", "[]", "{", "7", '{"out": 7}', '{"out": {"x": []}}'])
def test_cache_entry_that_is_none_is_no_hit(run, tmp_path, text):
    run()
    for entry in (tmp_path / "cache").iterdir():
        entry.write_text(text)
    run()
    assert list(run().cached) == ["prepare"]


def version(place, *modules):
    return code_version.code_version([f"{module}:build" for module in modules], [place])


@pytest.fixture
def project(tmp_path):
    """A function's module, and what it imports in every way there is."""
    for name, text in {
        "f36_model.py": "import f36_layers\nfrom f36_pack import deep\nimport json, numpy\n",
        "f36_layers.py": "def late():\n    from f36_late import x\n",
        "f36_late.py": "import importlib\nimportlib.import_module('f36_named')\n",
        "f36_named.py": "import f36_model\n",
        "f36_pack/__init__.py": "from . import beside\n",
        "f36_pack/beside.py": "",
        "f36_pack/deep.py": "from .beside import y\nfrom .lower.lowest import z\n"
        "import importlib\nimportlib.import_module('.relative', __package__)\n",
        "f36_pack/relative.py": "import pathlib\npathlib.Path(__file__).with_name('words.txt')\n"
        "open('data/more.txt')\n",
        "f36_pack/lower/lowest.py": "from ..beside import w\n",
        "f36_spaces/inside.py": "",
        "f36_other.py": "import f36_spaces.inside\n",
        "unused.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "edited",
    [
        "f36_model", "f36_layers", "f36_late", "f36_named", "f36_pack/__init__",
        "f36_pack/beside", "f36_pack/deep", "f36_pack/lower/lowest", "f36_pack/relative",
    ],
)  # fmt: skip
def test_code_version_follows_every_module_that_is_imported(project, edited):
    path = project / f"{edited}.py"
    before = version(project, "f36_model")
    path.write_text(path.read_text() + "x = 1\n")
    assert version(project, "f36_model") != before


@pytest.mark.parametrize("name", ["f36_pack/words.txt", "data/more.txt"])
def test_code_version_follows_files_that_the_modules_name(project, name):
    (project / name).parent.mkdir(exist_ok=True)
    seen = [version(project, "f36_model")]
    for text in ("one\n", "two\n"):
        (project / name).write_text(text)
        seen.append(version(project, "f36_model"))
    assert len(set(seen)) == 3


def test_code_version_follows_every_function_and_nothing_else(project):
    before = version(project, "f36_model"), version(project, "f36_model", "f36_other")
    (project / "unused.py").write_text("x = 1\n")
    (project / "f36_spaces" / "inside.py").write_text("x = 1\n")
    after = version(project, "f36_model"), version(project, "f36_model", "f36_other")
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_code_version_does_not_follow_the_place(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(project, other, dirs_exist_ok=True)
    assert version(project, "f36_model") == version(other, "f36_model")


def test_configurations_functions_are_all_asked_for(tmp_path):
    from estimator_lib.core import config as configuration
    from pipelines import definitions

    settings = [
        "estimator={function: 'a:build', args: {}}",
        "preprocess={function: 'b:derive', fields: [hour]}",
    ]
    flights = "pipelines/examples/flights/config.yaml"
    found = definitions.functions(configuration.load(pathlib.Path(flights), settings))
    assert found == ("a:build", "b:derive")


@pytest.mark.parametrize("name", ["json", "numpy", "transforms", "yaml"])
def test_module_with_the_name_of_an_installed_one_is_refused(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "f36_uses.py").write_text(f"import {name}\n")
    with pytest.raises(ConfigError, match="is there twice") as caught:
        version(tmp_path, "f36_uses")
    assert caught.value.reason is Reason.CONFLICT
    assert str(tmp_path / f"{name}.py") in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [("def f(:\n", "f36_bad.py:1"), ("x = '\0'", "f36_bad.py"), (None, "not found")],
)
def test_module_that_cannot_be_read_is_refused_before_any_work(tmp_path, text, said):
    if text is not None:
        (tmp_path / "f36_bad.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        version(tmp_path, "f36_bad")


def test_modules_beside_a_configuration_do_not_hide_those_of_python(tmp_path):
    """They come last; and the current directory, where a user may have anything, not at all."""
    for name in ("json", "socket", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "f36_mine.py").write_text("VALUE = 7\n")
    source = textwrap.dedent(
        """
        def look():
            import f36_mine, json, numpy
            print(f36_mine.VALUE, json.dumps([1]), numpy.ones(1).sum())
        """
    )
    said = []
    given = json.dumps({"outputs": {"outputFile": str(tmp_path / "out")}, "inputs": {}})
    before = pathlib.Path.cwd()
    os.chdir(tmp_path)
    try:
        log = tmp_path / "steps.log"
        with WarmSteps(log, modules=("kfp.dsl.executor",), path=[str(tmp_path)]) as steps:
            steps.run(
                source=source, function="look", executor_input=given,
                environment={}, log=log, show=said.append,
            )  # fmt: skip
    finally:
        os.chdir(before)
    assert any("7 [1] 1.0" in line for line in said), log.read_text()


def test_code_version_follows_the_sources_and_what_they_are_built_on(tmp_path, monkeypatch):
    monkeypatch.setattr(code_version, "ROOT", tmp_path)
    source = tmp_path / "transforms" / "x.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    first = code_version.code_version([None], [])
    source.write_text("x = 2\n")
    second = code_version.code_version([None], [])
    monkeypatch.setattr(code_version, "_release", lambda name: f"{name}==0")
    assert len({first, second, code_version.code_version([None], [])}) == 3


def test_data_is_known_by_content_and_not_by_size_and_time(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    before = files.fingerprint([path], tmp_path)
    path.write_text("x\n2\n")
    os.utime(path, ns=times)
    assert files.fingerprint([path], tmp_path) != before
