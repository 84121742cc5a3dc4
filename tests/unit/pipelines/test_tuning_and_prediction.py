"""Compiled tuned_training and batch_prediction, and the search as a Katib Experiment."""

import os
import pathlib

import pytest
import yaml

from components.steps import tune_once
from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError
from pipelines import cli, compiling, katib, specification
from pipelines.cluster import schedules
from tests import katib_trial

FLIGHTS = pathlib.Path("pipelines/examples/flights")
SPECS = pathlib.Path("pipeline_specs")
TUNE = f"tune=@{FLIGHTS}/tune.yaml"
TASKS = [
    "pipeline=tuned_training", TUNE, "tune.separate_tasks=true", "tune.sampler=random",
    "tune.pruner=none", "tune.parallel=9",
]  # fmt: skip
COMMITTED = {
    "flights-tuned-training": ["pipeline=tuned_training", TUNE],
    "flights-tuned-training-tasks": TASKS,
    "flights-batch-prediction": ["pipeline=batch_prediction", f"predict=@{FLIGHTS}/predict.yaml"],
}


def load(*settings):
    return configuration.load(FLIGHTS / "config.yaml", settings)


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_specification_is_up_to_date_and_passes_every_check(name):
    compiling.check(compiling.compile_text(load(*COMMITTED[name])), SPECS / f"{name}.yaml")
    found = specification.read(SPECS / f"{name}.yaml")
    assert found.name == f"flights-{name.split('-')[1]}-{name.split('-')[2]}"


@pytest.fixture(scope="module")
def tasks():
    return next(yaml.safe_load_all((SPECS / "flights-tuned-training-tasks.yaml").read_text()))


def test_every_trial_is_a_task_and_the_best_is_trained(tasks):
    inside = tasks["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (loop,) = [task for task in inside.values() if "iteratorPolicy" in task]
    assert loop["iteratorPolicy"]["parallelismLimit"] == 9
    assert loop["dependentTasks"] == ["draw", "preprocess"]
    trial = tasks["components"][loop["componentRef"]["name"]]["dag"]["tasks"]["trial"]
    assert trial["retryPolicy"]["maxRetryCount"] == 2
    chosen = inside["train"]["inputs"]["parameters"]["config"]["taskOutputParameter"]
    assert chosen == {"outputParameterKey": "Output", "producerTask": "choose"}
    assert "train_config" not in tasks["root"]["inputDefinitions"]["parameters"]


def test_trials_get_the_resources_of_tune_and_small_tasks_little():
    text = compiling.compile_text(
        load(*TASKS, "cluster.steps.tune={gpu: 1, memory: 9Gi}", "cluster.resource_parameters=true")
    )
    spec = next(yaml.safe_load_all(text))
    executors = spec["deploymentSpec"]["executors"]
    trial = executors["exec-trial"]["container"]["resources"]
    assert trial["resourceMemoryLimit"] == "{{$.inputs.parameters['pipelinechannel--tune_memory']}}"
    for task in ("exec-draw", "exec-choose"):
        little = executors[task]["container"]["resources"]
        assert (little["resourceMemoryRequest"], "accelerator" in little) == ("128Mi", False)
        assert "resourceMemoryLimit" not in little
    assert "train_gpu" in spec["root"]["inputDefinitions"]["parameters"]


def test_pipeline_without_its_section_is_refused():
    for pipeline, section in (("tuned_training", "tune"), ("batch_prediction", "predict")):
        with pytest.raises(ConfigError, match=f"section {section} is missing"):
            load(f"pipeline={pipeline}")
    with pytest.raises(ConfigError, match="pipeline"):
        load("pipeline=trainning")


def test_schedules_of_two_pipelines_of_one_configuration_do_not_replace_each_other():
    names = set()
    for settings in (["pipeline=training"], COMMITTED["flights-batch-prediction"]):
        config = load(*settings, "schedule={interval_s: 3600}")
        spec = specification.check(compiling.compile_text(config), "spec")
        names.add(schedules.declare(config, spec).name)
    assert names == {"flights", "flights-batch-prediction"}


# --- Katib ------------------------------------------------------------------------------------

GPU = "{gpu: 1, memory: 9Gi, timeout_s: 60, env: {A: b}, labels: {team: ml}, retries: 1,"
PLACED = (
    f"cluster.steps.tune={GPU} secrets: [{{name: s, env: {{k: KEY}}, optional: true}}],"
    " tolerations: [{key: k, operator: Equal, value: v, effect: NoExecute, seconds: 5}],"
    " node_selector: {zone: a}, image_pull_secrets: [pull]}"
)


@pytest.fixture(scope="module")
def experiment():
    return yaml.safe_load(katib.manifest(load(TUNE, PLACED, "cluster.service_account=robot")))


def test_committed_manifest_is_up_to_date(capsys):
    command = ["katib", str(FLIGHTS / "config.yaml"), "--set", TUNE]
    assert cli.main([*command, "-o", str(SPECS / "flights-katib.yaml"), "--check"]) == 0
    assert "up to date" in capsys.readouterr().out


def test_trial_is_a_job_without_a_field_that_kubernetes_does_not_know(experiment):
    job = experiment["spec"]["trialTemplate"]["trialSpec"]
    assert katib_trial.strictly(job, "V1Job") == job
    assert katib_trial.strictly({**job, "nonsense": 1}, "V1Job") == job
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "9Gi", "nvidia.com/gpu": "1"}
    assert pod["serviceAccountName"] == "robot"
    assert "namespace" not in job.get("metadata", {})


