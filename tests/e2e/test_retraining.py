"""Nine months of flights, then month by month: what is learned, compared, refused, taken back."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest

from estimator_lib.core import config as configuration
from estimator_lib.core import manifest
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.export import retention
from pipelines import cli, models
from pipelines.examples.retraining import data
from pipelines.local import run
from pipelines.local.warm_steps import WarmSteps

EVERY = 40
EASY = (
    "evaluate.changes={auc: {min: -0.05}}",
    "evaluate.slices=[]",
    "train.batch_size=128",
    "evaluate.importance.rows=0",
)
"""On one flight in forty, chance moves the AUC by more than a month does."""


BADLY = (
    "estimator.args.dnn_optimizer.learning_rate=5.0",
    "estimator.args.linear_optimizer.learning_rate=50.0",
    "evaluate.changes={auc: {min: 0.001}}",
)


class Story:
    """The example's directory with a thin sample, one output, and what the last run did."""

    def __init__(self, here, steps):
        self.home = here / "retraining"
        self.home.mkdir()
        for name in ("config.yaml", "schema.pbtxt"):
            shutil.copy(data.HERE / name, self.home / name)
        self.output = here / "out"
        self.serving = self.output / "serving"
        self._steps = steps
        self.said = []
        (self.home / "data").mkdir()
        self._whole = data.land(here / "whole", 12, every=EVERY)
        self._damaged = data.land(here / "damaged", 11, damage=True, every=EVERY)

    def arrive(self, months, damage=False):
        for path in (self._damaged if damage else self._whole)[:months]:
            shutil.copy(path, self.home / "data")

    def run(self, *settings):
        before = self._analyses()
        try:
            return self.run_to(self.output, *settings)
        finally:
            self.analysed = len(self._analyses() - before)

    def run_to(self, output, *settings):
        config = configuration.load(self.home / "config.yaml", (*EASY, *settings))
        self.said.clear()
        return run.run(
            config, base_dir=self.home, output=output, show=self.said.append, steps=self._steps
        )

    def _analyses(self):
        return {path.name for path in (self.output / "analysis").glob("*.arrow")}

    def metadata(self, step, artifact):
        """What Kubeflow is told of an output of the last run that made it."""
        newest = max(self.output.glob(f"artifacts/*/{step}/executor_output.json"))
        content = json.loads(newest.read_text())
        return content["artifacts"][artifact]["artifacts"][0]["metadata"]

    def lineage(self, version):
        return json.loads((self.serving / str(version) / models.LINEAGE).read_text())


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    here = tmp_path_factory.mktemp("story")
    with WarmSteps(here / "steps.log") as steps:
        yield Story(here, steps)


