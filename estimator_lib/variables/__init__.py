"""The variables of one Estimator, kept by stable scoped name and shared by all its modes.

Layer 1. A `model_fn` is traced once per mode. Whatever way it makes variables (`get_variable`,
Keras layers and optimizers, `tf.Module`, plain `tf.Variable`), the first trace creates them
outside the graph and keeps them in a `VariableStore`; later traces get the same objects by
name. Outside an Estimator, `get_variable` simply makes a `tf.Variable`, so that heads and
columns can be used eagerly on their own.

Names: `scope("dnn")` and `get_variable("kernel", ...)` give `dnn/kernel`, and the same name
asked for twice is the same variable. Variables made by Keras or `tf.Variable` are named after
the name scopes they are made in, and a second one of the same name gets `_1`.

    naming       names that follow from scopes
    store        the variables by name, and the one place that makes them
    tracing      one call of a model_fn, whose variables go to a store
    remote       variables on parameter servers, large tables split over several
    access       what model code asks for: variables, the global step, seeds
    averages     running means of the weights
    xla          conditions on a batch, where XLA has no assertions
    legacy_names how tf.estimator called what is called otherwise here
"""

from __future__ import annotations

from estimator_lib.variables.access import (
    adopt,
    compute_dtype,
    get_variable,
    global_step,
    global_step_of,
    name_of,
    replica_rows,
    root_scope,
    scope,
    stateless_seed,
    trainable_variables,
)
from estimator_lib.variables.averages import update_averages
from estimator_lib.variables.naming import AVERAGE, GLOBAL_STEP, graph_name
from estimator_lib.variables.remote import (
    Partitioner,
    Place,
    RemoteStore,
    RemoteVariable,
    SplitVariable,
    distinct,
    parts_of,
)
from estimator_lib.variables.store import VariableFactory, VariableStore, raw
from estimator_lib.variables.tracing import Trace, in_trace, trace
from estimator_lib.variables.xla import for_xla, require, requirements_met

__all__ = [
    "AVERAGE",
    "GLOBAL_STEP",
    "Partitioner",
    "Place",
    "RemoteStore",
    "RemoteVariable",
    "SplitVariable",
    "Trace",
    "VariableFactory",
    "VariableStore",
    "adopt",
    "compute_dtype",
    "distinct",
    "for_xla",
    "get_variable",
    "global_step",
    "global_step_of",
    "graph_name",
    "in_trace",
    "name_of",
    "parts_of",
    "raw",
    "replica_rows",
    "require",
    "requirements_met",
    "root_scope",
    "scope",
    "stateless_seed",
    "trace",
    "trainable_variables",
    "update_averages",
]
