import dataclasses
import datetime
import pathlib

import pytest

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError, PipelineError, Reason
from pipelines import cli, specification
from pipelines.cluster import client, schedules, terminal, testing
from pipelines.cluster.schedules import Change

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml").resolve()
SPEC = specification.check(testing.pipeline({"data": ("STRING", "/data")}, name="flights"), "spec")
DIGEST_OF_0_2 = "b6aef915dc22bc207ed795f6e303579900f64ddf2e2605ee956eef8d7d4a6b48"
NOW = datetime.datetime(2026, 11, 22, 8, 30, tzinfo=datetime.UTC)


@pytest.fixture
def server():
    with testing.FakeServer() as running:
        yield running


@pytest.fixture
def connection(server):
    return client.Connection(client.address(server.host, environment={}))


def want(text="cron: '0 0 3 * * *'", spec=SPEC):
    config = configuration.load(FLIGHTS, [f"schedule={{{text}}}"])
    return schedules.declare(config, spec)


def verbs(server):
    """What changed the server's schedules, in order."""
    return [
        (r.method, r.path.partition("recurringruns")[2].partition(":")[2])
        for r in server.requests
        if "recurringruns" in r.path and r.method != "GET"
    ]


def test_first_apply_creates_it_without_catch_up_and_one_run_at_a_time(server, connection):
    assert schedules.apply(connection, want("cron: '0 0 3 * * *', parameters: {data: /x}")).change
    (body,) = server.posted("/recurringruns")
    assert body["display_name"] == "flights"
    assert body["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (body["no_catchup"], int(body["max_concurrency"])) == (True, 1)
    assert body["mode"] == "ENABLE"
    assert body["runtime_config"]["parameters"] == {"data": "/x"}


def test_applying_the_same_again_changes_nothing(server, connection):
    assert schedules.apply(connection, want()).change is Change.CREATED
    before = verbs(server)
    assert schedules.apply(connection, want()).change is Change.UNCHANGED
    assert verbs(server) == before


@pytest.mark.parametrize(
    "text",
    [
        "cron: '0 0 4 * * *'",
        "interval_s: 3600",
        "cron: '0 0 3 * * *', catchup: true",
        "cron: '0 0 3 * * *', max_concurrency: 2",
        "cron: '0 0 3 * * *', caching: true",
        "cron: '0 0 3 * * *', parameters: {data: /other}",
    ],
)
def test_any_difference_replaces_it(server, connection, text):
    schedules.apply(connection, want())
    (old,) = server.schedules
    assert schedules.apply(connection, want(text)).change is Change.REPLACED
    (new,) = server.schedules
    assert new != old
    assert server.schedules[new]["status"] == "ENABLED"
    # Never two that start runs: the old one stops before the new one starts.
    assert verbs(server)[1:] == [("POST", "disable"), ("POST", ""), ("DELETE", "")]


def test_another_pipeline_replaces_it(connection):
    schedules.apply(connection, want())
    other = testing.pipeline({"data": ("STRING", "/data"), "more": ("STRING", "")}, name="flights")
    changed = want(spec=specification.check(other, "spec"))
    assert schedules.apply(connection, changed).change is Change.REPLACED


def test_schedule_that_the_server_refuses_leaves_the_old_one_active(server, connection):
    schedules.apply(connection, want())
    (before,) = server.schedules
    server.fail("POST", "/recurringruns$", 400, "no")
    with pytest.raises(PipelineError, match="create schedule"):
        schedules.apply(connection, want("interval_s: 60"))
    assert list(server.schedules) == [before]
    assert [s["status"] for s in server.schedules.values()] == ["ENABLED"]


def test_schedule_paused_by_hand_stays_paused_through_apply(server, connection):
    schedules.apply(connection, want())
    assert schedules.pause(connection, "flights") == 1
    assert schedules.apply(connection, want()).change is Change.UNCHANGED
    done = schedules.apply(connection, want("interval_s: 60"))
    assert (done.change, done.enabled) == (Change.REPLACED, False)
    assert [s["status"] for s in server.schedules.values()] == ["DISABLED"]
    assert schedules.resume(connection, "flights") == 1
    assert schedules.resume(connection, "flights") == 0


def test_disabled_in_the_configuration_pauses_it_in_place(server, connection):
    schedules.apply(connection, want())
    off = want("cron: '0 0 3 * * *', enabled: false")
    assert schedules.apply(connection, off).change is Change.PAUSED
    assert schedules.apply(connection, off).change is Change.UNCHANGED
    assert [s["status"] for s in server.schedules.values()] == ["DISABLED"]


def test_left_over_twins_of_a_broken_apply_are_removed(connection, server):
    schedules.apply(connection, want())
    (first,) = server.schedules.values()
    server.schedules["twin"] = {**first, "recurring_run_id": "twin", "description": "by hand"}
    assert schedules.apply(connection, want()).change is Change.REPLACED
    assert list(server.schedules) == [first["recurring_run_id"]]


def test_scheduled_runs_compute_everything_unless_caching_is_asked_for(server, connection):
    schedules.apply(connection, want())
    (body,) = server.posted("/recurringruns")
    tasks = body["pipeline_spec"]["root"]["dag"]["tasks"]
    assert not any(t.get("cachingOptions", {}).get("enableCache") for t in tasks.values())


def test_plan_keeps_the_active_one_of_two_that_are_right():
    right = want()
    one = schedules.Existing(
        id="a", name="flights", enabled=False, trigger="0 0 3 * * *", catchup=False,
        max_concurrency=1, digest=right.digest,
    )  # fmt: skip
    two = dataclasses.replace(one, id="b", enabled=True)
    plan = schedules.plan(right, [one, two])
    assert (plan.keep, plan.remove, plan.enabled) == (two, (one,), True)


def test_next_start_is_in_utc_and_none_while_paused():
    one = schedules.Existing(
        id="a", name="n", enabled=True, trigger="0 0 3 * * *", catchup=False, max_concurrency=1,
        digest=None,
    )  # fmt: skip
    assert one.next_start(NOW) == NOW.replace(day=23, hour=3, minute=0)
    assert dataclasses.replace(one, enabled=False).next_start(NOW) is None
    assert dataclasses.replace(one, trigger=60).next_start(NOW) is None
    assert dataclasses.replace(one, trigger="@daily").next_start(NOW) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "exactly one of cron, interval_s"),
        ("cron: '0 0 3 * * *', interval_s: 60", "exactly one"),
        ("cron: '0 3 * * *'", "expected 6 fields"),
        ("interval_s: 5", "interval_s"),
        ("cron: '0 0 3 * * *', max_concurrency: 0", "max_concurrency"),
        ("cron: '0 0 3 * * *', max_concurency: 2", "'max_concurrency'"),
        ("cron: '0 0 3 * * *', parameters: {dat: x}", "'data'"),
        ("cron: '0 0 3 * * *', name: Bad Name", "name"),
    ],
)
def test_bad_schedule_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        want(text)


