"""Runs of a schedule for an interval of the past."""

import datetime
import pathlib
import threading

import pytest

from estimator_lib.core import config as configuration
from estimator_lib.core.errors import ConfigError
from pipelines import cli, specification
from pipelines.cluster import backfill, client, schedules, testing, waiting

FLIGHTS = pathlib.Path("pipelines/examples/flights/config.yaml").resolve()
SPEC = specification.check(
    testing.pipeline({"day": ("STRING", ""), "data": ("STRING", "/data")}, name="flights"), "spec"
)
DAILY = "cron: '0 0 3 * * *', parameters: {day: '[[ScheduledTime.2006-01-02]]'}"
FIRST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2026, 1, 4, tzinfo=datetime.UTC)


def want(text=DAILY):
    return schedules.declare(configuration.load(FLIGHTS, [f"schedule={{{text}}}"]), SPEC)


def days(starts):
    return [f"{start.time:%m-%d %H:%M}" for start in starts]


def test_every_scheduled_time_is_one_run_with_that_time():
    starts = backfill.plan(want(), FIRST, END)
    assert days(starts) == ["01-01 03:00", "01-02 03:00", "01-03 03:00"]
    assert [start.parameters["day"] for start in starts] == [
        "2026-01-01",
        "2026-01-02",
        "2026-01-03",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{DAILY}, start: 2026-01-02", ["01-02 03:00", "01-03 03:00"]),
        (f"{DAILY}, end: '2026-01-02T04:00:00+01:00'", ["01-01 03:00", "01-02 03:00"]),
        (
            DAILY.replace("cron: '0 0 3 * * *'", "interval_s: 86400"),
            ["01-01 00:00", "01-02 00:00", "01-03 00:00"],
        ),
    ],
)
def test_the_interval_begins_with_its_start_and_ends_before_its_end(text, expected):
    assert days(backfill.plan(want(text), FIRST, END)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cron: '0 0 3 * * *', parameters: {day: x}", "ScheduledTime"),
        (DAILY.replace("0 0 3 * * *", "0 0 3 29 2 *"), "starts nothing"),
        (DAILY.replace("0 0 3 * * *", "* * * * * *"), "1,000"),
        ("cron: '0 0 3 * * *', parameters: {day: '[[Index]]'}", r"\[\[Index\]\]"),
        ("cron: '0 0 3 * * *', parameters: {day: '[[ScheduledTime.Jan 2]]'}", "layout"),
    ],
)
def test_a_backfill_that_makes_no_sense_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        backfill.plan(want(text), FIRST, END)


def test_times_are_written_as_the_server_writes_them():
    given = {"a": "FOO [[ScheduledTime]] FOO", "b": ["[[ScheduledTime.15-04-05]]", 7]}
    time = datetime.datetime(1970, 1, 1, 0, 0, 25, tzinfo=datetime.UTC)
    assert backfill.write_time(given, time) == {
        "a": "FOO 19700101000025 FOO",
        "b": ["00-00-25", 7],
    }


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(waiting, "EVERY_S", 0.02)
    with testing.FakeServer() as running:
        yield running


def ending(server, states):
    """Ends each run as it is started, in order; tells how many went on at most."""
    most = []
    stop = threading.Event()

    def end():
        left = list(states)
        while not stop.wait(0.02):
            going = [key for key, run in server.runs.items() if run["state"] == "RUNNING"]
            most.append(len(going))
            if going and left:
                server.finish(going[0], left.pop(0))

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    return most, stop, thread


def test_runs_are_started_one_after_another_and_only_once(server):
    connection = client.Connection(client.address(server.host, environment={}))
    starts = backfill.plan(want(), FIRST, END)
    told = []
    most, stop, thread = ending(server, ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"])
    try:
        assert backfill.run(connection, want(), starts, told.append, at_once=1) == 1
        assert max(most) == 1
        posted = server.posted("/runs")
        assert [body["runtime_config"]["parameters"]["day"] for body in posted] == [
            "2026-01-01",
            "2026-01-02",
            "2026-01-03",
        ]
        assert backfill.run(connection, want(), starts, told.append, at_once=1) == 0
    finally:
        stop.set()
        thread.join()
    again = [body["runtime_config"]["parameters"]["day"] for body in server.posted("/runs")[3:]]
    assert again == ["2026-01-02"]
    assert sum("succeeded already" in line for line in told) == 2


def test_the_command_lists_what_it_would_start(tmp_path, capsys, server):
    text = FLIGHTS.read_text() + (
        "\nschedule: {cron: 0 0 3 * * *, parameters: {data_fingerprint: '[[ScheduledTime]]'}}\n"
    )
    (tmp_path / "config.yaml").write_text(text)
    words = ["schedule", "backfill", str(tmp_path / "config.yaml"), "--host", server.host]
    words += ["--from", "2026-01-01", "--to", "2026-01-03", "--dry-run"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-01-01 03:00:00 UTC",
        "2026-01-02 03:00:00 UTC",
        "2 runs; nothing was sent",
    ]
    assert server.requests == []
    assert cli.main([*words[:-4], "2026-01-01T03:00", "--to", "2026-01-03"]) == 2
    assert "zone" in capsys.readouterr().err
