"""Four processes publish and roll back at once; a server loads every version there ever is."""

import json
import os
import pathlib
import subprocess
import sys

import tensorflow as tf

from estimator_lib.core import manifest
from estimator_lib.export import retention
from tests.soak.tally import Tally
from tests.stores import servers

PROCESSES = 4


class Doubles(tf.Module):
    """Multiplies by a number that tells one model from another."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the product."""
        return self.factor * x


def publish(tally: Tally, seed: int, folder: pathlib.Path) -> None:
    """Does it in a directory."""
    publish_below(str(folder / "serving"), tally, seed, folder)


def publish_stored(tally: Tally, seed: int, folder: pathlib.Path) -> None:
    """Does it in a bucket of moto."""
    with servers.running("s3", folder) as server:
        os.environ.update(server.environment(server.port))
        publish_below(f"{server.root}/serving", tally, seed, folder)


def publish_below(serving: str, tally: Tally, seed: int, folder: pathlib.Path) -> None:
    """Runs the publishers and the server until enough was published.

    Args:
        serving: Directory of the versions, a path or URI.
        tally: Says how much is enough.
        seed: Of what the publishers draw.
        folder: Gets the models.
    """
    for number in range(PROCESSES):
        model = folder / f"model-{number}"
        module = Doubles(float(number + 2))
        tf.saved_model.save(module, str(model), signatures=module.__call__)
        (model / manifest.LINEAGE).write_text(json.dumps({"model": f"{number}"}))
        retention.publish(model, serving)
    processes = [
        subprocess.Popen(
            [
                sys.executable, "-m", "tests.soak.publisher", str(folder), serving, str(number),
                str(seed),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    served: set[int] = set()
    stop = folder / "stop"
    while any(process.poll() is None for process in processes):
        _serve(tally, serving, served)
        newest = max(served, default=0)
        if not tally.goes_on(newest - PROCESSES) and not stop.exists():
            stop.touch()
    _serve(tally, serving, served)
    for process in processes:
        said, complained = process.communicate()
        if process.returncode or complained:
            tally.fault(f"publisher ended with {process.returncode}: {complained[-2000:]}")
        for line in said.splitlines():
            if line not in ("published", "rolled back", "try again"):
                tally.fault(line)
            tally.count(line)
    made = tally.counts["published"] + tally.counts["rolled back"]
    last = max(served)
    if last != made + PROCESSES:
        tally.fault(f"{made} publications and {PROCESSES} before gave version {last}")


def _serve(tally: Tally, serving: str, served: set[int]) -> None:
    """Loads what is there and was not seen yet, as a server does that polls the directory."""
    for version in retention.versions(serving):
        if version in served:
            continue
        served.add(version)
        try:
            path = retention.fetch(f"{serving}/{version}")
            factor = float(json.loads((path / manifest.LINEAGE).read_text())["model"]) + 2
            loaded = tf.saved_model.load(str(path))
            found = loaded.signatures["serving_default"](tf.constant([1.0]))
            if float(next(iter(found.values()))[0]) != factor:
                tally.fault(f"version {version} is a mixture")
            tally.count("versions loaded")
        except Exception as error:  # noqa: BLE001 - what is looked for
            if version in retention.versions(serving):
                tally.fault(f"version {version} cannot be loaded: {error!r}")
            tally.count("versions gone before they were loaded")