def test_unknown_schedule_is_refused_with_the_nearest(connection):
    schedules.apply(connection, want())
    with pytest.raises(PipelineError, match="Did you mean 'flights'") as caught:
        schedules.pause(connection, "fligths")
    assert caught.value.reason is Reason.UNKNOWN_NAME


def test_commands_apply_list_pause_resume_and_delete(server, capsys, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.host)

    def said(*arguments):
        assert cli.main(["schedule", *arguments]) == 0
        return capsys.readouterr().out

    apply = ("apply", str(FLIGHTS), "--set", "schedule={cron: '0 0 3 1 * *', name: monthly}")
    assert said("list") == "no schedules\n"
    assert said(*apply) == "schedule monthly: created, active\n"
    assert said(*apply) == "schedule monthly: unchanged, active\n"
    assert said("pause", "monthly") == "schedule monthly: paused\n"
    assert said("pause", "monthly") == "schedule monthly: was paused already\n"
    assert "`schedule resume monthly` makes it active" in said(*apply)
    row = said("list").splitlines()[1].split()
    assert row[0] == "monthly"
    assert "paused" in row
    assert said("resume", "monthly") == "schedule monthly: active\n"
    assert said("delete", "monthly") == "schedule monthly: deleted\n"
    assert server.schedules == {}
    assert cli.main(["schedule", "apply", str(FLIGHTS)]) == 2
    assert "schedule:" in capsys.readouterr().err


def test_a_schedule_has_a_start_and_an_end(server, connection):
    text = "cron: '0 0 3 * * *', start: 2026-12-01, end: '2026-12-31T04:00:00+01:00'"
    assert schedules.apply(connection, want(text)).change is Change.CREATED
    (body,) = server.posted("/recurringruns")
    assert body["trigger"]["cron_schedule"] == {
        "cron": "0 0 3 * * *",
        "start_time": "2026-12-01T00:00:00Z",
        "end_time": "2026-12-31T03:00:00Z",
    }
    (made,) = schedules.listing(connection)
    assert made.next_start(NOW) == datetime.datetime(2026, 12, 1, 3, tzinfo=datetime.UTC)
    late = datetime.datetime(2026, 12, 31, 3, tzinfo=datetime.UTC)
    assert made.next_start(late) is None
    assert schedules.apply(connection, want(text)).change is Change.UNCHANGED
    assert schedules.apply(connection, want()).change is Change.REPLACED


def test_a_schedule_without_start_and_end_keeps_the_digest_of_earlier_releases():
    assert want().digest == DIGEST_OF_0_2


@pytest.mark.parametrize("start", ["2026-12-01T00:00", "soon", "'2027-01-01'"])
def test_a_start_that_makes_no_sense_is_refused(start):
    with pytest.raises(ConfigError):
        want(f"cron: '0 0 3 * * *', start: {start}, end: 2026-12-31")


@pytest.mark.parametrize(
    ("trigger", "due", "minutes"),
    [
        ("0 0 3 * * *", "2026-11-22T03:00:00Z", 0),
        ("0 0 3 * * *", "2026-11-22T02:00:00Z", 60),
        ("0 0 3 * * *", "2026-11-22T08:00:00Z", -300),
        ("0 0 3 * * *", "2026-11-21T21:30:00Z", 330),
        ("0 0 * * * *", "2026-11-22T02:00:00Z", 0),
        ("0 0 3 * * *", "2026-11-22T02:07:00Z", 0),
        (3600, "2026-11-22T02:00:00Z", 0),
    ],
)
def test_the_zone_of_the_server_is_the_least_that_explains_a_start(trigger, due, minutes):
    found = schedules.zone(trigger, datetime.datetime.fromisoformat(due))
    assert found == datetime.timedelta(minutes=minutes)


def test_the_zone_of_the_server_is_shown(server, connection):
    schedules.apply(connection, want())
    (key,) = server.schedules
    assert "reads cron" not in terminal.schedules(schedules.listing(connection), NOW)
    server.trigger(key, due="2026-11-22T02:00:00Z")
    found = schedules.listing(connection)
    assert found[0].next_start(NOW) == datetime.datetime(2026, 11, 23, 2, tzinfo=datetime.UTC)
    shown = terminal.schedules(found, NOW)
    assert "2026-11-23 02:00" in shown
    assert "flights: the server reads cron in UTC+01:00" in shown
