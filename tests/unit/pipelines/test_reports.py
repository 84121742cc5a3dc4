import json
import pathlib

import pytest

from estimator_lib.core import stores
from pipelines import cli
from tests import memory_store

EVALUATION = {
    "model": "flights", "step": 1200, "verdict": "refused", "rows": 5000,
    "reasons": ["auc is 0.51, below the minimum 0.6."],
    "metrics": {
        "auc": {"value": 0.51, "low": 0.5, "high": 0.52, "reason": None},
        "recall": {"value": None, "low": None, "high": None, "reason": "no positive row"},
    },
    "comparison": {
        "model": "serving/3",
        "changes": {"auc": {"value": -0.02, "low": -0.03, "high": -0.01, "reason": None}},
    },
}  # fmt: skip


@pytest.fixture(params=["run", "step"])
def place(request, tmp_path):
    """What a local run leaves, and what an evaluate step leaves anywhere."""
    root = tmp_path / "out"
    (root / "evaluation").mkdir(parents=True)
    if request.param == "run":
        (root / "run.json").write_text(json.dumps({"evaluation": EVALUATION}))
        (root / "report.html").write_text("<html>")
    else:
        (root / "evaluation" / "evaluation.json").write_text(json.dumps(EVALUATION))
        (root / "report").write_text("<html>")
    return root


@pytest.mark.parametrize("stored", [False, True])
def test_report_says_verdict_metrics_and_place(place, stored, tmp_path, capsys):
    copy = tmp_path / "copy" / "page.html"
    if stored:
        memory_store.clear()
        for path in filter(pathlib.Path.is_file, place.rglob("*")):
            stores.write(f"mem://out/{path.relative_to(place)}", path.read_bytes())
    given = "mem://out" if stored else str(place)
    assert cli.main(["report", given, "--output", str(copy)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "flights, step 1,200",
        "refused",
        "auc is 0.51, below",
        "0.5100  (0.5000 to 0.5200)",
        "undefined: no positive row",
        "serving/3",
        "-0.0200  (-0.0300 to -0.0100)",
        str(copy),
    ):
        assert part in shown
    assert copy.read_text() == "<html>"


def test_no_report_is_said(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"predictions": {}}')
    for place in (tmp_path, tmp_path / "nowhere"):
        assert cli.main(["report", str(place)]) == 2
        assert "There is no report" in capsys.readouterr().err
    assert cli.main(["report", "nosuchscheme://x"]) == 2
    assert "has the scheme 'nosuchscheme'" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
