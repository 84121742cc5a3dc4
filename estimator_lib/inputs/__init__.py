"""Inputs: functions that give features and labels, batch by batch.

An input_fn may be any function that returns a `tf.data.Dataset`; those made here can also
begin in their middle, so that a resumed training sees the batches it would have seen.
"""

from estimator_lib.inputs.arrays import arrays_input, numpy_input_fn, pandas_input_fn
from estimator_lib.inputs.datasets import InputSource, resumable
from estimator_lib.inputs.parquet import examples_input

__all__ = [
    "InputSource",
    "arrays_input",
    "examples_input",
    "numpy_input_fn",
    "pandas_input_fn",
    "resumable",
]
