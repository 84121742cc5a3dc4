"""What goes wrong between a client and its store: it passes, or is told as what it is."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import boto3
import pytest

from estimator_lib.core import stores
from estimator_lib.core.errors import ConfigError, Reason, StorageError
from estimator_lib.core.places import Place
from tests.stores import servers
from tests.stores.conftest import connect
from tests.stores.proxy import HANG, LOSE, PASS

LARGE = 20 << 20


@pytest.fixture
def soon(monkeypatch):
    """A deadline that tests can wait for."""
    monkeypatch.setenv(stores.DEADLINE, "1.5")


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


def first(verdict, *, of, times=1):
    """A rule: the first requests of some methods get a verdict, all else passes."""
    left = [times]

    def rule(method, path):
        if method in of and left[0]:
            left[0] -= 1
            return verdict
        return PASS

    return rule


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_outage_within_the_deadline_is_survived(between, behind, status):
    store = stores.of(behind)
    between.rule = first(status, of={"PUT", "POST"}, times=2)
    store.write(behind / "a", b"one")
    between.rule = first(status, of={"GET"}, times=2)
    assert store.read(behind / "a") == b"one"
    between.rule = first(status, of={"GET"}, times=2)
    assert list(store.listed(behind)) == ["a"]


def test_who_created_a_file_is_told_so_though_the_answer_was_lost(between, behind):
    store = stores.of(behind)
    between.rule = first(LOSE, of={"PUT", "POST"})
    assert store.create(behind / "a", b"one")
    between.rule = first(LOSE, of={"PUT", "POST"})
    assert not store.create(behind / "a", b"two")
    between.rule = first(LOSE, of={"PUT", "POST"})
    assert store.replace_if(behind / "a", b"three", store.look(behind / "a").version)
    assert store.read(behind / "a") == b"three"


def test_an_upload_that_loses_answers_is_whole(between, behind, large):
    calls = []

    def rule(method, path):
        if method in ("PUT", "POST"):
            calls.append(path)
        return LOSE if method in ("PUT", "POST") and len(calls) in (1, 3, 6) else PASS

    store = stores.of(behind)
    between.rule = rule
    assert store.upload(large, behind / "a", only_if_absent=True)
    between.rule = lambda method, path: PASS
    assert store.read(behind / "a") == large.read_bytes()


@pytest.mark.parametrize(
    "act",
    [
        lambda store, place: store.read(place),
        lambda store, place: store.listed(place),
        lambda store, place: store.write(place, b""),
        lambda store, place: store.create(place, b""),
        lambda store, place: store.look(place),
        lambda store, place: store.remove(place),
    ],
    ids=["read", "listed", "write", "create", "look", "remove"],
)
@pytest.mark.parametrize("fault", ["refused", "silent", "busy"])
def test_every_act_has_one_deadline(server, between, behind, soon, monkeypatch, act, fault):
    if fault == "refused":
        connect(server, servers.free_port(), monkeypatch)
    else:
        between.rule = lambda method, path: HANG if fault == "silent" else 503
    store = stores.of(behind)
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        act(store, behind / "a")
    assert time.monotonic() - began < 15  # of which some are for the client, on a busy machine
    assert (caught.value.reason, caught.value.retryable) == (Reason.UNREACHABLE, True)
    assert str(behind) in caught.value.message
    assert "for 1.5 seconds" in caught.value.message


@pytest.mark.parametrize("status", [401, 403])
def test_denied_access_is_final_at_once_and_says_what_to_set(between, behind, status):
    setting = {"s3": "AWS_ACCESS_KEY_ID", "gs": "GOOGLE_APPLICATION_CREDENTIALS"}
    wanted = setting.get(behind.scheme, "AZURE_STORAGE_CONNECTION_STRING")
    between.rule = lambda method, path: status
    store = stores.of(behind)
    for act in (
        lambda: store.read(behind / "a"),
        lambda: store.listed(behind),
        lambda: store.write(behind / "a", b""),
    ):
        between.requests.clear()
        with pytest.raises(StorageError, match=wanted) as caught:
            act()
        assert (caught.value.reason, caught.value.retryable) == (Reason.PERMISSION, False)
        assert len(between.requests) == 1
        assert not any(secret in str(caught.value) for secret in ("hunter2", "Eby8vdM0"))


_UPLOAD = """
import pathlib, sys
from estimator_lib.core import stores
from estimator_lib.core.places import Place
place = Place(sys.argv[1])
store = stores.of(place)
store.look(place)
print("begins", flush=True)
store.upload(pathlib.Path(sys.argv[2]), place)
"""


def _uploading(place, large):
    process = subprocess.Popen(
        [sys.executable, "-c", _UPLOAD, str(place), str(large)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline()
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_upload_that_is_ended_in_the_middle_shows_nothing(between, behind, large, how):
    between.delay_s = 0.4
    process = _uploading(behind / "a", large)
    while len(between.requests) < 4:  # the look, the begin, parts
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=30)
    between.delay_s = 0
    time.sleep(0.5)
    assert stores.of(behind).read(behind / "a") is None
    assert stores.of(behind).listed(behind) == {}
    if behind.scheme == "s3" and how is signal.SIGINT:
        assert _unfinished(between, behind) == []


def test_an_upload_that_fails_is_given_up(between, behind, large, soon):
    sent = []

    def rule(method, path):
        if method in ("PUT", "POST"):
            sent.append(path)
        return 503 if len(sent) > 2 and method in ("PUT", "POST") else PASS

    between.rule = rule
    with pytest.raises(StorageError) as caught:
        stores.of(behind).upload(large, behind / "a")
    assert caught.value.reason is Reason.UNREACHABLE
    between.rule = lambda method, path: PASS
    assert stores.of(behind).read(behind / "a") is None
    if behind.scheme == "s3":
        assert _unfinished(between, behind) == []


def _unfinished(between, folder):
    """The uploads of S3 that are neither finished nor given up."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{between.upstream}")
    found = client.list_multipart_uploads(Bucket=servers.BUCKET).get("Uploads", [])
    return [each["Key"] for each in found if each["Key"].startswith(folder.key)]


