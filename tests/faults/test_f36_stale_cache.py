"""Fault 36: a cached step is taken only where code, data and parameters are the same and whole."""

import shutil

import pytest
from kfp import dsl

from pipelines import code_version
from pipelines.local.engine import execute
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
        return execute(lambda: one, arguments, output=tmp_path, steps=steps, show=lambda _: None)

    return run


def test_same_code_data_and_parameters_are_taken_from_the_cache(run):
    run()
    assert list(run().cached) == ["prepare"]


@pytest.mark.parametrize("name", ["text", "data_fingerprint", "code_version"])
def test_any_difference_computes_anew(run, name):
    run()
    assert list(run(**{name: "other"}).cached) == []


@pytest.mark.parametrize("damage", ["delete", "delete a file", "cut a file", "no manifest"])
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
        case "no manifest":
            (made / manifest.NAME).unlink()
    again = run()
    assert list(again.cached) == []
    manifest.verify(again.outputs["prepare.out"], deep=True)


def test_code_version_follows_the_users_source_and_not_its_place(tmp_path):
    versions = []
    for folder, text in (("a", "x = 1\n"), ("b", "x = 1\n"), ("c", "x = 2\n")):
        place = tmp_path / folder
        place.mkdir()
        (place / "my_model_f36.py").write_text(text)
        versions.append(code_version.code_version("my_model_f36:build", [place]))
    assert versions[0] == versions[1] != versions[2]


def test_code_version_follows_the_sources_of_the_libraries(tmp_path, monkeypatch):
    monkeypatch.setattr(code_version, "ROOT", tmp_path)
    source = tmp_path / "transforms" / "x.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    before = code_version.code_version(None, [])
    source.write_text("x = 2\n")
    assert code_version.code_version(None, []) != before
