"""Fault 34: what lies in a serving directory, or is read from a file, is not trusted.

Fails when a rollback follows a link, when a lineage is used as it is found, or when a name that is
no version is taken for one.
"""

import json
import os

import pytest

from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError, DataError, EstimatorLibError, Reason
from estimator_lib.export import retention
from pipelines import cli, models

LINEAGES = [
    "", "{", "[]", "null", "7", '"x"', "\x00", "[" * 100_000, '{"step": "x"}', '{"step": 1.5}',
    '{"metrics": []}', '{"metrics": {"auc": "high"}}', '{"parent": 3}', '{"parent": {}}',
    '{"parent": {"version": [1]}}', '{"data_fingerprint": 7}', '{"code_version": null}',
    '{"again": "x"}', '{"main_metric": ["auc"]}',
]  # fmt: skip


@pytest.fixture
def serving(tmp_path):
    for step in (1, 2, 3):
        model = tmp_path / f"model-{step}"
        model.mkdir()
        (model / "saved_model.pb").write_bytes(b"model of step %d" % step)
        (model / models.LINEAGE).write_text(json.dumps({"step": step}))
        retention.publish(model, tmp_path / "serving")
    return tmp_path / "serving"


def rewrite(serving, version, text):
    """Writes a lineage as if it had been published so."""
    path = serving / str(version) / models.LINEAGE
    path.write_text(text)
    manifest.write(path.parent, kind="model")


def said(capsys, *arguments):
    """Runs a command; returns its exit code and what it said, one error at most."""
    code = cli.main(["models", *map(str, arguments)])
    out, error = capsys.readouterr()
    assert code in (0, 2)
    assert error.count("error:") == (code == 2)
    assert "Traceback" not in error
    return code, out + error


@pytest.mark.parametrize("text", LINEAGES)
def test_lineage_that_is_none_is_named_and_hides_no_other_version(serving, capsys, text):
    rewrite(serving, 2, text)
    code, shown = said(capsys, "list", serving)
    assert code == 0
    assert shown.count("DAMAGED") == 1
    assert str(serving / "2" / models.LINEAGE) in shown
    for command in ("show", "rollback"):
        code, shown = said(capsys, command, serving, "--version", 2)
        assert code == 2
        assert "Version 2 is damaged" in shown
    assert retention.versions(serving) == [1, 2, 3]
    assert said(capsys, "rollback", serving, "--version", 1)[0] == 0


@pytest.mark.parametrize("line", [{1: 1}, {3: 2, 2: 3}, {3: 2, 2: 1, 1: 2}])
def test_lineage_that_leads_to_itself_is_refused(serving, line):
    for version, parent in line.items():
        rewrite(serving, version, json.dumps({"parent": {"version": parent}}))
    known = models.read(serving)
    with pytest.raises(DataError, match="descends from itself"):
        models.ancestors(known, known[max(line) - 1])


def test_published_version_with_a_flipped_bit_is_named(serving, capsys):
    (serving / "2" / "saved_model.pb").write_bytes(b"model of step 9")  # the same size
    for command in ("show", "rollback"):
        code, shown = said(capsys, command, serving, "--version", 2)
        assert (code, "Version 2 is damaged" in shown) == (2, True)
    (serving / "1" / "saved_model.pb").write_bytes(b"short")
    code, shown = said(capsys, "list", serving)
    assert (code, shown.count("DAMAGED")) == (0, 1)


@pytest.mark.parametrize("kind", ["link", "directory link", "dangling link", "pipe"])
def test_rollback_follows_no_link(serving, tmp_path, kind):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hunter2")
    match kind:
        case "link":
            (serving / "1" / "assets").symlink_to(secret / "key")
        case "directory link":
            (serving / "1" / "assets").symlink_to(secret)
        case "dangling link":
            (serving / "1" / "assets").symlink_to("/nowhere")
        case "pipe":
            os.mkfifo(serving / "1" / "assets")
    with pytest.raises(EstimatorLibError, match="assets") as caught:
        models.rollback(serving, 1)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert retention.versions(serving) == [1, 2, 3]
    assert not list(serving.rglob("*key*"))


@pytest.mark.parametrize("name", ["007", "²", "٣", "9" * 30, "-1", "4 ", "4\n", "1e3", "+4"])
def test_name_that_is_no_version_is_left_alone(serving, name, capsys):
    odd = serving / name
    odd.mkdir()
    (odd / "saved_model.pb").write_bytes(b"not ours")
    assert said(capsys, "list", serving)[0] == 0
    version, path = models.rollback(serving)
    assert (version, path) == (2, str(serving / "4"))
    retention.clean(serving, keep=1)
    assert retention.versions(serving) == [4]
    assert (odd / "saved_model.pb").read_bytes() == b"not ours"


def test_version_that_is_a_link_is_no_version(serving):
    (serving / "9").symlink_to(serving / "1")
    assert retention.versions(serving) == [1, 2, 3]
    with pytest.raises(ConfigError, match="Version 9"):
        models.rollback(serving, 9)
    assert models.rollback(serving)[1] == str(serving / "10")  # nothing is written over it


def test_manifest_that_leads_out_of_its_directory_opens_nothing(serving, tmp_path):
    content = json.loads((serving / "1" / manifest.NAME).read_text())
    content["files"]["../../model-1/saved_model.pb"] = content["files"]["saved_model.pb"]
    (serving / "1" / manifest.NAME).write_text(json.dumps(content))
    with pytest.raises(DataError, match="leaves its root"):
        models.rollback(serving, 1)
