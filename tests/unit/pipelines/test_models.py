import json
import shutil

import pytest

from estimator_lib.core import manifest
from estimator_lib.export import retention
from pipelines import cli, models


@pytest.fixture
def serving(tmp_path):
    for step in (10, 20, 30):
        model = tmp_path / f"model-{step}"
        model.mkdir()
        (model / "saved_model.pb").write_bytes(b"model of step %d" % step)
        lineage = {"step": step, "metrics": {"auc": step / 100}, "data_fingerprint": "d" * 64}
        (model / models.LINEAGE).write_text(json.dumps(lineage))
        retention.publish(model, tmp_path / "serving")
    return tmp_path / "serving"


def test_list_shows_the_newest_first(serving, capsys):
    assert cli.main(["models", "list", str(serving)]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["3", "2", "1"]
    assert "0.3000" in rows[0]


def test_show_walks_to_what_made_a_version(serving, capsys):
    assert cli.main(["models", "show", str(serving), "--version", "2"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["version"] == 2
    assert shown["lineage"]["step"] == 20


def test_show_walks_over_parents_to_the_first_that_is_kept(serving, capsys):
    for version, parent in ((3, 2), (2, 1)):
        path = serving / str(version) / models.LINEAGE
        lineage = json.loads(path.read_text())
        lineage["parent"] = {"version": parent, "digest": "d", "model": "m"}
        path.write_text(json.dumps(lineage))
        manifest.write(path.parent, kind="model")
    assert cli.main(["models", "show", str(serving)]) == 0
    line = json.loads(capsys.readouterr().out)["ancestors"]
    assert [(one["version"], one["step"]) for one in line] == [(2, 20), (1, 10)]
    shutil.rmtree(serving / "1")
    assert cli.main(["models", "show", str(serving)]) == 0
    line = json.loads(capsys.readouterr().out)["ancestors"]
    assert line[-1] == {"version": 1, "digest": "d", "model": "m", "kept": False}


def test_rollback_publishes_the_previous_version_again(serving, capsys):
    assert cli.main(["models", "rollback", str(serving)]) == 0
    assert "version 2" in capsys.readouterr().out
    assert retention.versions(serving) == [1, 2, 3, 4]
    assert (serving / "4" / "saved_model.pb").read_bytes() == b"model of step 20"
    assert json.loads((serving / "4" / models.LINEAGE).read_text())["again"] == 2
    manifest.verify(serving / "4", deep=True)
    assert "again" in models.table(models.read(serving))


def test_rollback_to_a_named_version(serving):
    assert models.rollback(serving, 1)[0] == 1
    assert (serving / "4" / "saved_model.pb").read_bytes() == b"model of step 10"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--version", "9"], "1, 2, 3"), (["--version", "3"], "newest already")],
)
def test_rollback_refuses_what_makes_no_sense(serving, capsys, arguments, said):
    assert cli.main(["models", "rollback", str(serving), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert retention.versions(serving) == [1, 2, 3]


def test_nothing_published_is_said(tmp_path, capsys):
    assert cli.main(["models", "list", str(tmp_path)]) == 2
    assert "holds no published model" in capsys.readouterr().err
