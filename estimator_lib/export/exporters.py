"""Exporters: what `train_and_evaluate` does with a model after each evaluation.

Layer 3. Versions go to `<model_dir>/export/<name>/<seconds>/`. What BestExporter knows is kept
with the exports, so a restart cannot forget the best.
"""

from __future__ import annotations

import abc
import inspect
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.export import retention
from estimator_lib.training import history

_RECORD = "best.json"
Compare = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


class Exportable(Protocol):
    """What an exporter needs of an Estimator."""

    @property
    def model_dir(self) -> str:
        """The model directory."""

    def export_saved_model(
        self,
        export_dir_base: str,
        serving_input_receiver_fn: Callable[[], object],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
    ) -> bytes:
        """Writes a SavedModel to a new numbered directory and returns that."""


class Exporter(abc.ABC):
    """Exports a model, or decides not to."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Name of the directory below `export/`."""

    @abc.abstractmethod
    def export(
        self,
        estimator: Exportable,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any] | None,
        is_the_final_export: bool,
    ) -> bytes | None:
        """Exports to a version below `export_path`.

        Args:
            estimator: The Estimator.
            export_path: `<model_dir>/export/<name>`.
            checkpoint_path: The checkpoint that was evaluated.
            eval_result: What `evaluate` returned.
            is_the_final_export: Whether training is over.

        Returns:
            The version's directory, or None if nothing was exported.
        """


class _SavedModelExporter(Exporter):
    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
    ) -> None:
        if not name or "/" in name or name.startswith("."):
            raise ConfigError(
                f"Exporter name {name!r} is invalid: expected the name of a directory.",
            )
        if not callable(serving_input_receiver_fn):
            raise ConfigError(
                f"Exporter {name!r} has no serving_input_receiver_fn: expected a function.",
                reason=Reason.MISSING_VALUE,
            )
        self._name = name
        self._receiver_fn = serving_input_receiver_fn
        self._assets_extra = assets_extra
        self._as_text = as_text

    @property
    def name(self) -> str:
        return self._name

    def export(
        self,
        estimator: Exportable,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any] | None,
        is_the_final_export: bool,
    ) -> bytes | None:
        metrics = history.plain(eval_result or {})
        if not self._wants(estimator, export_path, metrics, final=is_the_final_export):
            return None
        made = estimator.export_saved_model(
            export_path,
            self._receiver_fn,
            assets_extra=self._assets_extra,
            as_text=self._as_text,
            checkpoint_path=checkpoint_path,
        )
        self._exported(export_path, made, metrics)
        return made

    @abc.abstractmethod
    def _wants(
        self, estimator: Exportable, export_path: str, metrics: Mapping[str, Any], *, final: bool
    ) -> bool:
        """Whether to export a model of these metrics."""

    def _exported(self, export_path: str, made: bytes, metrics: Mapping[str, Any]) -> None:
        """Runs after an export."""


class FinalExporter(_SavedModelExporter):
    """Exports once, when training is over, however it ended."""

    def _wants(
        self, estimator: Exportable, export_path: str, metrics: Mapping[str, Any], *, final: bool
    ) -> bool:
        del estimator, export_path, metrics
        return final


class LatestExporter(_SavedModelExporter):
    """Exports after every evaluation and keeps the newest.

    Args:
        name: Of the directory.
        serving_input_receiver_fn: Gives a ServingInputReceiver.
        assets_extra: Files to put along.
        as_text: Whether to write `saved_model.pbtxt` as well.
        exports_to_keep: Versions kept; None keeps all.
    """

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text)
        self._keep = _kept(name, exports_to_keep)

    def _wants(
        self, estimator: Exportable, export_path: str, metrics: Mapping[str, Any], *, final: bool
    ) -> bool:
        del estimator, export_path, metrics, final
        return True

    def _exported(self, export_path: str, made: bytes, metrics: Mapping[str, Any]) -> None:
        del made, metrics
        retention.clean(export_path, self._keep, whatever=True)


