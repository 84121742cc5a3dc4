"""Every step of flights in the real kubelet, from raw rows to a published version.

A step is the pod that Kubeflow would make, with the specification's own command, volumes and
settings, as users that clusters choose; the launcher's part is played by a claim that all share.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml

from estimator_lib.core.config import load
from pipelines import compiling, specification
from pipelines.examples.flights import data
from tests import launcher
from tests.cluster import machine, placed
from tests.contract.test_steps_start import STATUS

EXPORTED = ("examples", "transform", "model", "evaluation")
STEPS = ("preprocess", "train", "evaluate", "export", "notify")
SMALL = (
    "data.split.files={train: [data/flights-2013-01.csv], eval: [data/flights-2013-10.csv]}",
    "columns.dest.min_count=1",
    "columns.tailnum.min_count=1",
    "train.epochs=1",
    "evaluate.thresholds={auc: {min: 0.5}}",
)
ROWS = 3000
NODE_HAS = (
    "cluster.image=null",
    *(f"cluster.steps.{step}.cpu=500m" for step in ("preprocess", "train")),
    *(f"cluster.steps.{step}.memory=3Gi" for step in ("preprocess", "train")),
    "cluster.defaults.cpu=500m",
    "cluster.defaults.memory=3Gi",
    "cluster.steps.train.gpu=null",
    "cluster.steps.export.image=null",
    "cluster.steps.export.disk={size: 1Gi, storage_class: fast-NAMESPACE}",
)
"""What the restricted example asks for and this node has not, is left out or made less."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """One way to run all steps.

    Attributes:
        settings: On top of the example's configuration.
        container: What the cluster adds to each container's security context.
        pod: What it adds to each pod's.
        mode: Of the directories that are claimed; they belong to root.
    """

    settings: Sequence[str]
    container: Mapping[str, Any]
    pod: Mapping[str, Any]
    mode: int


WAYS = {
    "as-the-images-user": Way(
        settings=("cluster={volume: {claim: flights, mount_path: /mnt/flights}}",),
        container={"runAsNonRoot": True},
        pod={},
        mode=0o775,
    ),
    # As OpenShift chooses users, and as a policy may forbid to write beside the volumes.
    "as-any-user-read-only": Way(
        settings=(f"cluster=@{placed.FLIGHTS}/cluster-restricted.yaml", *NODE_HAS),
        container={"runAsUser": 1000700000, "readOnlyRootFilesystem": True},
        pod={"fsGroup": 1000700000},
        mode=0o755,
    ),
}


@pytest.fixture(scope="module")
def rows() -> Mapping[str, Any]:
    """Some flights of January and of October, by file name."""
    import pyarrow.compute as pc

    table = data.read()
    return {
        f"flights-2013-{month:02d}.csv": table.filter(pc.equal(table["month"], month))[:ROWS]
        for month in (1, 10)
    }


class Namespace:
    """A namespace with claims, in which steps of one configuration run.

    Args:
        cluster: Where.
        name: The namespace's.
        way: How steps run.
        folder: An empty one, for the claims.
    """

    def __init__(self, cluster: machine.Cluster, name: str, way: Way, folder: pathlib.Path) -> None:
        self._cluster, self._name, self._way = cluster, name, way
        self.flights, self._artifacts = folder / "flights", folder / "artifacts"
        cluster.namespace(name, {"pod-security.kubernetes.io/enforce": "restricted"})
        for claim in ("flights", "artifacts", "pretrained"):
            cluster.volume(_made(folder / claim, way.mode), name, claim)
            cluster.claim(name, claim)
        fresh = _made(folder / "scratch", 0o755)
        cluster.volume(fresh, name, "scratch", storage_class=f"fast-{name}")
        signing = ("create", "secret", "generic", "signing", "--from-literal=key=abc")
        cluster.kubectl(*signing, f"--namespace={name}")
        cluster.kubectl("label", "node", machine.NODE, "example.com/pool=training", "--overwrite")
        settings = [*SMALL, *(setting.replace("NAMESPACE", name) for setting in way.settings)]
        config = load(placed.FLIGHTS / "config.yaml", settings)
        text = compiling.compile_text(config)
        self._documents = list(yaml.safe_load_all(text))
        self._executors = {one.component: one for one in launcher.executors(self._documents[0])}
        parameters = specification.check(text, config.name).parameters
        self.values: dict[str, Any] = {name: one.default for name, one in parameters.items()}
        self.values |= {"status": STATUS, "pipeline": config.name, "run": "r"}

    @property
    def steps(self) -> set[str]:
        """The components of the pipeline."""
        return set(self._executors)

    def run(self, step: str, artifacts: Mapping[str, Any]) -> launcher.Ended:
        """Runs one step to its end."""
        executor = self._executors[step]
        place = _made(self._artifacts / step, 0o777)
        own = {**self.values, "config": self.values.get(f"{step}_config")}
        given = launcher.executor_input(executor, own, artifacts, place)
        pod = placed.pod(self._documents, step)
        spec = pod["spec"]
        # It copies KFP's launcher, which cannot be had here.
        del spec["initContainers"]
        spec["securityContext"] |= self._way.pod
        (main,) = spec["containers"]
        main["command"] = launcher.words(executor, given)
        main["securityContext"] |= self._way.container
        spec["volumes"].append(
            {"name": "artifacts", "persistentVolumeClaim": {"claimName": "artifacts"}}
        )
        main["volumeMounts"].append({"name": "artifacts", "mountPath": str(self._artifacts)})
        code, log = self._cluster.run(self._name, pod, seconds=300)
        return launcher.ended(given, code, log)


def _made(folder: pathlib.Path, mode: int) -> pathlib.Path:
    folder.mkdir()
    folder.chmod(mode)
    return folder


@pytest.fixture(scope="module", params=WAYS)
def chained(
    request: pytest.FixtureRequest,
    cluster: machine.Cluster,
    steps_image: str,
    rows: Mapping[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[pathlib.Path, dict[str, launcher.Ended]]:
    """The claim `flights` and how each step ended, in order."""
    name = request.param
    space = Namespace(cluster, name, WAYS[name], tmp_path_factory.mktemp(name))
    (space.flights / "data").mkdir()
    for file, table in rows.items():
        data.write_rows(table, space.flights / "data" / file)
    assert space.steps == set(STEPS)
    artifacts: dict[str, Any] = {}
    ends: dict[str, launcher.Ended] = {}
    for step in STEPS:
        ends[step] = end = space.run(step, artifacts)
        assert end.code == 0, f"{step}: {end.log}"
        artifacts |= end.artifacts
        if step == "evaluate":
            space.values["verdict"] = end.parameters["Output"]
    return space.flights, ends


def test_steps_chain_to_a_published_version(
    chained: tuple[pathlib.Path, dict[str, launcher.Ended]],
) -> None:
    volume, ends = chained
    assert (volume / "serving/1/saved_model.pb").is_file()
    assert ends["evaluate"].parameters["Output"] == "blessed"
    assert ends["export"].artifacts["saved_model"]["metadata"]["published"] == (
        "/mnt/flights/serving/1"
    )


def test_steps_write_no_stack_traces(
    chained: tuple[pathlib.Path, dict[str, launcher.Ended]],
) -> None:
    _, ends = chained
    assert [step for step, end in ends.items() if "Traceback" in end.log] == []


def test_step_whose_scratch_is_a_volume_of_root_says_so(
    cluster: machine.Cluster, steps_image: str, tmp_path: pathlib.Path
) -> None:
    way = dataclasses.replace(WAYS["as-any-user-read-only"], pod={}, mode=0o777)
    space = Namespace(cluster, "without-group", way, tmp_path)
    space.values["verdict"] = "blessed"

    end = space.run("export", {name: {"uri": "/none", "metadata": {}} for name in EXPORTED})

    assert end.code == 2
    assert "error: The scratch volume /scratch cannot be written to by user 1000700000" in end.log
    assert "Traceback" not in end.log
