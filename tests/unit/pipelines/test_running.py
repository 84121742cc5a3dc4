"""What `run` tells besides its lines: JSON for collectors of logs, metrics for Prometheus."""

import json
import os

import pytest

from components.steps import metrics
from estimator_lib.core import logs
from estimator_lib.core.errors import PipelineError
from pipelines import cli
from pipelines.local import run as local

CONFIG = """
name: small
data: {split: {files: {train: [a.csv], eval: [b.csv]}}}
label: {field: late}
columns: {wind: {kind: numeric}}
estimator: {name: LinearClassifier, args: {feature_columns: [wind]}}
train: {epochs: 1, batch_size: 1}
"""
RESULT = {
    "rows": {"read": 3, "splits": {"train": 2, "eval": 1}},
    "evaluation": {"task": "binary", "verdict": "refused", "reasons": ["auc."], "metrics": {}},
    "report": "/r",
    "model": None,
    "cached": [],
    "seconds": {"train": 2.0, "total": 3.0},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with a run of the test's own."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv(metrics.PLACE, str(tmp_path / "metrics"))
    monkeypatch.delenv(logs.RUN, raising=False)

    def run(body):
        monkeypatch.setattr(local, "run", body)
        code = cli.main(["run", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "out")])
        return code, (tmp_path / "metrics" / "estimator_pipelines_small.prom").read_text()

    return run


def test_a_run_is_measured_however_it_ends(run, tmp_path, capsys):
    code, told = run(lambda *_, **__: RESULT)
    assert code == 3
    assert 'last_run_exit_code{pipeline="small"} 3.0\n' in told
    assert 'step_duration_seconds{pipeline="small",step="train"} 2.0\n' in told
    assert 'rows{pipeline="small",split="train"} 2.0\n' in told
    assert 'verdict{pipeline="small",verdict="refused"} 1.0\n' in told
    assert "total" not in told
    assert "last_success" not in told

    ends = [PipelineError.from_exit("away", 75), PipelineError("wrong"), KeyboardInterrupt()]
    for end, expected in zip(ends, (75, 2, 130), strict=True):

        def fail(*_, end=end, **__):
            raise end

        code, told = run(fail)
        assert code == expected
        assert f'last_run_exit_code{{pipeline="small"}} {float(expected)}\n' in told

    def break_down(*_, **__):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(break_down)
    written = tmp_path / "metrics" / "estimator_pipelines_small.prom"
    assert 'last_run_exit_code{pipeline="small"} 1.0\n' in written.read_text()
    capsys.readouterr()


def test_lines_and_summary_are_records_of_one_run(run, monkeypatch, capsys):
    monkeypatch.setenv(logs.FORMAT, "json")
    shown, names = [], []
    monkeypatch.setattr(local, "terminal", shown.append)

    def body(*_, show, **__):
        names.append(os.environ[logs.RUN])  # what steps are told
        show("small: 2 files")
        show("\ntrain")
        return RESULT

    run(body)
    lines = [json.loads(line) for line in [*shown, *capsys.readouterr().out.splitlines()]]
    assert {line["run"] for line in lines} == set(names)
    assert lines[1]["step"] == "train"
    summary = [line["message"] for line in lines[2:]]
    assert summary[0].startswith("rows      3 read")
    assert "verdict   refused" in summary


def test_without_the_variable_lines_are_text(run, monkeypatch, capsys):
    monkeypatch.delenv(logs.FORMAT, raising=False)
    run(lambda *_, show, **__: RESULT)
    assert "\nverdict   refused\n" in capsys.readouterr().out
