"""Beam's runners by their names, and the options without which each would start the wrong thing.

Beam itself starts an engine of its own where an address is missing, and a container without this
package where nothing says what workers run: both are refused here, before any work.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

IN_PROCESS = "FnApiRunner"
"""Runs in this process. DirectRunner would try to download a binary first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Engine:
    """What a runner needs.

    Attributes:
        one_of: Groups of options; one of each group must be given.
        workers: Whether it must be told how to start Python on its workers.
        module: The module that Beam's runner imports, and its package.
        defaults: Options in place of Beam's own defaults.
        path: The class, where Beam does not know its name.
    """

    one_of: tuple[tuple[str, ...], ...] = ()
    workers: bool = False
    module: tuple[str, str] | None = None
    defaults: tuple[str, ...] = ()
    path: str | None = None


_ENGINES = {
    "DaskRunner": _Engine(
        one_of=(("dask_client_address", "dask_scheduler_file"),),
        module=("distributed", "distributed"),
        # A file or shard each. Beam's own 128 would give all of a small job to one worker.
        defaults=("--dask_partition_size=1",),
        path="apache_beam.runners.dask.dask_runner.DaskRunner",
    ),
    "DataflowRunner": _Engine(one_of=(("project",), ("region",), ("temp_location",))),
    "FlinkRunner": _Engine(one_of=(("flink_master", "job_endpoint"),), workers=True),
    "PortableRunner": _Engine(one_of=(("job_endpoint",),), workers=True),
    "PrismRunner": _Engine(),
    "SparkRunner": _Engine(
        one_of=(("spark_master_url", "spark_rest_url", "job_endpoint"),), workers=True
    ),
}
_OTHERS = ("BundleBasedDirectRunner", "DirectRunner", IN_PROCESS, "SwitchingDirectRunner")
_BY_NAME = {name.lower(): name for name in (*_ENGINES, *_OTHERS)}
_PARTITIONS = ("dask_npartitions", "dask_partition_size")

_WORKERS = {
    "LOOPBACK": "",
    "DOCKER": "an image with this package",
    "PROCESS": """JSON such as '{"command": "/path/to/boot"}'""",
    "EXTERNAL": "the address of a worker pool",
}
"""Environment type -> what `--environment_config` is there; nothing where there is none."""


def options(given: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options, with the runner named whatever they are.

    Args:
        given: Options as on a command line. `--runner` is one of Beam's runners or DaskRunner, in
            any case and with or without "Runner", or the path of a class.
    """
    chosen = _chosen(given)
    if chosen is None:
        return PipelineOptions([f"--runner={IN_PROCESS}", *given])
    name = _named(chosen)
    engine = _ENGINES.get(name, _Engine())
    extra = () if any(_has(given, option) for option in _PARTITIONS) else engine.defaults
    made = PipelineOptions([*given, *extra])
    made.view_as(StandardOptions).runner = engine.path or name
    return made


def check(given: Sequence[str]) -> None:
    """Refuses options with which the runner cannot work.

    Raises:
        ConfigError: there is no such runner, it lacks an option, or a package is not installed.
    """
    chosen = _chosen(given)
    if chosen is None:
        return
    name = _named(chosen)
    if "." in name:
        _require_class(name)
        return
    if name not in _BY_NAME.values():
        hint = did_you_mean(name, _BY_NAME.values())
        raise ConfigError(
            f"--runner {quote(chosen)} is no runner.{hint}", reason=Reason.UNKNOWN_NAME
        )
    engine = _ENGINES.get(name, _Engine())
    for group in engine.one_of:
        if not any(_has(given, option) for option in group):
            wanted = " or ".join(f"--{option}" for option in group)
            raise ConfigError(
                f"--runner={name} needs {wanted}, got none. docs/engines.md has an example.",
                reason=Reason.MISSING_VALUE,
            )
    if engine.module is not None and importlib.util.find_spec(engine.module[0]) is None:
        raise ConfigError(
            f"--runner={name} needs a package that is not installed. Install {engine.module[1]}.",
            reason=Reason.UNSUPPORTED,
        )
    if engine.workers and _value(given, "flink_master") not in ("[local]", "[auto]"):
        _check_workers(name, options(given).view_as(PortableOptions))


def _check_workers(runner: str, portable: Any) -> None:
    kind = portable.environment_type
    if kind is None:
        known = ", ".join(_WORKERS)
        raise ConfigError(
            f"--runner={runner} needs --environment_type, how workers start Python, got none: "
            f"Beam's own image does not have this package. Give one of {known}.",
            reason=Reason.MISSING_VALUE,
        )
    if kind.startswith("beam:env:"):
        return
    if kind not in _WORKERS:
        hint = did_you_mean(kind, _WORKERS)
        raise ConfigError(
            f"--environment_type {quote(kind)} is unknown.{hint}", reason=Reason.UNKNOWN_NAME
        )
    wanted, config = _WORKERS[kind], portable.environment_config
    if wanted and config is None and not portable.environment_options:
        raise ConfigError(
            f"--environment_type={kind} needs --environment_config, {wanted}, got none.",
            reason=Reason.MISSING_VALUE,
        )
    if not wanted and config is not None:
        raise ConfigError(
            f"--environment_type={kind} takes no --environment_config, got {quote(config)}. "
            "Leave it out.",
            reason=Reason.CONFLICT,
        )
    if kind == "PROCESS" and config is not None and not _names_command(config):
        raise ConfigError(
            f"--environment_config of PROCESS must be {wanted}, got {quote(config)}.",
        )


def _names_command(config: str) -> bool:
    try:
        found = json.loads(config)
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("command"), str)


def _require_class(path: str) -> None:
    module, _, name = path.rpartition(".")
    try:
        getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"--runner {quote(path)} cannot be imported: {error}. Correct the path.",
            reason=Reason.UNKNOWN_NAME,
        ) from error


def _named(chosen: str) -> str:
    """The runner's name as Beam spells it; what no runner is called stays as it is."""
    lower = chosen.lower()
    return _BY_NAME.get(lower) or _BY_NAME.get(f"{lower}runner") or chosen


def _chosen(given: Sequence[str]) -> str | None:
    return _value(given, "runner")


def _has(given: Sequence[str], option: str) -> bool:
    return _value(given, option) is not None


def _value(given: Sequence[str], option: str) -> str | None:
    """What a command line says of an option, `--x=y` or `--x y`; the last counts."""
    found = None
    for at, word in enumerate(given):
        if word.startswith(f"--{option}="):
            found = word.partition("=")[2]
        elif word == f"--{option}" and at + 1 < len(given):
            found = given[at + 1]
    return found
