"""How well default models predict: late flights, trained on 80 % of the shuffled rows.

    python -m tests.benchmarks quality

Prints the AUC on the other 20 % of our models beside their peers: wide and deep (Adagrad at 0.6)
beside tf.estimator 2.15 with its default and with Adam (same columns, batches of 512, two passes
for all), DCN and TabM (eight passes) beside LightGBM (300 trees of 63 leaves, rate 0.05). About ten
minutes. Figures of quality do not depend on the machine's load.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.benchmarks import environments, flights_table
from tests.benchmarks.bench_estimator import declared_columns
from tests.benchmarks.figures import report

HERE = pathlib.Path(__file__).parent
BATCH = 512
EVAL_SHARE = 0.2
PASSES = {"wide and deep": 2, "DCN": 8, "TabM": 8}


def prepare(folder):
    """Runs the preprocess step; train.csv and eval.csv hold the rows that peers use too."""
    from estimator_lib.core import config
    from transforms import preprocess

    header, *rows = (folder / "flights.csv").read_text().splitlines(keepends=True)
    first_eval = round(len(rows) * (1 - EVAL_SHARE))
    (folder / "train.csv").write_text("".join([header, *rows[:first_eval]]))
    (folder / "eval.csv").write_text("".join([header, *rows[first_eval:]]))
    part = config.PreprocessPart.model_validate(
        {
            "data": {"split": {"files": {"train": ["train.csv"], "eval": ["eval.csv"]}}},
            "label": {"field": flights_table.LABEL},
            "weight": None,
            "columns": declared_columns(),
            "keep": [],
        }
    )
    places = {f"{name}_dir": str(folder / name) for name in ("examples", "transform", "statistics")}
    preprocess.run(part, base_dir=str(folder), **places)


def model_of(name, folder, model_dir):
    """A default model over the flights' columns."""
    import estimator_lib
    from components.steps.model import read_columns
    from estimator_lib.core import columns as fc

    columns = {n: fc.transformed(c) for n, c in read_columns(f"{folder}/transform").items()}
    deep = [columns[n] for n in flights_table.NUMERIC]
    deep += [columns[f"{n}_vector"] for n in flights_table.CATEGORICAL]
    settings = {
        "model_dir": model_dir,
        "config": estimator_lib.RunConfig(tf_random_seed=1, save_checkpoints_steps=10**6),
    }
    if name == "wide and deep":
        wide = (*flights_table.CATEGORICAL, *flights_table.CROSSES)
        return estimator_lib.DNNLinearCombinedClassifier(
            linear_feature_columns=[columns[n] for n in wide],
            dnn_feature_columns=deep,
            dnn_hidden_units=flights_table.HIDDEN,
            dnn_optimizer={"name": "Adagrad", "learning_rate": 0.6},
            **settings,
        )
    made = {"DCN": estimator_lib.DCNClassifier, "TabM": estimator_lib.TabMClassifier}[name]
    return made(feature_columns=deep, **settings)


def ours(folder, name):
    """Trains and evaluates one of our models; AUC."""
    from estimator_lib.inputs.parquet import examples_input

    def batches(split, **options):
        return examples_input(f"{folder}/examples", split, batch_size=BATCH, **options)

    with tempfile.TemporaryDirectory() as model_dir:
        model = model_of(name, folder, model_dir)
        model.train(batches("train", shuffle=True, seed=1, epochs=PASSES[name]))
        return float(model.evaluate(batches("eval"))["auc"])


def lightgbm_auc(folder):
    """AUC of LightGBM on the same rows and fields; categories are categories."""
    import lightgbm
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    tables = [pd.read_csv(folder / f"{split}.csv", dtype=str) for split in ("train", "eval")]
    for field in flights_table.CATEGORICAL:
        known = sorted(tables[0][field].dropna().unique())
        for table in tables:
            table[field] = pd.Categorical(table[field], categories=known)
    for table in tables:
        numbers = [*flights_table.NUMERIC, flights_table.LABEL]
        table[numbers] = table[numbers].astype(float)
    fields = [*flights_table.CATEGORICAL, *flights_table.NUMERIC]
    model = lightgbm.LGBMClassifier(
        n_estimators=300, num_leaves=63, learning_rate=0.05, n_jobs=2, random_state=0, verbose=-1
    ).fit(tables[0][fields], tables[0][flights_table.LABEL])
    scores = model.predict_proba(tables[1][fields])[:, 1]
    return float(roc_auc_score(tables[1][flights_table.LABEL], scores))


def tf_estimator_auc(folder, optimizer):
    """AUC of tf.estimator 2.15; `optimizer` is "default" or "Adam"."""
    script = str(HERE / "peers" / "quality_tf_estimator.py")
    passes = str(PASSES["wide and deep"])
    command = [environments.python("tf_estimator"), script, str(folder), optimizer, passes]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{command} failed:\n{ended.stderr[-3000:]}")
    line = next(li for li in ended.stdout.splitlines() if li.startswith("RESULT "))
    return float(json.loads(line.removeprefix("RESULT "))["auc"])


def main():
    """Prints one line per figure."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        flights_table.write(folder)
        prepare(folder)
        mine = ours(folder, "wide and deep")
        for optimizer in ("default", "Adam"):
            peer = f"tf.estimator 2.15, {optimizer} optimizer"
            theirs = tf_estimator_auc(folder, optimizer)
            report("wide and deep: AUC, defaults, 2 passes", mine, "AUC", peer, theirs)
        trees = lightgbm_auc(folder)
        for name in ("DCN", "TabM"):
            title = f"{name}: AUC, defaults, {PASSES[name]} passes"
            report(title, ours(folder, name), "AUC", "LightGBM", trees)


if __name__ == "__main__":
    main()
