"""Fault 21: a disk that is full, read-only, forbidden or away: one message, the old state whole.

Fails when an OSError leaves `storage`, `manifest`, a step or the command line as it is, or with an
exit code that asks for a retry where the same must fail again. `test_f41_storage_fails.py` makes
every single call of a training and an export fail.
"""

import errno
import io
import json
import os
import pathlib

import pytest

from components.steps.step import step
from estimator_lib.core import config, manifest, storage
from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, StorageError
from estimator_lib.export import retention
from pipelines import cli
from pipelines.local import output
from tests.contract.test_estimator import data, estimator, linear
from tests.faults.every_call import RECEIVER
from transforms.reading import files, readers
from transforms.reading.rows import Field, Layout

FAULTS = {
    errno.ENOSPC: (Reason.NO_SPACE, 75, "Free some space"),
    errno.EDQUOT: (Reason.NO_SPACE, 75, "Free some space"),
    errno.EIO: (Reason.IO, 75, ""),
    errno.ESTALE: (Reason.IO, 75, "mounted"),
    errno.ENOTCONN: (Reason.IO, 75, "mounted"),
    errno.EROFS: (Reason.PERMISSION, 2, "Mount it writable"),
    errno.EACCES: (Reason.PERMISSION, 2, "must be allowed"),
    errno.EPERM: (Reason.PERMISSION, 2, "must be allowed"),
}


def fails(code):
    def call(*args, **kwargs):
        raise OSError(code, os.strerror(code), "/there/x")

    return call


@pytest.fixture(params=FAULTS, ids=errno.errorcode.get)
def fault(request):
    return request.param


def write_artifact(target, text):
    with manifest.committed_artifact(target) as writer:
        (writer.directory / "x").write_text(text)


WRITERS = {
    "a file": (lambda place: storage.write_text(place / "file", "new"), "replace"),
    "a directory": (lambda place: storage.make_directory(place / "a" / "b"), "mkdir"),
    "an artifact": (lambda place: write_artifact(place / "artifact", "new"), "rename"),
    "its lease": (lambda place: write_artifact(place / "other", "new"), "open"),
    "a flush": (lambda place: write_artifact(place / "other", "new"), "fsync"),
    "a deletion": (lambda place: storage.remove(place / "file"), "unlink"),
    "a version": (lambda place: retention.publish(place / "model", place / "serving"), "rename"),
}


@pytest.mark.parametrize("form", ["csv", "parquet", "tfrecord"])
def test_raw_data_on_a_disk_that_fails_may_be_read_again(tmp_path, monkeypatch, form, fault):
    class Failing(io.BytesIO):
        read = readinto = fails(fault)

    file = files.InputFile(name="a", path=str(tmp_path / "a"))
    monkeypatch.setattr(files.InputFile, "open", lambda self: Failing(bytes(100)))
    layout = Layout(fields=(Field(name="x", type="int"),), format=form)
    with pytest.raises(DataError, match="File a") as caught:
        list(readers.reader(form).read_rows(file, layout))
    assert caught.value.exit_code == FAULTS[fault][1]


def test_files_beside_a_model_are_copied_or_the_disk_is_named(tmp_path, monkeypatch, fault):
    model = estimator(tmp_path / "model", linear)
    model.train(data(), max_steps=1)
    asset = tmp_path / "asset"
    asset.write_text("kept with the model")
    given = (str(tmp_path / "exports"), RECEIVER, {"beside/asset": str(asset)})
    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfile", fails(fault))
        with pytest.raises(StorageError) as caught:
            model.export_saved_model(*given)
    reason, code, _ = FAULTS[fault]
    assert (caught.value.reason, caught.value.exit_code) == (reason, code)
    assert "assets.extra/beside/asset" in caught.value.message
    path = pathlib.Path(os.fsdecode(model.export_saved_model(*given)))
    assert (path / "assets.extra" / "beside" / "asset").read_text() == asset.read_text()


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_ends_with_one_message_and_the_old_state(tmp_path, monkeypatch, writer, fault):
    storage.write_text(tmp_path / "file", "old")
    write_artifact(tmp_path / "artifact", "new")
    storage.write_text(tmp_path / "model" / "saved_model.pb", "m")
    retention.publish(tmp_path / "model", tmp_path / "serving")
    (tmp_path / "artifact" / manifest.NAME).unlink()  # so that it is written again
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write, name = WRITERS[writer]
    with monkeypatch.context() as patched:
        patched.setattr(os, name, fails(fault))
        with pytest.raises(StorageError) as caught:
            write(tmp_path)
    reason, code, advice = FAULTS[fault]
    assert (caught.value.reason, caught.value.exit_code) == (reason, code)
    assert advice in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert {path: path.read_bytes() for path in before} == before
    write(tmp_path)  # the rerun