class BestExporter(_SavedModelExporter):
    """Exports when an evaluation is better than every one before.

    A metric that is not finite never wins and a tie keeps the old one. The record of the best
    lies beside its export, and the best export is never deleted.

    Args:
        name: Of the directory.
        serving_input_receiver_fn: Gives a ServingInputReceiver.
        event_file_pattern: Of event files below model_dir with earlier evaluations, such as
            "eval/*.tfevents.*". They are read where there is no record yet, in a directory of
            tf.estimator.
        compare_fn: `(best, current) -> bool`, whether current is better; smaller loss by
            default. Called with keyword arguments best_eval_result, current_eval_result.
        assets_extra: Files to put along.
        as_text: Whether to write `saved_model.pbtxt` as well.
        exports_to_keep: Versions kept; None keeps all.
        metric: Instead of compare_fn: the metric that is compared, and
        higher_is_better: in which direction.
    """

    def __init__(
        self,
        name: str = "best_exporter",
        serving_input_receiver_fn: Callable[[], Any] | None = None,
        event_file_pattern: str | None = None,
        compare_fn: Compare | None = None,
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
        *,
        metric: str = "loss",
        higher_is_better: bool = False,
    ) -> None:
        names = ("best_eval_result", "current_eval_result")
        if compare_fn is not None and not _takes(compare_fn, names):
            raise ConfigError(
                f"Exporter {name!r} argument compare_fn is invalid: expected a function of "
                f"{' and '.join(names)}, got {quote(compare_fn)}.",
            )
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text)  # type: ignore[arg-type]
        self._keep = _kept(name, exports_to_keep)
        self._metric = metric
        self._higher = higher_is_better
        self._compare = compare_fn
        self._events = event_file_pattern
        self._best: dict[str, Mapping[str, Any]] = {}

    def _wants(
        self, estimator: Exportable, export_path: str, metrics: Mapping[str, Any], *, final: bool
    ) -> bool:
        del final
        best = self._best.get(export_path)
        if best is None:  # what another process exported, or evaluated
            best = _recorded(export_path) or self._of_events(estimator)
        return self._better(best, metrics)

    def _exported(self, export_path: str, made: bytes, metrics: Mapping[str, Any]) -> None:
        self._best[export_path] = metrics
        named = isinstance(made, str | bytes | os.PathLike)
        name = pathlib.Path(os.fsdecode(made)).name if named else ""
        version = [int(name)] if name.isdigit() else []
        if version:
            # The export comes first: a kill in between leaves the old record, and the new model
            # is judged once more, never lost.
            step = metrics.get("global_step")
            record = {"version": version[0], "step": step, "metrics": metrics}
            storage.write_json(pathlib.Path(export_path) / _RECORD, record)
        retention.clean(export_path, self._keep, version, whatever=True)

    def _of_events(self, estimator: Exportable) -> Mapping[str, Any] | None:
        """The best metrics that event files have of evaluations before this one."""
        best = None
        if self._events is not None:
            pattern = os.path.join(os.fsdecode(estimator.model_dir), self._events)
            # The last evaluation is the one that is being judged.
            for entry in history.from_events(pattern)[:-1]:
                if self._better(best, entry.metrics):
                    best = entry.metrics
        return best

    def _better(self, best: Mapping[str, Any] | None, current: Mapping[str, Any]) -> bool:
        if best is None and not current:
            return True
        if self._compare is not None:
            if any(_undefined(current.get(key)) for key in ("loss",)):
                return False
            return best is None or bool(
                self._compare(best_eval_result=best, current_eval_result=current)  # type: ignore[call-arg]
            )
        if self._metric not in current:
            raise ConfigError(
                f"BestExporter {self.name!r} compares the metric {self._metric!r}, which the "
                f"evaluation does not have: got {', '.join(sorted(current))}.",
                reason=Reason.UNKNOWN_NAME,
            )
        value = current[self._metric]
        if _undefined(value):
            return False
        old = best.get(self._metric) if best else None
        if _undefined(old):
            return True
        return bool(value > old) if self._higher else bool(value < old)


def _recorded(export_path: str) -> Mapping[str, Any] | None:
    """Returns the metrics of the best version, if there is a record of it and it is there."""
    try:
        record = json.loads((pathlib.Path(export_path) / _RECORD).read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and isinstance(record.get("metrics"), dict)
    there = whole and record["version"] in retention.versions(export_path)
    return record["metrics"] if there else None


def _takes(function: Compare, names: Sequence[str]) -> bool:
    """Whether a function can be called with arguments of these names."""
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _undefined(value: object) -> bool:
    return not isinstance(value, int | float) or not math.isfinite(value)


def _kept(name: str, keep: int | None) -> int | None:
    if keep is not None and keep <= 0:
        raise ConfigError(
            f"Exporter {name!r} argument exports_to_keep is invalid: expected a positive integer "
            f"or None, got {keep}.",
        )
    return keep
