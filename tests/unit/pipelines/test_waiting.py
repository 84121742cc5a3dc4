import pytest

from estimator_lib.core.errors import PipelineError
from pipelines import cli
from pipelines.cluster import client, testing, waiting

SPEC = testing.pipeline({"data": ("STRING", "/mnt/data")}, name="flights")
TRAIN = {"display_name": "train", "pod_name": "p1", "start_time": "2026-01-01T00:00:00Z"}


@pytest.fixture
def server():
    with testing.FakeServer() as running:
        yield running


@pytest.fixture
def submit(server, tmp_path, capsys, monkeypatch):
    """Submits and waits; between two looks the next of `events` happens to the run."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    monkeypatch.setenv(client.HOST, server.host)

    def command(*events):
        coming = iter(events)
        monkeypatch.setattr(waiting.time, "sleep", lambda _: next(coming)())
        code = cli.main(["submit", str(tmp_path / "spec.yaml"), "--wait"])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def ends(server, state, **how):
    return lambda: server.finish(next(iter(server.runs)), state, **how)


def test_a_run_that_succeeds_ends_with_0_and_tells_each_change_once(server, submit):
    code, out, err = submit(
        ends(server, "RUNNING", tasks=[{**TRAIN, "state": "RUNNING"}]),
        ends(server, "RUNNING", tasks=[{**TRAIN, "state": "RUNNING"}]),
        ends(server, "SUCCEEDED", tasks=[{**TRAIN, "state": "SUCCEEDED"}]),
    )
    assert (code, err) == (0, "")
    assert out.count("train: running") == 1
    assert out.index("train: running") < out.index("train: succeeded")
    assert out.count(": succeeded") == 2


@pytest.mark.parametrize(
    ("error", "expected"), [("exit code 2", 2), ("main: Error (exit code 75)", 75), ("", 2)]
)
def test_a_run_that_fails_ends_with_its_steps_exit_code(server, submit, error, expected):
    failed = {**TRAIN, "state": "FAILED", "error": {"code": 13, "message": error}}
    code, _, err = submit(ends(server, "FAILED", tasks=[failed], error="train failed"))
    assert code == expected
    assert err.startswith("error: train failed: ")


def test_a_server_that_is_away_for_a_while_is_waited_for(server, submit):
    away = lambda: server.fail("GET", "/runs/", 503)  # noqa: E731
    code, _, _ = submit(away, away, ends(server, "SUCCEEDED"))
    assert code == 0


def test_one_that_stays_away_asks_for_a_retry(server, monkeypatch):
    connection = client.Connection(client.address(server.host, environment={}))
    monkeypatch.setattr(waiting, "PATIENCE", 2)
    monkeypatch.setattr(waiting.time, "sleep", lambda _: server.fail("GET", "/runs/", 503))
    server.fail("GET", "/runs/", 503)
    with pytest.raises(PipelineError) as caught:
        waiting.follow(connection, "run", print)
    assert caught.value.exit_code == 75


def test_an_interrupt_leaves_the_run_alone(server, submit):
    def interrupt():
        raise KeyboardInterrupt

    code, out, _ = submit(interrupt)
    assert code == 130
    assert "The run goes on" in out
