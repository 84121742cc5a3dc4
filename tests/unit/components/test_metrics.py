"""Metrics in Prometheus' text format, held against its grammar, in a file and at a gateway."""

import base64
import http.server
import pathlib
import re
import threading

import pytest

from components.steps import metrics
from components.steps.metrics import RunMetrics

RUN = RunMetrics(
    pipeline="flights",
    ended=1_795_000_000.5,
    exit_code=0,
    seconds={"train": 4.6, 'odd "step"\\\n': 1.0},
    rows={"train": 244_737, "eval": 82_609},
    verdict="blessed",
)
_LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][\w:]*)\{{({_LABEL}(?:,{_LABEL})*)\}} (\S+)")


def read(text):
    """Samples by name and labels, as the exposition format's grammar has them."""
    assert text.endswith("\n")
    found, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert kind == "gauge"
            assert name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            name, labels, value = _SAMPLE.fullmatch(line).groups()
            assert name in typed
            key = (name.removeprefix("estimator_pipelines_"), *re.findall(_LABEL, labels)[1:])
            assert key not in found
            found[key] = float(value)
    return found


def test_what_is_told_of_a_run():
    assert read(metrics.render(RUN)) == {
        ("last_run_timestamp_seconds",): 1_795_000_000.5,
        ("last_success_timestamp_seconds",): 1_795_000_000.5,
        ("last_run_exit_code",): 0,
        ("step_duration_seconds", 'step="train"'): 4.6,
        ("step_duration_seconds", 'step="odd \\"step\\"\\\\\\n"'): 1.0,
        ("rows", 'split="train"'): 244_737,
        ("rows", 'split="eval"'): 82_609,
        ("verdict", 'verdict="blessed"'): 1,
        ("verdict", 'verdict="refused"'): 0,
        ("verdict", 'verdict="not_evaluated"'): 0,
    }


def test_a_file_keeps_the_last_success_through_failures(tmp_path, monkeypatch):
    monkeypatch.setenv(metrics.PLACE, str(tmp_path / "textfiles"))
    failed = RunMetrics(pipeline="flights", ended=1_795_000_100.0, exit_code=2)
    for run, success in [
        (failed, None),
        (RUN, RUN.ended),
        (failed, RUN.ended),
        (failed, RUN.ended),
    ]:
        assert metrics.tell(run) == ""
        found = read((tmp_path / "textfiles" / "estimator_pipelines_flights.prom").read_text())
        assert found.get(("last_success_timestamp_seconds",)) == success
        assert found["last_run_exit_code",] == run.exit_code
    assert metrics.tell(RunMetrics(pipeline="other", ended=1.0, exit_code=0)) == ""
    names = sorted(path.name for path in (tmp_path / "textfiles").iterdir())
    assert names == ["estimator_pipelines_flights.prom", "estimator_pipelines_other.prom"]


@pytest.fixture
def gateway():
    """A server that remembers what it was sent, and answers with a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.server.got.append((self.path, body, self.headers.get("Authorization")))
            self.send_response(self.server.status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.status = [], 200
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_gateway_gets_a_group_for_the_pipeline(gateway, monkeypatch):
    monkeypatch.setenv(metrics.PLACE, f"http://127.0.0.1:{gateway.server_port}/")
    assert metrics.tell(RUN) == ""
    ((path, body, login),) = gateway.got
    assert login is None
    assert path == "/metrics/job/estimator_pipelines/pipeline/flights"
    assert read(body) == read(metrics.render(RUN))
    assert metrics.tell(RunMetrics(pipeline="flights", ended=2.0, exit_code=75)) == ""
    assert "last_success" not in gateway.got[1][1]  # the gateway keeps the one it has


@pytest.mark.parametrize("status", [302, 400, 503])
def test_a_gateway_that_does_not_take_them_is_told_and_no_other_host_asked(
    gateway, monkeypatch, status
):
    gateway.status = status
    monkeypatch.setenv(metrics.PLACE, f"http://user:s3cret@127.0.0.1:{gateway.server_port}")
    assert metrics.tell(RUN) == f"metrics not written: the gateway answered {status}"
    ((_, _, login),) = gateway.got
    assert login == "Basic " + base64.b64encode(b"user:s3cret").decode()


def test_places_that_cannot_be_are_told(tmp_path, monkeypatch):
    monkeypatch.delenv(metrics.PLACE, raising=False)
    assert metrics.tell(RUN) == ""
    monkeypatch.setenv(metrics.PLACE, "s3://bucket/metrics")
    assert "neither a directory nor an http address" in metrics.tell(RUN)
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv(metrics.PLACE, str(tmp_path / "file"))
    assert str(tmp_path / "file") in metrics.tell(RUN)
    monkeypatch.setenv(metrics.PLACE, "http://127.0.0.1:9")
    assert metrics.tell(RUN).startswith("metrics not written: ")


def test_a_recorded_run_of_a_cluster_is_told(monkeypatch, tmp_path, capsys):
    from components.steps import notify
    from pipelines.cluster import testing
    from tests import kubeflow_runs

    with testing.FakeServer() as server:
        monkeypatch.setenv("KFP_POD_NAME", "flights-5d8l7-system-container-impl-1")
        monkeypatch.setenv(notify.SERVER, server.host)
        monkeypatch.setenv(metrics.PLACE, str(tmp_path))
        monkeypatch.delenv(notify.WEBHOOK, raising=False)
        for name, code in [("succeeded", 0), ("failed", 2)]:
            run = kubeflow_runs.add(server, name)
            server.workflows[run] = kubeflow_runs.while_notified(name)
            notify.tell("RUNNING", "", "flights", run)
            found = read(pathlib.Path(tmp_path, "estimator_pipelines_flights.prom").read_text())
            assert found["last_run_exit_code",] == code
            assert found["step_duration_seconds", 'step="preprocess"'] > 0
            assert ("step_duration_seconds", 'step="notify"') not in found
    assert capsys.readouterr().out.startswith("flights succeeded\nflights: preprocess failed")
