import json
import pathlib

import pytest
import yaml

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError, PipelineError, Reason, SecurityError
from pipelines import compiling, credentials, specification
from pipelines.cluster import testing

FLIGHTS = pathlib.Path("pipelines/examples/flights")
SPECS = pathlib.Path("pipeline_specs")


@pytest.mark.parametrize("profile", [None, "cpu", "gpu", "restricted"])
def test_committed_specification_is_up_to_date_and_passes_every_check(profile):
    settings = [f"cluster=@{FLIGHTS}/cluster-{profile}.yaml"] if profile else []
    text = compiling.compile_text(configuration.load(FLIGHTS / "config.yaml", settings))
    path = SPECS / (f"flights-{profile}.yaml" if profile else "flights.yaml")
    compiling.check(text, path)
    found = specification.read(path)
    assert found.name == "flights"
    assert found.parameters["base_dir"].default == "/mnt/flights"


def changed(text, change):
    documents = list(yaml.safe_load_all(text))
    change(*documents)
    return yaml.safe_dump_all(documents)


@pytest.fixture(scope="module")
def text():
    return (SPECS / "flights.yaml").read_text()


def refused(text, error):
    with pytest.raises(error) as caught:
        specification.check(text, "spec")
    return caught.value


def test_unknown_field_of_the_pipeline_is_refused(text):
    def change(pipeline, platform):
        pipeline["root"]["dagg"] = {}

    assert "dagg" in refused(changed(text, change), PipelineError).message


def test_unknown_field_of_kubernetes_is_refused_with_its_step(text):
    def change(pipeline, platform):
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        executors["exec-train"]["nodeSelectors"] = {}

    message = refused(changed(text, change), PipelineError).message
    assert "exec-train" in message
    assert "nodeSelectors" in message


def test_placement_of_a_step_that_is_not_there_is_refused(text):
    def change(pipeline, platform):
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        executors["exec-trian"] = executors.pop("exec-train")

    error = refused(changed(text, change), PipelineError)
    assert error.reason is Reason.UNKNOWN_NAME
    assert "'exec-train'" in error.message


def test_reference_to_a_parameter_that_is_not_there_is_refused(text):
    def change(pipeline, platform):
        del pipeline["root"]["inputDefinitions"]["parameters"]["train_config"]

    error = refused(changed(text, change), PipelineError)
    assert "task exit-handler-1 of root" in error.message
    assert "'train_config'" in error.message


@pytest.mark.parametrize("broken", ["", "- a list", "a: [", "a: 1\n---\nb: 2\n---\nc: 3"])
def test_what_is_no_pipeline_is_refused(broken):
    assert refused(broken, PipelineError).reason is Reason.CORRUPT_FILE


def test_missing_specification_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        specification.read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("python", "no tag"),
        ("python:latest", "latest"),
        ("python@sha256:123", "digest"),
        ("{{$.inputs.parameters['image']}}", "parameter"),
    ],
)
def test_unpinned_image_is_refused(image, said):
    error = refused(testing.pipeline(container={"image": image}), SecurityError)
    assert error.reason is Reason.UNPINNED
    assert said in error.message


@pytest.mark.parametrize(
    ("install", "fault"),
    [
        ("python -m pip install 'kfp==2.17.0' 'numpy'", "'numpy'"),
        ("pip install --quiet 'pandas>=2' && python x", "'pandas>=2'"),
        ("pip install 'kfp==2.17.0' '--no-deps' 'p @ https://example/p-1.whl'", None),
    ],
)
def test_package_without_version_is_refused(install, fault):
    text = testing.pipeline(container={"command": ["sh", "-c", install]})
    if fault is None:
        assert specification.check(text, "spec").name == "fake"
    else:
        assert fault in refused(text, SecurityError).message


def test_every_fault_is_told_at_once():
    container = {"image": "python", "env": [{"name": "DB_PASSWORD", "value": "x"}]}
    message = refused(testing.pipeline(container=container), SecurityError).message
    assert "DB_PASSWORD" in message
    assert "no tag" in message


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("AKIA" + "A" * 16, "AWS"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----\nMII", "private key"),
        ("ghp_" + "a" * 36, "GitHub"),
        ("AIza" + "b" * 35, "Google"),
        ("xoxb-" + "1" * 12, "Slack"),
        ("postgres://me:hunter2@db/flights", "address"),
        ("Bearer " + "c" * 24, "bearer"),
        ("sk-" + "proj-" + "a1" * 12, "API secret key"),
        ("sk_" + "live_" + "a1" * 12, "live or test key"),
        ("eyJ" + "a" * 12 + ".eyJ" + "b" * 12 + ".sig", "web token"),
        (json.dumps({"nested": [{"api_key": "0123456789"}]}), "stands for a secret"),
    ],
)
def test_credential_is_found_wherever_it_hides_and_never_shown(value, kind):
    ((place, found),) = credentials.find({"settings": [value]}, "here")
    assert kind in found
    assert value not in place + found


@pytest.mark.parametrize(
    "value",
    [
        {"types": {"token": "string", "password": "int"}},
        {"columns": {"token": {"kind": "vocabulary"}}},
        "gs://bucket/data.csv",
        "https://example.com:8080/path@here",
        "sk-learn is a library",
        "sk_customer_account_identifier",
        "sk-customer-account-identifier",
        {"password": ""},
        {"secret_name": "database-credentials"},
        7,
        None,
    ],
)
def test_ordinary_values_are_left_alone(value):
    assert list(credentials.find(value, "here")) == []


def test_schedule_parameters_are_checked_when_compiling():
    settings = ["schedule={cron: '0 0 3 * * *', parameters: {base_dri: /x}}"]
    config = configuration.load(FLIGHTS / "config.yaml", settings)
    with pytest.raises(ConfigError, match="'base_dir'"):
        compiling.compile_text(config)


def test_difference_of_a_long_line_is_shown_where_it_is(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("a: " + "x" * 5000 + "1" + "y" * 5000 + "\n")
    with pytest.raises(PipelineError, match="make specs") as caught:
        compiling.check(path.read_text().replace("1", "2"), path)
    assert "x1y" in caught.value.message
    assert "x2y" in caught.value.message
    assert len(caught.value.message) < 1000
