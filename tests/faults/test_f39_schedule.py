"""Fault 39: pauses, outages and long runs never start missed runs, or two at once.

Fails when a schedule is compiled with catch-up or several runs at once, or when `schedules.apply`
activates a new one before the old one is paused.
"""

import pathlib

import pytest

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError, PipelineError, Reason
from pipelines import specification
from pipelines.cluster import client, schedules, testing

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml")
SPEC = specification.check(testing.pipeline({"data": ("STRING", "")}, name="flights"), "spec")


@pytest.fixture
def server():
    with testing.FakeServer() as running:
        yield running


@pytest.fixture
def connection(server):
    return client.Connection(client.address(server.host, environment={}))


def want(more=""):
    config = configuration.load(FLIGHTS, [f"schedule={{cron: '0 0 3 * * *'{more}}}"])
    return schedules.declare(config, SPEC)


def test_no_catch_up_and_one_run_at_a_time_unless_asked_for(server, connection):
    schedules.apply(connection, want())
    (body,) = server.posted("/recurringruns")
    assert (body["no_catchup"], int(body["max_concurrency"])) == (True, 1)
    schedules.apply(connection, want(", catchup: true, max_concurrency: 2"))
    body = server.posted("/recurringruns")[-1]
    assert (body["no_catchup"], int(body["max_concurrency"])) == (False, 2)


def test_paused_schedule_starts_nothing_until_resumed(server, connection):
    schedules.apply(connection, want())
    (key,) = server.schedules
    schedules.pause(connection, "flights")
    with pytest.raises(ConfigError, match="paused"):
        server.trigger(key)
    schedules.resume(connection, "flights")
    assert server.trigger(key) in server.runs
    assert server.schedules[key]["no_catchup"] is True


@pytest.mark.parametrize("step", range(4))
def test_apply_that_breaks_at_any_request_never_leaves_two_active_and_heals(
    server, connection, step
):
    schedules.apply(connection, want())
    changing = [r"/experiments$", r":disable$", r"/recurringruns$", r"/recurringruns/"]
    methods = ["GET", "POST", "POST", "DELETE"]
    server.fail(methods[step], changing[step], 503, "down")
    with pytest.raises(PipelineError) as caught:
        schedules.apply(connection, want(", max_concurrency: 2"))
    assert (caught.value.exit_code, caught.value.reason) == (75, Reason.UNREACHABLE)
    active = [s for s in server.schedules.values() if s["status"] == "ENABLED"]
    assert len(active) == 1
    schedules.apply(connection, want(", max_concurrency: 2"))
    (left,) = server.schedules.values()
    assert (left["status"], int(left["max_concurrency"])) == ("ENABLED", 2)


def test_missed_runs_are_made_up_only_by_name_and_only_once(server, connection):
    missed = ("2026-10", "2026-11")
    for _ in range(2):
        for interval in missed:
            connection.submit(SPEC, {"data": interval}, once=interval)
    assert len(server.posted("/runs")) == len(missed)
