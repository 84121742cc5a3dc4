"""From a table that nobody described to a published model, in one command."""

import json

import numpy as np

from pipelines import cli
from pipelines.running import run


def test_one_command_makes_a_model_of_a_table(tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(1)
    rows = 600
    price, city = draw.normal(10, 4, rows).round(2), draw.choice(["Köln", "Bonn", "Ulm"], rows)
    churned = np.where((price > 10) ^ (city == "Ulm"), "yes", "no")
    lines = ["preis;stadt;gekündigt"]
    lines += [f"{p:.2f}".replace(".", ",") + f";{c};{y}" for p, c, y in
              zip(price, city, churned, strict=True)]  # fmt: skip
    (tmp_path / "kunden.csv").write_text("\n".join(lines), encoding="latin-1")
    monkeypatch.chdir(tmp_path)
    settings = ["evaluate.importance.rows=50", "train.max_steps=40"]
    given = ["run", "kunden.csv", "--label", "gekündigt"]
    assert cli.main([*given, *(f"--set={setting}" for setting in settings)]) == 0
    said = capsys.readouterr().out
    assert "split     at random" in said
    assert "verdict   blessed" in said
    result = json.loads((tmp_path / "runs/kunden/run.json").read_text())
    assert result["evaluation"]["metrics"]["auc"]["value"] > 0.95
    assert (tmp_path / "runs/kunden/serving/1/saved_model.pb").exists()
    assert (tmp_path / "runs/kunden/report.html").exists()
    assert sum(result["rows"]["splits"].values()) == rows

    shown = []
    bound = "evaluate.thresholds.loss.max=0"
    refused = run("kunden.yaml", settings=[*settings, bound], show=shown.append)
    assert set(refused.cached) == {"preprocess", "train"}
    assert "train" in " ".join(shown)
    assert refused.verdict == "refused"
    assert refused.model is None
    assert "above the maximum 0" in refused.reasons[0]
    assert sum(refused.rows.values()) == rows
    auc = refused.metrics["auc"]
    assert auc.value == result["evaluation"]["metrics"]["auc"]["value"]
    assert auc.low <= auc.value <= auc.high
    page = refused._repr_html_()
    assert "verdict   refused" in page
    assert "<iframe srcdoc=" in page
