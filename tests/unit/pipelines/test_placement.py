import pathlib

import pytest
import yaml

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError
from pipelines import compiling

FLIGHTS = pathlib.Path("pipelines/examples/flights")
ALL = """
cpu: "3"
memory: 5Gi
gpu: 2
retries: 4
disk: {size: 50Gi, storage_class: fast}
node_selector: {zone: a}
tolerations: [{key: k, operator: Equal, value: v, effect: NoExecute, seconds: 5}]
affinity:
  - {key: zone, values: [a, b]}
  - {key: gpu, operator: Exists}
  - {key: cheap, operator: Exists, weight: 10}
volumes: [{claim: other, mount_path: /other}]
env: {MODE: fast}
secrets: [{name: s, env: {key: API}, mount_path: /secret}]
config_maps: [{name: c, env: {key: SETTING}, mount_path: /settings, optional: true}]
labels: {team: ml}
image: registry.example/own:2
image_pull_secrets: [pull]
timeout_s: 600
"""


def load(*settings):
    return configuration.load(FLIGHTS / "config.yaml", settings)


def compiled(*settings):
    first, second = yaml.safe_load_all(compiling.compile_text(load(*settings)))
    kubernetes = second["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return first, first["deploymentSpec"]["executors"], kubernetes


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    path = tmp_path_factory.mktemp("placement") / "train.yaml"
    path.write_text(ALL)
    return compiled(f"cluster.steps.train=@{path}")


def test_resources_image_and_retries_reach_the_pipeline(everything):
    spec, executors, _ = everything
    train = executors["exec-train"]["container"]
    assert train["image"] == "registry.example/own:2"
    assert train["resources"]["resourceCpuLimit"] == "3"
    assert train["resources"]["resourceMemoryRequest"] == "5Gi"
    assert train["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    env = {e["name"]: e["value"] for e in train["env"]}
    assert env == {"MODE": "fast", "TMPDIR": "/scratch"}
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert tasks["train"]["retryPolicy"]["maxRetryCount"] == 4
    assert executors["exec-evaluate"]["container"]["image"] != "registry.example/own:2"


def test_everything_else_reaches_kubernetes(everything):
    train = everything[2]["exec-train"]
    assert train["nodeSelector"]["labels"] == {"zone": "a"}
    assert train["tolerations"] == [
        {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute",
         "tolerationSeconds": "5"}
    ]  # fmt: skip
    assert [v["mountPath"] for v in train["pvcMount"]] == ["/mnt/flights", "/other"]
    assert train["genericEphemeralVolume"][0]["size"] == "50Gi"
    assert train["genericEphemeralVolume"][0]["storageClassName"] == "fast"
    assert train["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "key", "envVar": "API"}]
    assert train["secretAsVolume"][0]["mountPath"] == "/secret"
    assert train["configMapAsEnv"][0]["configMapName"] == "c"
    assert train["configMapAsVolume"][0]["optional"] is True
    assert train["podMetadata"]["labels"] == {"team": "ml"}
    assert train["imagePullSecret"][0]["secretName"] == "pull"
    assert train["activeDeadlineSeconds"] == "600"


def test_required_affinities_must_all_be_met_and_preferred_ones_stand_alone(everything):
    required, preferred = everything[2]["exec-train"]["nodeAffinity"]
    assert [e["key"] for e in required["matchExpressions"]] == ["zone", "gpu"]
    assert preferred["weight"] == 10


def test_tpu_gets_resource_node_labels_and_toleration():
    _, executors, kubernetes = compiled(f"cluster=@{FLIGHTS}/cluster-tpu.yaml")
    accelerator = executors["exec-train"]["container"]["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("google.com/tpu", "4")
    train = kubernetes["exec-train"]
    assert train["nodeSelector"]["labels"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x2",
    }
    assert train["tolerations"] == [
        {"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "nodeSelector" not in kubernetes["exec-preprocess"]


def test_defaults_hold_for_every_step_and_a_step_overrides_key_by_key():
    cluster = load(
        "cluster={defaults: {cpu: '1', timeout_s: 60, labels: {a: b}}, "
        "steps: {train: {cpu: '2', labels: {}}}}"
    ).cluster
    assert (cluster.placement("export").cpu, cluster.placement("train").cpu) == ("1", "2")
    assert cluster.placement("train").timeout_s == 60
    assert cluster.placement("train").labels == {}


def test_resources_become_parameters_on_request_inside_conditions_too():
    spec, executors, _ = compiled("cluster.resource_parameters=true")
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert inputs["train_memory"]["defaultValue"] == "4Gi"
    assert inputs["train_gpu"]["defaultValue"] == "1"
    limit = executors["exec-export"]["container"]["resources"]["resourceMemoryLimit"]
    assert limit == "{{$.inputs.parameters['pipelinechannel--export_memory']}}"
    # The parameter is handed down to the exit handler and the condition that hold the step.
    held_by = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]["condition-2"]
    for holder in (spec["root"]["dag"]["tasks"]["exit-handler-1"], held_by):
        assert "pipelinechannel--export_memory" in holder["inputs"]["parameters"]


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ("{cpu: two}", "cpu"),
        ("{cpu: '0'}", "more than 0"),
        ("{memory: 4Q}", "memory"),
        ("{memory: 0Gi}", "more than 0"),
        ("{gpu: 0}", "gpu"),
        ("{gpu: 1.5}", "gpu"),
        ("{gpu_type: gpu}", "gpu_type"),
        ("{gpuu: 1}", "'gpu'"),
        ("{gpu: 1, tpu: {accelerator: tpu-v6e-slice, topology: 1x1, chips: 1}}", "gpu and tpu"),
        ("{tpu: {accelerator: tpu-v6e-slice, topology: 4x4, chips: 4}}", "16 chips"),
        ("{tpu: {accelerator: v6e, topology: 2x2, chips: 4}}", "accelerator"),
        ("{tpu: {accelerator: tpu-v6e-slice, topology: '4', chips: 4}}", "topology"),
        ("{node_selector: {bad key: x}}", "node_selector"),
        ("{labels: {team: 'a b'}}", "labels"),
        ("{tolerations: [{key: k, operator: Equal}]}", "needs a value"),
        ("{tolerations: [{key: k, seconds: 3}]}", "NoExecute"),
        ("{tolerations: [{key: k, effect: Never}]}", "effect"),
        ("{affinity: [{key: k}]}", "needs values"),
        ("{affinity: [{key: k, operator: Exists, values: [a]}]}", "allows no values"),
        ("{affinity: [{key: k, operator: Gt, values: [a]}]}", "one whole number"),
        ("{affinity: [{key: k, values: [a], weight: 101}]}", "weight"),
        ("{volumes: [{claim: Bad_Name, mount_path: /m}]}", "claim"),
        ("{volumes: [{claim: c, mount_path: relative}]}", "mount_path"),
        ("{secrets: [{name: s}]}", "env, mount_path"),
        ("{secrets: [{name: s, env: {k: 1BAD}}]}", "env"),
        ("{env: {A: x}, secrets: [{name: s, env: {k: A}}]}", "A is given twice"),
        ("{disk: {size: 1Gi}, env: {TMPDIR: /x}}", "TMPDIR is given twice"),
        ("{volumes: [{claim: a, mount_path: /m}, {claim: b, mount_path: /m}]}", "/m is given"),
        ("{image: registry.example/python}", "no tag"),
        ("{image: 'registry.example:5000/python'}", "no tag"),
        ("{image: 'python:latest'}", "latest"),
        ("{image: 'python@sha256:12'}", "digest"),
        ("{timeout_s: 0}", "timeout_s"),
        ("{retries: -1}", "retries"),
    ],
)
def test_bad_placement_is_refused_with_the_value_at_fault(placement, said):
    with pytest.raises(ConfigError, match=said):
        load(f"cluster.steps.train={placement}")


def test_conflict_of_a_step_with_the_defaults_is_refused():
    tpu = "{accelerator: tpu-v6e-slice, topology: 2x2, chips: 4}"
    with pytest.raises(ConfigError, match=r"step train with the defaults.*gpu and tpu"):
        load(f"cluster={{defaults: {{gpu: 1}}, steps: {{train: {{tpu: {tpu}}}}}}}")


def test_digest_pins_an_image():
    image = f"registry.example/python@sha256:{'0' * 64}"
    assert load(f"cluster.image={image}").cluster.image == image


def test_settings_file_that_is_missing_is_named():
    with pytest.raises(ConfigError, match="nowhere"):
        load("cluster=@nowhere.yaml")
