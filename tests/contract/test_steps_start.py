"""Every step of every committed specification starts as Kubeflow starts it, and they chain.

Each executor's own command runs once in an environment that holds what the image holds, as the
image's user in an empty directory, from raw rows to a published version and its predictions.
"""

import csv
import json
import os
import pathlib
import tempfile

import numpy as np
import pytest

from estimator_lib.core import config as configuration
from pipelines import compiling, specification
from tests import launcher

CONFIG = """
name: small
data:
  files: [rows.csv]
  split: {column: {field: part, eval: [e], validation: [v]}}
label: {field: late}
columns: {wind: {kind: numeric, normalize: moments}}
estimator:
  name: LinearClassifier
  args: {feature_columns: [wind], optimizer: {name: SGD, learning_rate: 0.1}}
train: {batch_size: 32, max_steps: 8}
evaluate: {thresholds: {auc: {min: 0.5}}}
tune:
  metric: average_loss
  trials: 1
  sampler: random
  space: {estimator.args.optimizer.learning_rate: {choice: [0.5]}}
predict: {files: [rows.csv], keep: [part]}
"""
PIPELINES = ("tuned_training", "batch_prediction", "training")
ORDER = (
    "preprocess", "tune", "draw", "trial", "choose", "train", "evaluate", "export", "predict",
    "notify",
)  # fmt: skip
STATUS = {
    "error": {},
    "pipelineJobResourceName": "small-5d8l7",
    "pipelineTaskName": "exit-handler-1",
    "state": "COMPLETE",
}
"""As KFP's driver fills it for a run that succeeded."""


def committed():
    """Each executor of each committed specification, by component."""
    found = {}
    for name, document in launcher.specifications().items():
        for executor in launcher.executors(document):
            found.setdefault(executor.component, []).append((name, executor))
    return found


@pytest.fixture(scope="module")
def place():
    """A directory that the image's user may enter and write to."""
    with tempfile.TemporaryDirectory(prefix="steps-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield pathlib.Path(folder)


@pytest.fixture(scope="module")
def image(place):
    folder = place / "image"
    folder.mkdir()
    return launcher.Image(folder)


@pytest.fixture(scope="module")
def start(place, image):
    """Runs one component's executor with what it declares of the given values."""

    def start(name, parameters, artifacts):
        _, executor = committed()[name][0]
        root, empty = open_directory(place / f"{name}-out"), open_directory(place / f"{name}-cwd")
        given = launcher.executor_input(executor, parameters, artifacts, root)
        code, log = image.run(launcher.words(executor, given), empty)
        assert not list(empty.iterdir()), f"{name} wrote into its working directory"
        return launcher.ended(given, code, log)

    return start


def open_directory(path):
    path.mkdir(exist_ok=True)
    path.chmod(0o777)
    return path


@pytest.fixture(scope="module")
def chained(place, start):
    """How each step ended, in order."""
    volume = open_directory(place / "volume")
    rng = np.random.default_rng(3)
    with (volume / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["late", "wind", "part"])
        for number in range(300):
            wind = rng.normal()
            writer.writerow([int(wind + rng.normal() / 2 > 0), f"{wind:.4f}", "ttev"[number % 4]])
    (place / "config.yaml").write_text(CONFIG)
    values = {"status": STATUS, "pipeline": "small", "run": "r", "model": f"{volume}/serving"}
    for pipeline in PIPELINES:
        config = configuration.load(place / "config.yaml", [f"pipeline={pipeline}"])
        compiled = specification.check(compiling.compile_text(config), "small")
        values |= {name: one.default for name, one in compiled.parameters.items()}
    values |= {
        "base_dir": str(volume), "analysis_cache": f"{volume}/analysis",
        "study_root": f"{volume}/studies", "checkpoint_root": f"{volume}/checkpoints",
        "champion": f"{volume}/serving", "serving_dir": f"{volume}/serving",
        "model": f"{volume}/serving",
    }  # fmt: skip
    artifacts, ends = {}, {}
    for name in ORDER:
        part = "tune" if name in ("draw", "trial", "choose") else name
        own = {**values, "config": values.get(f"{part}_config")}
        ends[name] = end = start(name, own, artifacts)
        assert end.code == 0, f"{name}: {end.log}"
        artifacts |= end.artifacts
        match name:
            case "draw":
                (values["values"],) = end.parameters["Output"]
            case "trial":
                values["results"] = [end.parameters["Output"]]
            case "tune" | "choose":
                values["train_config"] = end.parameters["Output"]
            case "evaluate":
                values["verdict"] = end.parameters["Output"]
    return volume, ends


def test_all_executors_of_a_component_are_the_one_that_is_run():
    for name, found in committed().items():
        assert name in ORDER
        _, first = found[0]
        for place, executor in found:
            assert executor.words == first.words, f"{name} of {place}"
            assert (executor.inputs, executor.outputs) == (first.inputs, first.outputs), place


def test_steps_chain_to_a_published_version_and_its_predictions(chained):
    volume, ends = chained
    assert (volume / "serving" / "1" / "saved_model.pb").is_file()
    assert ends["evaluate"].parameters["Output"] == "blessed"
    assert ends["export"].artifacts["saved_model"]["metadata"]["published"].endswith("serving/1")
    assert ends["predict"].artifacts["predictions"]["metadata"]["rows"] == 300
    assert (
        json.loads(ends["choose"].parameters["Output"])["estimator"]["args"]["optimizer"][
            "learning_rate"
        ]
        == 0.5
    )


def test_steps_write_no_stack_traces_and_nothing_of_tensorflows_start(chained):
    _, ends = chained
    for name, end in ends.items():
        for unwanted in ("Traceback", "cuda", "oneDNN", "absl::InitializeLog"):
            assert unwanted not in end.log, f"{name}: {end.log}"


def test_a_mistake_of_the_users_ends_the_process_with_code_2_and_one_line(start):
    end = start("draw", {"config": '{"tune": 1}', "code_version": ""}, {})
    assert end.code == 2
    said = [line for line in end.log.splitlines() if line.startswith("error: ")]
    assert said, end.log
    assert "Traceback" not in end.log
