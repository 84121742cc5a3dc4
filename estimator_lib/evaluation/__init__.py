"""Metrics worth trusting, verdicts and the report.

Layer 3: numpy and core, no TensorFlow. `metrics` says what is measured, `tables` measures it on
any run of rows, `bootstrap` adds intervals, `curves` what can be drawn; `evaluation` puts them
together with the verdict; `feature_statistics`, `charts` and `report` tell people.
"""

from estimator_lib.evaluation.evaluation import Evaluation, check_metric_names, evaluate
from estimator_lib.evaluation.metrics import METRICS, Metric, names

__all__ = ["METRICS", "Evaluation", "Metric", "check_metric_names", "evaluate", "names"]
