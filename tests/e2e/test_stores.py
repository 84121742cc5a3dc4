"""The whole road in an object store: rows, output, checkpoints and serving directory are URIs."""

import json
import pathlib
import shutil

import pytest

from estimator_lib.core import config as configuration
from estimator_lib.core import manifest, stores
from estimator_lib.core.errors import PipelineError
from estimator_lib.core.places import Place
from estimator_lib.export import retention
from pipelines import cli
from pipelines.local import run
from pipelines.local.warm_steps import WarmSteps
from tests.e2e.test_run import CONFIG, write_rows

KILLED = """
import os, pathlib, signal
import estimator_lib

MARK = pathlib.Path(f"{__file__}.killed")  # not by name, or it were a part of the code


class Killed(estimator_lib.CheckpointSaverListener):
    def before_save(self, session, step):
        if step == 75 and not MARK.exists():
            MARK.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Hook(estimator_lib.Hook):
    listeners = (Killed(),)


class Classifier(estimator_lib.LinearClassifier):
    def train(self, input_fn, hooks=None, *args, **options):
        return super().train(input_fn, [*(hooks or ()), Hook()], *args, **options)


def build(columns, config):
    return Classifier([columns["carrier"], columns["hour"]], config=config)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bucket):
    """The working directory, where nothing may be called as a URI is."""
    del bucket  # one for each
    return tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def root(folder, bucket):
    for number in range(2):
        write_rows(folder / f"train-{number}.csv", 400, number)
    write_rows(folder / "eval.csv", 300, 9)
    place = bucket / "flights"
    for path in folder.glob("*.csv"):
        stores.of(place).upload(path, place / "rows" / path.name)
    stores.write(place / "config.yaml", CONFIG.encode())
    return place


@pytest.fixture(scope="module")
def server(folder, root):
    with WarmSteps(folder / "steps.log", path=[str(folder)]) as steps:
        yield steps


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    yield
    assert not [path.name for path in folder.iterdir() if ":" in path.name]


def execute(root, server, *settings, output="out"):
    shown = []
    config = configuration.load(root / "config.yaml", settings)
    here = pathlib.Path.cwd()
    result = run.run(config, base_dir=here, output=root / output, show=shown.append, steps=server)
    return result, shown


@pytest.fixture(scope="module")
def finished(folder, root, server):
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        return execute(root, server)


def test_a_run_leaves_everything_in_the_store(finished, root):
    result, _ = finished
    assert result["evaluation"]["verdict"] == "blessed"
    assert result["model"] == f"{root}/out/serving/1"
    assert retention.damage(result["model"]) is None
    assert json.loads(stores.read(root / "out" / "run.json")) == result
    assert b"<svg" in stores.read(result["report"])
    left = stores.of(root).listed(root / "out")
    assert {name.partition("/")[0] for name in left} == {
        "analysis", "artifacts", "cache", "checkpoints", "logs", "report.html", "run.json",
        "serving",
    }  # fmt: skip
    assert not [name for name in left if "/." in name or ".attempt-" in name]


def test_unchanged_uris_come_from_the_cache_and_publish_nothing(finished, root, server):
    first, _ = finished
    again, shown = execute(root, server)
    assert sorted(again["cached"]) == ["evaluate", "export", "preprocess", "train"]
    assert again["evaluation"] == first["evaluation"]
    assert retention.versions(root / "out" / "serving") == [1]
    assert len([line for line in shown if "from cache" in line]) == 4


def test_another_machine_takes_the_cache_from_the_store(finished, root, server, caches):
    shutil.rmtree(caches / "estimator-pipelines")
    again, _ = execute(root, server)
    assert sorted(again["cached"]) == ["evaluate", "export", "preprocess", "train"]
    assert retention.versions(root / "out" / "serving") == [1]
    fetched = list(caches.glob("estimator-pipelines/runs/*/artifacts/*/*/*/manifest.json"))
    assert len(fetched) >= 5
    for path in fetched:
        manifest.verify(path.parent, deep=True)


def test_commands_take_uris(finished, root, folder, capsys):
    serving = str(root / "out" / "serving")
    rows = f"{root}/rows/ev*.csv"
    for target in (f"{root}/scored.csv", "scored.csv"):
        assert cli.main(["predict", serving, rows, "-o", target, "--keep", "carrier"]) == 0
    assert stores.read(root / "scored.csv") == (folder / "scored.csv").read_bytes()
    assert (folder / "scored.csv").read_text().count("\n") > 250
    assert cli.main(["predict", f"{serving}/1", "eval.csv", "-o", f"{root}/shards"]) == 0
    assert manifest.read(root / "shards").metadata["version"] == "1"
    assert cli.main(["report", str(root / "out"), "--output", f"{root}/page.html"]) == 0
    assert f"page       {root}/page.html" in capsys.readouterr().out
    assert stores.read(root / "page.html") == stores.read(root / "out" / "report.html")
    assert cli.main(["config", "check", f"{root}/config.yaml"]) == 0
    assert cli.main(["compile", f"{root}/config.yaml", "-o", "spec.yaml"]) == 0
    assert f"{root}/rows/eval.csv" in (folder / "spec.yaml").read_text()
    assert cli.main(["models", "list", serving]) == 0
    assert cli.main(["models", "show", serving]) == 0
    capsys.readouterr()
    assert cli.main(["models", "rollback", serving]) == 2
    assert "nothing to go back to" in capsys.readouterr().err
    assert cli.main(["report", f"{root}/nothing"]) == 2
    assert f"There is no report at {root}/nothing" in capsys.readouterr().err


def test_the_next_model_starts_from_the_serving_one_and_is_compared_with_it(
    finished, root, server, capsys
):
    settings = [
        "pipeline=continuous_training", "train.warm_start=serving",
        "evaluate.changes={auc: {min: -1.0}}",
    ]  # fmt: skip
    result, shown = execute(root, server, *settings)
    assert result["cached"] == ["preprocess"]
    assert any("starts from serving version 1" in line for line in shown)
    assert result["evaluation"]["comparison"]["model"] == f"{root}/out/serving/1"
    assert result["model"] == f"{root}/out/serving/2"
    lineage = json.loads(retention.read(result["model"], "lineage.json"))
    assert (lineage["parent"]["version"], lineage["compared_with"]) == (1, "1")
    serving = str(root / "out" / "serving")
    assert cli.main(["models", "rollback", serving]) == 0
    assert f"version 1 is published again as {serving}/3" in capsys.readouterr().out


def test_a_training_killed_with_9_goes_on_from_the_checkpoint_in_the_store(
    finished, root, server, folder
):
    (folder / "killed_model.py").write_text(KILLED)
    settings = ["estimator={function: 'killed_model:build'}", "evaluate.thresholds={}"]
    with pytest.raises(PipelineError, match="train was killed by SIGKILL"):
        execute(root, server, *settings, output="killed")
    whole, shown = execute(root, server, *settings, output="killed")
    assert any("goes on from step 50" in line for line in shown), shown
    assert whole["evaluation"]["step"] == 100


def test_a_search_keeps_its_trials_in_the_store(finished, root, server):
    tune = "tune={trials: 2, metric: auc, max_steps: 25, space: {train.batch_size: {choice: [32]}}}"
    result, _ = execute(root, server, "pipeline=tuned_training", tune)
    assert result["tuned"]["trials"] == 2
    left = stores.of(root).listed(root / "out" / "studies")
    journals = [name for name in left if name.endswith("/trials.json")]
    assert len(journals) == 1
    kept = json.loads(stores.read(root / "out" / "studies" / journals[0]))
    assert [trial["state"] for trial in kept] == ["complete", "complete"]


@pytest.mark.parametrize("words", ["run {config} --output {hdfs}", "models list {hdfs}"])
def test_what_raw_data_only_can_be_read_from_is_refused(words, root, capsys):
    given = words.format(config=f"{root}/config.yaml", hdfs="hdfs://host/out").split()
    assert cli.main(given) == 2
    assert "hdfs://host/out" in capsys.readouterr().err


def test_a_place_of_raw_data_has_another_fingerprint_when_a_file_is_written_anew(root):
    config = configuration.load(root / "config.yaml")
    before = run._with_elsewhere(config, "")
    assert run._with_elsewhere(config, "") == before
    place = root / "rows" / "eval.csv"
    stores.write(place, stores.read(place) + b"\n")
    assert run._with_elsewhere(config, "") != before
    assert Place.parse(place) == place
