"""The YAML file and the settings on top of it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import pydantic

from estimator_lib.core.config import _yaml
from estimator_lib.core.config._run import RunConfiguration
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.section import explain


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfiguration:
    """Reads and validates a run configuration.

    Args:
        path: The YAML file.
        overrides: `key.sub=value` settings put in its place; values are YAML, or `@file` for
            the content of a YAML file, such as `cluster=@gpu.yaml`.

    Raises:
        ConfigError: the file is missing, not YAML, or wrong; all faults are listed at once.
    """
    source = pathlib.Path(path)
    try:
        content = _yaml.read(source.read_bytes(), f"Run configuration {path}")
    except FileNotFoundError as error:
        raise ConfigError(
            f"Run configuration {path} does not exist.", reason=Reason.FILE_NOT_FOUND
        ) from error
    except OSError as error:
        raise ConfigError(
            f"Run configuration {path} cannot be read: {error.strerror}.", reason=Reason.IO
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"Run configuration {path} is not a mapping: got {quote(content)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    for override in overrides:
        _apply(content, override)
    try:
        return RunConfiguration.model_validate(content)
    except pydantic.ValidationError as error:
        raise explain(error, RunConfiguration, content, str(path)) from error
    except ConfigError as error:
        raise ConfigError(
            f"Configuration {path} is invalid: {error.message}", reason=error.reason
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a run configuration, for editors."""
    schema = RunConfiguration.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"Setting {quote(override)} is invalid: expected key=value, such as train.epochs=3.",
        )
    place = content
    for part in parts[:-1]:
        if not isinstance(place.setdefault(part, {}), dict):
            raise ConfigError(
                f"Setting {quote(override)} is invalid: {part!r} is a value, not a section.",
            )
        place = place[part]
    place[parts[-1]] = _yaml.read(_setting(text), f"Setting {quote(override)}")


def _setting(text: str) -> str | bytes:
    """The value of a setting as YAML; "@path", which YAML itself does not allow, is a file."""
    if not text.startswith("@"):
        return text
    try:
        return pathlib.Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"Settings file {text[1:]} cannot be read: {error.strerror}.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
