"""What serves a published model: labels, InferenceServices of KServe, TF Serving's command."""

import json
import pathlib
import re
import shlex

import kubernetes.client
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.export import retention, server_versions, version_labels
from pipelines import cli, models
from pipelines import serving as servers

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "kserve" / "inferenceservice.json"
SERVER = {"tensorflow": "2.10", "because": ["DisableCopyOnRead"]}
PVC = ["--storage-uri", "pvc://flights/serving"]


def publish(folder, step, **lineage):
    model = folder / f"model-{step}"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"model of step %d" % step)
    (model / models.LINEAGE).write_text(json.dumps({"step": step, "server": SERVER, **lineage}))
    return retention.publish(model, folder / "serving", keep=2)


@pytest.fixture
def serving(tmp_path):
    for step in (10, 20):
        publish(tmp_path, step)
    return tmp_path / "serving"


def run(capsys, *words):
    code = cli.main(["models", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def config_of(text):
    """As TF Serving itself reads the file."""
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    return config


def manifests(capsys, serving, *words):
    code, out, err = run(capsys, "kserve", serving, *PVC, *words)
    assert code == 0, err
    return list(yaml.safe_load_all(out))


def test_labels_are_a_config_that_tf_serving_reads(serving, capsys):
    assert run(capsys, "label", serving, "stable=1", "canary=2", "--name", "flights")[0] == 0
    config = config_of((serving / version_labels.FILE).read_text())
    assert (config.name, config.base_path) == ("flights", "/models/flights")
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}
    assert list(config.model_version_policy.specific.versions) == [1, 2]
    before = (serving / version_labels.FILE).read_bytes()
    code, out, _ = run(capsys, "label", serving)
    assert (code, out.split()) == (0, ["canary", "version", "2", "stable", "version", "1"])
    assert (serving / version_labels.FILE).read_bytes() == before
    code, out, _ = run(capsys, "label", serving, "stable=2", "canary=")
    assert (code, out.split()) == (0, ["stable", "version", "2"])
    assert run(capsys, "label", serving, "stable=")[0] == 0
    config = config_of((serving / version_labels.FILE).read_text())
    assert config.model_version_policy.latest.num_versions == 1


def test_a_labelled_version_is_not_deleted(serving, tmp_path, capsys):
    run(capsys, "label", serving, "stable=1", "--name", "flights")
    for step in (30, 40):
        publish(tmp_path, step)
    assert retention.versions(serving) == [1, 4]
    (serving / version_labels.FILE).write_text("by hand: versions: 4")
    publish(tmp_path, 50)
    assert retention.versions(serving) == [4, 5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stable=9", "--name", "flights"], "1, 2"),
        (["stable=1"], "--name"),
        (["stable=one", "--name", "flights"], "'one'"),
        (["Stable=1", "--name", "flights"], "Stable"),
        (["canary=", "--name", "flights"], "canary"),
        (["stable=1", "--name", "flights.v1"], "flights.v1"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused(serving, capsys, words, said):
    code, _, err = run(capsys, "label", serving, *words)
    assert code == 2
    assert said in err
    assert not (serving / version_labels.FILE).exists()


def test_a_config_that_was_written_by_hand_is_left_alone(serving, capsys):
    text = 'model_config_list { config { name: "a" base_path: "/b" } }'
    (serving / version_labels.FILE).write_text(text)
    code, _, err = run(capsys, "label", serving, "stable=1", "--name", "flights")
    assert code == 2
    assert "by hand" in err
    assert (serving / version_labels.FILE).read_text() == text


def test_a_damaged_version_gets_no_label(serving, capsys):
    (serving / "1" / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(DataError, match="Version 1"):
        servers.label(serving, {"stable": 1}, "flights")


def test_a_manifest_of_the_newest_follows_the_directory(serving, capsys):
    (service,) = manifests(capsys, serving, "--name", "flights")
    model = service["spec"]["predictor"]["model"]
    assert model == {
        "modelFormat": {"name": "tensorflow"},
        "protocolVersion": "v1",
        "runtimeVersion": "2.19.1",
        "storageUri": "pvc://flights/serving",
    }
    assert service["metadata"]["annotations"] == {
        "estimator-pipelines/tensorflow-serving": ">=2.10",
        "estimator-pipelines/version": "2",
    }


def test_a_pinned_version_is_a_revision_of_its_own(serving, capsys):
    given = ["--name", "flights", "--version"]
    config, service = manifests(capsys, serving, *given, 1, "--canary-percent", 10)
    other, _ = manifests(capsys, serving, *given, 2)
    assert config["metadata"]["name"] != other["metadata"]["name"]
    assert config["immutable"] is True
    (volume,) = service["spec"]["predictor"]["volumes"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    told = config_of(config["data"][version_labels.FILE])
    assert list(told.model_version_policy.specific.versions) == [1]
    assert told.base_path == "/mnt/models"
    predictor = service["spec"]["predictor"]
    assert predictor["canaryTrafficPercent"] == 10
    mount = predictor["model"]["volumeMounts"][0]["mountPath"]
    assert f"--model_config_file={mount}/{version_labels.FILE}" in predictor["model"]["args"]


def test_labels_are_served_by_kserve_and_docker(serving, capsys):
    run(capsys, "label", serving, "stable=1", "canary=2", "--name", "flights")
    config, service = manifests(capsys, serving)
    told = config_of(config["data"][version_labels.FILE])
    assert dict(told.version_labels) == {"stable": 1, "canary": 2}
    assert service["metadata"]["annotations"]["estimator-pipelines/canary"] == "2"
    code, out, _ = run(capsys, "docker", serving)
    words = shlex.split(out)
    assert (code, words[:2]) == (0, ["docker", "run"])
    assert f"type=bind,source={serving},target=/models/flights,readonly" in words
    assert "--model_config_file=/models/flights/models.config" in words
    assert "tensorflow/serving:2.19.1" in words
    code, _, err = run(capsys, "docker", serving, "--name", "other")
    assert (code, "flights" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*PVC, "--server-version", "2.6.2"], "DisableCopyOnRead"),
        ([*PVC, "--server-version", "newest"], "2.19.1"),
        (["--storage-uri", "/mnt/serving"], "pvc://"),
        (["--storage-uri", "file:///mnt/serving"], "pvc://"),
        (["--storage-uri", "pvc://flights/serving/2"], "--version 2"),
        ([*PVC, "--canary-percent", "10"], "--version"),
        ([*PVC, "--version", "7"], "1, 2"),
    ],
)
def test_a_manifest_that_would_not_serve_is_refused(serving, capsys, words, said):
    code, out, err = run(capsys, "kserve", serving, "--name", "flights", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_the_oldest_server_that_loads_all_labelled_versions_is_stated(serving, tmp_path, capsys):
    publish(tmp_path, 30, server={"tensorflow": "2.13", "because": ["SegmentMaxV2"]})
    run(capsys, "label", serving, "stable=2", "canary=3", "--name", "flights")
    _, service = manifests(capsys, serving)
    asked = service["metadata"]["annotations"]["estimator-pipelines/tensorflow-serving"]
    assert asked == ">=2.13"
    code, _, err = run(capsys, "docker", serving, "--server-version", "2.12.2")
    assert (code, "SegmentMaxV2" in err) == (2, True)


@pytest.mark.parametrize(("release", "fits"), [("2.9.3", False), ("2.10.0", True), ("3.0", True)])
def test_releases_are_compared_by_number(release, fits):
    needs = server_versions.Needs(**{**SERVER, "because": ("DisableCopyOnRead",)})
    if fits:
        needs.refuse(release)
    else:
        with pytest.raises(ConfigError, match=re.escape(release)):
            needs.refuse(release)


def test_every_manifest_is_what_kserve_declares(serving, capsys):
    run(capsys, "label", serving, "stable=1", "canary=2", "--name", "flights")
    types = json.loads(GOLDEN.read_text())["types"]
    shown = manifests(capsys, serving)
    shown += manifests(capsys, serving, "--version", 1, "--canary-percent", 0)
    for document in shown:
        kind = "V1ConfigMap" if document["kind"] == "ConfigMap" else "V1beta1InferenceService"
        require(document, kind, types, kind)


def test_the_check_of_manifests_finds_what_is_wrong():
    types = json.loads(GOLDEN.read_text())["types"]
    for wrong in ({"spec": {"predictor": {"model": {"storageURI": "x"}}}}, {"kind": 1}):
        with pytest.raises(AssertionError):
            require(wrong, "V1beta1InferenceService", types, "service")


def require(value, kind, types, place):
    """Asserts that a JSON value is of a declared type: KServe's, or one of Kubernetes'."""
    if kind.startswith("list["):
        assert isinstance(value, list), place
        for item in value:
            require(item, kind[5:-1], types, place)
    elif kind.startswith("dict("):
        assert all(isinstance(v, str) for v in value.values()), place
    elif kind in ("str", "int", "bool"):
        assert type(value).__name__ == kind, place
    else:
        fields = types.get(kind) or declared(kind)
        for name, inner in value.items():
            assert name in fields, f"{place}.{name}"
            require(inner, fields[name], types, f"{place}.{name}")


def declared(kind):
    model = getattr(kubernetes.client, kind)
    return {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
