"""Checkpoints of a model directory: written whole, verified when read, never restarted silently.

Layer 3. `model.ckpt-<step>` with one entry per variable of the store under its name, as
tf.estimator wrote them, beside the state file `checkpoint` that names the newest. Those of
tf.estimator 2.15 and of `tf.train.Checkpoint` format are read as well. What belongs together is
one file: the engine's own state (such as the position in the input) is an entry of the checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from estimator_lib.core import storage
from estimator_lib.core.errors import CheckpointError, Reason, StorageError
from estimator_lib.errors import NotSavedError
from estimator_lib.protocols import Array
from estimator_lib.tensorflow_internals import variables_of_objects
from estimator_lib.variables import GLOBAL_STEP, legacy_names

_log = logging.getLogger(__name__)

STATE_FILE = "checkpoint"
_PREFIX = "model.ckpt-"
_ENGINE_KEY = "engine_state"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_KERAS_STEP = "estimator_global_step" + _VALUE
"""In what `model_to_estimator` of tf.estimator saved: by the objects of a Keras model."""
_EXPORTED = "model_variables/"
"""Where the variables are in a SavedModel of ours; see `export.saved_model`."""
_INDEX = re.compile(r"model\.ckpt-(\d+)\.index$")
_SAVE_ATTEMPTS = 3
_WITHOUT_STATE = ("/seed_generator_state", "/learning_rate")
"""Of Keras 3: Keras 2 kept no state of random numbers, and rates come from the arguments."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """The whole content of one checkpoint.

    Attributes:
        path: Prefix of its files.
        values: Variable name to value.
        engine: The engine's state that was saved along.
        legacy: Whether tf.estimator 2.15 wrote it (name-keyed).
    """

    path: str
    values: Mapping[str, Array]
    engine: Mapping[str, Any]
    legacy: bool

    @property
    def step(self) -> int:
        """The global step it was saved at."""
        return int(self.values.get(GLOBAL_STEP, 0))

    def find(self, name: str) -> Array | None:
        """Returns the value of a variable, or None; see `variables.legacy_names` for old ones."""
        if name in self.values or not self.legacy:
            return self.values.get(name)
        return self.values.get(legacy_names.find(name, self.values, self._names_here) or name)

    @functools.cached_property
    def _names_here(self) -> Mapping[str, str]:
        return legacy_names.names_here(self.values)

    @property
    def clusters(self) -> bool:
        """Whether KMeans of tf.estimator 2.15 wrote it."""
        return self.legacy and legacy_names.is_of_clusters(self.values)

    def learning_rates(self) -> dict[str, float]:
        """Returns the learning rates that tf.estimator 2.15 saved, by their names there."""
        return {
            name: float(value)
            for name, value in self.values.items()
            if self.legacy and legacy_names.is_learning_rate(name)
        }


def escape(name: str) -> str:
    """The key of a variable in the object-based format."""
    return name.replace(".", "..").replace("/", ".S") + _VALUE


def _unescape(key: str) -> str:
    name = key.removesuffix(_VALUE)
    return re.sub(r"\.(\.|S)", lambda m: "." if m[1] == "." else "/", name)


def names(path: str) -> dict[str, str]:
    """Returns variable name to key for the checkpoint at `path`, in either format."""
    reader = _reader(path)
    keys = reader.get_variable_to_shape_map()
    if _OBJECT_GRAPH not in keys:
        return {key: key for key in sorted(keys) if key != _ENGINE_KEY}
    if _KERAS_STEP in keys:
        return dict(sorted(variables_of_objects(reader.get_tensor(_OBJECT_GRAPH)).items()))
    found = {
        _unescape(key).removeprefix(_EXPORTED): key for key in sorted(keys) if key.endswith(_VALUE)
    }
    found.pop(_ENGINE_KEY, None)
    return found


def _reader(path: str) -> Any:
    try:
        return tf.train.load_checkpoint(path)
    except Exception as error:
        raise CheckpointError(
            f"Checkpoint {path} cannot be opened: {_first_line(error)}.",
        ) from error


def load(path: str) -> Loaded:
    """Reads a checkpoint whole; checksums are verified on the way.

    Raises:
        CheckpointError: a file is missing, truncated or damaged; or it is the one that KMeans of
            tf.estimator 2.15 wrote before it chose centres.
    """
    reader = _reader(path)
    keys = names(path)
    try:
        known = [key for key in (_ENGINE_KEY, escape(_ENGINE_KEY)) if reader.has_tensor(key)]
        engine = json.loads(reader.get_tensor(known[0]) if known else b"{}")
        objects = reader.has_tensor(_OBJECT_GRAPH) and not reader.has_tensor(_KERAS_STEP)
        legacy = not known and not objects
        parts = legacy_names.parts(keys) if legacy else {}
        apart = {part for found in parts.values() for part in found}
        values = {n: reader.get_tensor(key) for n, key in keys.items() if n not in apart}
        values |= {n: _joined(path, reader, n, found) for n, found in parts.items()}
    except Exception as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: {_first_line(error)}.") from error
    if legacy and legacy_names.is_of_clusters(values):
        if not values["initialized"]:
            raise CheckpointError(
                f"Checkpoint {path} has no centres yet: tf.estimator wrote it before it chose "
                "them.",
                reason=Reason.MISSING_VALUE,
            )
        values |= legacy_names.of_clusters(values)
    return Loaded(path=path, values=values, engine=engine, legacy=legacy)


def _joined(path: str, reader: Any, name: str, parts: Sequence[str]) -> Array:
    """Reads a slot of tf.estimator 2.15 that was saved by parts of its variable."""
    shapes = reader.get_variable_to_shape_map()
    if len(parts) == 1:
        return reader.get_tensor(parts[0])
    full = shapes[legacy_names.variable_of(name, shapes)]
    if any(shapes[part] != full for part in parts):  # each is saved as a tensor of its own
        values = [reader.get_tensor(part) for part in parts]
        cut = next(at for at, size in enumerate(full) if values[0].shape[at] != size)
        return np.concatenate(values, cut)
    # Each is a slice, and a reader gives whole tensors only.
    kind = reader.get_variable_to_dtype_map()[parts[0]]
    for cut in range(len(full)):
        with contextlib.suppress(tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
            return np.concatenate(_slices(path, parts, full, cut, kind), cut)
    raise CheckpointError(f"Checkpoint {path} has parts of {name!r} that make no whole.")


def _slices(
    path: str, keys: Sequence[str], full: Sequence[int], cut: int, kind: tf.DType
) -> list[Array]:
    """Reads parts of a tensor that was cut along one of its dimensions.

    Where the parts cannot be of one size, the first ones have one more.
    """
    forms, start = [], 0
    for numbers in np.array_split(np.arange(full[cut]), len(keys)):
        where = ["-"] * len(full)
        where[cut] = f"{start},{len(numbers)}"
        forms.append(f"{' '.join(map(str, full))} {':'.join(where)}")
        start += len(numbers)
    read = tf.raw_ops.RestoreV2(
        prefix=path, tensor_names=keys, shape_and_slices=forms, dtypes=[kind] * len(keys)
    )
    return [part.numpy() for part in read]


def load_value(path: str, name: str) -> Any:
    """Returns one variable's value.

    Raises:
        CheckpointError: no such variable, or the checkpoint is damaged.
    """
    keys = names(path)
    name = name.removesuffix(":0")
    if name not in keys:
        raise NotSavedError(
            f"Checkpoint {path} has no variable {name!r}. It has: {', '.join(sorted(keys))}.",
        )
    return _reader(path).get_tensor(keys[name])


def step_of(path: str) -> int:
    """Returns the global step of a checkpoint from its name, else from its content."""
    match = re.search(r"-(\d+)$", path)
    return int(match[1]) if match else int(load_value(path, GLOBAL_STEP))


def stamp(path: str) -> tuple[str, int]:
    """Tells one written checkpoint from another of the same name."""
    return path, pathlib.Path(path + ".index").stat().st_mtime_ns


class CheckpointDirectory:
    """The checkpoints of one model directory.

    Args:
        directory: The model directory.
        keep_max: Checkpoints kept; None or 0 keeps all.
        keep_every_hours: Of those to be deleted, keep one per this many hours.
    """

    def __init__(
        self, directory: str, *, keep_max: int | None = 5, keep_every_hours: float = 10_000
    ) -> None:
        self.directory = pathlib.Path(directory)
        self._keep_max = keep_max
        self._keep_every_s = keep_every_hours * 3600
        self._last_kept = time.time()
        self._held: set[int] = set()

    def prefix(self, step: int) -> str:
        """Returns the path of the checkpoint of `step`."""
        return str(self.directory / f"{_PREFIX}{step}")

    def steps(self) -> list[int]:
        """Returns the steps that have an index file, oldest first."""
        if not self.directory.is_dir():
            return []
        found = (_INDEX.fullmatch(p.name) for p in self.directory.iterdir())
        return sorted(int(m[1]) for m in found if m)

    def latest(self) -> str | None:
        """Returns the newest checkpoint: the one the state file names, else the highest step.

        The file is not read; `load_latest` verifies.
        """
        named = self._named()
        if named is not None and pathlib.Path(named + ".index").exists():
            return named
        steps = self.steps()
        return self.prefix(steps[-1]) if steps else None

    def newest_step(self) -> int | None:
        """Returns the global step of the newest checkpoint, or None."""
        path = self.latest()
        return None if path is None else step_of(path)

    def _named(self) -> str | None:
        try:
            text = (self.directory / STATE_FILE).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        match = re.search(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
        if not match:
            return None
        return str(self.directory / match[1])

    def load_latest(self) -> Loaded | None:
        """Reads the newest checkpoint that is whole; None if there never was one.

        A damaged one is passed over with one loud warning.

        Raises:
            CheckpointError: there are checkpoints and none can be read.
        """
        newest = self.latest()
        if newest is None:
            self._refuse_lost()
            return None
        candidates = [newest]
        candidates += [p for s in reversed(self.steps()) if (p := self.prefix(s)) != newest]
        faults = []
        for path in candidates:
            try:
                loaded = load(path)
            except CheckpointError as error:
                faults.append(error.message)
                continue
            if faults:
                _log.warning("%s GOING BACK to checkpoint %s.", " ".join(faults), path)
            return loaded
        raise CheckpointError(
            f"No checkpoint in {self.directory} can be read: {' '.join(faults)} Restore the "
            "directory from a copy, or empty it to train anew.",
        )

    def _refuse_lost(self) -> None:
        """Refuses to start anew where data files of a lost checkpoint lie.

        Those of a first save that was killed half-way are no loss: their index is still staged.
        """
        found = sorted(self.directory.glob(f"{_PREFIX}*.data-*")) if self.directory.is_dir() else []
        staged = {p.stem for p in self.directory.glob(f".*{storage.STAGING_MARK}*/*.index")}
        left = [path for path in found if path.stem not in staged]
        if left or self._named() is not None:
            what = left[0].name if left else STATE_FILE
            raise CheckpointError(
                f"Checkpoints in {self.directory} are incomplete: {what} is there without an "
                "index file. Restore the directory from a copy, or empty it to train anew.",
            )

    def save(
        self, values: Mapping[str, tf.Variable | tf.Tensor], step: int, engine: Mapping[str, Any]
    ) -> str:
        """Writes the checkpoint of `step`; the old ones stay valid whatever happens.

        Args:
            values: Name to variable, or to the value that is saved under its name.
            step: The global step.
            engine: Strict JSON to save along.

        Returns:
            The checkpoint's path.

        Raises:
            StorageError: the file system refused three times.
        """
        storage.make_directory(self.directory)
        state = tf.constant(storage.canonical_json(dict(engine)))
        for attempt in range(1, _SAVE_ATTEMPTS + 1):
            try:
                self._write({**values, _ENGINE_KEY: state}, step)
                break
            except (tf.errors.OpError, OSError, StorageError) as error:
                found = _refusal(error, self.prefix(step))
                if attempt == _SAVE_ATTEMPTS or not found.retryable:
                    size = sum(_bytes(v) for v in values.values())
                    found.message += (
                        f" It needs about {size:,} bytes. The older checkpoints are intact."
                    )
                    raise found from error
                time.sleep(0.1 * 4**attempt)
        self._write_state(step)
        self._clean(step)
        return self.prefix(step)

    def _write(self, content: Mapping[str, Any], step: int) -> None:
        """Writes to a private folder, then renames: data first, index (the commit) last.

        Each variable has its name as key, as in checkpoints of tf.estimator: whoever reads
        those reads these.
        """
        with storage.staging(self.directory, f"ckpt-{step}") as staged:
            tf.raw_ops.SaveV2(
                prefix=str(staged.path / f"{_PREFIX}{step}"),
                tensor_names=list(content),
                shape_and_slices=[""] * len(content),
                tensors=[tf.convert_to_tensor(value) for value in content.values()],
            )
            storage.sync_tree(staged.path)
            files = sorted(staged.path.iterdir(), key=lambda p: p.suffix == ".index")
            for path in files:
                path.replace(self.directory / path.name)

    def _write_state(self, step: int) -> None:
        steps = [s for s in self.steps() if s != step] + [step]
        lines = [f'model_checkpoint_path: "{_PREFIX}{step}"']
        lines += [f'all_model_checkpoint_paths: "{_PREFIX}{s}"' for s in steps]
        storage.write_text(self.directory / STATE_FILE, "\n".join(lines) + "\n")

    def _clean(self, newest: int) -> None:
        if not self._keep_max:
            return
        steps = self.steps()
        for step in steps[: -self._keep_max]:
            if step in self._held or step == newest:
                continue
            if time.time() - self._last_kept >= self._keep_every_s:
                self._last_kept = time.time()
                self._held.add(step)
                continue
            self.delete(step)

    def delete(self, step: int) -> None:
        """Deletes one checkpoint: the index first, so that no half of it is ever found."""
        base = f"{_PREFIX}{step}"
        storage.remove(self.directory / f"{base}.index")
        for path in sorted(self.directory.glob(f"{base}.data-*")):
            storage.remove(path)

    def hold(self, steps: Iterable[int]) -> None:
        """Keeps the checkpoints of exactly these steps from being deleted."""
        self._held = set(steps)

    def rewind(self, step: int) -> None:
        """Makes the checkpoint of `step` the newest; later ones are deleted."""
        self._write_state(step)
        for later in [s for s in self.steps() if s > step]:
            self.delete(later)
        self._write_state(step)


def restore(
    loaded: Loaded,
    variables: Mapping[str, tf.Variable],
    *,
    exact: bool,
    optional: Iterable[str] = (),
) -> list[str]:
    """Assigns a checkpoint's values to variables of the same names; all or nothing.

    Args:
        loaded: The checkpoint.
        variables: Name to variable.
        exact: Whether the checkpoint may hold nothing else (training goes on).
        optional: Names that may be missing in the checkpoint; they stay as they are.

    Returns:
        The names that were missing.

    Raises:
        CheckpointError: with a table of what was expected and what was found.
    """
    may_miss = set(optional)
    rows, missing = [], []
    for name, variable in variables.items():
        value = loaded.find(name)
        if value is None:
            missing.append(name)
            if name not in may_miss:
                rows.append((name, _form(variable), "missing"))
        elif tuple(variable.shape) != value.shape or not _castable(value, variable):
            rows.append((name, _form(variable), _form(value)))
    if exact:
        rows += [
            (name, "missing", _form(value))
            for name, value in loaded.values.items()
            if name not in variables
        ]
    if rows:
        raise CheckpointError(
            f"Checkpoint {loaded.path} belongs to another model:\n{_table(rows)}\nRestore the "
            "model's code and arguments, use another model_dir, or warm start from it.",
            reason=Reason.CONFLICT,
        )
    for name, variable in variables.items():
        value = loaded.find(name)
        if value is not None:
            variable.assign(tf.cast(value, variable.dtype) if value.dtype != object else value)
    anew = [name for name in missing if not name.endswith(_WITHOUT_STATE)]
    if loaded.legacy and anew:
        _log.warning(
            "Checkpoint %s of tf.estimator has no %s: they start anew.",
            loaded.path,
            ", ".join(anew),
        )
    return missing


def _refusal(error: Exception, path: str) -> StorageError:
    """Returns what the file system, or TensorFlow on its behalf, refused."""
    if isinstance(error, StorageError):
        return error
    refusal = error if isinstance(error, OSError) else storage.refused(error)
    if refusal is not None:
        return storage.storage_error("write checkpoint", path, refusal)
    return StorageError(f"Cannot write checkpoint {path}: {_first_line(error)}.")


def _castable(value: Array, variable: tf.Variable) -> bool:
    return bool((value.dtype == object) == (variable.dtype == tf.string))


def _form(thing: Array | tf.Variable) -> str:
    dtype = getattr(thing.dtype, "name", str(thing.dtype))
    return f"{dtype}{list(thing.shape)}"


def _table(rows: list[tuple[str, str, str]], limit: int = 20) -> str:
    shown = [("variable", "model", "checkpoint"), *rows[:limit]]
    widths = [max(len(row[i]) for row in shown) for i in range(3)]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in shown
    ]
    if len(rows) > limit:
        lines.append(f"  ... and {len(rows) - limit} more")
    return "\n".join(line.rstrip() for line in lines)


def _bytes(value: tf.Variable | tf.Tensor) -> int:
    return int(value.shape.num_elements() or 0) * int(value.dtype.size or 8)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
