"""From a table that nobody described to a published model, in one command."""

import json

import numpy as np

from pipelines import cli


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
    given = ["run", "kunden.csv", "--label", "gekündigt", "--set", "evaluate.importance.rows=50"]
    assert cli.main([*given, "--set", "train.max_steps=40"]) == 0
    said = capsys.readouterr().out
    assert "split     at random" in said
    assert "verdict   blessed" in said
    result = json.loads((tmp_path / "runs/kunden/run.json").read_text())
    assert result["evaluation"]["metrics"]["auc"]["value"] > 0.95
    assert (tmp_path / "runs/kunden/serving/1/saved_model.pb").exists()
    assert (tmp_path / "runs/kunden/report.html").exists()
    assert sum(result["rows"]["splits"].values()) == rows
