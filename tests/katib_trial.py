"""What becomes of an Experiment's trial: as Katib 0.19 and a kubelet make it, then run by `sh`.

Katib's controller puts the values into the template's text, its webhook makes a line for `sh -c`
of the command, the kubelet expands `$(NAME)`, and Katib's collector reads what was said.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

from kubernetes import client

METRICS = "/var/log/katib/metrics.log"
_STOPPABLE = (
    "if test -f {folder}/$$$$.pid && [ $(head -n 1 {folder}/$$.pid) = early-stopped ]; then echo "
    "Training Container was Early Stopped; else echo Training Container was Failed; exit 1; fi"
)


@dataclasses.dataclass(frozen=True)
class Ended:
    """A trial's container after its end."""

    code: int
    said: str
    """What Katib's collector finds in its file."""
    completed: bool
    """Whether the container left the mark that Katib waits for."""


def job(experiment, drawn, *, order=None):
    """The Job of a trial with values drawn.

    Args:
        experiment: As the API server returns it.
        drawn: Texts by the parameters' names.
        order: Short names in the order in which their values are put in; Katib has none.
    """
    template = experiment["spec"]["trialTemplate"]
    text = _go_json(template["trialSpec"])
    references = {p["name"]: p["reference"] for p in template["trialParameters"]}
    assert set(references.values()) == set(drawn)
    for short in order or references:
        assert f"${{trialParameters.{short}}}" in text
        text = text.replace(f"${{trialParameters.{short}}}", drawn[references[short]])
    assert "${trialParameters." not in text
    return json.loads(text)


def _go_json(content):
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def strictly(content, kind):
    """What Kubernetes reads of `content`; a field that it does not know is lost."""
    api = client.ApiClient()

    class Response:
        data = json.dumps(content)

    return api.sanitize_for_serialization(api.deserialize(Response, kind))


def run(made, folder, path, *, may_stop=False):
    """Runs the container of a trial's Job.

    Args:
        made: The Job.
        folder: Stands for the folder that Katib mounts.
        path: What PATH begins with, for `python` to be found there.
        may_stop: Whether the trial has a rule for early stopping.
    """
    (container,) = made["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container.get("args", ())]
    if words[0] in ("sh", "bash") and words[1] == "-c":
        del words[:2]
    words.append(f"1>{METRICS} 2>&1")
    where = str(pathlib.PurePosixPath(METRICS).parent)
    if may_stop:
        words += ["||", _STOPPABLE.format(folder=where)]
    words += ["&&", f"echo completed > {where}/$$$$.pid"]
    given = {}
    for variable in container["env"]:
        given[variable["name"]] = _expanded(variable["value"], given)
    line = _expanded(" ".join(words), given).replace(where, shlex.quote(str(folder)))
    environment = {**os.environ, **given, "PATH": f"{path}:{os.environ['PATH']}"}
    ended = subprocess.run(["/bin/sh", "-c", line], env=environment, check=False)
    marks = [file.read_text() for file in folder.glob("*.pid")]
    said = (folder / pathlib.PurePosixPath(METRICS).name).read_text()
    return Ended(code=ended.returncode, said=said, completed=marks == ["completed\n"])


def _expanded(text, variables):
    """Kubernetes' expansion of `$(NAME)`; `$$` is a dollar, and an unknown name stays."""

    def replaced(found):
        name = found[1]
        return "$" if name is None else variables.get(name, found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replaced, text)


def python(folder):
    """Returns a folder with a `python` that is this process's."""
    return program(folder, f'exec {shlex.quote(sys.executable)} "$@"')


def program(folder, body):
    """Returns a folder with a `python` of a shell's line."""
    file = folder / "bin" / "python"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file.parent


def collected(experiment, said):
    """Returns (time, value) of the objective's lines, as Katib's collector reads them."""
    spec = experiment["spec"]
    metric = spec["objective"]["objectiveMetricName"]
    filters = ";".join(spec["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"])
    found = []
    for line in said.split("\n"):
        if metric not in line:
            continue
        for pattern in filters.split(";"):
            for name, value in re.findall(pattern, line):
                if name == metric:
                    time = datetime.datetime.fromisoformat(line.partition(" ")[0])
                    assert time.tzinfo is not None
                    found.append((time, float(value)))
    return found
