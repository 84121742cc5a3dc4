"""What `clean` deletes and, above all, what it does not."""

import datetime
import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

from estimator_lib.core import storage
from pipelines import cli
from pipelines.local import output as run_output

NOW = datetime.datetime.now(datetime.UTC)
DAY_S = 86_400


def age(path: pathlib.Path, days: float) -> None:
    time = NOW.timestamp() - days * DAY_S
    os.utime(path, (time, time))


class Output:
    """A run's output directory with as much in it as a test needs."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def run(self, days: float) -> pathlib.Path:
        began = (NOW - datetime.timedelta(days=days)).astimezone()
        folder = self.root / "artifacts" / f"flights-{began:%Y-%m-%d-%H-%M-%S-%f}"
        (folder / "train" / "model").mkdir(parents=True)
        (folder / "train" / "model" / "weights").write_text("12345")
        return folder

    def cached(self, number: int, artifact: pathlib.Path, days: float) -> pathlib.Path:
        entry = self.root / "cache" / f"{number:064x}.json"
        entry.parent.mkdir(exist_ok=True)
        entry.write_text(json.dumps({"models": {"artifacts": [{"uri": str(artifact)}]}}))
        age(entry, days)
        return entry

    def training(self, number: int, days: float, below: str = "checkpoints") -> pathlib.Path:
        folder = self.root / below / f"{number:016x}"
        folder.mkdir(parents=True)
        (folder / "checkpoint").write_text("model.ckpt-1")
        age(folder, days)
        return folder

    def analysis(self, number: int, days: float) -> pathlib.Path:
        path = self.root / "analysis" / f"{number:064x}.arrow"
        path.parent.mkdir(exist_ok=True)
        path.write_text("rows")
        age(path, days)
        return path


@pytest.fixture
def output(tmp_path):
    return Output(tmp_path / "out")


def clean(output, *options):
    return cli.main(["clean", str(output.root), *options])


def test_the_newest_of_each_kind_stay(output):
    runs = [output.run(days) for days in (1, 5, 9)]
    trainings = [output.training(number, number) for number in range(4)]
    searches = [output.training(n, n, "studies/searches") for n in range(3)]
    assert clean(output, "--keep", "2") == 0
    assert [path.exists() for path in runs] == [True, True, False]
    assert [path.exists() for path in trainings] == [True, True, False, False]
    assert [path.exists() for path in searches] == [True, True, False]


def test_what_was_used_lately_stays(output):
    runs = [output.run(days) for days in (1, 5, 9)]
    analyses = [output.analysis(days, days) for days in (1, 5, 9)]
    assert clean(output, "--older-than", "4.5") == 0
    assert [path.exists() for path in runs] == [True, False, False]
    assert [path.exists() for path in analyses] == [True, False, False]


def test_with_both_bounds_only_what_both_let_go_goes(output):
    runs = [output.run(days) for days in (1, 5, 9)]
    assert clean(output, "--older-than", "7", "--keep", "1") == 0
    assert [path.exists() for path in runs] == [True, True, False]
    output.analysis(3, 50)
    assert clean(output, "--keep", "1") == 0  # says nothing of age: analyses stay
    assert len(list((output.root / "analysis").iterdir())) == 1


def test_the_newest_run_stays_however_old(output):
    only = output.run(100)
    assert clean(output, "--older-than", "1") == 0
    assert only.exists()


def test_what_a_kept_run_took_from_the_cache_stays(output):
    first, second, third = (output.run(days) for days in (9, 5, 1))
    used = output.cached(1, first / "train" / "model", days=0.9)  # by the third run
    unused = output.cached(2, second / "train" / "model", days=4.9)
    assert clean(output, "--keep", "1") == 0
    assert (first / "train" / "model" / "weights").exists()
    assert used.exists()
    assert third.exists()
    assert not second.exists()
    assert not unused.exists()


def test_served_models_logs_and_foreign_files_stay(output):
    output.run(9)
    output.run(1)
    stays = [
        output.root / name
        for name in ("serving/1/saved_model.pb", "serving/2/saved_model.pb", "logs/train.log",
                     "artifacts/notes/a.txt", "checkpoints/mine/checkpoint", "cache/readme",
                     "run.json", "report.html")
    ]  # fmt: skip
    for path in stays:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        age(path, 99)
    linked = output.training(7, 50)
    (output.root / "checkpoints" / f"{8:016x}").symlink_to(linked)
    assert clean(output, "--keep", "1", "--older-than", "2") == 0
    assert all(path.exists() for path in [*stays, linked])
    assert len(list((output.root / "artifacts").glob("flights-*"))) == 1


def test_a_dry_run_tells_the_same_and_deletes_nothing(output, capsys):
    runs = [output.run(days) for days in (1, 5)]
    training = output.training(1, 3), output.training(2, 4)
    before = sorted(output.root.rglob("*"))
    assert clean(output, "--keep", "1", "--dry-run") == 0
    told = capsys.readouterr().out
    assert sorted(output.root.rglob("*")) == before
    assert told.endswith("2 would be deleted, 17 B\n")
    assert clean(output, "--keep", "1") == 0
    assert capsys.readouterr().out == told.replace("would be ", "")
    assert str(runs[1]) in told
    assert not runs[1].exists()
    assert [path.exists() for path in training] == [True, False]


HOLD = """
import sys
from estimator_lib.core import leases
assert leases.Lease(sys.argv[1]).take() is None
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "lease", [storage.WORK_LEASE, f"trial-3/{storage.TRAINER_LEASE}"], ids=["step", "trainer"]
)
def test_what_a_living_process_holds_stays(output, lease):
    output.training(1, 1)
    held = output.training(2, 9)
    (held / lease).parent.mkdir(exist_ok=True)
    age(held, 9)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(held / lease)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=pathlib.Path(__file__).parents[3],
    ) as owner:
        assert owner.stdout.readline() == b"held\n"
        age(held, 9)
        assert clean(output, "--keep", "1", "--older-than", "2") == 0
        assert held.exists()
        owner.kill()
    age(held, 9)
    assert clean(output, "--keep", "1", "--older-than", "2") == 0
    assert not held.exists()


