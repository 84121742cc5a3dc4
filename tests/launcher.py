"""Kubeflow's launcher, played: an executor's own command, where only the image's content is.

KFP 2.17 starts a step as `<command> <args>` of its executor, `{{$}}` replaced by what the step is
given, as the image's user, without a package that the image does not hold. What the launcher
itself does (fetching inputs, storing outputs) is played by directories.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[1]
GIVEN = "{{$}}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Executor:
    """One executor of a compiled pipeline.

    Attributes:
        component: Name of the component, such as "train".
        inputs: Its `inputDefinitions`.
        outputs: Its `outputDefinitions`.
        container: Its command, args, env and image.
    """

    component: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    container: Mapping[str, Any]

    @property
    def words(self) -> list[str]:
        """Command and arguments as compiled."""
        return [*self.container["command"], *self.container["args"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a step ended.

    Attributes:
        code: Its exit code.
        log: What it wrote, both streams.
        parameters: Its output parameters.
        artifacts: Its output artifacts as the next step is given them, by name.
    """

    code: int
    log: str
    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Any]


def specifications() -> dict[str, dict[str, Any]]:
    """The committed pipelines by file name; other manifests are left out."""
    found = {}
    for path in sorted((ROOT / "pipeline_specs").glob("*.yaml")):
        document = next(yaml.safe_load_all(path.read_text()))
        if "pipelineInfo" in document:
            found[path.name] = document
    return found


def executors(specification: Mapping[str, Any]) -> list[Executor]:
    """The executors of a compiled pipeline."""
    declared = specification["deploymentSpec"]["executors"]
    return [
        Executor(
            component=declared[part["executorLabel"]]["container"]["args"][-1],
            inputs=part.get("inputDefinitions", {}),
            outputs=part.get("outputDefinitions", {}),
            container=declared[part["executorLabel"]]["container"],
        )
        for part in specification["components"].values()
        if "executorLabel" in part
    ]


def executor_input(
    executor: Executor,
    parameters: Mapping[str, Any],
    artifacts: Mapping[str, Any],
    root: pathlib.Path,
) -> dict[str, Any]:
    """What KFP's driver gives a step.

    Args:
        executor: The step.
        parameters: Values that it may be given, by name; it gets those that it declares.
        artifacts: The same of artifacts, as `Ended.artifacts` has them.
        root: Directory for its outputs.
    """
    wanted = executor.inputs.get("parameters", {})
    optional = {name for name, declared in wanted.items() if declared.get("isOptional")}
    outputs = {
        name: {"artifacts": [_artifact(name, root, declared["artifactType"]["schemaTitle"])]}
        for name, declared in executor.outputs.get("artifacts", {}).items()
    }
    return {
        "inputs": {
            "parameterValues": {
                name: parameters[name]
                for name in wanted
                if name in parameters or name not in optional
            },
            "artifacts": {
                name: {"artifacts": [artifacts[name]]}
                for name in executor.inputs.get("artifacts", {})
            },
        },
        "outputs": {
            "artifacts": outputs,
            "parameters": {
                name: {"outputFile": str(root / name)}
                for name in executor.outputs.get("parameters", {})
            },
            "outputFile": str(root / "output_metadata.json"),
        },
    }


def _artifact(name: str, root: pathlib.Path, kind: str) -> dict[str, Any]:
    return {"name": name, "type": {"schemaTitle": kind}, "uri": str(root / name), "metadata": {}}


def words(executor: Executor, given: Mapping[str, Any]) -> list[str]:
    """The words of a step's process."""
    return [word.replace(GIVEN, json.dumps(given)) for word in executor.words]


def ended(given: Mapping[str, Any], code: int, log: str) -> Ended:
    """Reads what a step left, as the launcher does."""
    file = pathlib.Path(given["outputs"]["outputFile"])
    told = json.loads(file.read_text()) if file.is_file() else {}
    artifacts = {}
    for name, declared in given["outputs"]["artifacts"].items():
        (artifacts[name],) = told.get("artifacts", {}).get(name, declared)["artifacts"]
    return Ended(
        code=code, log=log, parameters=told.get("parameterValues", {}), artifacts=artifacts
    )


class Image:
    """What the Dockerfile copies and sets, laid out in a directory.

    Args:
        directory: An empty one that other users may enter.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
        instructions = [line.split(maxsplit=1) for line in lines if line.strip()]
        self.environment = dict(
            pair.split("=", 1)
            for name, rest in instructions
            if name == "ENV"
            for pair in shlex.split(rest)
        )
        self.user, _, group = [rest for name, rest in instructions if name == "USER"][-1].partition(
            ":"
        )
        self.group = group or "0"
        source = directory / "source"
        for name, rest in instructions:
            if name == "COPY":
                *sources, target = shlex.split(rest)
                for one in sources:
                    _copy(ROOT / one, source / target)
        self.packages = directory / "packages"
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                "--no-deps", "--no-build-isolation", "--target", str(self.packages), str(source),
            ],
            check=True,
        )  # fmt: skip
        python = directory / "python"
        # An environment of its own: the system's packages are not the image's.
        subprocess.run([interpreter(), "-m", "venv", "--without-pip", python], check=True)
        installed = pathlib.Path(yaml.__file__).parents[1]
        self.environment |= {
            "PATH": f"{python}/bin:/usr/bin:/bin",
            # Without .pth files: the package that is installed for editing must not be found.
            "PYTHONPATH": f"{self.packages}:{installed}",
            "HOME": "/",
        }

    def run(self, command: Sequence[str], directory: pathlib.Path) -> tuple[int, str]:
        """Runs a process as the image's user; returns its exit code and what it wrote.

        Args:
            command: Its words.
            directory: Where it starts.
        """
        who: dict[str, Any] = {}
        if os.geteuid() == 0 and _executable_by_others(interpreter()):
            who = {"user": int(self.user), "group": int(self.group), "extra_groups": ()}
        done = subprocess.run(
            command,
            cwd=directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **who,
        )
        return done.returncode, done.stdout


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    if source.is_dir():
        ignore = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignore)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / source.name)


@functools.cache
def interpreter() -> pathlib.Path:
    """A Python of this version that other users may execute; else the one that runs this."""
    own = pathlib.Path(sys.executable).resolve()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [own, *(pathlib.Path(folder) / name for folder in ("/usr/bin", "/usr/local/bin"))]
    return next((one for one in places if one.exists() and _executable_by_others(one)), own)


def _executable_by_others(path: pathlib.Path) -> bool:
    real = path.resolve()
    return all(one.stat().st_mode & stat.S_IXOTH for one in (real, *real.parents))
