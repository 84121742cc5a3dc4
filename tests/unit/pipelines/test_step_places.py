"""The matrix of places: each is given to a step as it is, or refused wherever it may be given."""

import importlib
import pathlib
import pkgutil
import re

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


STORES = ("s3://b/x", "gs://b/x", "az://b/x", "abfs://b/x")
REFUSED = (
    "hdfs://b/x", "http://b/x", "azfs://b/x", "s3a://b/x", "file:///b/x", "s3:/b/x", "s3://",
    "s3://b/../x", "gs://b/x?y",
)  # fmt: skip
"""Places of raw data only, of other systems, and texts that are no places."""


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
        ([], {"champion", "checkpoint_root", "serving_dir", "analysis_cache"}),
        (
            ["pipeline=tuned_training", "tune={space: {train.batch_size: {choice: [64]}}}"],
            {"champion", "checkpoint_root", "serving_dir", "study_root", "analysis_cache"},
        ),
        (["pipeline=batch_prediction", "predict={files: [a.csv]}"], {"model"}),
    ],
)
def test_every_place_of_a_pipeline_is_taken_or_refused(settings, known):
    found = specification.check(compiling.compile_text(load(*settings)), "it")
    assert found.places == {name: frozenset([name]) for name in {*known, "base_dir"}}
    for name in found.places:
        assert arguments.check(found, {name: "/mnt/x"}) == {name: "/mnt/x"}
        for given in STORES:
            if name in places.ANYWHERE:
                assert arguments.check(found, {name: given}) == {name: given}
                places.require(name, given)
        for given in (*REFUSED, *(STORES if name in places.LOCAL else ())):
            with pytest.raises(ConfigError, match=f"{name}: .*{re.escape(given)}") as error:
                arguments.check(found, {name: given})
            assert error.value.reason is Reason.UNSUPPORTED
            with pytest.raises(ConfigError, match=f"{name} is invalid: .*{re.escape(given)}"):
                places.require(name, given)


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
    setting = "schedule={interval_s: 3600, parameters: {serving_dir: 'hdfs://b/serving'}}"
    output = ["-o", str(tmp_path / "spec.yaml")] if command == "compile" else []
    assert cli.main([*command.split(), str(FLIGHTS), "--set", setting, *output]) == 2
    said = capsys.readouterr().err
    assert "schedule: parameters.serving_dir: expected a path, or a URI with one of" in said


def test_submit_refuses_it_before_anything_is_sent(capsys):
    given = ["submit", "pipeline_specs/flights.yaml", "--param"]
    assert cli.main([*given, "serving_dir=http://b/s", "--dry-run"]) == 2
    assert "serving_dir: Place 'http://b/s' has the scheme 'http'" in capsys.readouterr().err
    assert cli.main([*given, "serving_dir=gs://b/s", "--dry-run"]) == 0


def test_no_folder_is_made_of_a_uri(tmp_path, monkeypatch):
    import estimator_lib
    from estimator_lib.export import retention

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/saved_model.pb").touch()
    for act in (
        lambda: retention.publish("model", "hdfs://b/serving"),
        lambda: retention.versions("hdfs://b/serving"),
        lambda: retention.newest("hdfs://b/serving"),
        lambda: retention.commit("s3://b/serving", lambda _: None),
        lambda: estimator_lib.RunConfig(model_dir="s3://b/serving"),
    ):
        with pytest.raises(ConfigError, match=r"(hdfs|s3)://b/serving"):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert retention.newest("") is None
