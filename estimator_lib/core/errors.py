"""The exception tree of the whole project, with reason codes and exit codes.

Layer 0. Every error a user can cause or meet is one of these, says what was expected, what
was found and where, and ends a command with `exit_code` instead of a stack trace:

    EstimatorLibError
     +- ConfigError      a declaration is wrong: run configuration, column, constructor argument
     +- SchemaError      data and declaration disagree: a field is missing, a type changed
     +- DataError        a value or a file is bad: file, line and field are named
     +- CheckpointError  a checkpoint is missing, damaged or belongs to another model
     +- TrainingError    training cannot go on: loss became NaN, the input is empty
     +- ExportError      a model cannot be exported or does not agree with its trainer
     +- PipelineError    a step or a compiled pipeline cannot run
     +- StorageError     the file system refused: no space, no permission; `retryable`
     +- SecurityError    a path leaves its root, an unsafe format, a secret in a specification

Programs written for tf.estimator catch Python's own errors. So each is also the one that was
raised there: a TrainingError is a RuntimeError, errors of declarations, data, checkpoints and
exports are ValueErrors, and TypeErrors as well where the reason is TYPE_MISMATCH.
"""

from __future__ import annotations

import difflib
import enum
import functools
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Self


class Reason(enum.StrEnum):
    """Why an error was raised; stable, for tests and for programs that react to errors."""

    INVALID_VALUE = "invalid_value"
    UNKNOWN_NAME = "unknown_name"
    MISSING_VALUE = "missing_value"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FILE_NOT_FOUND = "file_not_found"
    EMPTY_INPUT = "empty_input"
    FIELD_MISSING = "field_missing"
    TYPE_MISMATCH = "type_mismatch"
    VALUE_UNPARSABLE = "value_unparsable"
    RECORD_MALFORMED = "record_malformed"
    ENCODING = "encoding"
    CORRUPT_FILE = "corrupt_file"
    LABEL_OUT_OF_RANGE = "label_out_of_range"
    WEIGHT_OUT_OF_RANGE = "weight_out_of_range"
    NOT_FINITE = "not_finite"
    TOO_MANY_VALUES = "too_many_values"
    UNRESOLVED = "unresolved"
    DIGEST_MISMATCH = "digest_mismatch"
    ALREADY_EXISTS = "already_exists"
    LEASED = "leased"
    NO_SPACE = "no_space"
    IO = "io"
    PATH_ESCAPES = "path_escapes"
    DISAGREEMENT = "disagreement"
    UNSUPPORTED = "unsupported"
    STEP_FAILED = "step_failed"
    INTERRUPTED = "interrupted"
    UNREACHABLE = "unreachable"
    PERMISSION = "permission"
    SECRET = "secret"  # noqa: S105 - the name of a reason
    UNPINNED = "unpinned"


class EstimatorLibError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: One to three sentences: what is wrong, expected and found, and the one thing
            to do. Values are shortened by `quote` before they get here.
        reason: The stable code; None is the class's `default_reason`.

    Attributes:
        retryable: True when running the same step again may succeed; it sets `exit_code`.
    """

    retryable = False
    default_reason: ClassVar[Reason] = Reason.INVALID_VALUE

    def __new__(cls, message: str, *, reason: Reason | None = None) -> Self:
        kind = cls
        if reason is Reason.TYPE_MISMATCH and not issubclass(cls, TypeError):
            kind = _with_type_error(cls)  # type: ignore[arg-type]
        return super().__new__(kind, message)

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.default_reason if reason is None else reason

    def __reduce__(self) -> tuple[Any, ...]:
        declared = next(kind for kind in type(self).__mro__ if "_composed" not in vars(kind))
        return _rebuild, (declared, self.message, self.reason), {"retryable": self.retryable}

    @property
    def exit_code(self) -> int:
        """2 for a final error, 75 (EX_TEMPFAIL of sysexits.h) for a retryable one."""
        return 75 if self.retryable else 2

    @classmethod
    def from_exit(cls, message: str, code: int) -> Self:
        """The error a parent process raises for a child that ended with `code`."""
        error = cls(message, reason=Reason.STEP_FAILED)
        error.retryable = code == 75
        return error


class Failure(NamedTuple):
    """An error as a value that JSON holds: what another process is told, which raises it there."""

    kind: str
    message: str
    reason: str
    retryable: bool

    @classmethod
    def of(cls, error: EstimatorLibError) -> Failure:
        """Returns an error as a value; of a class declared elsewhere, as one of its bases here."""
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == __name__)
        return cls(kind, error.message, str(error.reason), error.retryable)

    def error(self) -> EstimatorLibError:
        """Returns the error."""
        found: EstimatorLibError = globals()[self.kind](self.message, reason=Reason(self.reason))
        found.retryable = self.retryable
        return found


def raise_first(failures: Iterable[Failure]) -> None:
    """Raises the first of some errors by kind and message, if there are any.

    Functions of a pipeline give their errors as values, for what a runner makes of a raised one
    differs from runner to runner.
    """
    for failure in sorted(failures):
        raise failure.error()


@functools.cache
def _with_type_error(kind: type[Any]) -> type[Any]:
    """Returns `kind` as a subclass of TypeError too, under the same name."""
    own = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "_composed": True}
    return type(kind.__name__, (kind, TypeError), own)


def _rebuild(kind: type[EstimatorLibError], message: str, reason: Reason) -> EstimatorLibError:
    return kind(message, reason=reason)


class ConfigError(EstimatorLibError, ValueError):
    """A declaration is wrong; found before any work."""


class SchemaError(EstimatorLibError, ValueError):
    """Data and declaration disagree."""

    default_reason = Reason.DISAGREEMENT


class DataError(EstimatorLibError, ValueError):
    """A value or a file is bad."""


class CheckpointError(EstimatorLibError, ValueError):
    """A checkpoint is missing, damaged or belongs to another model."""

    default_reason = Reason.CORRUPT_FILE


class TrainingError(EstimatorLibError, RuntimeError):
    """Training cannot go on."""

    default_reason = Reason.STEP_FAILED


class ExportError(EstimatorLibError, ValueError):
    """A model cannot be exported, or the export disagrees with the trainer."""

    default_reason = Reason.DISAGREEMENT


class PipelineError(EstimatorLibError):
    """A step or a compiled pipeline cannot run."""

    default_reason = Reason.STEP_FAILED


class StorageError(EstimatorLibError):
    """The file system refused; trying again may help."""

    default_reason = Reason.IO
    retryable = True


class SecurityError(EstimatorLibError):
    """Something tried to leave the place it was given."""

    default_reason = Reason.PATH_ESCAPES


def quote(value: object, limit: int = 60) -> str:
    """Returns `value` as a short, escaped literal that is safe to print in one line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known name, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(names)}." if names else ""
