import datetime
import json
import os

import pytest

from components.steps import workflow
from estimator_lib.core.errors import PipelineError, Reason
from pipelines import cli, specification
from pipelines.cluster import client, inspection, terminal, testing, waiting
from tests import kubeflow_runs

SPEC = specification.check(testing.pipeline({"data": ("STRING", "")}, name="flights"), "spec")
NOW = datetime.datetime(2026, 11, 27, 2, tzinfo=datetime.UTC)
FAILED = {
    "failed": "flights-8w66s-3250251098",
    "failed-and-notify-failed": "flights-mj682-2953493599",
    "failed-after-retries-older-argo-settings": "flights-kfz6h-992740315",
}
"""The node of the attempt that made each of these runs fail."""
NEVER = [
    ("train", "not reached", ""),
    ("evaluate", "not reached", ""),
    ("export", "not reached", ""),
]
CACHED = [(name, "from the cache", "") for name in ("preprocess", "train", "evaluate", "export")]
NOTIFIED = ("notify", "succeeded", "1")
STEPS = {
    "succeeded": [
        *((name, "succeeded", "1") for name in ("preprocess", "train", "evaluate", "export")),
        NOTIFIED,
    ],
    "cached": [*CACHED, NOTIFIED],
    "cached-older-argo-settings": [*CACHED, NOTIFIED],
    "running": [*CACHED[:3], ("export", "waiting", ""), ("notify", "waiting", "")],
    "failed": [("preprocess", "failed", "1"), *NEVER, NOTIFIED],
    "failed-and-notify-failed": [("preprocess", "failed", "1"), *NEVER, ("notify", "failed", "1")],
    "failed-after-retries-older-argo-settings": [
        ("preprocess", "failed", "3"), *NEVER, ("notify", "failed", "1"),
    ],
    "refused": [
        *CACHED[:2], ("evaluate", "succeeded", "1"), ("export", "condition not met", ""), NOTIFIED,
    ],
    "terminated": [("preprocess", "terminated", "1"), *NEVER, NOTIFIED],
    "loops": [
        (name, "succeeded", "1")
        for name in ("draw", "preprocess", "trial 1", "trial 2", "choose", "train", "evaluate",
                     "export", "notify")
    ],
}  # fmt: skip
STATE = {
    "running": "running", "terminated": "terminated", **dict.fromkeys(FAILED, "failed"),
}  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    with testing.FakeServer() as running:
        monkeypatch.setenv(client.HOST, running.host)
        yield running


