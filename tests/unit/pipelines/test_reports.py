import json

import pytest
from apache_beam.io import localfilesystem

from pipelines import cli

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


class Bucket(localfilesystem.LocalFileSystem):
    """A file system of Beam's for `bucket://`; its files lie on this machine."""

    @classmethod
    def scheme(cls):
        return "bucket"

    def exists(self, path):
        return super().exists(path.removeprefix("bucket://"))

    def open(self, path, *args, **options):
        return super().open(path.removeprefix("bucket://"), *args, **options)


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


@pytest.mark.parametrize("scheme", ["", "file://", "bucket://"])
def test_report_says_verdict_metrics_and_place(place, scheme, tmp_path, capsys):
    copy = tmp_path / "copy" / "page.html"
    assert cli.main(["report", f"{scheme}{place}", "--output", str(copy)]) == 0
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
    assert "no file system" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
