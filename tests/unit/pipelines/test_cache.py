import pathlib

import pytest
import yaml

from estimator_lib.core import config as configuration
from pipelines import cli, definitions, specification
from pipelines.cluster import client, schedules, testing

SPECS = sorted(
    path
    for path in pathlib.Path("pipeline_specs").glob("*.yaml")
    if path.stem not in ("flights-katib", "flights-jobset")
)
PRINT = "12ab"
ALWAYS = {"notify", "export", "predict"}
"""Steps that never come from the cache: they tell, publish, or take the newest model there is."""


def tasks(pipeline):
    """Whether each task of a compiled pipeline may come from the cache, by name, of every dag."""
    components = [pipeline["root"], *pipeline["components"].values()]
    return {
        name: task.get("cachingOptions", {}).get("enableCache", False)
        for component in components
        for name, task in component.get("dag", {}).get("tasks", {}).items()
        if "dag" not in pipeline["components"][task["componentRef"]["name"]]
    }


def pipeline_of(body):
    spec = body["pipeline_spec"]
    return spec.get("pipeline_spec", spec)


@pytest.fixture
def server(monkeypatch):
    with testing.FakeServer() as running:
        monkeypatch.setenv(client.HOST, running.host)
        yield running


def submitted(server, *arguments):
    assert cli.main(["submit", *map(str, arguments)]) == 0
    return tasks(pipeline_of(server.posted("/runs")[-1]))


def test_committed_specifications_are_all_looked_at():
    assert len(SPECS) == 8


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_committed_specification_takes_nothing_from_the_cache_by_itself(path):
    assert not any(tasks(next(yaml.safe_load_all(path.read_text()))).values())


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize("options", [(), ("--no-cache",)])
def test_submit_without_a_fingerprint_or_with_no_cache_computes_every_task(server, path, options):
    assert not any(submitted(server, path, *options).values())
    given = ("--param", f"data_fingerprint={PRINT}")
    assert not any(submitted(server, path, *given, "--no-cache").values())


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize("option", [("--cache",), ("--param", f"data_fingerprint={PRINT}")])
def test_submit_with_a_fingerprint_caches_every_task_but_those_that_act_or_read_outside(
    server, path, option
):
    sent = submitted(server, path, *option)
    cached = {name for name, on in sent.items() if on}
    always = ALWAYS | ({"train"} if path.stem == "flights-monthly" else set())
    champion = specification.read(path).parameters.get("champion")
    if champion is not None and champion.default:
        always |= {"evaluate"}
    assert cached == set(sent) - always
    assert ("preprocess" in cached) or sent.keys() == {"predict", "notify"}


def test_steps_are_cached_again_where_no_place_that_changes_is_given(server):
    params = ("champion=/mnt/flights/serving/3", "serving_dir=", f"data_fingerprint={PRINT}")
    options = [word for param in params for word in ("--param", param)]
    sent = submitted(server, "pipeline_specs/flights-monthly.yaml", *options)
    assert {name for name, on in sent.items() if not on} == {"notify"}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize("caching", [False, True])
def test_schedule_caches_only_where_it_says_so(server, path, caching):
    spec = specification.read(path)
    config = configuration.load(
        pathlib.Path("pipelines/examples/flights/config.yaml"),
        [f"schedule={{cron: '0 0 3 * * *', caching: {str(caching).lower()}}}"],
    )
    connection = client.Connection(client.address(server.host, environment={}))
    schedules.apply(connection, schedules.declare(config, spec))
    (body,) = server.posted("/recurringruns")
    sent = tasks(pipeline_of(body))
    assert any(sent.values()) is (caching and sent.keys() != {"predict", "notify"})
    assert not sent["notify"]


def test_what_is_sent_is_otherwise_what_was_compiled(server):
    connection = client.Connection(client.address(server.host, environment={}))
    spec = specification.read(pathlib.Path("pipeline_specs/flights-gpu.yaml"))
    connection.submit(spec, {}, caching=True)
    connection.submit(spec, {}, caching=None)
    cached, compiled = (body["pipeline_spec"] for body in server.posted("/runs"))
    assert cached["platform_spec"] == compiled["platform_spec"]
    for pipeline in (cached["pipeline_spec"], compiled["pipeline_spec"]):
        for component in (pipeline["root"], *pipeline["components"].values()):
            for task in component.get("dag", {}).get("tasks", {}).values():
                task.pop("cachingOptions", None)
    assert cached == compiled


def test_pipeline_that_is_not_ours_is_sent_as_it_was_compiled(server, tmp_path):
    (tmp_path / "spec.yaml").write_text(testing.pipeline())
    assert submitted(server, tmp_path / "spec.yaml") == {"step": True}
    assert submitted(server, tmp_path / "spec.yaml", "--no-cache") == {"step": False}


def test_local_runs_may_take_every_step_from_their_own_cache():
    config = configuration.load(pathlib.Path("pipelines/examples/flights/config.yaml"), [])
    pipeline = definitions.build(config).pipeline_spec
    components = (pipeline.root, *pipeline.components.values())
    on = {
        name
        for component in components
        for name, task in component.dag.tasks.items()
        if task.caching_options.enable_cache
    }
    assert on == {"preprocess", "train", "evaluate", "export"}
