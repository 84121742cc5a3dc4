"""Names of variables, which follow from the scopes that they are made in."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

import tensorflow as tf

from estimator_lib.tensorflow_internals import current_path

GLOBAL_STEP: Final = "global_step"
AVERAGE: Final = "/ExponentialMovingAverage"


@dataclasses.dataclass
class Names:
    """The names that one call of a model_fn gives.

    Attributes:
        base: The graph's name scope that the call began in.
        graph: The graph that the call began in.
        scopes: Those entered by `variables.scope`: (variables' prefix, graph's name scope).
    """

    base: str = ""
    graph: tf.Graph | None = None
    scopes: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    _counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def of_get(self, name: str) -> str:
        """The full name of a `get_variable` call made now."""
        prefix = self.scopes[-1][0] if self.scopes else self._variable_scope()
        return f"{prefix}/{name}" if prefix else name

    def of_made(self, name: str) -> str:
        """The full, unique name of a variable that Keras or `tf.Variable` makes now."""
        prefix, graph_scope = self.scopes[-1] if self.scopes else ("", self.base)
        # Keras's own path is preferred: TensorFlow numbers a repeated name scope per graph,
        # so its names would depend on what else the mode has traced.
        here = current_path()
        if here and not self.scopes:
            prefix = self._variable_scope()
        if not here:
            here = tf.get_current_name_scope()
            if graph_scope and (here == graph_scope or here.startswith(graph_scope + "/")):
                here = here[len(graph_scope) :].strip("/")
        full = "/".join(part for part in (prefix, here, name) if part)
        count = self._counts[full] = self._counts.get(full, -1) + 1
        return f"{full}_{count}" if count else full

    def _variable_scope(self) -> str:
        """The `tf.compat.v1.variable_scope` that the call is in, even in a lifted part."""
        if self.graph is None:
            return ""
        with self.graph.as_default():
            return str(tf.compat.v1.get_variable_scope().name)


def graph_name(name: str) -> str:
    """Returns a name that a graph allows for ops: fields of tables may have any."""
    allowed = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    return allowed if allowed[:1].isalnum() else f".{allowed}"
