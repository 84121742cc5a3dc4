"""How Beam jobs are run: the runner always named, errors as they were raised, little noise."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from estimator_lib.core.errors import EstimatorLibError, PipelineError, Reason

DEFAULT_RUNNER = "FnApiRunner"
"""Runs in this process. DirectRunner would try to download a binary first."""


def options(given: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options for `given`, with the runner named whatever they are."""
    named = any(o == "--runner" or o.startswith("--runner=") for o in given)
    return PipelineOptions([*given] if named else [f"--runner={DEFAULT_RUNNER}", *given])


def in_this_process(given: Sequence[str]) -> bool:
    """Whether the job's functions run in this process, so that they can report progress."""
    return options(given).get_all_options().get("runner") in (DEFAULT_RUNNER, None) and not any(
        "multi_processing" in option for option in given
    )


def run(build: Callable[[beam.Pipeline], Any], given: Sequence[str]) -> None:
    """Builds a pipeline and runs it to its end.

    Args:
        build: Called with the pipeline.
        given: Beam options, such as ["--runner=DataflowRunner", "--project=..."].

    Raises:
        EstimatorLibError: what a function of the pipeline raised, as it was raised.
        PipelineError: the job failed in another way.
    """
    with _quiet():
        try:
            pipeline = beam.Pipeline(options=options(given))
            build(pipeline)
            pipeline.run().wait_until_finish()
        except EstimatorLibError:
            raise
        except Exception as error:
            original = _original(error)
            if original is not None:
                raise original from None
            raise PipelineError(
                f"Beam job failed: {type(error).__name__}: {_first_line(error)}.",
                reason=Reason.STEP_FAILED,
            ) from error


def _original(error: BaseException | None) -> EstimatorLibError | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, EstimatorLibError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else "no message").rstrip(".")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Beam's own notices out of the terminal; errors reach the caller as exceptions."""
    beam_log = logging.getLogger("apache_beam")
    # FnApiRunner logs every failed bundle with its stack trace through these two.
    named = [beam_log, logging.getLogger("root")]
    before = [logger.level for logger in named]
    for logger in named:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(named, before, strict=True):
            logger.setLevel(level)
