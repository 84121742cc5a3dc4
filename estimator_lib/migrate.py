"""Reads programs for tf.estimator and says which lines need an edit, and which one.

Nothing of a program is imported or run: names are followed through its imports and through plain
assignments such as `tfe = tf.estimator`. What is only known when it runs is not seen.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterable, Iterator

from estimator_lib.core import storage
from estimator_lib.core.errors import DataError, Reason

ALIAS = "tf_estimator"
IMPORT = f"import estimator_lib as {ALIAS}"
_ROOT = "tensorflow.estimator"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Edit:
    """A line that needs an edit.

    Attributes:
        line: Its number, from 1.
        column: Where `found` begins, in bytes from 0.
        found: The text that needs it.
        advice: What to write, or to do.
        replacement: The new text, if it can be written without more thought; else None.
    """

    line: int
    column: int
    found: str
    advice: str
    replacement: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A source file and its edits, by line."""

    path: pathlib.Path
    source: str
    edits: tuple[Edit, ...]

    def rewritten(self) -> str:
        """The source with the replacements made; other lines stay as they are."""
        lines = _lines(self.source)
        for edit in sorted(self.edits, reverse=True):
            if edit.replacement is None:
                continue
            line = lines[edit.line - 1].encode()
            before, after = line[: edit.column], line[edit.column + len(edit.found.encode()) :]
            lines[edit.line - 1] = (before + edit.replacement.encode() + after).decode()
        return "".join(lines)


def read(paths: Iterable[pathlib.Path]) -> list[Program]:
    """Reads Python files, and those below directories.

    Raises:
        DataError: a path does not exist, or is no Python that can be parsed.
    """
    return [_program(file) for path in paths for file in _files(path)]


def write(program: Program) -> None:
    """Puts the replacements into the file, whole or not at all."""
    storage.write_text(program.path, program.rewritten())


def edits(source: str) -> tuple[Edit, ...]:
    """The edits that a source needs, by line.

    Raises:
        SyntaxError: it cannot be parsed.
    """
    tree = ast.parse(source)
    reader = _Reader(source)
    reader.visit(tree)
    found = set(reader.found)
    if any(edit.replacement and edit.replacement.startswith(ALIAS) for edit in found):
        found |= _import_line(tree, source)
    return tuple(sorted(found, key=lambda edit: (edit.line, edit.column, edit.advice)))


SUCCESSORS = {
    "BoostedTreesClassifier": "use a library of boosted trees",
    "BoostedTreesEstimator": "use a library of boosted trees",
    "BoostedTreesRegressor": "use a library of boosted trees",
    "FeedFnHook": "nothing is fed to a graph: put it into the input_fn",
    "GlobalStepWaiterHook": "delete it: nothing waits for a step",
    "tpu": "TensorFlow 2.21 has no TPU package: use Estimator, a strategy in RunConfig",
    "experimental.KMeans": "use KMeansClustering",
}
"""Names of tf.estimator that are gone, and what to do."""
_DROPPED = {
    "CheckpointSaverHook": ("save_graph_def",),
    "FinalOpsHook": ("final_ops_feed_dict",),
    "ProfilerHook": ("save_secs", "show_dataflow", "show_memory"),
    "SummarySaverHook": ("scaffold", "summary_op"),
}
_METHODS = {
    "export_savedmodel": "export_saved_model",
}
_V1_MODELS = re.compile(r"(Baseline|Linear|DNN|DNNLinearCombined)(Classifier|Regressor|Estimator)")
_V1_ADVICE = (
    "models of tf.compat.v1.estimator sum the loss over a batch, and their string 'Adagrad' has "
    "the learning rate 0.05: to keep the numbers, give loss_reduction='sum' and the optimizer "
    "with its rate"
)
_WRITER = (
    "it writes in graphs only, and hooks run outside of them: use tf.summary.create_file_writer"
)
# What TensorFlow 2.21 lacks, by its name there; the longest that fits is taken.
_ELSEWHERE = {
    "tensorflow.contrib": "tf.contrib has gone: use what took its place in TensorFlow",
    "tensorflow.contrib.estimator": "use estimator_lib: forward_features, add_metrics, heads",
    "tensorflow.contrib.factorization.KMeansClustering": "use estimator_lib.KMeansClustering",
    "tensorflow.contrib.feature_column": "use tf.feature_column.sequence_*",
    "tensorflow.keras.estimator": "call the Keras model inside a model_fn",
    "tensorflow.keras.experimental": "Keras 3 lacks it: use the RNN models for sequences, the "
    "Linear models for linear ones",
    "tensorflow.keras.layers.DenseFeatures": "use "
    "tf.compat.v1.feature_column.input_layer(features, columns)",
    "tensorflow.keras.layers.experimental": "Keras 3 lacks it: use tf.keras.layers",
    "tensorflow.keras.optimizers.legacy": "Keras 3 lacks it: use estimator_lib.optimizers, which "
    "have the same numbers",
    "tensorflow.summary.FileWriter": _WRITER,
    "tensorflow.summary.FileWriterCache": _WRITER,
    "tensorflow.layers": "Keras 3 lacks it: use its like of keras.layers",
}
_LAYERS = re.compile(
    r"tensorflow\.layers\.(dense|batch_normalization|dropout|flatten|(conv|(max|average)_pooling)[123]d)"
)
"""Layers of the first version that a model_fn can call here."""
_MEANS = re.compile(r"tensorflow\.losses\.Reduction\.(MEAN|SUM_BY_NONZERO_WEIGHTS)")
_SCAFFOLD_FEEDS = ("init_feed_dict", "local_init_feed_dict")


