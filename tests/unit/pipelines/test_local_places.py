"""A URI for what a step opens as a local path is refused wherever it may be given."""

import importlib
import pathlib
import pkgutil

import pytest
import yaml
from google.protobuf import json_format
from kfp import dsl

import components
from estimator_lib.core import config as configuration
from estimator_lib.core import places
from estimator_lib.core.errors import ConfigError, Reason
from pipelines import cli, compiling, specification
from pipelines.cluster import arguments

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml")
NO_PATHS = {
    "code_version", "config", "data_fingerprint", "pipeline", "results", "run", "values", "verdict",
}  # fmt: skip
"""Text parameters of components that are no paths."""


def load(*settings):
    return configuration.load(FLIGHTS, settings)


def compiled(pipeline):
    return yaml.safe_dump(json_format.MessageToDict(pipeline.pipeline_spec))


def test_every_text_parameter_of_a_component_is_known_to_be_a_path_or_not():
    found = set()
    for module in pkgutil.iter_modules(components.__path__):
        declared = getattr(importlib.import_module(f"components.{module.name}"), module.name, None)
        if hasattr(declared, "component_spec"):
            inputs = declared.component_spec.inputs or {}
            found |= {name for name, one in inputs.items() if one.type in ("String", "List")}
    assert found - NO_PATHS == places.LOCAL | places.ANYWHERE


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ([], {"base_dir", "champion", "checkpoint_root", "serving_dir"}),
        (
            ["pipeline=tuned_training", "tune={space: {train.batch_size: {choice: [64]}}}"],
            {"base_dir", "champion", "checkpoint_root", "serving_dir", "study_root"},
        ),
        (["pipeline=batch_prediction", "predict={files: [a.csv]}"], {"base_dir", "model"}),
    ],
)
def test_parameters_of_the_pipelines_that_are_local_paths_are_found(settings, known):
    found = specification.check(compiling.compile_text(load(*settings)), "it")
    assert found.places == {name: frozenset([name]) for name in known}
    for name in known:
        with pytest.raises(ConfigError, match=rf"{name}: expected a path in the pod.*gs://b") as e:
            arguments.check(found, {name: "gs://b/x"})
        assert e.value.reason is Reason.UNSUPPORTED
    assert arguments.check(found, {"base_dir": "/mnt/x"})
    if "analysis_cache" in found.parameters:
        assert arguments.check(found, {"analysis_cache": "gs://b/x"})


def test_a_pipeline_of_ones_own_is_judged_by_what_its_parameters_are_used_for():
    from components.preprocess import preprocess

    @dsl.component(base_image="registry.example/own:1")
    def other(model: str) -> None:
        """Reads a model by URI."""

    @dsl.pipeline(name="mine")
    def inner(folder: str):
        preprocess(
            config="{}", base_dir=folder, analysis_cache="", data_fingerprint="", code_version="1"
        )

    @dsl.pipeline(name="mine")
    def mine(model: str, rows: str = "/mnt/rows"):
        other(model=model)
        inner(folder=rows)

    found = specification.check(compiled(mine), "mine")
    assert found.places == {"rows": frozenset(["base_dir"])}
    assert arguments.check(found, {"model": "gs://b/model"}) == {"model": "gs://b/model"}
    with pytest.raises(ConfigError, match="rows: expected a path"):
        arguments.check(found, {"model": "m", "rows": "s3://b/rows"})


@pytest.mark.parametrize(
    ("default", "constant", "said"),
    [
        ("gs://b/rows", None, "parameter rows: expected a path.*gs://b/rows"),
        ("/mnt", "gs://b/fixed", "base_dir of task preprocess of root.*gs://b/fixed"),
    ],
)
def test_a_specification_that_holds_such_a_uri_is_refused(default, constant, said):
    from components.preprocess import preprocess

    @dsl.pipeline(name="mine")
    def mine(rows: str = default):
        preprocess(
            config="{}",
            base_dir=constant or rows,
            analysis_cache="",
            data_fingerprint="",
            code_version="1",
        )

    with pytest.raises(ConfigError, match=said):
        specification.check(compiled(mine), "mine")


@pytest.mark.parametrize("command", ["config check", "compile"])
def test_a_schedule_with_such_a_uri_is_refused_when_it_is_read(command, tmp_path, capsys):
    setting = "schedule={interval_s: 3600, parameters: {serving_dir: 's3://b/serving'}}"
    output = ["-o", str(tmp_path / "spec.yaml")] if command == "compile" else []
    assert cli.main([*command.split(), str(FLIGHTS), "--set", setting, *output]) == 2
    said = capsys.readouterr().err
    assert "schedule: parameters.serving_dir: expected a path in the pod" in said
    assert "cluster.volume" in said


def test_submit_refuses_it_before_anything_is_sent(capsys):
    given = ["submit", "pipeline_specs/flights.yaml", "--param", "serving_dir=gs://b/s"]
    assert cli.main([*given, "--dry-run"]) == 2
    assert "serving_dir: expected a path in the pod" in capsys.readouterr().err


def test_no_folder_is_made_of_a_uri(tmp_path, monkeypatch):
    from estimator_lib.export import retention

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/saved_model.pb").touch()
    for act in (
        lambda: retention.publish("model", "gs://b/serving"),
        lambda: retention.versions("gs://b/serving"),
        lambda: retention.newest("gs://b/serving"),
    ):
        with pytest.raises(ConfigError, match="gs://b/serving"):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert retention.newest("") is None
