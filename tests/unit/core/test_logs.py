"""Log lines as JSON: whole records, with what is known, and without secrets."""

import datetime
import json
import logging
import sys

import pytest

from components.steps import step, workflow
from estimator_lib.core import logs
from estimator_lib.core.errors import ConfigError, Reason, StorageError
from estimator_lib.core.progress import Progress


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setenv(logs.FORMAT, "json")
    monkeypatch.setenv(logs.RUN, "flights-1")


def records(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_a_step_says_is_a_record_a_line(as_json, capsys):
    with logs.of_step("train"):
        Progress("train").line("train  step 1 of 2")
        sys.stdout.write("half a ")
        sys.stdout.write("line\n\nthe end")
    told = records(capsys)
    assert [one["message"] for one in told] == ["train  step 1 of 2", "half a line", "the end"]
    for one in told:
        time = datetime.datetime.fromisoformat(one.pop("time"))
        assert time.utcoffset() == datetime.timedelta(0)
        one.pop("message")
        assert one == {"level": "info", "run": "flights-1", "step": "train", "attempt": 1}


def test_without_the_variable_lines_stay_as_they_are(monkeypatch, capsys):
    monkeypatch.delenv(logs.FORMAT, raising=False)
    with logs.of_step("train"):
        print("train  step 1 of 2")
    assert capsys.readouterr().out == "train  step 1 of 2\n"


def test_another_format_is_refused(monkeypatch):
    monkeypatch.setenv(logs.FORMAT, "xml")
    with pytest.raises(ConfigError, match="must be json or text, got 'xml'"):
        logs.wants_json()


def test_on_a_cluster_the_run_is_what_its_pods_are_named_after(as_json, monkeypatch, capsys):
    monkeypatch.delenv(logs.RUN)
    monkeypatch.setenv("KFP_POD_NAME", "flights-5d8l7-system-container-impl-1234")
    with logs.of_step("train"):
        print("x")
    (told,) = records(capsys)
    assert told["run"] == "flights-5d8l7"
    assert told["pod"] == "flights-5d8l7-system-container-impl-1234"


def test_errors_attempts_and_what_libraries_log(as_json, monkeypatch, capsys):
    monkeypatch.setattr(step.time, "sleep", lambda _: None)
    monkeypatch.setenv("STEP_RETRIES", "1")
    left = [StorageError("The server is away.", reason=Reason.IO), ConfigError("It is\nwrong.")]

    def run():
        logging.getLogger("some.library").warning("look %s", "out")
        raise left.pop(0)

    module = type(sys)("components.steps.tried")
    module.run = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(SystemExit) as ended:
        step.run("tried", {})
    assert ended.value.code == 2
    told = records(capsys)
    assert [(one["level"], one["attempt"]) for one in told] == [
        ("warning", 1), ("info", 1), ("warning", 2), ("error", 2), ("error", 2),
    ]  # fmt: skip
    assert told[0]["message"] == "look out"
    assert told[0]["logger"] == "some.library"
    assert [one["message"] for one in told[3:]] == ["It is", "wrong."]


def test_reasons_are_read_from_records_as_from_lines(as_json, capsys):
    with logs.of_step("evaluate"):
        print("verdict: refused: auc is 0.6")
        print("error: No such file.")
    text = capsys.readouterr().out
    ending = workflow.read_log(text)
    assert ending.error == "No such file."
    assert ending.verdict == "refused: auc is 0.6"
    assert ending.last_line == "error: No such file."
    assert logs.text("{not json") == "{not json"
    assert logs.text('{"a": 1}') == '{"a": 1}'


@pytest.mark.parametrize(
    "name",
    ["ESTIMATOR_PIPELINES_TOKEN", "NOTIFY_WEBHOOK", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD",
     "AZURE_STORAGE_ACCOUNT_KEY", "some_api_key"],
)  # fmt: skip
def test_values_of_secrets_are_not_repeated(as_json, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "/s3cret+value")
    with logs.of_step("notify"):
        print("cannot reach https://host/s3cret+value?x=/s3cret+value")
        logging.getLogger("lib").error("with /s3cret+value")
    text = capsys.readouterr().out
    assert "s3cret" not in text
    assert "cannot reach https://host***?x=***" in text


def test_paths_and_names_that_are_no_secrets_are_told(as_json, monkeypatch, capsys):
    monkeypatch.setenv("ESTIMATOR_PIPELINES_TOKEN_FILE", "/var/run/token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json")
    with logs.of_step("train"):
        print("cannot read /var/run/token and /etc/key.json")
    assert "/var/run/token and /etc/key.json" in capsys.readouterr().out


def test_a_runner_heads_the_lines_of_its_steps(as_json):
    shown = []
    with logs.of_run("flights-2", shown.append) as show:
        show("flights: 12 files")
        show("\ntrain")
        show(logs.record("step 1", {"step": "train", "run": "flights-2"}))
        show("  done in 1.2 s")
    told = [json.loads(line) for line in shown]
    assert [one.get("step") for one in told] == [None, "train", "train", "train"]
    assert {one["run"] for one in told} == {"flights-2"}
    assert told[-1]["message"] == "done in 1.2 s"
