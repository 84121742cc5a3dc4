import json
import pathlib

import pytest
import yaml

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError
from pipelines import compiling, specification
from pipelines.cluster import arguments, schedules

MONTHLY = pathlib.Path("pipelines/examples/retraining/config.yaml")


@pytest.fixture(scope="module")
def compiled():
    text = compiling.compile_text(configuration.load(MONTHLY))
    return text, next(yaml.safe_load_all(text))


def steps(spec):
    """Tasks by name, whichever handler or condition they are in."""
    parts = [spec["root"], *spec["components"].values()]
    return {n: t for part in parts for n, t in part.get("dag", {}).get("tasks", {}).items()}


def test_committed_specification_is_up_to_date(compiled):
    compiling.check(compiled[0], pathlib.Path("pipeline_specs/flights-monthly.yaml"))


def test_train_and_evaluate_take_the_champion_and_export_waits_for_the_verdict(compiled):
    tasks = steps(compiled[1])
    for name in ("train", "evaluate"):
        source = tasks[name]["inputs"]["parameters"]["champion"]["componentInputParameter"]
        assert source.endswith("champion")
        assert tasks[name]["retryPolicy"]["backoffFactor"] == 2.0
    (condition,) = [t for name, t in tasks.items() if name.startswith("condition-")]
    assert condition["triggerPolicy"]["condition"].endswith("== 'blessed'")
    assert "comp-export" in str(compiled[1]["components"][condition["componentRef"]["name"]])
    inputs = compiled[1]["root"]["inputDefinitions"]["parameters"]
    assert json.loads(inputs["export_config"]["defaultValue"])["needs_comparison"] is True
    assert inputs["champion"]["defaultValue"] == inputs["serving_dir"]["defaultValue"]


def test_timeouts_are_compiled_in(compiled):
    _, platform = yaml.safe_load_all(compiled[0])
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["activeDeadlineSeconds"] == "7200"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["evaluate.changes={}"], "evaluate.changes is missing"),
        (["pipeline=training"], "needs pipeline continuous_training"),
        (["train.warm_start=serve"], "'serving'"),
        (["estimator={name: BaselineClassifier}"], "cannot start from another model"),
    ],
)
def test_what_cannot_work_is_refused_at_once(settings, said):
    with pytest.raises(ConfigError, match=said):
        configuration.load(MONTHLY, settings)


def test_resources_can_be_changed_for_one_run_of_a_compiled_pipeline():
    config = configuration.load(MONTHLY, ["cluster.resource_parameters=true"])
    spec = specification.check(compiling.compile_text(config), "monthly")
    given = arguments.parse(spec, ["train_memory=16Gi", "evaluate_cpu=4"])
    assert arguments.check(spec, given) == {"train_memory": "16Gi", "evaluate_cpu": "4"}
    fixed = arguments.parse(spec, ["train_timeout_s=60"])
    with pytest.raises(ConfigError, match="unknown parameter"):
        arguments.check(spec, fixed)


def test_the_schedule_is_monthly_one_at_a_time_and_computes_anew(compiled):
    config = configuration.load(MONTHLY)
    want = schedules.declare(config, specification.check(compiled[0], "monthly"))
    assert want.declared.cron == "0 0 6 1 * *"
    assert (want.declared.max_concurrency, want.declared.catchup) == (1, False)
    assert want.declared.caching is False
