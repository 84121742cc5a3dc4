"""Signatures of the ready-made Estimators, read without importing TensorFlow.

Layer 0. `config check` must refuse an unknown constructor argument at once, and importing a
model's module costs seconds of TensorFlow; so its source is parsed instead. The source is the
only place where a signature is written.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from estimator_lib.core import columns as fc
from estimator_lib.core import constraints, labels
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

_CANNED = pathlib.Path(__file__).parents[1] / "canned"
_OWN_ARGUMENTS = frozenset(("self", "model_dir", "config"))
_COLUMN_ARGUMENT = "feature_columns"
_TREES = "GradientBoostedTrees"
_OF_CATEGORIES = ("Linear", _TREES)
"""Models that read categories as they are."""
_HEAD, HEAD_WEIGHTS = "head", "head_weights"
_VOCABULARY = "label_vocabulary"
"""The configuration's label has the names of the classes."""
_LABELS = {"for_classes": "head_for_classes", "for_numbers": "head_for_numbers"}
"""Decorators of classes for one kind of label, and what has the arguments of its head."""


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """One argument of a constructor, as its source declares it."""

    default: str | None
    """As the source has it; None if it must be given."""
    constraint: constraints.Constraint | None
    about: str

    @property
    def has_default(self) -> bool:
        """Whether it may be left away."""
        return self.default is not None


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a ready-made Estimator, as a configuration gives it.

    Attributes:
        name: Below `estimator.args`.
        default: As Python writes it; None if the argument must be given.
        about: What it is.
    """

    name: str
    default: str | None
    about: str


@dataclasses.dataclass(frozen=True)
class Described:
    """A ready-made Estimator: its class, what it is in a sentence, and its arguments."""

    name: str
    about: str
    arguments: tuple[Argument, ...]


def describe(name: str) -> Described:
    """Returns what a configuration may say of a ready-made Estimator.

    Raises:
        ConfigError: there is none of that name.
    """
    _check_name(name)
    found = [
        Argument(own, parameter.default, parameter.about)
        for own, parameter in _parameters()[name].items()
        if own not in (_HEAD, _VOCABULARY)
    ]
    if takes_head(name):
        found.append(Argument(HEAD_WEIGHTS, "{}", "How much the loss of a label counts, by label."))
    return Described(name, _abouts()[name], tuple(found))


@functools.cache
def signatures() -> Mapping[str, Collection[str]]:
    """Returns constructor argument names by class name, for every ready-made Estimator."""
    return {name: tuple(known) for name, known in _parameters().items()}


def takes_head(name: str) -> bool:
    """Whether a ready-made Estimator learns any label."""
    return _HEAD in signatures().get(name, ())


@functools.cache
def _parameters() -> Mapping[str, Mapping[str, _Parameter]]:
    """Returns the arguments of each class, by name."""
    shared = ast.parse((_CANNED / "networks.py").read_text()).body
    heads = {n.name: _of_function(n, _documented(n)) for n in shared
             if isinstance(n, ast.FunctionDef)}  # fmt: skip
    found: dict[str, Mapping[str, _Parameter]] = {}
    of_heads = {name: own.about for several in heads.values() for name, own in several.items()}
    for node in _classes():
        label = {_last_name(decorator) for decorator in node.decorator_list} & {*_LABELS}
        base = dict(found.get(_last_name(node.bases[0]), {}) if node.bases else {})
        if label:  # see `canned.networks.for_classes`
            del base[_HEAD]
            found[node.name] = base | {**heads[_LABELS[label.pop()]]}
        inherited = of_heads | {name: own.about for name, own in base.items()}
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                found[node.name] = _of_function(member, inherited | _documented(node))
    return found


@functools.cache
def _classes() -> tuple[ast.ClassDef, ...]:
    """The public classes of the models' modules, bases before those derived from them."""
    return tuple(
        node
        for path in sorted(_CANNED.glob("[a-z]*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )


@functools.cache
def _abouts() -> Mapping[str, str]:
    """The first paragraph of each class's docstring."""
    texts = {node.name: ast.get_docstring(node) or "" for node in _classes()}
    return {name: " ".join(text.split("\n\n")[0].split()) for name, text in texts.items()}


def _documented(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """What the section Args of a docstring says of each argument."""
    found: dict[str, list[str]] = {}
    lines = iter((ast.get_docstring(node) or "").splitlines())
    for line in lines:
        if line == "Args:":
            break
    last: list[str] = []
    for line in lines:
        if line and not line.startswith(" "):
            break
        name, colon, text = line.strip().partition(": ")
        if colon and line.startswith("    ") and not line.startswith("     "):
            last = found[name] = [text]
        elif line:
            last.append(line.strip())
    return {name: " ".join(texts) for name, texts in found.items()}


def _of_function(node: ast.FunctionDef, abouts: Mapping[str, str]) -> Mapping[str, _Parameter]:
    own = node.args
    needed = len(own.args) - len(own.defaults)
    defaults: list[ast.expr | None] = [None] * needed
    defaults += [*own.defaults, *own.kw_defaults]
    return {
        argument.arg: _Parameter(
            None if default is None else ast.unparse(default),
            _constraint(argument.annotation),
            abouts.get(argument.arg, ""),
        )
        for argument, default in zip([*own.args, *own.kwonlyargs], defaults, strict=True)
        if argument.arg not in _OWN_ARGUMENTS
    }


def _constraint(annotation: ast.expr | None) -> constraints.Constraint | None:
    """Returns the constraint of an annotation made of names in `core.constraints`."""
    members: list[ast.expr | None] = [annotation]
    while isinstance(last := members.pop(), ast.BinOp):
        members += [last.right, last.left]
    members.append(last)
    return constraints.either(
        [
            None if isinstance(member, ast.Constant) else getattr(
                constraints, _last_name(member), object
            )
            for member in members
        ]
    )  # fmt: skip


def _last_name(node: ast.expr | None) -> str:
    """Returns the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


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
        _check_name(name)
        # The head follows from the labels; how much each counts is the only choice left.
        known = [HEAD_WEIGHTS if own == _HEAD else own for own in signatures()[name]]
        for argument in arguments:
            if argument not in known:
                raise ConfigError(
                    f"estimator.args.{argument}: {name} has no such argument."
                    + did_you_mean(argument, known),
                    reason=Reason.UNKNOWN_NAME,
                )
    for argument, value in arguments.items():
        if not argument.endswith(_COLUMN_ARGUMENT):
            if name is not None:
                _check_value(name, argument, value)
            continue
        if not isinstance(value, list):
            raise ConfigError(
                f"estimator.args.{argument}: expected a list of column names, got {quote(value)}.",
                reason=Reason.TYPE_MISMATCH,
            )
        for column in value:
            if not isinstance(column, str) or column not in columns:
                raise ConfigError(
                    f"estimator.args.{argument}: column {quote(column)} is not declared under "
                    f"columns.{did_you_mean(str(column), columns)}",
                    reason=Reason.UNKNOWN_NAME,
                )


def _check_name(name: str) -> None:
    if name not in signatures():
        raise ConfigError(
            f"estimator.name {quote(name)} is unknown.{did_you_mean(name, signatures())}",
            reason=Reason.UNKNOWN_NAME,
        )


def _check_value(name: str, argument: str, value: object) -> None:
    """Refuses what a ready-made Estimator's constructor would, before TensorFlow is imported."""
    if argument == _VOCABULARY:
        raise ConfigError(
            "estimator.args.label_vocabulary: the classes are the label's. Remove it, and give "
            "label.classes.",
            reason=Reason.CONFLICT,
        )
    parameter = _parameters()[name].get(argument)
    constraint = parameter.constraint if parameter is not None else None
    if constraint is not None and not constraint.allows(value):
        raise ConfigError(
            f"estimator.args.{argument}: expected {constraint.expected}, got {quote(value)}."
            + constraint.advice(value),
            reason=constraint.reason,
        )


def check_kinds(
    name: str | None, arguments: Mapping[str, Any], columns: Mapping[str, fc.Column]
) -> None:
    """Refuses columns of a kind that a ready-made Estimator does not read, and one listed twice.

    Args:
        name: Class name, a known one; None for a user's own function.
        arguments: As in the configuration, checked by `check_arguments`.
        columns: The declared columns by their name in the file.

    Raises:
        ConfigError: naming the argument and the column.
    """
    for argument, value in arguments.items():
        if name is not None and argument.endswith(_COLUMN_ARGUMENT):
            _check_kinds(name, argument, {column: columns[column] for column in value}, len(value))


def _check_kinds(name: str, argument: str, columns: Mapping[str, fc.Column], listed: int) -> None:
    if not columns or len({column.name for column in columns.values()}) < listed:
        names = ", ".join(repr(column.name) for column in columns.values())
        raise ConfigError(
            f"estimator.args.{argument}: expected at least one column, and each once, got "
            f"{listed} that read {names or 'nothing'}. List others, or remove one.",
            reason=Reason.DUPLICATE if columns else Reason.MISSING_VALUE,
        )
    sequences = argument.startswith("sequence")
    linear = argument.startswith("linear") or name.startswith(_OF_CATEGORIES)
    for own, column in columns.items():
        fault = ""
        if not linear and not isinstance(column, fc.DenseColumn):
            fault = (
                "which gives categories: this model reads numbers. Declare an embedding or an "
                f"indicator of {own!r} and list that"
            )
        elif sequences and not fc.is_sequence(column):
            fault = (
                "which has no positions: expected a sequence_numeric column, or an embedding or "
                "indicator of a sequence. List it under context_feature_columns"
            )
        elif not sequences and fc.is_sequence(column):
            fault = "which has positions. Use an RNN model, or a column without them"
        elif name.startswith(_TREES) and read_by_trees(column) is None:
            fault = "which trees do not read. Declare the field as a numeric or vocabulary column"
        if fault:
            raise ConfigError(
                f"estimator.args.{argument}: column {own!r} is a {column.kind} column, {fault}.",
                reason=Reason.TYPE_MISMATCH,
            )


def read_by_trees(column: fc.Column) -> fc.Column | None:
    """Returns the column that trees read in place of one: of an embedding its category.

    None is for those that they do not read: numbers that are embedded, and categories with weights.
    """
    own = column
    if isinstance(column, fc.EmbeddingColumn | fc.IndicatorColumn):
        own = column.categorical_column
    refused = fc.PiecewiseLinearColumn | fc.PeriodicColumn | fc.WeightedColumn
    return None if isinstance(own, refused) else own


def check_complete(name: str | None, given: Collection[str]) -> None:
    """Refuses a ready-made Estimator without an argument that it cannot do without.

    Args:
        name: Class name, a known one; None for a user's own function.
        given: Names of the arguments that it gets.

    Raises:
        ConfigError: naming the arguments.
    """
    known = _parameters()[name] if name is not None else {}
    lacking = [n for n, own in known.items() if not own.has_default and n not in {*given, _HEAD}]
    if lacking:
        raise ConfigError(
            f"estimator.args.{lacking[0]} is missing, which {name} cannot do without. Add it.",
            reason=Reason.MISSING_VALUE,
        )


def check_label(name: str | None, arguments: Mapping[str, Any], label: labels.Label) -> None:
    """Refuses a ready-made Estimator that cannot learn a label.

    Args:
        name: Class name, a known one; None for a user's own function.
        arguments: As in the configuration.
        label: As `core.labels` describes it.

    Raises:
        ConfigError: saying which Estimators can.
    """
    if name is None:
        return
    if takes_head(name):
        _check_heads(name, arguments.get(HEAD_WEIGHTS, {}), label)
        return
    kind = _KINDS[type(label)]
    if isinstance(label, labels.SeveralLabels | labels.MultiLabel):
        family = name.removesuffix("Classifier").removesuffix("Regressor")
        general = [f"{family}Estimator"] if takes_head(f"{family}Estimator") else []
        several = isinstance(label, labels.SeveralLabels)
        general += ["MMoEEstimator"] if several else []
        what = f"labels has {len(labels.heads(label))}" if several else "label is multilabel"
        raise ConfigError(
            f"estimator.name {name} learns one label of kind class or number, but {what}. Use "
            f"{' or '.join(general) or 'DNNEstimator'}.",
            reason=Reason.CONFLICT,
        )
    for ending, other, wanted, what in (
        ("Regressor", "Classifier", "number", "a number"),
        ("Classifier", "Regressor", "class", "a class"),
    ):
        if name.endswith(ending) and kind != wanted:
            raise ConfigError(
                f"estimator.name {name} predicts {what}, but label.kind is {kind!r}. Use a "
                f"{other}, or set label.kind to {wanted}.",
                reason=Reason.CONFLICT,
            )
    count = len(label.classes) if isinstance(label, labels.ClassLabel) else None
    classes = arguments.get("n_classes", count)
    if count is not None and classes != count:
        raise ConfigError(
            f"estimator.args.n_classes is {quote(classes)}, but label has {count} classes. Make "
            "them agree.",
            reason=Reason.CONFLICT,
        )


_KINDS = {
    labels.ClassLabel: "class",
    labels.NumberLabel: "number",
    labels.MultiLabel: "multilabel",
    labels.SeveralLabels: "heads",
}


def _check_heads(name: str, weights: object, label: labels.Label) -> None:
    several = isinstance(label, labels.SeveralLabels)
    if name.startswith("MMoE") and not several:
        raise ConfigError(
            f"estimator.name {name} learns several labels, but there is one. Use DNNEstimator, or "
            "give labels.",
            reason=Reason.CONFLICT,
        )
    known = labels.heads(label) if several else {}
    fits = constraints.number(at_least=0).allows
    if not isinstance(weights, Mapping) or not all(fits(own) for own in weights.values()):
        raise ConfigError(
            f"estimator.args.{HEAD_WEIGHTS}: expected a number of at least 0 by label, such as "
            f"{{delay: 0.1}}, got {quote(weights)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    for head in weights:
        if head not in known:
            raise ConfigError(
                f"estimator.args.{HEAD_WEIGHTS}: {quote(head)} is not one of labels."
                + did_you_mean(str(head), known),
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
