"""The training of several pods as a JobSet."""

import json
import pathlib

import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

from components.steps import train_role
from estimator_lib.core import config as configuration
from estimator_lib.core.config import Placement
from estimator_lib.core.errors import ConfigError
from pipelines import cli, jobset, pods
from tests import katib_trial

FLIGHTS = pathlib.Path("pipelines/examples/flights")
PLACED = f"cluster=@{FLIGHTS}/cluster-cpu.yaml"
ASYNC = "train.cluster={mode: async, workers: 3, parameter_servers: 2}"
SYNC = "train.cluster={workers: 2, evaluator: false}"


def load(*settings):
    return configuration.load(FLIGHTS / "config.yaml", list(settings))


def made(*settings, **options):
    """The JobSet, and its Jobs by role."""
    found = yaml.safe_load(jobset.manifest(load(*settings), **options))
    jobs = found["spec"]["replicatedJobs"]
    return found, {one["name"]: one["template"]["spec"] for one in jobs}


def test_committed_manifest_is_up_to_date(capsys):
    given = [str(FLIGHTS / "config.yaml"), "--set", PLACED, "--set", ASYNC]
    written = "pipeline_specs/flights-jobset.yaml"
    assert cli.main(["jobset", *given, "-o", written, "--check"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize("processes", [ASYNC, SYNC])
def test_servers_know_every_field(processes):
    found, jobs = made(
        "cluster={volume: {claim: c, mount_path: /mnt}, service_account: robot, defaults: {"
        "cpu: '2', memory: 4Gi, timeout_s: 60, labels: {team: ml}, env: {A: b}, node_selector: "
        "{zone: a}, secrets: [{name: s, env: {k: KEY}}], image_pull_secrets: [pull], "
        "tolerations: [{key: k, operator: Exists}]}}",
        processes,
        queue="team-a",
    )
    assert JobsetV1alpha2JobSet.from_dict(found).to_dict() == found
    for job in jobs.values():
        assert katib_trial.strictly(job, "V1JobSpec") == job
        pod = job["template"]["spec"]
        assert pod["serviceAccountName"] == "robot"
        assert pod["tolerations"] == [{"key": "k", "operator": "Exists"}]
        assert {one["name"] for one in pod["containers"][0]["env"]} >= {"A", "KEY"}
    assert found["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team-a"}


def test_a_field_that_servers_do_not_know_would_be_noticed():
    found, _ = made(PLACED, SYNC)
    found["spec"]["failurePolicy"]["nonsense"] = 1
    assert JobsetV1alpha2JobSet.from_dict(found).to_dict() != found


def test_everything_that_is_placed_reaches_the_pods():
    assert set(Placement.model_fields) == pods.PLACED | {"retries"}


def test_asynchronous_roles_start_again_alone_and_servers_with_all():
    found, jobs = made(PLACED, ASYNC, "cluster.steps.train.retries=5")
    assert {role: job["completions"] for role, job in jobs.items()} == {
        "ps": 2, "chief": 1, "worker": 2, "evaluator": 1,
    }  # fmt: skip
    assert {role: job["backoffLimit"] for role, job in jobs.items()} == {
        "ps": 0, "chief": 5, "worker": 5, "evaluator": 5,
    }  # fmt: skip
    assert found["spec"]["failurePolicy"]["maxRestarts"] == 5
    assert found["spec"]["successPolicy"]["targetReplicatedJobs"] == ["chief", "evaluator"]


def test_roles_in_step_start_again_together():
    found, jobs = made(PLACED, SYNC)
    assert {role: job["backoffLimit"] for role, job in jobs.items()} == {"chief": 0, "worker": 0}
    assert found["spec"]["successPolicy"]["targetReplicatedJobs"] == ["chief"]


def test_an_error_that_would_come_again_ends_all_at_once():
    found, jobs = made(PLACED, ASYNC)
    (rule,) = found["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    for role, job in jobs.items():
        first = job["podFailurePolicy"]["rules"][0]
        assert first["action"] == "FailJob"
        assert first["onExitCodes"] == {"containerName": role, "operator": "In", "values": [2]}
        evicted = [one["action"] for one in job["podFailurePolicy"]["rules"][1:]]
        assert evicted == ([] if role == "ps" else ["Ignore"])


def environment(job, index):
    """What Kubernetes gives a pod's container."""
    (container,) = job["template"]["spec"]["containers"]
    given = {one["name"]: one["value"].replace("$$", "$") for one in container["env"]}
    return given | {"JOB_COMPLETION_INDEX": str(index)}


def test_pods_find_each_other():
    _, jobs = made(PLACED, ASYNC)
    pod = train_role.read_environment(environment(jobs["worker"], 1))
    told = json.loads(train_role.tf_config(pod))
    assert told["task"] == {"type": "worker", "index": 1}
    assert told["cluster"]["worker"][1] == "flights-train-worker-0-1.flights-train:2222"
    assert {role: len(all_of) for role, all_of in told["cluster"].items()} == {
        "ps": 2, "chief": 1, "worker": 2, "evaluator": 1,
    }  # fmt: skip


def test_what_is_asked_for_arrives_in_the_pod():
    config = load(PLACED, ASYNC, "train.seed=7")
    text = jobset.manifest(config, prepared="/mnt/flights/$(A) b", directory="/mnt/flights/$d")
    job = yaml.safe_load(text)["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = train_role.read_environment(environment(job, 0))
    assert configuration.TrainPart.from_json(pod.config) == config.train_part()
    assert (pod.prepared, pod.directory) == ("/mnt/flights/$(A) b", "/mnt/flights/$d")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"TRAIN_ROLE": "boss"}, "no pod 'boss' '0'"),
        ({"JOB_COMPLETION_INDEX": "2"}, "expected one of 2 ps, 1 chief, 2 worker, 1 evaluator"),
        ({"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX is missing"),
    ],
)
def test_a_pod_that_is_not_of_the_set_is_refused(change, problem):
    _, jobs = made(PLACED, ASYNC)
    with pytest.raises(ConfigError, match=problem):
        train_role.read_environment(environment(jobs["ps"], 0) | change)


@pytest.mark.parametrize(
    ("settings", "options", "problem"),
    [
        ([PLACED], {}, "train.cluster is missing"),
        (["cluster={}", SYNC], {}, "cluster.volume is missing"),
        ([PLACED, ASYNC, f"name=a{'b' * 37}"], {}, "at most 37 characters, got 38"),
        ([PLACED, SYNC, "cluster.steps.train.env={TF_CONFIG: x}"], {}, "variable TF_CONFIG"),
        ([PLACED, SYNC], {"prepared": "/data"}, "Pods cannot see '/data'.*Give --prepared"),
        ([PLACED, SYNC], {"directory": "/data"}, "Give --directory"),
        ([PLACED, SYNC], {"queue": "Team A"}, "--queue 'Team A'"),
    ],
)
def test_what_could_not_run_is_refused(settings, options, problem):
    with pytest.raises(ConfigError, match=problem):
        jobset.manifest(load(*settings), **options)


def test_longest_name_fits_every_pod():
    found, jobs = made(PLACED, ASYNC, f"name=a{'b' * 36}")
    names = [
        f"{found['metadata']['name']}-{role}-0-{index}-abcde"
        for role, job in jobs.items()
        for index in range(job["completions"])
    ]
    assert max(map(len, names)) == 63