@pytest.mark.parametrize("scheme", servers.SCHEMES)
def test_a_server_that_is_killed_and_comes_back_loses_nothing(scheme, tmp_path, monkeypatch, large):
    if reason := servers.missing(scheme):
        pytest.skip(reason)
    with servers.running(scheme, tmp_path / "server") as server:
        connect(server, server.port, monkeypatch)
        folder = Place(f"{server.root}/x")
        store = stores.of(folder)
        if server.keeps:
            store.upload(large, folder / "before")
            time.sleep(server.keeps_after_s)
        server.kill()
        back = threading.Timer(2, lambda: (server.start(), _bucket_again(server)))
        back.start()
        wrote = store.create(folder / "during", b"one")  # tried until the server is back
        back.join()
        assert wrote
        assert store.read(folder / "during") == b"one"
        assert store.upload(large, folder / "after")
        names = (["before"] if server.keeps else []) + ["after"]
        for name in names:
            assert store.read(folder / name) == large.read_bytes()


def _bucket_again(server):
    if not server.keeps:
        servers.make_bucket(server)


def test_no_credentials_are_told_at_once(started, monkeypatch, tmp_path):
    server = started("s3")
    connect(server, server.port, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"no credentials.*AWS_ACCESS_KEY_ID") as caught:
        stores.of(Place(server.root)).read(Place(f"{server.root}/a"))
    assert (caught.value.reason, caught.value.retryable) == (Reason.PERMISSION, False)


def test_google_without_credentials_is_told_before_any_request(monkeypatch, tmp_path):
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(stores, "_made", {})
    with pytest.raises(ConfigError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        stores.of(Place("gs://bucket/a"))


def test_azure_without_an_account_is_told_before_any_request(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_STORAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(stores, "_made", {})
    with pytest.raises(ConfigError, match="AZURE_STORAGE_CONNECTION_STRING"):
        stores.of(Place("az://bucket/a"))


def test_a_wrong_key_of_azure_is_denied(started, monkeypatch):
    server = started("az")
    connect(server, server.port, monkeypatch)
    told = os.environ["AZURE_STORAGE_CONNECTION_STRING"].replace("Eby8", "Abcd")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", told)
    with pytest.raises(StorageError, match="access is denied") as caught:
        stores.of(Place(server.root)).read(Place(f"{server.root}/a"))
    assert caught.value.reason is Reason.PERMISSION
    assert "Abcd" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "client", "extra"),
    [
        ("s3://b/x", "s3fs", "s3"),
        ("gs://b/x", "gcsfs", "gcs"),
        ("az://b/x", "adlfs", "azure"),
        ("abfs://b/x", "adlfs", "azure"),
    ],
)
def test_a_client_that_is_not_installed_is_named_with_its_extra(monkeypatch, uri, client, extra):
    monkeypatch.setattr(stores, "_made", {})
    monkeypatch.delitem(sys.modules, f"estimator_lib.core.stores._{extra}", raising=False)
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(ConfigError, match=rf"{client} is not.*estimator-pipelines\[{extra}\]"):
        stores.of(Place(uri))


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e9"])
def test_a_deadline_that_is_none_is_refused(server_folder, monkeypatch, text):
    monkeypatch.setenv(stores.DEADLINE, text)
    with pytest.raises(ConfigError, match=stores.DEADLINE):
        stores.of(server_folder).read(server_folder)


def test_raw_data_alone_may_be_elsewhere():
    with pytest.raises(ConfigError, match="in no object store"):
        stores.of(Place("hdfs://name/x"))
    with pytest.raises(ConfigError, match="is a URI"):
        pathlib.Path(Place("s3://b/x"))
