"""Makes tfma_metrics.json: rows, and what TensorFlow Model Analysis 0.52.0 says of them.

Run with the extra `tfma` installed:

    python tests/golden/make_tfma_metrics.py

The rows are in the file as well, so that nothing depends on a random generator's stream.
"""

import json
import pathlib
from unittest import mock

import numpy as np

PLACE = pathlib.Path(__file__).with_name("tfma_metrics.json")
BINARY = {
    "auc": "AUC",
    "auc_precision_recall": "AUCPrecisionRecall",
    "loss": "BinaryCrossEntropy",
    "accuracy": "BinaryAccuracy",
    "precision": "Precision",
    "recall": "Recall",
    "label_mean": "MeanLabel",
    "prediction_mean": "MeanPrediction",
    "calibration": "Calibration",
    "brier": "MeanSquaredError",
}
REGRESSION = {
    "loss": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "label_mean": "MeanLabel",
    "prediction_mean": "MeanPrediction",
}
MULTICLASS = {"loss": "SparseCategoricalCrossentropy", "accuracy": "SparseCategoricalAccuracy"}
NAMES = {"binary": BINARY, "regression": REGRESSION, "multiclass": MULTICLASS}


def rows(count=400):
    """Rows of each task, with weights and two slicing fields."""
    rng = np.random.default_rng(52)
    logit = rng.normal(-0.6, 1.2, count)
    amount = rng.gamma(2.0, 3.0, count)
    classes = rng.dirichlet([1.0, 1.0, 1.0], count).round(4)
    classes[:, 2] = 1 - classes[:, 0] - classes[:, 1]
    noisy = 1 / (1 + np.exp(-logit - rng.normal(0, 0.7, count)))
    return {
        "weight": rng.uniform(0.2, 2.0, count).round(3).tolist(),
        "carrier": rng.choice(["AA", "UA"], count).tolist(),
        "origin": rng.choice(["EWR", "JFK"], count).tolist(),
        "binary": {
            "labels": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int).tolist(),
            "predictions": noisy.round(4).tolist(),
        },
        "regression": {
            "labels": amount.round(3).tolist(),
            "predictions": (amount + rng.normal(0, 2, count)).round(3).tolist(),
        },
        "multiclass": {
            "labels": [int(rng.choice(3, p=p)) for p in classes / classes.sum(1, keepdims=True)],
            "predictions": classes.round(4).tolist(),
        },
    }


def figures(data, task):
    """TFMA's metrics of a task by slice: "", "AA", "UA", "AA EWR" and so on."""
    import apache_beam as beam
    import pandas as pd
    import tensorflow_model_analysis as tfma
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from google.protobuf import text_format
    from tensorflow_model_analysis.proto import config_pb2

    names = NAMES[task]
    listed = "".join(f'metrics {{ class_name: "{name}" }}' for name in names.values())
    asked = text_format.Parse(
        'model_specs { label_key: "label" prediction_key: "prediction" '
        'example_weight_key: "weight" } metrics_specs { ' + listed + " } slicing_specs {} "
        'slicing_specs { feature_keys: "carrier" } '
        'slicing_specs { feature_keys: ["carrier", "origin"] }',
        config_pb2.EvalConfig(),
    )
    table = pd.DataFrame(
        {
            "label": data[task]["labels"],
            "prediction": data[task]["predictions"],
            **{name: data[name] for name in ("weight", "carrier", "origin")},
        }
    )
    # The default runner looks for a service on the network first.
    here = beam.Pipeline(runner=FnApiRunner())
    with mock.patch.object(beam, "Pipeline", return_value=here):
        result = tfma.analyze_raw_data(table, asked)
    found = {}
    for key, outputs in result.slicing_metrics:
        values = outputs[""][""]
        by_name = {name.lower().replace("_", ""): v["doubleValue"] for name, v in values.items()}
        found[" ".join(value for _, value in key)] = {
            ours: by_name[theirs.lower()] for ours, theirs in names.items()
        }
    return found


def main():
    data = rows()
    content = {"rows": data, "figures": {task: figures(data, task) for task in NAMES}}
    PLACE.write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
