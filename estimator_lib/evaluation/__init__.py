"""Metrics worth trusting, and verdicts: the numbers, not how they look.

Layer 3: numpy and core, no TensorFlow. `metrics` says what is measured, `tables` measures it on
any groups of any number of rows (`spool`), `several` on several labels, heads or models at once;
`bootstrap` adds intervals, `slicing` groups rows, `gate` decides, `curves` holds what can be drawn;
`evaluation` puts them together into `results`; `feature_statistics` reads those of the fields.
`estimator_lib.report` shows them.
"""

from estimator_lib.evaluation.evaluation import Serving, check_metric_names, evaluate
from estimator_lib.evaluation.importance import permutation_importance
from estimator_lib.evaluation.metrics import METRICS, Metric, Problem, names
from estimator_lib.evaluation.predictions import of_head
from estimator_lib.evaluation.results import Evaluation

__all__ = [
    "METRICS",
    "Evaluation",
    "Metric",
    "Problem",
    "Serving",
    "check_metric_names",
    "evaluate",
    "names",
    "of_head",
    "permutation_importance",
]
