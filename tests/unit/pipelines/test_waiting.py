import pytest

from estimator_lib.core.errors import PipelineError
from pipelines import cli
from pipelines.cluster import client, testing, waiting
from tests import kubeflow_runs

SPEC = testing.pipeline({"data": ("STRING", "/mnt/data")}, name="flights")


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
    underway, over = map(kubeflow_runs.manifest, ("running", "cached-older-argo-settings"))
    code, out, err = submit(
        ends(server, "RUNNING", workflow=underway),
        ends(server, "RUNNING", workflow=underway),
        ends(server, "SUCCEEDED", workflow=over),
    )
    assert (code, err) == (0, "")
    assert out.count("train: from the cache") == 1
    assert out.index("export: waiting") < out.index("export: from the cache")
    assert out.count("export: ") == 2
    assert "notify: succeeded after 4 s" in out
    assert out.endswith("succeeded from the cache: nothing was computed anew\n")


def test_a_run_that_refused_its_model_ends_with_3(server, submit):
    server.logs["flights-dzjdh-373570907"] = kubeflow_runs.log("verdict: refused: auc is 0.66.")
    over = kubeflow_runs.manifest("refused")
    code, out, err = submit(ends(server, "SUCCEEDED", workflow=over))
    assert (code, err) == (3, "")
    assert out.endswith("export did not run: refused: auc is 0.66.\n")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("verdict: not_evaluated: no row.", "export did not run: not_evaluated: no row.\n"),
        (None, "Cannot read the log of step evaluate"),
    ],
)
def test_a_model_not_known_to_be_refused_ends_with_0_and_says_why(server, submit, log, said):
    if log is not None:
        server.logs["flights-dzjdh-373570907"] = kubeflow_runs.log(log)
    over = kubeflow_runs.manifest("refused")
    code, out, err = submit(ends(server, "SUCCEEDED", workflow=over))
    assert (code, err) == (0, "")
    assert said in out


def test_a_run_whose_steps_cannot_be_read_is_followed_by_its_state(server, submit):
    code, out, err = submit(ends(server, "FAILED", error="no such image"))
    assert code == 2
    assert "running" in out
    assert err.startswith("error: run flights ")
    assert " failed: no such image\nCannot read the steps of run " in err


def test_a_token_replaced_on_the_way_does_not_end_the_wait(server, submit, tmp_path, monkeypatch):
    path = tmp_path / "token"
    words = ("one", "two")
    path.write_text(words[0])
    server.token = words[0]
    monkeypatch.setenv(client.TOKEN_FILE, str(path))

    def rotate():
        server.token = words[1]
        path.write_text(words[1])

    assert submit(rotate, ends(server, "SUCCEEDED"))[0] == 0


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
