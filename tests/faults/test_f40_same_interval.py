"""Fault 40: the same interval twice is one run; clocks are UTC; late data is a new run.

Fails when the name of a run leaves out its interval, data or code, when a run that failed counts as
done, or when `cron` asks the clock of the machine.
"""

import datetime
import itertools
import os
import time

import pytest

from estimator_lib.core import cron
from pipelines import specification
from pipelines.cluster import client, testing

SPEC = specification.check(testing.pipeline({"data": ("STRING", "")}, name="flights"), "spec")
OTHER = specification.check(
    testing.pipeline({"data": ("STRING", "")}, name="flights", container={"args": ["new code"]}),
    "spec",
)


@pytest.fixture
def server():
    with testing.FakeServer() as running:
        yield running


@pytest.fixture
def connection(server):
    return client.Connection(client.address(server.host, environment={}))


def test_second_trigger_of_an_interval_starts_nothing(server, connection):
    first = connection.submit(SPEC, {"data": "a"}, once="2026-10")
    second = connection.submit(SPEC, {"data": "a"}, once="2026-10")
    assert (first.new, second.new) == (True, False)
    assert second.run.id == first.run.id
    server.finish(first.run.id, "SUCCEEDED")
    assert not connection.submit(SPEC, {"data": "a"}, once="2026-10").new
    assert len(server.runs) == 1


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_interval_whose_run_did_not_succeed_is_run_again(server, connection, state):
    first = connection.submit(SPEC, {}, once="2026-10")
    server.finish(first.run.id, state)
    again = connection.submit(SPEC, {}, once="2026-10")
    assert again.new
    assert again.run.name == first.run.name


def test_other_interval_data_or_code_is_another_run(connection):
    names = {
        connection.submit(spec, {"data": data}, once=interval).run.name
        for spec, data, interval in (
            (SPEC, "a", "2026-10"),
            (SPEC, "a", "2026-11"),
            (SPEC, "a-late", "2026-10"),
            (OTHER, "a", "2026-10"),
        )
    }
    assert len(names) == 4
    assert all(name.startswith("flights-2026-1") for name in names)


def test_name_of_a_run_does_not_depend_on_the_order_of_parameters():
    spec = specification.check(testing.pipeline({"a": ("STRING", ""), "b": ("STRING", "")}), "spec")
    one = client.fingerprint(spec, {"a": "1", "b": "2"})
    assert one == client.fingerprint(spec, {"b": "2", "a": "1"})


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_every_day_has_its_start_once_whatever_the_clocks_do_here(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        after = datetime.datetime(2026, 3, 7, 12, tzinfo=datetime.UTC)
        found = list(itertools.islice(cron.parse("0 30 2 * * *").times(after), 250))
    finally:
        monkeypatch.undo()
        os.environ.setdefault("TZ", "UTC")
        time.tzset()
    gaps = {b - a for a, b in itertools.pairwise(found)}
    assert gaps == {datetime.timedelta(days=1)}
    assert {t.tzinfo for t in found} == {datetime.UTC}
