"""Each phase of a run by itself, on a tiny table, in a process whose disk may fail.

A phase is a step as it runs on a cluster: the component's own source, executed by KFP, forked from
a process that has TensorFlow and Beam (`pipelines.local.warm_steps`). `Phases` prepares one whole
run; then every attempt gets copies of what it may change and reads the rest.
"""

import contextlib
import dataclasses
import errno
import importlib
import json
import pathlib
import shutil
import signal
import time

from estimator_lib.core import config as configuration
from estimator_lib.core import manifest
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.export import retention
from pipelines import training, tuned_training
from pipelines.local.warm_steps import PRELOAD, WarmSteps
from tests.faults.disk import PASSING, Act, Plan

PHASES = ("preprocess", "tune", "train", "evaluate", "export", "predict")
CONFIG = {
    "name": "tiny",
    "data": {"split": {"files": {"train": ["data/train-*"], "eval": ["data/eval-*"]}}},
    "label": {"field": "y", "classes": 2},
    "columns": {"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}},
    "estimator": {"name": "LinearClassifier", "args": {"feature_columns": ["c", "x"]}},
    "train": {"batch_size": 8, "max_steps": 6, "evaluate_every_steps": 3, "seed": 1},
    "evaluate": {"thresholds": {"auc": {"min": 0.0}}, "importance": {"rows": 0}},
    "tune": {
        "space": {"train.batch_size": {"choice": [4, 8]}},
        "metric": "auc", "direction": "max", "trials": 2, "sampler": "random", "pruner": "none",
        "max_steps": 2, "evaluate_every_steps": 2, "parallel": 1, "seed": 1,
    },
    "predict": {"files": ["data/eval-*"], "keep": ["c"]},
}  # fmt: skip
_VARIABLE = "FAULTS_DISK"
_BEGIN = f"""
import json, os
from tests.faults.disk import Disk, Plan
Disk(Plan(**json.loads(os.environ[{_VARIABLE!r}])))
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class End:
    """How an attempt ended.

    Attributes:
        code: Exit code; negative is the signal that killed it.
        said: Lines of its standard output.
        complained: Its standard error.
        seconds: How long it took.
    """

    code: int
    said: list[str]
    complained: str
    seconds: float

    @property
    def error(self):
        """What it told its user that went wrong."""
        return "\n".join(line for line in self.said if line.startswith("error: "))

    def fault(self, plan):
        """Returns what a user would hold against this end, or None."""
        if self.code == 0:
            return None
        if (plan.act, self.code) in ((Act.KILL, -signal.SIGKILL), (Act.TERM, -signal.SIGTERM)):
            return None
        if "Traceback" in self.complained or not self.error:
            return f"untyped: exit code {self.code}\n{self.complained[-2000:]}"
        allowed = {75 if plan.code in PASSING else 2} if plan.act is Act.FAIL else {75}
        if self.code not in allowed:
            wanted = errno.errorcode.get(plan.code, "") if plan.act is Act.FAIL else str(plan.act)
            return f"exit code {self.code} after {wanted}: {self.error}"
        return None


class Phases:
    """The phases of one run; use as a context manager.

    Args:
        root: An empty directory.

    Attributes:
        calls: The calls of each phase that change the disk, as `Disk` logs them.
    """

    def __init__(self, root):
        self.calls = {}
        self.root = pathlib.Path(root)
        self.config = configuration.RunConfiguration.model_validate(CONFIG)
        self.steps = WarmSteps(
            self._directory(self.root / "logs") / "server.log",
            modules=(*PRELOAD, "tests.faults.disk", "transforms.scoring"),
        )
        self._write_data()
        self._numbers = 0

    def __enter__(self):
        self.steps.__enter__()
        return self

    def __exit__(self, *failure):
        self.steps.__exit__(*failure)

    @staticmethod
    def _directory(path):
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _write_data(self):
        folder = self._directory(self.root / "data")
        for split, rows in (("train", 48), ("eval", 24)):
            lines = [f"{'abc'[i % 3]},{i % 7},{int(i % 3 == 0 or i % 5 == 0)}" for i in range(rows)]
            half = rows // 2
            for number, part in enumerate((lines[:half], lines[half:])):
                (folder / f"{split}-{number}.csv").write_text("\n".join(["c,x,y", *part]) + "\n")

    @property
    def whole(self):
        """Where the run that nothing disturbed is."""
        return self.root / "whole"

    def prepare(self):
        """Runs every phase undisturbed, and notes its calls."""
        for phase in PHASES:
            log = self.root / f"{phase}.calls"
            end = self.run(phase, self.whole, Plan(log=str(log)))
            assert end.code == 0, (phase, end.said, end.complained)
            self.calls[phase] = log.read_text().splitlines()

    def place(self, phase):
        """Returns a new place for attempts of a phase, with what an earlier run left there."""
        self._numbers += 1
        place = self._directory(self.root / "places" / f"{phase}-{self._numbers}")
        if phase == "export":
            shutil.copytree(self.whole / "serving", place / "serving")
            (place / "serving" / "1" / manifest.LINEAGE).unlink()  # of a model that is another
            manifest.write(place / "serving" / "1", kind="model")
        return place

    def run(self, phase, place, plan=Plan()):  # noqa: B008
        """Runs a phase once and returns how it ended."""
        component = getattr(importlib.import_module(f"components.{phase}"), phase)
        given = self._executor_input(component, phase, place)
        source = component.component_spec.implementation.container.command[-1]
        self._numbers += 1
        log, said = self.root / "logs" / f"{phase}-{self._numbers}.log", []
        began = time.monotonic()
        code = self.steps.run(
            source=source + _BEGIN, function=phase, executor_input=json.dumps(given),
            environment={_VARIABLE: plan.to_json()}, log=log, show=said.append,
        )  # fmt: skip
        complained = log.read_text(errors="replace")
        log.unlink()
        seconds = time.monotonic() - began
        return End(code=code, said=said, complained=complained, seconds=seconds)

    def _parameters(self, place):
        found = {
            **training.parameters(self.config), **tuned_training.parameters(self.config),
            "predict_config": self.config.predict_part().to_json(),
        }  # fmt: skip
        return found | {
            "base_dir": str(self.root), "analysis_cache": str(place / "analysis"),
            "checkpoint_root": str(place / "checkpoints"), "champion": "",
            "serving_dir": str(place / "serving"), "model": str(self.whole / "serving"),
            "study_root": str(place / "studies"), "data_fingerprint": "d", "code_version": "c",
            "verdict": "blessed",
        }  # fmt: skip

    def _executor_input(self, component, phase, place):
        spec = component.component_spec
        known = self._parameters(place)
        parameters, read, written = {}, {}, {}
        for name, declared in (spec.inputs or {}).items():
            if declared.type.startswith("system."):
                path = self.whole / "artifacts" / name
                read[name] = _artifact(name, declared.type, path)
            else:
                parameters[name] = known[f"{phase}_config" if name == "config" else name]
        outputs = {}
        for name, declared in (spec.outputs or {}).items():
            if declared.type.startswith("system."):
                written[name] = _artifact(name, declared.type, place / "artifacts" / name)
            else:
                outputs[name] = {"outputFile": str(place / "outputs" / phase / name)}
        return {
            "inputs": {"parameterValues": parameters, "artifacts": read},
            "outputs": {
                "parameters": outputs, "artifacts": written,
                "outputFile": str(place / "outputs" / phase / "executor_output.json"),
            },
        }  # fmt: skip

    def damage(self, phase, place):
        """Returns what is half-written where an attempt ended early, or None."""
        found = place / "artifacts"
        for artifact in sorted(found.iterdir()) if found.is_dir() else ():
            if artifact.name.startswith(".") or not (artifact / manifest.NAME).is_file():
                continue  # no reader takes it for an artifact
            with contextlib.suppress(NotADirectoryError):
                fault = _fault(artifact)
                if fault is not None:
                    return fault
        for version in retention.versions(place / "serving"):
            fault = _fault(place / "serving" / str(version))
            if fault is not None:
                return fault
        return None

    def result(self, phase, place):
        """Returns what must be the same however often an attempt was disturbed."""
        artifacts = place / "artifacts"
        match phase:
            case "preprocess":
                names = ("examples", "transform", "statistics")
                return [manifest.verify(artifacts / name, deep=True).digest for name in names]
            case "train":
                files = manifest.verify(artifacts / "model", deep=True).files
                return {n: f.sha256 for n, f in files.items() if n.startswith("model.ckpt")}
            case "tune":
                manifest.verify(artifacts / "best", deep=True)
                best = json.loads((artifacts / "best" / "best.json").read_text())
                return {n: best[n] for n in ("trial", "value", "arguments", "estimator")}
            case "evaluate":
                manifest.verify(artifacts / "evaluation", deep=True)
                return json.loads((artifacts / "evaluation" / "evaluation.json").read_text())
            case "predict":
                return manifest.verify(artifacts / "predictions", deep=True).digest
            case "export":
                newest = pathlib.Path(retention.newest(place / "serving"))
                manifest.verify(newest, deep=True)
                lineage = json.loads((newest / manifest.LINEAGE).read_text())
                return lineage["model"], lineage["metrics"], _tensors(newest)
        raise AssertionError(phase)

    def left_over(self, place):
        """Returns staging directories that attempts left; files without owner go after a day."""
        if not place.is_dir():
            return []
        staged = (p for p in place.rglob(".*.attempt-*") if p.is_dir() or p.suffix == ".owner")
        return sorted(str(path.relative_to(place)) for path in staged)


def _tensors(version):
    """What a model holds: its graph is written in another order each time."""
    names = [path.name for path in (version / "variables").iterdir()]
    return sorted(name for name in names if name.startswith("variables."))


def _artifact(name, kind, path):
    title, _, version = kind.partition("@")
    schema = {"schemaTitle": title, "schemaVersion": version}
    return {"artifacts": [{"name": name, "type": schema, "uri": str(path), "metadata": {}}]}


def _fault(directory):
    try:
        manifest.verify(directory, deep=True)
    except EstimatorLibError as error:
        return error.message
    return None


def attempt(phases, phase, plan):
    """Runs a phase that is disturbed, looks at what it left, runs it again; returns the faults."""
    place = phases.place(phase)
    before = retention.versions(place / "serving")
    end = phases.run(phase, place, plan)
    faults = [end.fault(plan), phases.damage(phase, place)]
    again = phases.run(phase, place)
    if again.code != 0:
        faults.append(f"the rerun ended with {again.code}: {again.said} {again.complained[-2000:]}")
    elif phases.result(phase, place) != phases.result(phase, phases.whole):
        faults.append("the rerun has another result")
    after = retention.versions(place / "serving")
    if phase == "export" and len(after) != len(before) + 1:
        faults.append(f"the rerun made versions {after} of {before}")
    if left := phases.left_over(place):
        faults.append(f"left over: {left}")
    shutil.rmtree(place)
    return end, [fault for fault in faults if fault is not None]
