"""Fault 38: no secret, nothing unpinned and no chance gets into a specification."""

import pathlib
import subprocess
import sys

import pytest
import yaml

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError, Reason, SecurityError
from pipelines import compiling, specification
from pipelines.cluster import arguments, client, testing

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml")
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
WORD = "tok-12345"


def compiled(*settings):
    return compiling.compile_text(configuration.load(FLIGHTS, settings))


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        (f"cluster.steps.train={{env: {{ANYTHING: {KEY}}}}}", "exec-train.env.ANYTHING"),
        ("cluster.steps.train={env: {DB_PASSWORD: x}}", "exec-train.env.DB_PASSWORD"),
        (f"estimator.args.dnn_optimizer={{name: {KEY}}}", "parameter train_config"),
        ("data.split.files.train=['s3://me:hunter2@bucket/x']", "parameter preprocess_config"),
    ],
)
def test_secret_is_refused_when_compiling_and_not_repeated(setting, place):
    with pytest.raises(SecurityError) as caught:
        compiled(setting)
    assert caught.value.reason is Reason.SECRET
    assert place in caught.value.message
    assert KEY not in caught.value.message
    assert "hunter2" not in caught.value.message


def test_refused_specification_is_not_written(tmp_path):
    from pipelines import cli

    spec = tmp_path / "spec.yaml"
    setting = f"cluster.steps.train={{env: {{K: {KEY}}}}}"
    assert cli.main(["compile", str(FLIGHTS), "-o", str(spec), "--set", setting]) == 2
    assert not spec.exists()


def test_secret_in_a_parameter_is_refused_before_it_is_sent_and_not_repeated():
    spec = specification.check(testing.pipeline({"data": ("STRING", "")}), "spec")
    with pytest.raises(ConfigError) as caught:
        arguments.check(spec, {"data": f"key={KEY}"})
    assert caught.value.reason is Reason.SECRET
    assert KEY not in caught.value.message


def test_token_of_the_server_is_in_no_request_body_and_no_error():
    spec = specification.check(testing.pipeline({"data": ("STRING", "")}), "spec")
    with testing.FakeServer(token=WORD) as server:
        variables = {"ESTIMATOR_PIPELINES_TOKEN": WORD}
        connection = client.Connection(client.address(server.host, environment=variables))
        connection.submit(spec, {})
        assert WORD not in str([r.body for r in server.requests])
        server.fail("POST", "/runs$", 403, "forbidden")
        with pytest.raises(Exception, match="forbidden") as caught:
            connection.submit(spec, {})
        assert WORD not in str(caught.value)


@pytest.mark.parametrize("image", ["python", "python:latest", "registry.example:5000/python"])
def test_unpinned_image_is_refused(image):
    with pytest.raises(ConfigError, match="image"):
        compiled(f"cluster.image={image}")


def test_two_compiles_are_identical_whatever_the_hash_seed(tmp_path):
    texts = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.yaml"
        command = [sys.executable, "-m", "pipelines.cli", "compile", str(FLIGHTS), "-o", str(path)]
        environment = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        texts.add(path.read_bytes())
    assert len(texts) == 1


def test_publishing_needs_the_one_word_and_nothing_else_opens_the_gate():
    first, _ = yaml.safe_load_all(compiled())
    parts = {"root": first["root"], **first["components"]}
    dags = {name: part["dag"]["tasks"] for name, part in parts.items() if "dag" in part}
    gates = {
        task["componentRef"]["name"]: task["triggerPolicy"]["condition"].split(" == ")[1]
        for tasks in dags.values()
        for task in tasks.values()
        if "condition" in task.get("triggerPolicy", {})
    }
    publishing = [name for name, tasks in dags.items() if "export" in tasks]
    assert gates == dict.fromkeys(publishing, "'blessed'")
    assert len(publishing) == 1
