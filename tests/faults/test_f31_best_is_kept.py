"""Fault 31: the best export is known over restarts and never deleted, nor the one serving.

Fails when the record of the best is not kept with its export, when a damaged record makes a worse
model the best without its export, or when `retention.clean` takes a protected version.
"""

import json
import pathlib

import pytest

from estimator_lib.export import exporters, retention


class Saves:
    """Stands in for the Estimator of an exporter, which only asks it to export."""

    def export_saved_model(self, base, *args, **kwargs):
        path = retention.commit(base, lambda folder: (folder / "saved_model.pb").write_text("x"))
        return str(path).encode()


def export(path, loss, **options):
    exporter = exporters.BestExporter("best", lambda: None, **options)  # as after a restart
    found = exporter.export(Saves(), str(path), "ckpt", {"loss": loss, "auc": loss}, False)
    return None if found is None else int(pathlib.Path(found.decode()).name)


def test_restart_does_not_forget_the_best(tmp_path):
    assert export(tmp_path, 0.5) == 1
    assert export(tmp_path, 0.7) is None
    assert export(tmp_path, 0.5) is None  # a tie keeps the old one
    assert export(tmp_path, 0.4) == 2
    record = json.loads((tmp_path / "best.json").read_text())
    assert (record["version"], record["metrics"]["loss"]) == (2, 0.4)


def test_retention_keeps_the_best_and_the_newest(tmp_path):
    assert export(tmp_path, 0.1) == 1
    for _ in range(4):
        Saves().export_saved_model(tmp_path)
    assert retention.clean(tmp_path, 1, protect=[1]) == [2, 3, 4]
    assert retention.versions(tmp_path) == [1, 5]
    assert export(tmp_path, 0.05, exports_to_keep=1) == 6
    assert retention.versions(tmp_path) == [6]


@pytest.mark.parametrize(
    "record",
    ["", "{", "[]", "null", "{}", '{"version": 1}', '{"version": 9, "metrics": {"loss": 0.1}}',
     '{"version": 1, "metrics": []}', '{"version": [1], "metrics": {}}', "\x00"],
)  # fmt: skip
def test_record_that_says_nothing_makes_the_next_one_the_best(tmp_path, record):
    assert export(tmp_path, 0.5) == 1
    (tmp_path / "best.json").write_text(record)
    assert export(tmp_path, 0.6) == 2
    assert export(tmp_path, 0.7) is None
    assert json.loads((tmp_path / "best.json").read_text())["version"] == 2


@pytest.mark.parametrize("keep", [1, 2, 3, 5, None, 0])
def test_clean_keeps_as_many_as_asked_and_always_the_newest(tmp_path, keep):
    for _ in range(4):
        Saves().export_saved_model(tmp_path)
    retention.clean(tmp_path, keep)
    left = retention.versions(tmp_path)
    assert left == [1, 2, 3, 4][-(keep or 4) :]