@pytest.fixture
def command(capsys):
    def run(*arguments):
        code = cli.main(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def page(out):
    """The steps that `runs show` gave: name, state, attempts; and what it said below them."""
    head, _, rest = out.partition("\nSTEP ")
    titles, *lines = f"STEP {rest}".splitlines()
    columns = [titles.index(name) for name in ("STATE", "ATTEMPTS", "TOOK")]
    rows = []
    for line in lines[: lines.index("") if "" in lines else len(lines)]:
        state, attempts, took = columns
        rows.append(
            (line[:state].strip(), line[state:attempts].strip(), line[attempts:took].strip())
        )
    below = "\n".join(lines[len(rows) + 1 :])
    return dict(line.split(maxsplit=1) for line in head.splitlines() if line), rows, below


def test_every_recording_is_expected():
    assert sorted(STEPS) == kubeflow_runs.NAMES


@pytest.mark.parametrize("name", kubeflow_runs.NAMES)
def test_show_has_each_declared_step_once_with_its_state_and_attempts(server, command, name):
    code, out, _ = command("runs", "show", kubeflow_runs.add(server, name))
    head, steps, _ = page(out)
    assert code == 0
    assert steps == STEPS[name]
    assert head["state"] == STATE.get(name, "succeeded")
    assert head["run"] == kubeflow_runs.read(name)["display_name"]


@pytest.mark.parametrize("name", FAILED)
def test_failure_is_told_in_the_steps_own_words_with_its_exit_code(server, command, name):
    run = kubeflow_runs.add(server, name)
    text = kubeflow_runs.log("reads", "error: No file matches a.csv.", "error: Nor b.csv.", code=2)
    server.logs[FAILED[name]] = text
    below = page(command("runs", "show", run)[1])[2]
    assert below.startswith("preprocess failed: No file matches a.csv.\nNor b.csv. (exit code 2)\n")
    assert f"next      estimator-pipelines runs logs {run} preprocess" in below
    assert command("runs", "logs", run) == (0, text, "")
    assert command("runs", "logs", run, "preprocess") == (0, text, "")


def test_step_that_failed_before_its_own_code_began_is_told_so(server, command):
    run = kubeflow_runs.add(server, "failed-after-retries-older-argo-settings")
    assert "notify, failed: init: Error (exit code 64)" in command("runs", "show", run)[1]


@pytest.mark.parametrize("name", FAILED)
def test_log_that_cannot_be_had_is_an_error_that_says_what_to_type(server, command, name):
    run = kubeflow_runs.add(server, name)
    code, out, err = command("runs", "logs", run)
    assert (code, out) == (2, "")
    assert "the log of step preprocess" in err
    workflow_, _, number = FAILED[name].rpartition("-")
    pod = f"{workflow_}-retry-system-container-impl-{number}"
    assert f"kubectl logs -n kubeflow {pod} -c main" in err
    below = page(command("runs", "show", run)[1])[2]
    assert "preprocess failed: main: Error (exit code 1)" in below
    assert f"next      kubectl logs -n kubeflow {pod} -c main" in below


def test_log_that_breaks_off_with_an_error_is_an_error(server, command):
    run = kubeflow_runs.add(server, "failed")
    server.logs[FAILED["failed"]] = 'reads\n{"error_message":"connection reset","error_details":""}'
    code, _, err = command("runs", "logs", run)
    assert code == 2
    assert "connection reset" in err


def test_log_of_a_step_without_one_says_why(server, command):
    run = kubeflow_runs.add(server, "cached")
    assert "has no log: from the cache" in command("runs", "logs", run, "train")[2]
    run = kubeflow_runs.add(server, "failed")
    assert "has no log: not reached" in command("runs", "logs", run, "train")[2]
    run = kubeflow_runs.add(server, "running")
    assert "has a log yet" in command("runs", "logs", run)[2]


def test_log_of_an_iteration_and_of_an_unknown_step(server, command):
    run = kubeflow_runs.add(server, "loops")
    server.logs["flights-tuned-training-cnzzf-1994103263"] = "the second\n"
    assert command("runs", "logs", run, "trial", "2") == (0, "the second\n", "")
    code, _, err = command("runs", "logs", run, "trail 1")
    assert code == 2
    assert "'trial 1'" in err


def test_refusal_is_told_by_the_bound(server, command):
    run = kubeflow_runs.add(server, "refused")
    below = page(command("runs", "show", run)[1])[2]
    assert "export did not run: its condition was not met" in below
    server.logs["flights-dzjdh-373570907"] = kubeflow_runs.log("verdict: refused: auc is 0.66.")
    below = page(command("runs", "show", run)[1])[2]
    assert "export did not run: refused: auc is 0.66." in below
    assert f"runs logs {run} evaluate" in below


def test_run_from_the_cache_and_one_that_was_terminated_say_so(server, command):
    run = kubeflow_runs.add(server, "cached")
    assert "succeeded from the cache: nothing was computed anew" in command("runs", "show", run)[1]
    run = kubeflow_runs.add(server, "terminated")
    assert "terminated while preprocess was running" in command("runs", "show", run)[1]
    assert "terminated" in command("runs", "list")[1]


@pytest.mark.parametrize("status", [400, 404, 501, None])
def test_server_without_workflows_says_so_and_gives_the_runs_state(server, command, status):
    run = kubeflow_runs.add(server, "failed")
    if status is None:
        del server.workflows[run]
    else:
        server.fail("GET", "/v1beta1/", status, "Not Found")
    code, out, _ = command("runs", "show", run)
    assert code == 0
    assert "state     failed" in out
    assert f"Cannot read the steps of run {run}" in out
    if status is None:
        code, _, err = command("runs", "logs", run)
        assert (code, "keeps no Workflow" in err) == (2, True)


def test_server_that_is_away_is_not_taken_for_one_without_workflows(server, command):
    run = kubeflow_runs.add(server, "failed")
    server.fail("GET", "/v1beta1/", 503)
    assert command("runs", "show", run)[0] == 75


EXIT = {"succeeded": 0, "cached": 0, "cached-older-argo-settings": 0, "refused": 0, "loops": 0}


@pytest.mark.parametrize("name", [name for name in kubeflow_runs.NAMES if name != "running"])
@pytest.mark.parametrize("asks", [2, 75])
def test_wait_ends_as_the_run_did(server, command, monkeypatch, tmp_path, name, asks):
    (tmp_path / "spec.yaml").write_text(SPEC.text)
    if name in FAILED:
        server.logs[FAILED[name]] = kubeflow_runs.log("error: The disk is away.", code=asks)

    def ends(_):
        (run,) = server.runs
        server.runs[run] = {**kubeflow_runs.read(name), "run_id": run}
        server.workflows[run] = kubeflow_runs.manifest(name)

    monkeypatch.setattr(waiting.time, "sleep", ends)
    code, out, err = command("submit", str(tmp_path / "spec.yaml"), "--wait")
    assert code == EXIT.get(name, asks if name in FAILED else 2)
    for step, state, _ in STEPS[name]:
        assert out.count(f"\n{step}: {state}") == 1
    if name in FAILED:
        assert err == f"error: preprocess failed: The disk is away. (exit code {asks})\n"
    elif name == "terminated":
        assert err == "error: terminated while preprocess was running\n"
    else:
        assert err == ""


def test_wait_for_a_failure_whose_log_is_gone_says_so(server):
    run = kubeflow_runs.add(server, "failed")
    connection = client.Connection(client.address(server.host, environment={}))
    found = inspection.inspect(connection, connection.run(run))
    assert waiting.exit_code(found) == 2
    assert "log of step preprocess" in found.missing


def changed(name, change):
    """The recorded Workflow of a run with its nodes changed: by display name, `change(node)`."""
    document = json.loads(kubeflow_runs.manifest(name))
    for node in document["status"]["nodes"].values():
        change(node)
    return workflow.read(json.dumps(document))


def test_out_of_memory_is_told_as_argo_tells_it():
    def change(node):
        if node["id"] == FAILED["failed"]:
            node["message"] = "main: OOMKilled (exit code 137)"
            node["outputs"]["exitCode"] = "137"

    found = changed("failed", change)
    assert found.find_failed().attempts[-1].exit_code == 137
    ended = workflow.conclude(found, lambda _: "step 1\nstep 2\n")
    assert ended.reason == "main: OOMKilled (exit code 137)"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (kubeflow_runs.log("step 9", signal="killed"), "may have run out of memory"),
        (
            kubeflow_runs.log("ValueError: boom", code=1),
            "its log ends: ValueError: boom (exit code 1)",
        ),
        (None, "main: Error (exit code 1)"),
        ("error: half a log", "half a log (main: Error (exit code 1))"),
    ],
)
def test_reason_is_what_is_known(log, reason):
    found = workflow.read(kubeflow_runs.manifest("failed"))
    assert reason in workflow.conclude(found, lambda _: log).reason