def test_a_year_of_retraining(story, capsys):
    # Nine months: the first model has nobody to beat and nothing to start from.
    story.arrive(9)
    first = story.run()
    assert first["evaluation"]["verdict"] == "blessed"
    assert pathlib.Path(first["model"]) == story.serving / "1"
    assert story.analysed == 9
    assert story.lineage(1)["parent"] is None
    assert story.lineage(1)["rows"] == first["rows"]["splits"]

    for step, artifact in (("preprocess", "examples"), ("train", "model"), ("evaluate", "report")):
        told = story.metadata(step, artifact)
        assert {"data_fingerprint", "code_version", "config"} <= set(told)
    assert story.metadata("preprocess", "examples")["schema"] == story.lineage(1)["schema"]
    published = story.metadata("export", "saved_model")
    assert published["configuration"]["train"] == story.metadata("train", "model")["config"]
    assert published["model"] == story.metadata("train", "model")["digest"]

    # October: only its file is read to learn from; weights and the comparison are version 1's.
    story.arrive(10)
    second = story.run()
    assert story.analysed == 1
    assert any("starts from serving version 1" in line for line in story.said)
    assert second["evaluation"]["comparison"]["model"] == str(story.serving / "1")
    assert pathlib.Path(second["model"]) == story.serving / "2"
    lineage = story.lineage(2)
    assert lineage["parent"]["version"] == 1
    assert lineage["parent"]["digest"] == manifest.read(story.serving / "1").digest
    assert lineage["parent"]["model"] == story.lineage(1)["model"]
    assert lineage["compared_with"] == "1"
    assert [pathlib.Path(name).name for name in lineage["files"]][-1] == "flights-2013-10-31.csv"
    assert lineage["schema"] == story.lineage(1)["schema"]
    assert lineage["data_fingerprint"] != story.lineage(1)["data_fingerprint"]

    # November arrives damaged: refused before anything is trained, with the reason.
    story.arrive(11, damage=True)
    with pytest.raises(EstimatorLibError) as refused:
        story.run()
    assert refused.value.exit_code == 2
    assert "carrier" in refused.value.message
    assert "distance" in refused.value.message
    assert "train" not in story.said
    assert retention.versions(story.serving) == [1, 2]

    # Corrected, but trained badly: evaluated on the same rows, worse, and not published.
    story.arrive(11)
    worse = story.run(*BADLY)
    assert worse["evaluation"]["verdict"] == "refused"
    assert "auc against the serving model is -0.0" in " ".join(worse["evaluation"]["reasons"])
    assert worse["model"] is None
    assert retention.versions(story.serving) == [1, 2]

    # Trained well; the preprocessed data is still good.
    third = story.run()
    assert third["cached"] == ["preprocess"]
    assert pathlib.Path(third["model"]) == story.serving / "3"
    assert story.lineage(3)["parent"]["version"] == 2

    # Back to the second by one command; the next model starts from it and is compared with it.
    assert cli.main(["models", "rollback", str(story.serving)]) == 0
    assert retention.versions(story.serving) == [1, 2, 3, 4]
    assert story.lineage(4)["again"] == 2
    story.arrive(12)
    last = story.run()
    assert story.analysed == 1
    assert last["evaluation"]["comparison"]["model"] == str(story.serving / "4")
    assert pathlib.Path(last["model"]) == story.serving / "5"
    capsys.readouterr()
    assert cli.main(["models", "show", str(story.serving)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in shown["ancestors"]] == [4, 1]


@contextlib.contextmanager
def interrupted_when(found):
    """Sends this process what Ctrl-C sends, as soon as `found` returns something."""

    def watch():
        for _ in range(12_000):
            if found():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.005)

    # Processes that a shell starts in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_goes_on_where_it_was(story, tmp_path):
    story.arrive(3)
    long = "train={max_steps: 1000, batch_size: 16, evaluate_every_steps: 50}"

    def saved():
        # A checkpoint counts once this file names it.
        states = [path.read_text() for path in tmp_path.glob("checkpoints/*/checkpoint")]
        return [text for text in states if "model.ckpt-0" not in text.split("\n")[0]]

    with interrupted_when(saved), pytest.raises(KeyboardInterrupt):
        story.run_to(tmp_path, "pipeline=training", long)
    done = story.run_to(tmp_path, "pipeline=training", long)
    assert done["cached"] == ["preprocess"]
    (told,) = [line for line in story.said if "goes on from step" in line]
    assert 50 <= int(told.split()[-1]) < 1000
    assert done["evaluation"]["step"] == 1000


def test_a_model_compared_with_another_than_the_serving_one_is_not_published(story, tmp_path):
    from components.steps.export import _require_champion

    newest = retention.versions(story.serving)[-1]

    def require(model, needed):
        comparison = {"model": str(model)} if model else None
        (tmp_path / "evaluation.json").write_text(json.dumps({"comparison": comparison}))
        _require_champion(str(tmp_path), str(story.serving), needed=needed)

    require(story.serving / str(newest), needed=True)
    require(None, needed=False)
    for model, needed in ((story.serving / "1", False), (None, True), (tmp_path / "9", True)):
        with pytest.raises(EstimatorLibError, match=f"but by now version {newest} is serving"):
            require(model, needed)
