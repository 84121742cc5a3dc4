"""What a real server answered, put into the double: see `tests/golden/kubeflow_runs`."""

import gzip
import json
import pathlib

FOLDER = pathlib.Path("tests/golden/kubeflow_runs")
NAMES = sorted(path.name.removesuffix(".v2beta1.json.gz") for path in FOLDER.glob("*.v2beta1.*"))


def read(name, version="v2beta1"):
    return json.loads(gzip.decompress((FOLDER / f"{name}.{version}.json.gz").read_bytes()))


def manifest(name):
    return read(name, "v1beta1")["pipeline_runtime"]["workflow_manifest"]


def while_notified(name):
    """A run's Workflow as it was while its exit handler was running."""
    document = json.loads(manifest(name))
    document["status"]["phase"] = "Running"
    for node in document["status"]["nodes"].values():
        if ".onExit" in node["name"]:
            node["phase"] = "Running"
    return json.dumps(document)


def add(server, name):
    """Puts a recorded run into the double; returns its id."""
    run = read(name)
    server.runs[run["run_id"]] = run
    server.workflows[run["run_id"]] = manifest(name)
    return run["run_id"]


def log(*lines, code=None, signal=None):
    """A step's log: its own lines, then those of Kubeflow's launcher."""
    how = f"signal: {signal}" if signal else f"exit status {code}"
    launcher = "1127 01:38:43.115803       8 "
    end = [f"I{launcher}launcher_v2.go:213] publish success."]
    if code is not None or signal:
        end.append(f"F{launcher}main.go:109] failed to execute component: {how}")
    return "".join(f"{line}\n" for line in (*lines, *end))