def test_a_running_run_is_left_alone(output, capsys):
    old = output.run(9)
    output.run(1)
    with run_output.lease(output.root):
        assert clean(output, "--keep", "1") == 2
    assert "Another run is using" in capsys.readouterr().err
    assert old.exists()


def test_a_volume_without_runs_of_this_machine(output):
    trainings = [output.training(number, number) for number in range(3)]
    assert clean(output, "--keep", "2") == 0
    assert [path.exists() for path in trainings] == [True, True, False]
    assert not (output.root / ".lock").exists()


def test_other_directories_and_bounds_that_are_missing_are_refused(output, tmp_path, capsys):
    assert cli.main(["clean", str(tmp_path), "--keep", "3"]) == 2
    assert "is no output of a run: expected artifacts" in capsys.readouterr().err
    output.run(1)
    assert clean(output) == 2
    assert "Give --keep, --older-than or both" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        clean(output, "--keep", "0")
    assert ended.value.code == 2


def test_the_cron_job_of_the_page_runs_this_command(output):
    page = (pathlib.Path(__file__).parents[3] / "docs" / "operate.md").read_text()
    blocks = [yaml.safe_load(part.split("```")[0]) for part in page.split("```yaml\n")[1:]]
    (job,) = [block for block in blocks if block.get("kind") == "CronJob"]
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program, command, place, *options = container["command"]
    assert (program, command) == ("estimator-pipelines", "clean")
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == place
    assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
    runs = [output.run(days) for days in range(20, 80, 10)]
    assert clean(output, *options) == 0
    assert [path.exists() for path in runs] == [True] * 5 + [False]
