"""Run configurations to KFP IR YAML: deterministic, checked, written atomically."""

from __future__ import annotations

import difflib
import itertools
import pathlib
import tempfile

import yaml
from kfp import compiler

from estimator_lib.core import storage
from estimator_lib.core.config import RunConfiguration
from estimator_lib.core.errors import ConfigError, EstimatorLibError, PipelineError, Reason
from pipelines import cache, definitions, kubernetes_yaml, specification
from pipelines.cluster import arguments

_DIFF_LINES = 20
_WIDTH = 120


def compile_text(config: RunConfiguration) -> str:
    """Returns the pipeline as KFP IR YAML: the specification and the platform's part.

    The text depends on the configuration and on the pinned KFP release only.

    Raises:
        ConfigError: KFP refused a value, such as a malformed amount of memory; or the schedule
            gives a parameter that the pipeline does not have, or of another type.
        SecurityError: something looks like a credential, or is not pinned.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pipeline.yaml"
        try:
            pipeline = definitions.build(config)
            cache.switch_off(pipeline.pipeline_spec)
            compiler.Compiler().compile(pipeline, str(path))
        except EstimatorLibError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"Pipeline {config.name!r} cannot be compiled: {error}",
            ) from error
        text = _quote(path.read_text(encoding="utf-8"))
    found = specification.check(text, config.name)
    if config.schedule is not None:
        arguments.check(found, config.schedule.parameters)
    return text


def _quote(text: str) -> str:
    """Returns what KFP wrote, after its comments, as every reader takes it."""
    lines = text.splitlines(keepends=True)
    comments = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "".join(comments) + kubernetes_yaml.dump(yaml.safe_load_all(text))


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
        _cut(found, text), _cut(text, found), str(path), "compiled now", lineterm="", n=0
    )
    shown = "\n".join(itertools.islice(lines, _DIFF_LINES))
    raise PipelineError(
        f"Specification {path} is not up to date. Run `make specs` and commit it.\n{shown}",
        reason=Reason.DIGEST_MISMATCH,
    )


def _cut(text: str, other: str) -> list[str]:
    """The lines of a text, the long ones cut to where they begin to differ from the other's."""
    lines, others = text.splitlines(), other.splitlines()
    cut = []
    for index, line in enumerate(lines):
        beside = others[index] if index < len(others) else ""
        if len(line) <= _WIDTH or line == beside:
            cut.append(line)
            continue
        pairs = enumerate(zip(line, beside, strict=False))
        same = next((place for place, (one, two) in pairs if one != two), len(beside))
        start = max(0, same - _WIDTH // 2)
        cut.append(f"...{line[start : start + _WIDTH]}...")
    return cut