class _Reader(ast.NodeVisitor):
    """Collects the edits of one module."""

    def __init__(self, source: str) -> None:
        self.found: list[Edit] = []
        self._lines = _lines(source)
        self._names: dict[str, str] = {}

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            bound = alias.name if alias.asname else alias.name.split(".")[0]
            self._names[alias.asname or bound] = bound
            name = _plain(alias.name)
            if _is_below(name, _ROOT):
                self._tell_import(node, name, alias)
            elif alias.name == "tensorflow_estimator":
                self._tell(node, "that package has gone: delete the import")
            elif _is_private(alias.name):
                self._tell(node, _private_advice(alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return
        inside = _is_below(_plain(node.module), _ROOT)
        if inside and not _is_private(node.module):
            self._tell_module(node, node.module)
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self._names[alias.asname or alias.name] = full
            if _is_private(node.module):
                self._tell(node, _private_advice(full))
            elif inside:
                self._judge(node, full)
            elif _is_below(_plain(full), _ROOT):
                self._tell_import(node, _plain(full), alias)
            else:
                self._judge_elsewhere(node, full)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        full = self._dotted(node.value)
        if full and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self._names[node.targets[0].id] = full

    def visit_Attribute(self, node: ast.Attribute) -> None:
        full = self._dotted(node)
        if full is None:
            self.generic_visit(node)
            return
        name = _plain(full)
        if _is_below(name, _ROOT):
            self._replace_root(node)
            self._judge(node, full)
        else:
            self._judge_elsewhere(node, full)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        full = self._dotted(node.func)
        name = _below_root(_plain(full)) if full else ""
        for keyword in node.keywords:
            if keyword.arg in _DROPPED.get(name, ()):
                self._tell(keyword, f"{name} has no {keyword.arg}: delete it")
        if full and _plain(full) == "tensorflow.train.Scaffold":
            for keyword in node.keywords:
                if keyword.arg in _SCAFFOLD_FEEDS:
                    self._tell(
                        keyword, f"{keyword.arg} needs a session: give the values by init_fn"
                    )
                elif keyword.arg == "saver":
                    self._tell(
                        keyword,
                        "checkpoints hold all variables: RunConfig(keep_checkpoint_max=...) says "
                        "how many are kept",
                    )
        for keyword in node.keywords:
            if (
                keyword.arg == "loss_reduction"
                and full
                and _is_below(_plain(full), _ROOT)
                and _MEANS.fullmatch(_plain(self._dotted(keyword.value) or ""))
            ):
                self._tell(
                    keyword.value,
                    "heads know 'sum' and 'sum_over_batch_size', which divides by the rows and "
                    "not by the weights",
                )
        if name == "FinalOpsHook" and node.args and not isinstance(node.args[0], ast.Lambda):
            self._tell(node.args[0], "final_ops is a function that returns the tensors")
        if isinstance(node.func, ast.Attribute):
            self._judge_method(node, node.func)

    def _judge_method(self, node: ast.Call, function: ast.Attribute) -> None:
        successor = _METHODS.get(function.attr)
        if successor and self._dotted(function) is None and function.end_lineno:
            column = (function.end_col_offset or 0) - len(function.attr)
            self._note(function.end_lineno, column, function.attr, f"use {successor}", successor)
        if function.attr == "get_updates" and len(node.args) + len(node.keywords) == 2:
            self._tell(
                function,
                "Keras 3 has no get_updates: estimator_lib.optimizers.minimize(loss, optimizer)",
            )

    def _judge(self, node: ast.stmt | ast.expr, full: str) -> None:
        """Says what has to be known of a name below `tf.estimator`."""
        name = _below_root(_plain(full))
        for gone, advice in SUCCESSORS.items():
            if _is_below(name, gone):
                self._tell(node, f"tf.estimator.{gone} has gone: {advice}")
        if ".compat.v1." in full and _V1_MODELS.fullmatch(name):
            self._tell(node, _V1_ADVICE)

    def _judge_elsewhere(self, node: ast.stmt | ast.expr, full: str) -> None:
        name = _plain(full)
        if _LAYERS.fullmatch(name):
            return
        fitting = [prefix for prefix in _ELSEWHERE if _is_below(name, prefix)]
        if fitting:
            self._tell(node, _ELSEWHERE[max(fitting, key=len)])

    def _replace_root(self, node: ast.Attribute) -> None:
        """Writes the alias in place of the part of a dotted name that means `tf.estimator`."""
        part: ast.expr = node
        while isinstance(part, ast.Attribute) and _plain(self._dotted(part) or "") != _ROOT:
            part = part.value
        if isinstance(part, ast.Attribute):
            self._tell(part, f"write {ALIAS}", ALIAS)

    def _tell_module(self, node: ast.ImportFrom, module: str) -> None:
        """Writes the library in place of the module of `from tensorflow.estimator import ...`."""
        below = _below_root(_plain(module))
        ours = f"estimator_lib.{below}" if below else "estimator_lib"
        line = self._lines[node.lineno - 1].encode()
        column = line.find(module.encode(), node.col_offset)
        if column >= 0:
            self._note(node.lineno, column, module, f"write {ours}", ours)

    def _tell_import(self, node: ast.stmt, name: str, alias: ast.alias) -> None:
        """Writes the import of a module in place of one that imports `tf.estimator` by name."""
        below = _below_root(name)
        ours = f"estimator_lib.{below}" if below else "estimator_lib"
        called = alias.asname or ("" if isinstance(node, ast.Import) else alias.name)
        text = f"import {ours} as {called or ALIAS}"
        alone = isinstance(node, ast.Import | ast.ImportFrom) and len(node.names) == 1
        self._tell(node, f"write {text}", text if alone and called else None)

    def _tell(self, node: ast.AST, advice: str, replacement: str | None = None) -> None:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        end_line, end = getattr(node, "end_lineno", line), getattr(node, "end_col_offset", None)
        here = self._lines[line - 1].rstrip("\r\n").encode()
        text = here[column : end if end_line == line else None].decode()
        self._note(line, column, text, advice, replacement if end_line == line else None)

    def _note(
        self, line: int, column: int, text: str, advice: str, replacement: str | None
    ) -> None:
        self.found.append(Edit(line, column, text, advice, replacement))

    def _dotted(self, node: ast.expr) -> str | None:
        """The full name that an expression like `tf.estimator.export` stands for, if it does."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value)
            return f"{base}.{node.attr}" if base else None
        return None


def _import_line(tree: ast.Module, source: str) -> set[Edit]:
    """The edit that imports the library behind the last import of TensorFlow at the top."""
    at = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) and "tensorflow" in ast.unparse(node)
    ]
    if IMPORT in source or not at:
        return set()
    line = at[-1].end_lineno or at[-1].lineno
    text = _lines(source)[line - 1]
    bare = text.rstrip("\r\n")
    new = f"{text[len(bare) :] or chr(10)}{IMPORT}"
    return {Edit(line, len(bare.encode()), "", f"write {IMPORT} below", new)}


def _lines(source: str) -> list[str]:
    """The lines as Python's parser counts them, with their ends."""
    return io.StringIO(source, newline="").readlines()


def _plain(name: str) -> str:
    """A name without the version of the API: that of `tf.compat.v1.estimator` is `tf.estimator`."""
    name = re.sub(r"\.compat\.v[12](?=\.|$)", "", name)
    return re.sub(r"^tensorflow_estimator\.estimator(?=\.|$)", _ROOT, name)


def _is_below(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def _below_root(name: str) -> str:
    return name.removeprefix(_ROOT).removeprefix(".") if _is_below(name, _ROOT) else ""


def _is_private(name: str) -> bool:
    return name.startswith(("tensorflow_estimator.python", "tensorflow.python.estimator"))


def _private_advice(name: str) -> str:
    return (
        f"{name.rpartition('.')[2]} is of a private module of tf.estimator: use its public name, "
        "such as estimator_lib.heads, .export, .gc or .training.early_stopping"
    )


def _files(path: pathlib.Path) -> Iterator[pathlib.Path]:
    if path.is_dir():
        yield from sorted(path.rglob("*.py"))
    elif path.is_file():
        yield path
    else:
        raise DataError(f"{path} does not exist.", reason=Reason.FILE_NOT_FOUND)


def _program(path: pathlib.Path) -> Program:
    try:
        source = path.read_bytes().decode()
        return Program(path, source, edits(source))
    except SyntaxError as error:
        where, what = f"{path}:{error.lineno}", error.msg
    except (ValueError, RecursionError) as error:
        where, what = str(path), str(error)
    raise DataError(
        f"{where} is no Python of today: {what}. A program for Python 2 needs 2to3 first.",
        reason=Reason.VALUE_UNPARSABLE,
    )