KNOWN = {
    "": {"objective", "algorithm", "earlyStopping", "parallelTrialCount", "maxTrialCount",
         "maxFailedTrialCount", "metricsCollectorSpec", "parameters", "trialTemplate"},
    "objective": {"type", "objectiveMetricName", "metricStrategies"},
    "algorithm": {"algorithmName", "algorithmSettings"},
    "earlyStopping": {"algorithmName"},
    "metricsCollectorSpec": {"collector", "source"},
    "trialTemplate": {"retain", "primaryContainerName", "trialParameters", "trialSpec"},
}  # fmt: skip
"""Fields of kubeflow.org/v1beta1 Experiment, of spec and one level below."""


def test_experiment_has_only_fields_of_v1beta1(experiment):
    assert (experiment["apiVersion"], experiment["kind"]) == ("kubeflow.org/v1beta1", "Experiment")
    spec = experiment["spec"]
    for name, known in KNOWN.items():
        assert set(spec[name] if name else spec) <= known
    for parameter in spec["parameters"]:
        space = parameter["feasibleSpace"]
        assert set(parameter) == {"name", "parameterType", "feasibleSpace"}
        if parameter["parameterType"] == "categorical":
            assert set(space) == {"list"}
            assert all(isinstance(value, str) for value in space["list"])
        else:
            assert {"min", "max"} <= set(space) <= {"min", "max", "distribution"}
            assert float(space["min"]) < float(space["max"])


def test_more_trials_at_once_than_trials_are_refused():
    with pytest.raises(ConfigError, match=r"parallel 28 is more than trials 27"):
        load(TUNE, "tune.parallel=28")
    assert load(TUNE, "tune.parallel=27").tune.parallel == 27


def options(space):
    return configuration.Tune.model_validate({"space": {"estimator.args.a": space}})


@pytest.mark.parametrize(
    ("space", "given", "value"),
    [
        ({"log_uniform": [1e-6, 1.0]}, "1e-05", 1e-5),
        ({"integer": [1, 9]}, "3", 3),
        ({"choice": ["1", 1, None, {"name": "Adam"}]}, "'1'", "1"),
        ({"choice": ["1", 1, None, {"name": "Adam"}]}, "1", 1),
        ({"choice": ["1", 1, None, {"name": "Adam"}]}, "null", None),
        ({"choice": ["1", 1, None, {"name": "Adam"}]}, "{name: Adam}", {"name": "Adam"}),
        ({"choice": ['say "$5"', "50%"]}, "say %22%245%22", 'say "$5"'),
    ],
)
def test_text_of_a_value_becomes_the_value(space, given, value):
    found = tune_once.read(options(space), [f"estimator.args.a={given}"])["estimator.args.a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "missing"),
        (["estimator.args.b=3"], "'estimator.args.a'"),
        (["estimator.args.a=10"], "from 1 to 9"),
        (["estimator.args.a=2.5"], "whole number"),
        (["estimator.args.a=nan"], "whole number"),
    ],
)
def test_value_outside_the_space_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        tune_once.read(options({"integer": [1, 9]}), settings)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cluster.volume=null", "cluster.volume is missing"),
    ],
)
def test_what_a_manifest_cannot_hold_is_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        katib.manifest(load(TUNE, setting))


def test_marker_of_a_stopped_trial_becomes_the_trials_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_once, "_MARKERS", tmp_path)
    marker = tmp_path / f"{os.getppid()}.pid"
    marker.write_text("early-stopped\n")
    made = tmp_path / "made by Katib"
    os.link(marker, made)
    with pytest.raises(SystemExit):
        tune_once.main(environment={})
    assert marker.read_text() == "early-stopped\n"
    assert not marker.samefile(made)
