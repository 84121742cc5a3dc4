"""Boosted trees through the whole pipeline: evaluated, calibrated, published, scored."""

import csv

import numpy as np

from pipelines import cli

CONFIG = """
name: trees
data: {split: {files: {train: [train.csv], eval: [eval.csv]}}}
label: {field: late, classes: 2}
columns:
  carrier: {kind: vocabulary}
  wind: {kind: numeric}
estimator:
  name: GradientBoostedTreesClassifier
  args: {feature_columns: [carrier, wind], min_leaf_rows: 5}
train: {max_steps: 20, evaluate_every_steps: 5, calibration: platt, early_stopping: {}}
evaluate:
  slices: [carrier]
  min_slice_rows: 20
  thresholds: {auc: {min: 0.8}}
  importance: {rows: 100, repeats: 1}
"""


def test_nothing_downstream_knows_of_trees(tmp_path, capsys):
    draw = np.random.default_rng(3)
    for name, rows in (("train", 400), ("eval", 200)):
        with (tmp_path / f"{name}.csv").open("w") as sink:
            table = csv.writer(sink)
            table.writerow(["carrier", "wind", "late"])
            for _ in range(rows):
                carrier, wind = draw.choice(["AA", "UA", "DL"]), draw.uniform(0, 30)
                table.writerow([carrier, f"{wind:.1f}", int((carrier == "UA") ^ (wind > 15))])
    (tmp_path / "trees.yaml").write_text(CONFIG)
    output = tmp_path / "run"
    assert cli.main(["run", str(tmp_path / "trees.yaml"), "--output", str(output)]) == 0
    assert "verdict   blessed" in capsys.readouterr().out
    scores = tmp_path / "scores.csv"
    given = ["predict", str(output / "serving"), str(tmp_path / "eval.csv"), "-o", str(scores)]
    assert cli.main([*given, "--keep", "late"]) == 0
    with scores.open() as source:
        found = [(row["late"], float(row["logistic"])) for row in csv.DictReader(source)]
    right = np.mean([(score > 0.5) == (late == "1") for late, score in found])
    assert len(found) == 200
    assert right > 0.9
