import http.server
import json
import threading
import time

import pytest
import yaml
from kfp import dsl

from components.steps import notify
from components.steps.step import FAILURE
from estimator_lib.core import config as configuration
from pipelines import compiling
from pipelines.cluster import testing
from tests import kubeflow_runs

PATH = "/services/T0/never-shown"


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.send_response(self.server.answers.pop(0))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook():
    with http.server.HTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.got, server.answers = [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.address = f"http://127.0.0.1:{server.server_port}{PATH}"
        yield server
        server.shutdown()


def test_failure_is_posted_with_the_step_and_the_reason(webhook, monkeypatch, capsys):
    webhook.answers = [200]
    monkeypatch.setenv(notify.WEBHOOK, webhook.address)
    monkeypatch.setenv(FAILURE, "train: The loss is not finite.")
    notify.tell("FAILED", "Task exit-handler-1 failed.", "flights", "run-7")
    (body,) = webhook.got
    assert body == {
        "text": "flights failed: train: The loss is not finite.",
        "pipeline": "flights",
        "run": "run-7",
        "state": "FAILED",
        "reason": "train: The loss is not finite.",
    }
    assert PATH not in capsys.readouterr().out


def test_where_the_reason_is_not_known_it_says_how_to_find_it(monkeypatch, capsys):
    monkeypatch.delenv(notify.WEBHOOK, raising=False)
    monkeypatch.delenv(FAILURE, raising=False)
    notify.tell("FAILED", "Task exit-handler-1 failed.", "flights", "run-7")
    said = capsys.readouterr().out
    assert "Task exit-handler-1 failed." in said
    assert "runs show run-7" in said
    notify.tell("SUCCEEDED", "", "flights", "run-7")
    assert capsys.readouterr().out == "flights succeeded\n"


@pytest.mark.parametrize(
    ("state", "text", "kind"),
    [
        ("COMPLETE", "flights succeeded", "SUCCEEDED"),
        ("CACHED", "flights succeeded from the cache", "CACHED"),
        ("RUNNING", "flights ended, and Kubeflow does not say how. `estimator-pipelines", "ENDED"),
        ("", "flights ended, and Kubeflow does not say how.", "ENDED"),
        ("FAILED", "flights failed. `estimator-pipelines runs show run-7` tells", "FAILED"),
        ("CANCELED", "flights terminated. `estimator-pipelines", "TERMINATED"),
    ],
)
def test_states_of_kubeflow_are_told_for_what_they_are(state, text, kind):
    message = notify.describe(state, "", "", "flights", "run-7")
    assert message["text"].startswith(text)
    assert message["state"] == kind
    assert ("runs show" in message["text"]) is (kind not in ("SUCCEEDED", "CACHED"))


@pytest.fixture
def server(monkeypatch):
    """Kubeflow's server, as a pod of a run knows it."""
    with testing.FakeServer() as running:
        monkeypatch.setenv("KFP_POD_NAME", "flights-5d8l7-system-container-impl-1")
        monkeypatch.setenv(notify.SERVER, running.host)
        monkeypatch.setattr(notify, "PAUSE_S", 0.001)
        monkeypatch.delenv(notify.WEBHOOK, raising=False)
        yield running


PREPROCESS = "preprocess failed: No such file. (exit code 2)"
CACHED = "flights succeeded from the cache: nothing was computed anew"
TOLD = {
    "succeeded": "flights succeeded",
    "loops": "flights succeeded",
    "cached": CACHED,
    "cached-older-argo-settings": CACHED,
    "refused": "flights: export did not run: refused: auc is 0.66, below the minimum 0.99.",
    "terminated": "flights: terminated while preprocess was running",
    "failed": f"flights: {PREPROCESS}",
    "failed-and-notify-failed": f"flights: {PREPROCESS}",
    "failed-after-retries-older-argo-settings": f"flights: {PREPROCESS}",
}


@pytest.mark.parametrize("name", TOLD)
def test_in_a_pod_the_end_is_told_as_the_steps_tell_it(server, capsys, name):
    run = kubeflow_runs.add(server, name)
    server.workflows[run] = kubeflow_runs.while_notified(name)
    for node in ("flights-8w66s-3250251098", "flights-mj682-2953493599", "flights-kfz6h-992740315"):
        server.logs[node] = kubeflow_runs.log("error: No such file.", code=2)
    verdict = "verdict: refused: auc is 0.66, below the minimum 0.99."
    server.logs["flights-dzjdh-373570907"] = kubeflow_runs.log(verdict)
    notify.tell("RUNNING", "", "flights", run)
    assert capsys.readouterr().out == f"{TOLD[name]}\n"


def test_steps_whose_end_is_not_known_yet_are_looked_at_again(server, capsys):
    run = kubeflow_runs.add(server, "running")
    notify.tell("COMPLETE", "", "flights", run)
    assert capsys.readouterr().out == "flights succeeded\n"
    assert len(server.requests) == notify.LOOKS


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_server_that_does_not_answer_leaves_what_kubeflow_gave(server, capsys, status):
    run = kubeflow_runs.add(server, "failed")
    server.fail("GET", "/v1beta1/", status)
    notify.tell("FAILED", "", "flights", run)
    said = capsys.readouterr().out
    assert f"HTTP Error {status}" in said
    assert f"flights failed. `estimator-pipelines runs show {run}`" in said


def test_server_that_keeps_a_pod_waiting_is_given_up(server, monkeypatch, capsys):
    monkeypatch.setattr(notify, "PATIENCE_S", 0.05)
    monkeypatch.setattr(notify, "_get", lambda _: time.sleep(1))
    notify.tell("RUNNING", "", "flights", "run-7")
    assert capsys.readouterr().out.startswith("flights ended")


def test_token_of_the_pod_is_sent(server, tmp_path, monkeypatch, capsys):
    server.token = "-".join(("of", "the", "pod"))
    (tmp_path / "token").write_text(f"{server.token}\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    notify.tell("RUNNING", "", "flights", kubeflow_runs.add(server, "succeeded"))
    assert capsys.readouterr().out == "flights succeeded\n"


def test_outside_a_pod_no_server_is_asked(server, monkeypatch, capsys):
    monkeypatch.delenv("KFP_POD_NAME")
    notify.tell("SUCCEEDED", "", "flights", "run-7")
    assert server.requests == []
    assert capsys.readouterr().out == "flights succeeded\n"


@pytest.mark.parametrize(
    ("answers", "posts", "said"),
    [
        ([503, 429, 200], 3, ""),
        ([503, 503, 503], 3, "answered 503"),
        ([404], 1, "answered 404"),
    ],
)
def test_webhook_that_may_come_back_is_asked_again(webhook, answers, posts, said, monkeypatch):
    monkeypatch.setattr(notify, "PAUSE_S", 0.001)
    webhook.answers = list(answers)
    found = notify.post(webhook.address, {"text": "x"})
    assert len(webhook.got) == posts
    assert (said in found) if said else found == ""
    assert PATH not in found


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "https://", "http://127.0.0.1:1/x", "http://[::1"]
)
def test_no_address_makes_the_step_fail_nor_is_it_shown(address, monkeypatch, capsys):
    monkeypatch.setattr(notify, "PAUSE_S", 0.001)
    monkeypatch.setenv(notify.WEBHOOK, address)
    notify.tell("SUCCEEDED", "", "flights", "run-7")
    said = capsys.readouterr().out
    assert "not posted" in said
    assert address not in said