def test_step_that_waits_for_a_node_says_for_what(server, command):
    run = kubeflow_runs.add(server, "failed")
    document = json.loads(kubeflow_runs.manifest("failed"))
    document["status"]["phase"] = "Running"
    for node in document["status"]["nodes"].values():
        if node["displayName"] in ("executor(0)", "executor", "preprocess", "preprocess(0)"):
            node["phase"] = "Pending" if node["type"] == "Pod" else "Running"
            node["message"] = "Unschedulable: 0/3 nodes are available: 3 Insufficient memory."
    server.workflows[run] = json.dumps(document)
    assert "preprocess, waiting: Unschedulable: 0/3 nodes" in command("runs", "show", run)[1]


def test_group_that_could_not_be_prepared_is_the_reason():
    def change(node):
        if node["displayName"] in ("condition-2-driver", "condition-2-driver(0)"):
            node |= {"phase": "Error", "message": "pod deleted", "type": "Pod"}
        elif node["displayName"] in ("condition-2", "condition-2(0)"):
            node |= {"phase": "Omitted", "type": "Skipped"}

    ended = workflow.conclude(changed("succeeded", change), lambda _: None)
    assert ended.step.name == "condition-2-driver"
    assert ended.reason == "Kubeflow could not prepare it: pod deleted"


@pytest.mark.parametrize("text", ["{}", "[]", '{"metadata": {}}', "no JSON"])
def test_what_is_no_workflow_is_refused(text):
    with pytest.raises(ValueError, match=r"Workflow|JSON|Expecting"):
        workflow.read(text)


def test_run_without_steps_yet_has_no_log(server, command):
    connection = client.Connection(client.address(server.host, environment={}))
    run = connection.submit(SPEC, {}).run
    assert "keeps no Workflow" in command("runs", "logs", run.id)[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (65, "1 min 05 s"), (3660, "1 h 01 min"), (-3, "0 s")],
)
def test_durations_read_well(seconds, text):
    assert terminal.duration(seconds) == text


HOST = os.environ.get("KFP_HOST", "")


@pytest.mark.skipif(not HOST, reason="KFP_HOST names no Kubeflow Pipelines server to read from")
def test_a_real_server_is_read_as_the_double_is(command):
    where = client.address(HOST, namespace=os.environ.get("KFP_NAMESPACE", ""))
    connection = client.Connection(where)
    found = connection.runs(limit=20)
    assert found, "the server has no runs to look at"
    for run in found:
        told = inspection.inspect(connection, connection.run(run.id))
        names = [step.name for step in told.workflow.steps]
        assert len(names) == len(set(names)) > 0
        assert run.name in terminal.show(told, NOW)
        if run.state == "FAILED":
            assert told.conclusion.outcome in (workflow.Outcome.FAILED, workflow.Outcome.TERMINATED)
        for step in told.workflow.steps:
            if step.attempts and step.state is workflow.State.SUCCEEDED:
                assert workflow.log_error(connection.log(run.id, step)) == ""
    with pytest.raises(PipelineError) as caught:
        connection.run("no such run, ever")
    assert caught.value.reason is Reason.UNKNOWN_NAME
