import json
import pathlib
import re

import pytest
import yaml

from estimator_lib.core import config as configuration
from estimator_lib.core.config import SHARED_MEMORY, Section
from estimator_lib.core.errors import ConfigError
from pipelines import cli, code_version, compiling, definitions

FLIGHTS = pathlib.Path("pipelines/examples/flights")
SPECS = pathlib.Path("pipeline_specs")
ALL = """
cpu: "3"
memory: 5Gi
gpu: 2
retries: 4
disk: {size: 50Gi, storage_class: fast}
shared_memory: 1Gi
empty_dirs: [{mount_path: /tmp}, {mount_path: /fast, size: 2Gi, in_memory: true}]
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
image_pull_policy: Always
security_context: {run_as_user: 1234, run_as_group: 5, run_as_non_root: true}
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
    # The root of a volume of a class belongs to root, so Kubeflow's first line must not use it.
    assert env == {
        "MODE": "fast", "STEP_SCRATCH": "/scratch", "STEP_GPUS": "2", "STEP_RETRIES": "4"
    }  # fmt: skip
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
    assert train["imagePullPolicy"] == "Always"
    assert train["securityContext"] == {
        "runAsUser": "1234", "runAsGroup": "5", "runAsNonRoot": True
    }  # fmt: skip
    assert train["emptyDirMounts"] == [
        {"volumeName": "step-empty-0", "mountPath": "/tmp"},  # noqa: S108
        {"volumeName": "step-empty-1", "mountPath": "/fast", "medium": "Memory",
         "sizeLimit": "2Gi"},
        {"volumeName": "step-empty-2", "mountPath": SHARED_MEMORY, "medium": "Memory",
         "sizeLimit": "1Gi"},
    ]  # fmt: skip


def test_scratch_without_a_class_is_a_directory_that_any_user_may_write_to():
    _, executors, kubernetes = compiled("cluster.steps.train={disk: {size: 5Gi}, retries: 0}")
    env = {e["name"]: e["value"] for e in executors["exec-train"]["container"]["env"]}
    assert env == {"TMPDIR": "/scratch"}
    assert kubernetes["exec-train"]["emptyDirMounts"] == [
        {"volumeName": "step-empty-0", "mountPath": "/scratch", "sizeLimit": "5Gi"}
    ]
    assert "genericEphemeralVolume" not in kubernetes["exec-train"]


def test_a_step_that_asks_for_nothing_has_a_request_and_no_limit():
    _, executors, _ = compiled("cluster={steps: {train: {memory: 9Gi}}}")
    train = executors["exec-train"]["container"]["resources"]
    assert (train["resourceCpuRequest"], train["resourceMemoryRequest"]) == ("500m", "9Gi")
    assert "resourceCpuLimit" not in train
    assert train["resourceMemoryLimit"] == "9Gi"
    evaluate = executors["exec-evaluate"]["container"]["resources"]
    assert evaluate["resourceMemoryRequest"] == "1Gi"
    assert "resourceMemoryLimit" not in evaluate
    notify = executors["exec-notify"]["container"]["resources"]
    assert notify["resourceMemoryRequest"] == "128Mi"


@pytest.mark.parametrize(
    ("placement", "least"),
    [
        ({"retries": 3}, 4 * 365 * 24 * 3600),
        ({"retries": 3, "timeout_s": 7200}, 4 * 7200 + 30 + 60 + 120),
        ({"retries": 10, "timeout_s": 2147483647}, 4 * 365 * 24 * 3600),
    ],
)
def test_the_longest_back_off_has_room_for_every_attempt_to_its_timeout(placement, least):
    spec, _, _ = compiled(f"cluster.steps.train={json.dumps(placement)}")
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    policy = tasks["train"]["retryPolicy"]
    assert policy["maxRetryCount"] == placement["retries"]
    longest = int(policy["backoffMaxDuration"].removesuffix("s"))
    assert longest > least
    assert longest * 10**9 < 2**63  # Argo counts in nanoseconds


def test_gpus_given_by_a_parameter_are_at_least_one_for_the_step():
    _, executors, _ = compiled(
        "cluster={resource_parameters: true, steps: {train: {gpu: 4, retries: 0}}}"
    )
    env = executors["exec-train"]["container"]["env"]
    assert env == [{"name": "STEP_GPUS", "value": "1"}]


def test_compile_says_what_steps_do_with_their_gpus(tmp_path, capsys):
    arguments = ["compile", str(FLIGHTS / "config.yaml"), "-o", str(tmp_path / "spec.yaml")]
    assert (
        cli.main([*arguments, "--set", "cluster.steps={train: {gpu: 4}, evaluate: {gpu: 1}}"]) == 0
    )
    said = capsys.readouterr().out
    assert "train: 4 GPUs (nvidia.com/gpu), MirroredStrategy" in said
    assert "evaluate: 1 GPU (nvidia.com/gpu)\n" in said


def test_trials_of_one_pod_cannot_share_its_gpus():
    search = "tune={space: {train.batch_size: {choice: [256]}}, parallel: 2}"
    config = load(search, "pipeline=tuned_training", "cluster.steps.tune={gpu: 2}")
    with pytest.raises(ConfigError, match=r"tune\.parallel is 2.*separate_tasks"):
        compiling.compile_text(config)


def test_every_field_of_a_placement_is_in_an_example():
    """What no committed specification has is tried by no cluster."""
    examples = sorted(FLIGHTS.glob("cluster-*.yaml"))
    for path in examples:
        assert (SPECS / path.name.replace("cluster", "flights")).is_file()
    shown = [yaml.safe_load(path.read_text()) for path in examples]

    def given(section, values):
        """The fields of a section, and of those inside it, that some of `values` have."""
        lacking = []
        for name, field in section.model_fields.items():
            found = [value[name] for value in values if name in value]
            if not found:
                lacking.append(f"{section.__name__}.{name}")
                continue
            inner = [
                one for value in found for one in (value if isinstance(value, list) else [value])
            ]
            kinds = re.findall(r"_cluster\.(\w+)", str(field.annotation))
            for kind in [k for k in kinds if issubclass(getattr(configuration, k, str), Section)]:
                lacking += given(getattr(configuration, kind), inner)
        return lacking

    steps = [one["defaults"] for one in shown]
    steps += [step for one in shown for step in one["steps"].values()]
    assert given(configuration.Placement, steps) == []
    assert {key for one in shown for key in one} == set(configuration.Cluster.model_fields)


def test_required_affinities_must_all_be_met_and_preferred_ones_stand_alone(everything):
    required, preferred = everything[2]["exec-train"]["nodeAffinity"]
    assert [e["key"] for e in required["matchExpressions"]] == ["zone", "gpu"]
    assert preferred["weight"] == 10


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
        ("{tpu: {accelerator: tpu-v6e-slice}}", "tpu is not supported.*2.21"),
        ("{memory: 4000000K}", "4000000K"),
        ("{memory: 1.5Gi}", "whole numbers.*1.5Gi"),
        ("{disk: {size: 5K}}", "disk.size.*5K"),
        ("{shared_memory: 0Gi}", "more than 0"),
        ("{security_context: {}}", "run_as_user, run_as_group or"),
        ("{security_context: {run_as_user: 0, run_as_non_root: true}}", "0 is root"),
        ("{security_context: {run_as_user: -1}}", "run_as_user"),
        ("{image_pull_policy: Sometimes}", "image_pull_policy"),
        ("{empty_dirs: [{mount_path: /a}, {mount_path: /a}]}", "/a is given twice"),
        ("{empty_dirs: [{mount_path: /dev/shm}], shared_memory: 1Gi}", "shm is given twice"),
        ("{empty_dirs: [{mount_path: /minio/x}]}", "belongs to Kubeflow"),
        ("{empty_dirs: [{mount_path: /a/../b}]}", "expected '/b'"),
        ("{volumes: [{claim: a.b, mount_path: /m}]}", "claim"),
        ("{secrets: [{name: a.b, mount_path: /m}]}", "'a.b' cannot be mounted"),
        (
            "{secrets: [{name: x, mount_path: /m}], config_maps: [{name: x, mount_path: /n}]}",
            "volume x is given twice",
        ),
        ("{env: {STEP_GPUS: '1'}}", "STEP_GPUS is written"),
        ("{labels: {job-name: x}}", "job-name"),
        ("{labels: {batch.kubernetes.io/job-name: x}}", "written by Kubernetes"),
        ("{labels: {a..b/team: x}}", "a..b/team"),
        ("{labels: {" + "a" * 254 + "/team: x}}", "at most 253"),
        ("{image_pull_secrets: [a..b]}", "image_pull_secrets"),
        ("{timeout_s: 2147483648}", "timeout_s"),
        ("{retries: 11}", "retries"),
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
    with pytest.raises(ConfigError, match=r"step train with the defaults.*/m is given twice"):
        load(
            "cluster={defaults: {volumes: [{claim: a, mount_path: /m}]}, "
            "steps: {train: {empty_dirs: [{mount_path: /m}]}}}"
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("steps: {train: {disk: {size: 1Gi, mount_path: /mnt/flights}}}", "/mnt/flights is given"),
        ("steps: {train: {volumes: [{claim: flights, mount_path: /m}]}}", "volume flights is giv"),
        ("steps: {train: {env: {TMPDIR: /mnt/flights/tmp}}}", "TMPDIR /mnt/flights/tmp is on"),
        ("defaults: {gpu: 1}", "step preprocess.*CPUs only.*train, tune, evaluate"),
        ("steps: {evaluate: {gpu: 2}}", "evaluate uses 1 GPU"),
        ("steps: {notify: {gpu: 1}}", "step notify"),
        ("steps: {train: {gpu: 3}}", "batch_size 512 cannot be shared by the 3 GPUs.*Use 510"),
        ("service_account: a..b", "service_account"),
        ("volume: {claim: flights, mount_path: gs://bucket/flights}", "the URI gs://bucket"),
    ],
)
def test_what_a_whole_cluster_section_cannot_have_is_refused(settings, said):
    volume = "" if "volume:" in settings else "volume: {claim: flights, mount_path: /mnt/flights}, "
    with pytest.raises(ConfigError, match=said):
        load(f"cluster={{{volume}{settings}}}")


def test_notify_may_do_without_what_the_defaults_and_the_shared_volume_give():
    load(
        "cluster={volume: {claim: c, mount_path: /m}, "
        "steps: {notify: {volumes: [{claim: d, mount_path: /m}]}}}"
    )


def test_steps_are_told_the_modules_that_their_image_must_have():
    _, executors, _ = compiled("cluster.code=[my_columns, mine.models]")
    told = {
        name: {one["name"]: one["value"] for one in found["container"].get("env", [])}
        for name, found in executors.items()
    }
    assert told.pop("exec-notify").get("STEP_CODE") is None  # it tells what else is missing
    assert told
    assert {env["STEP_CODE"] for env in told.values()} == {"my_columns,mine.models"}
    with pytest.raises(ConfigError, match=r"cluster\.code"):
        load("cluster.code=[my_columns.py/x]")


def test_modules_of_the_image_are_part_of_the_code_version_here(tmp_path):
    (tmp_path / "my_columns.py").write_text("SIZE = 1")
    config = load("cluster.code=[my_columns]")
    before = code_version.code_version(definitions.functions(config), [tmp_path])
    (tmp_path / "my_columns.py").write_text("SIZE = 2")
    assert code_version.code_version(definitions.functions(config), [tmp_path]) != before
    with pytest.raises(ConfigError, match="'my_columns' of the configuration was not found"):
        code_version.code_version(definitions.functions(config), [tmp_path / "elsewhere"])


def test_digest_pins_an_image():
    image = f"registry.example/python@sha256:{'0' * 64}"
    assert load(f"cluster.image={image}").cluster.image == image


def test_settings_file_that_is_missing_is_named():
    with pytest.raises(ConfigError, match="nowhere"):
        load("cluster=@nowhere.yaml")