def test_whatever_goes_wrong_the_step_ends_well(monkeypatch, capsys):
    status = dsl.PipelineTaskFinalStatus(
        state=None, pipeline_job_resource_name="", pipeline_task_name="", error_code=None,
        error_message=None,
    )  # fmt: skip
    monkeypatch.delenv(notify.WEBHOOK, raising=False)
    notify.run(status=status, pipeline="flights", run="run-7")
    assert capsys.readouterr().out.startswith("flights ended")
    monkeypatch.setattr(notify, "describe", lambda *_: 1 / 0)
    notify.run(status=status, pipeline="flights", run="run-7")
    assert "not told: ZeroDivisionError" in capsys.readouterr().out


def test_exit_handler_mounts_nothing_that_could_keep_it_from_starting():
    config = configuration.load(
        "pipelines/examples/flights/config.yaml",
        [
            "cluster.defaults={cpu: '64', memory: 900Gi, timeout_s: 9999, labels: {team: ml}}",
            "cluster.steps.notify.secrets=[{name: chat, env: {url: NOTIFY_WEBHOOK}}]",
            "cluster.resource_parameters=true",
        ],
    )
    spec, platform = yaml.safe_load_all(compiling.compile_text(config))
    executor = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-notify"]
    (found,) = executor["secretAsEnv"]
    assert (found["secretName"], found["optional"]) == ("chat", True)
    assert "pvcMount" not in executor
    asked = spec["deploymentSpec"]["executors"]["exec-notify"]["container"]["resources"]
    assert (asked["resourceCpuRequest"], asked["resourceMemoryRequest"]) == ("100m", "128Mi")
    assert not {"resourceMemoryLimit", "resourceCpuLimit", "accelerator"} & set(asked)
    assert executor["podMetadata"]["labels"] == {"team": "ml"}
    assert executor["activeDeadlineSeconds"] == "120"
    task = spec["root"]["dag"]["tasks"]["notify"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert not task["cachingOptions"].get("enableCache")
    assert "retryPolicy" not in task
