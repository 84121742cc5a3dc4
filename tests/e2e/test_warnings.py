"""What a run warns of: each thing once, on the page and at the end; of honest tables nothing."""

import html
import pathlib
import random

import pytest

from estimator_lib.core import config as configuration
from pipelines.local import run, summary

CONFIG = """
name: doubted
data: {split: {files: {train: [train.csv], eval: [eval.csv]}}, types: {code: text, user: text}}
label: {field: y, classes: [stayed, churned]}
columns:
  x: {kind: numeric}
  code: {kind: vocabulary}
  user: {kind: vocabulary, min_count: 2}
  amount: {kind: numeric, default: 0.0}
estimator: {name: LinearClassifier, args: {feature_columns: [x, code, user, amount]}}
train: {epochs: 4, batch_size: 50}
evaluate: {importance: {rows: 500, repeats: 1}}
"""


def honest(draw, number):
    """A row of which x says something, and nothing else does."""
    churned = draw.random() < 0.4
    return {
        "x": draw.gauss(float(churned), 1),
        "code": draw.choice("abcdef"),
        "user": f"u{draw.randrange(draw.choice([9, 10**9]))}",
        "amount": draw.choice([draw.uniform(0, 9), ""]),
        "y": "churned" if churned else "stayed",
    }


def table(seed, rows, change):
    draw, lines = random.Random(seed), ["x,code,user,amount,y"]
    for number in range(rows):
        row = honest(draw, number)
        row.update(change(row, number, draw))
        lines.append(",".join(str(value) for value in row.values()))
    return "\n".join(lines) + "\n"


def is_churned(row):
    return int(row["y"] == "churned")


TABLES = {
    "honest": (lambda r, n, d: {}, [], []),
    "leaks": (
        lambda r, n, d: {
            "x": 1000 * is_churned(r) + n,
            "code": r["y"],
            "amount": d.random() if is_churned(r) else "",
        },
        [],
        ["Each of the fields 'amount', 'code', 'x' alone gives the label away"],
    ),
    "identifier": (
        lambda r, n, d: {"user": d.getrandbits(60)},
        ["columns.user={kind: vocabulary}"],
        ["Field 'user' looks like an identifier"],
    ),
    "constants": (
        lambda r, n, d: {"code": "a", "x": 7, "amount": ""},
        [],
        ["The same value in every train row: code, x.", "No value in every train row: amount."],
    ),
    "few positives": (
        lambda r, n, d: {"y": "churned" if n % 50 == 0 else "stayed"},
        [],
        ["Few eval rows of 'y' are of some classes (churned 8)"],
    ),
    "class missing": (
        lambda r, n, d: {"y": r["y"] if n % 50 else "gone"},
        ["label.classes=[stayed, churned, gone, back]",
         "estimator={name: LinearClassifier, args: {feature_columns: [x], n_classes: 4}}"],
        ["No train row of 'y' is back:",
         "Few eval rows of 'y' are of some classes (gone 8, back 0)"],
    ),
    "label missing": (
        lambda r, n, d: {"code": 0, "amount": d.randrange(2)},
        ["label={fields: [amount, code], kind: multilabel}",
         "columns={x: {kind: numeric}}",
         "estimator={name: LinearEstimator, args: {feature_columns: [x]}}"],
        ["No train row has the label code:"],
    ),
    "overfitted": (
        lambda r, n, d: {"code": f"c{d.randrange(150)}", "y": d.choice(["stayed", "churned"])},
        ["train.epochs=60", "train.evaluate_every_steps=100", "columns.code={kind: embedding, "
         "of: code_id, dimension: 8}", "columns.code_id={kind: vocabulary, field: code}",
         "estimator={name: DNNClassifier, args: {feature_columns: [x, code], "
         "hidden_units: [64], optimizer: {name: Adam, learning_rate: 0.01}}}"],
        ["The loss on unseen rows was best at step "],
    ),
    "diverged": (
        lambda r, n, d: {"x": d.gauss(0, 1) * 10},
        ["train.epochs=40", "train.batch_size=10",
         "estimator={name: LinearClassifier, args: {feature_columns: [x], "
         "optimizer: {name: SGD, learning_rate: 30.0}}}"],
        ["training diverged"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_each_doubt_is_told_once_and_no_other(tmp_path, warm_steps, name):
    change, settings, expected = TABLES[name]
    for seed, split in enumerate(("train", "eval")):
        (tmp_path / f"{split}.csv").write_text(table(seed, 400, change))
    (tmp_path / "config.yaml").write_text(CONFIG)
    config = configuration.load(tmp_path / "config.yaml", settings)
    result = run.run(
        config, base_dir=tmp_path, output=tmp_path / "out", show=lambda _: None, steps=warm_steps
    )
    found = result["evaluation"]["cautions"]
    assert len(found) == len(expected), found
    page = html.unescape(pathlib.Path(result["report"]).read_text())
    closing = summary.render(result)
    for sentence, part in zip(found, expected, strict=True):
        assert part in sentence
        assert page.count(sentence) == closing.count(sentence) == 1
