"""The YAML file and the settings on top of it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import pydantic

from estimator_lib.core import stores
from estimator_lib.core.config import _yaml
from estimator_lib.core.config._run import RunConfiguration
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.places import Place
from estimator_lib.core.section import explain


def load(path: stores.Where, overrides: Sequence[str] = ()) -> RunConfiguration:
    """Reads and validates a run configuration.

    Args:
        path: The YAML file, a path or URI. Relative paths in one that is read by URI become URIs
            beside it.
        overrides: `key.sub=value` settings put in its place; values are YAML, or `@file` for
            the content of a YAML file, such as `cluster=@gpu.yaml`.

    Raises:
        ConfigError: the file is missing, not YAML, or wrong; all faults are listed at once.
    """
    place = Place.parse(path)
    content = _yaml.read(_content(place), f"Run configuration {path}")
    if not isinstance(content, dict):
        raise ConfigError(
            f"Run configuration {path} is not a mapping: got {quote(content)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    for override in overrides:
        _apply(content, override)
    if not place.is_local:
        _locate(content, place.parent)
    try:
        return RunConfiguration.model_validate(content)
    except pydantic.ValidationError as error:
        raise explain(error, RunConfiguration, content, str(path)) from error
    except ConfigError as error:
        raise ConfigError(
            f"Configuration {path} is invalid: {error.message}", reason=error.reason
        ) from error


def _content(place: Place) -> bytes:
    try:
        if place.is_local:
            return place.path.read_bytes()
        data = stores.of(place).read(place)
    except FileNotFoundError:
        data = None
    except OSError as error:
        raise ConfigError(
            f"Run configuration {place} cannot be read: {error.strerror}.", reason=Reason.IO
        ) from error
    if data is None:
        raise ConfigError(
            f"Run configuration {place} does not exist.", reason=Reason.FILE_NOT_FOUND
        )
    return data


_FILES = (
    ("data", "files"), ("data", "split", "files", "train"), ("data", "split", "files", "eval"),
    ("data", "split", "files", "validation"), ("data_schema", "path"), ("data_schema", "previous"),
    ("data_schema", "serving"), ("predict", "files"),
)  # fmt: skip
"""The settings that are relative to the configuration's file."""


def _locate(content: dict[str, Any], folder: Place) -> None:
    """Makes relative paths of a configuration URIs below `folder`."""

    def located(given: Any) -> Any:
        if isinstance(given, list):
            return [located(one) for one in given]
        relative = isinstance(given, str) and not os.path.isabs(given)
        return str(folder / given) if relative and Place.parse(given).is_local else given

    for *sections, name in _FILES:
        section: Any = content
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section:
            section[name] = located(section[name])


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
