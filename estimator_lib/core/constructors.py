"""Signatures of the ready-made Estimators, read without importing TensorFlow.

Layer 0. `config check` must refuse an unknown constructor argument at once, and importing a
model's module costs seconds of TensorFlow; so its source is parsed instead. The source is the
only place where a signature is written.
"""

from __future__ import annotations

import ast
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

_CANNED = pathlib.Path(__file__).parents[1] / "canned"
_OWN_ARGUMENTS = frozenset(("self", "model_dir", "config"))
_COLUMN_ARGUMENT = "feature_columns"


@functools.cache
def signatures() -> Mapping[str, tuple[str, ...]]:
    """Returns constructor argument names by class name, for every ready-made Estimator."""
    found = {}
    for path in sorted(_CANNED.glob("[a-z]*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    arguments = (*member.args.args, *member.args.kwonlyargs)
                    names = tuple(a.arg for a in arguments if a.arg not in _OWN_ARGUMENTS)
                    found[node.name] = names
    return found


def check_arguments(
    name: str | None, arguments: Mapping[str, Any], columns: Mapping[str, fc.Column]
) -> None:
    """Refuses an unknown Estimator, an unknown argument and a column that is not declared.

    Args:
        name: Class name; None for a user's own function, whose other arguments are its affair.
        arguments: As in the configuration.
        columns: The declared columns by their name in the file.

    Raises:
        ConfigError: naming the Estimator, the argument and the nearest known name.
    """
    if name is not None:
        if name not in signatures():
            raise ConfigError(
                f"estimator.name {quote(name)} is unknown.{did_you_mean(name, signatures())}",
                reason=Reason.UNKNOWN_NAME,
            )
        for argument in arguments:
            if argument not in signatures()[name]:
                raise ConfigError(
                    f"estimator.args.{argument}: {name} has no such argument."
                    + did_you_mean(argument, signatures()[name]),
                    reason=Reason.UNKNOWN_NAME,
                )
    for argument, value in arguments.items():
        if not argument.endswith(_COLUMN_ARGUMENT):
            continue
        if not isinstance(value, list):
            raise ConfigError(
                f"estimator.args.{argument}: expected a list of column names, got {quote(value)}.",
                reason=Reason.TYPE_MISMATCH,
            )
        for column in value:
            if column not in columns:
                raise ConfigError(
                    f"estimator.args.{argument}: column {quote(column)} is not declared under "
                    f"columns.{did_you_mean(str(column), columns)}",
                    reason=Reason.UNKNOWN_NAME,
                )


def bind_columns(arguments: Mapping[str, Any], columns: Mapping[str, fc.Column]) -> dict[str, Any]:
    """Returns `arguments` with the names in *feature_columns arguments replaced by columns."""
    return {
        argument: [columns[name] for name in value]
        if argument.endswith(_COLUMN_ARGUMENT)
        else value
        for argument, value in arguments.items()
    }