def test_device_that_is_really_full_is_named(tmp_path):
    storage.write_text(tmp_path / "x", "text")
    with pytest.raises(StorageError, match="/dev/full") as caught:
        storage.copy(tmp_path / "x", "/dev/full")
    assert (caught.value.reason, caught.value.exit_code) == (Reason.NO_SPACE, 75)


def test_step_and_command_line_say_what_a_library_met(monkeypatch, capsys, fault):
    _, code, _ = FAULTS[fault]
    with pytest.raises(SystemExit) as left, step():
        fails(fault)()
    assert left.value.code == code
    said = capsys.readouterr().out
    assert said.startswith("error: ")
    assert "/there/x" in said
    monkeypatch.setattr(config, "load", fails(fault))
    assert cli.main(["config", "check", "x.yaml"]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "/there/x" in said


def test_error_that_is_no_disks_stays_one_of_the_program():
    with pytest.raises(FileNotFoundError), step():
        pathlib.Path("/nowhere/at/all").read_text()


def test_run_tells_a_disk_from_another_run(tmp_path, monkeypatch, fault):
    with output.lease(tmp_path), pytest.raises(EstimatorLibError, match="Another run"):  # noqa: SIM117
        with output.lease(tmp_path):
            pass
    monkeypatch.setattr(output.fcntl, "flock", fails(fault))
    with pytest.raises(StorageError) as caught, output.lease(tmp_path):
        pass
    assert caught.value.exit_code == FAULTS[fault][1]


def test_manifest_on_a_volume_that_is_away_is_no_missing_artifact(tmp_path, monkeypatch, fault):
    write_artifact(tmp_path / "a", "x")
    monkeypatch.setattr(pathlib.Path, "read_bytes", fails(fault))
    with pytest.raises(StorageError):
        manifest.read(tmp_path / "a")


ENTRY = {"size": 1, "sha256": "00"}
SHAPES = [
    "", "null", "[]", "7", "{}", '"x"', "[" * 100_000, '{"kind": "a"}', b"\xff\xfe",
    {"kind": 1, "files": {}, "metadata": {}},
    {"kind": "a", "files": [], "metadata": {}},
    {"kind": "a", "files": {"x": 1}, "metadata": {}},
    {"kind": "a", "files": {"x": {}}, "metadata": {}},
    {"kind": "a", "files": {"x": {**ENTRY, "more": 1}}, "metadata": {}},
    {"kind": "a", "files": {"x": {**ENTRY, "size": "1"}}, "metadata": {}},
    {"kind": "a", "files": {"x": {**ENTRY, "size": True}}, "metadata": {}},
    {"kind": "a", "files": {"x": {**ENTRY, "rows": []}}, "metadata": {}},
    {"kind": "a", "files": {}, "metadata": []},
    {"kind": "a", "files": {}, "metadata": {}, "directory": 3},
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_manifest_of_another_shape_is_damaged_and_the_step_writes_it_again(tmp_path, shape):
    target = tmp_path / "a"
    write_artifact(target, "x")
    content = json.dumps(shape) if isinstance(shape, dict) else shape
    content = content.encode() if isinstance(content, str) else content
    (target / manifest.NAME).write_bytes(content)
    with pytest.raises(DataError, match="damaged") as caught:
        manifest.verify(target)
    assert (caught.value.reason, caught.value.exit_code) == (Reason.CORRUPT_FILE, 2)
    write_artifact(target, "y")
    manifest.verify(target, deep=True)
    assert (target / "x").read_text() == "y"
