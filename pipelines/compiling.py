"""Run configurations to KFP IR YAML: deterministic, checked, written atomically."""

from __future__ import annotations

import difflib
import pathlib
import tempfile

from estimator_lib.core import storage
from estimator_lib.core.config import RunConfiguration
from estimator_lib.core.errors import ConfigError, PipelineError, Reason

_DIFF_LINES = 20


def compile_text(config: RunConfiguration) -> str:
    """Returns the pipeline as KFP IR YAML: the specification and the platform's part.

    The text depends on the configuration and on the pinned KFP release only.

    Raises:
        ConfigError: KFP refused a value, such as a malformed amount of memory; or the schedule
            gives a parameter that the pipeline does not have, or of another type.
        SecurityError: something looks like a credential, or is not pinned.
    """
    from kfp import compiler

    from pipelines import arguments, specification, training

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pipeline.yaml"
        try:
            compiler.Compiler().compile(training.build(config), str(path))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"Pipeline {config.name!r} cannot be compiled: {error}",
                reason=Reason.INVALID_VALUE,
            ) from error
        text = path.read_text(encoding="utf-8")
    found = specification.check(text, config.name)
    if config.schedule is not None:
        arguments.check(found, config.schedule.parameters)
    return text


def write(text: str, path: pathlib.Path) -> None:
    """Writes a specification atomically."""
    storage.write_text(path, text)


def check(text: str, path: pathlib.Path) -> None:
    """Compares a specification with the file on disk, byte for byte.

    Raises:
        PipelineError: the file is missing or differs; the first differences are shown.
    """
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    if found == text:
        return
    lines = difflib.unified_diff(
        found.splitlines(), text.splitlines(), str(path), "compiled now", lineterm="", n=0
    )
    shown = "\n".join(list(lines)[:_DIFF_LINES])
    raise PipelineError(
        f"Specification {path} is not up to date. Run `make specs` and commit it.\n{shown}",
        reason=Reason.DIGEST_MISMATCH,
    )
