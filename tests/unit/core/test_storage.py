import errno
import json
import os
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_lib.core import files, manifest, storage
from estimator_lib.core.errors import (
    ConfigError,
    DataError,
    EstimatorLibError,
    Reason,
    SecurityError,
    StorageError,
    did_you_mean,
    quote,
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_write_bytes_replaces_whole_content_and_leaves_nothing_else(tmp_path):
    storage.write_bytes(tmp_path / "a", b"old content")
    storage.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_write_bytes_failure_keeps_the_old_file(tmp_path, monkeypatch):
    storage.write_bytes(tmp_path / "a", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError) as caught:
        storage.write_bytes(tmp_path / "a", b"new")
    assert caught.value.reason is Reason.NO_SPACE
    assert caught.value.retryable
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_write_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "a", {"x": float("nan")})
    assert names(tmp_path) == []


def test_staged_directory_appears_whole_or_not_at_all(tmp_path):
    with storage.staged_directory(tmp_path / "out") as staged:
        (staged / "x").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "x").read_text() == "1"

    def interrupted():
        with storage.staged_directory(tmp_path / "out2") as staged:
            (staged / "x").write_text("1")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert names(tmp_path) == ["out"]


def test_staged_directory_refuses_an_existing_target(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError), storage.staged_directory(tmp_path / "out"):
        pass
    with storage.staged_directory(tmp_path / "out", replace=True) as staged:
        (staged / "x").touch()
    assert names(tmp_path / "out") == ["x"]
    assert names(tmp_path) == ["out"]


def test_sweep_staging_removes_what_nobody_owns_and_is_a_day_old(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".{name}{storage.STAGING_MARK}1").mkdir()
    (tmp_path / "keep").mkdir()
    os.utime(tmp_path / f".old{storage.STAGING_MARK}1", (0, 0))
    os.utime(tmp_path / "keep", (0, 0))
    assert len(storage.sweep_staging(tmp_path)) == 1
    assert names(tmp_path) == [f".new{storage.STAGING_MARK}1", "keep"]


def test_staging_that_refused_to_go_is_swept_by_the_next_one(tmp_path, monkeypatch):
    def refuse(path, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", refuse)
        with storage.staging(tmp_path, "x") as staged:
            pass
    assert staged.path.exists()
    with storage.staging(tmp_path, "y"):
        assert not staged.path.exists()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["../x", "/etc/passwd", "a/../../x", "\0", "link/x"])
def test_safe_join_refuses_to_leave(tmp_path, part):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises((SecurityError, ValueError)):
        storage.safe_join(root, part)


@given(st.lists(st.text(string.ascii_letters + "./", min_size=1), min_size=1, max_size=3))
def test_safe_join_stays_inside_or_refuses(parts):
    try:
        path = storage.safe_join("/root-of-all", *parts)
    except SecurityError:
        return
    assert str(path).startswith("/root-of-all")


def test_committed_artifact_lists_its_files(tmp_path):
    target = tmp_path / "a"
    with manifest.committed_artifact(target) as writer:
        writer.kind = "examples"
        writer.metadata["x"] = 1
        writer.rows["t/part"] = 3
        (writer.directory / "t").mkdir()
        (writer.directory / "t" / "part").write_bytes(b"abc")
    found = manifest.verify(target, deep=True)
    assert found.kind == "examples"
    assert found.files["t/part"].rows == 3
    assert found.files["t/part"].size == 3


def artifact(target, content):
    with manifest.committed_artifact(target) as writer:
        (writer.directory / "x").write_text(content)


def test_committing_the_same_content_twice_is_fine_and_other_content_is_not(tmp_path):
    artifact(tmp_path / "a", "1")
    artifact(tmp_path / "a", "1")
    with pytest.raises(StorageError):
        artifact(tmp_path / "a", "2")
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert names(tmp_path) == ["a"]


def test_commit_replaces_what_a_killed_attempt_left(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "junk").touch()
    artifact(tmp_path / "a", "1")
    assert names(tmp_path / "a") == ["manifest.json", "x"]


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest", "no manifest"])
def test_verify_finds_damage(tmp_path, damage):
    artifact(tmp_path / "a", "content")
    match damage:
        case "truncate":
            (tmp_path / "a" / "x").write_text("con")
        case "delete":
            (tmp_path / "a" / "x").unlink()
        case "manifest":
            (tmp_path / "a" / "manifest.json").write_text("{}")
        case "no manifest":
            (tmp_path / "a" / "manifest.json").unlink()
    with pytest.raises(DataError):
        manifest.verify(tmp_path / "a")


def test_deep_verify_finds_a_changed_byte(tmp_path):
    artifact(tmp_path / "a", "content")
    (tmp_path / "a" / "x").write_text("CONTENT")
    manifest.verify(tmp_path / "a")
    with pytest.raises(DataError) as caught:
        manifest.verify(tmp_path / "a", deep=True)
    assert caught.value.reason is Reason.DIGEST_MISMATCH


def test_a_manifest_cannot_point_outside(tmp_path):
    artifact(tmp_path / "a", "1")
    path = tmp_path / "a" / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["../b"] = content["files"]["x"]
    path.write_text(json.dumps(content))
    with pytest.raises(SecurityError):
        manifest.verify(tmp_path / "a")


def test_expand_names_pattern_and_directory(tmp_path):
    (tmp_path / "b.csv").touch()
    (tmp_path / "a.csv").touch()
    assert [p.name for p in files.expand(["*.csv", "a.csv"], tmp_path)] == ["a.csv", "b.csv"]
    for pattern in ("none-*.csv", "none.csv"):
        with pytest.raises(DataError) as caught:
            files.expand([pattern], tmp_path)
        assert pattern in caught.value.message
        assert str(tmp_path) in caught.value.message


def test_a_relative_pattern_stays_below_its_directory(tmp_path):
    (tmp_path / "secret.csv").touch()
    base = tmp_path / "base"
    base.mkdir()
    with pytest.raises(SecurityError, match=r"secret\.csv"):
        files.expand(["../*.csv"], base)
    with pytest.raises(ConfigError, match="not a local path"):
        files.expand(["http://169.254.169.254/x.csv"], base)
    assert files.expand([str(tmp_path / "*.csv")], base) == [tmp_path / "secret.csv"]


def test_one_file_in_two_splits_is_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"a\.csv"):
        files.expand_splits({"train": ["*.csv"], "eval": ["a*"]}, tmp_path)


def test_fingerprint_follows_names_and_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    before = files.fingerprint([first, second], tmp_path)
    assert before == files.fingerprint([second, first], tmp_path)
    second.write_text("3")
    assert before != files.fingerprint([first, second], tmp_path)


def test_every_error_survives_pickling():
    kinds = EstimatorLibError.__subclasses__()
    assert len(kinds) >= 9
    for kind in kinds:
        error = pickle.loads(pickle.dumps(kind("what", reason=Reason.IO)))  # noqa: S301
        assert (type(error), error.message, error.reason) == (kind, "what", Reason.IO)
        assert error.exit_code == (75 if kind is StorageError else 2)


def test_messages_are_short_and_helpful():
    assert len(quote("x" * 1000)) <= 60
    assert "\n" not in quote("a\nb")
    assert did_you_mean("epochz", ["epochs", "seed"]) == " Did you mean 'epochs'?"
    assert did_you_mean("zzz", ["epochs", "seed"]) == " Known: epochs, seed."
