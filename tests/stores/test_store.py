"""What every object store promises, the double of the tests included."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from estimator_lib.core import manifest, stores
from estimator_lib.core.errors import Reason, StorageError
from estimator_lib.core.places import Place
from tests.stores.conftest import connect

LARGE = 20 << 20


@pytest.fixture
def store(folder):
    return stores.of(folder)


@pytest.fixture
def large(tmp_path):
    """A file that is sent and fetched in parts."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


def test_what_was_written_is_read_and_what_was_not_is_none(store, folder):
    assert store.read(folder / "a") is None
    assert store.look(folder / "a") is None
    assert store.listed(folder) == {}
    store.write(folder / "a", b"one")
    assert store.read(folder / "a") == b"one"
    store.write(folder / "a", b"")
    assert store.read(folder / "a") == b""
    assert store.look(folder / "a").size == 0
    with store.open(folder / "a") as source:
        assert source.read() == b""
    with pytest.raises(StorageError) as caught:
        store.open(folder / "b")
    assert (caught.value.reason, caught.value.retryable) == (Reason.FILE_NOT_FOUND, False)


def test_another_content_has_another_version_and_the_same_look_the_same(store, folder):
    store.write(folder / "a", b"one")
    first = store.look(folder / "a")
    assert store.listed(folder)["a"] == first == store.look(folder / "a")
    store.write(folder / "a", b"two")
    assert store.look(folder / "a").version != first.version


def test_files_are_listed_below_their_folder_only_and_sorted(store, folder):
    names = ["b", "a/x", "a/y z", "a+b", "a=1/ü", "ab"]
    for name in names:
        store.write(folder / name, name.encode())
    assert list(store.listed(folder)) == sorted(names)
    assert list(store.listed(folder / "a")) == ["x", "y z"]
    assert all(store.read(folder / name) == name.encode() for name in names)
    store.remove(folder / "a")
    assert list(store.listed(folder)) == sorted({*names} - {"a/x", "a/y z"})
    store.remove(folder / "ab")
    store.remove(folder / "never")
    assert list(store.listed(folder)) == ["a+b", "a=1/ü", "b"]


def test_patterns_are_those_of_paths(store, folder):
    for name in ("a.csv", "b.csv", "b.txt", "x/a.csv", "x/y/c.csv", "z[1].csv"):
        store.write(folder / name, b"")

    def found(pattern):
        given = Place(f"{folder}/{pattern}")
        return [uri.removeprefix(f"{folder}/") for uri in stores.matching(given)]

    assert found("*.csv") == ["a.csv", "b.csv", "z[1].csv"]
    assert found("[ab].csv") == ["a.csv", "b.csv"]
    assert found("[!a].csv") == ["b.csv"]
    assert found("**/*.csv") == ["a.csv", "b.csv", "x/a.csv", "x/y/c.csv", "z[1].csv"]
    assert found("x/**") == ["x/a.csv", "x/y/c.csv"]
    assert found("b.txt") == ["b.txt"]
    assert found("c.txt") == found("nowhere/*") == []


def test_of_many_who_create_a_file_one_does(store, folder):
    barrier = threading.Barrier(8)

    def create(number):
        barrier.wait()
        return store.create(folder / "a", str(number).encode())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert created.count(True) == 1
    assert store.read(folder / "a") == str(created.index(True)).encode()
    assert not store.create(folder / "a", b"late")


def test_a_file_is_replaced_only_if_it_is_the_one_that_was_seen(store, folder):
    store.write(folder / "a", b"one")
    seen = store.look(folder / "a").version
    store.write(folder / "a", b"two")
    assert not store.replace_if(folder / "a", b"three", seen)
    assert store.read(folder / "a") == b"two"
    assert store.replace_if(folder / "a", b"three", store.look(folder / "a").version)
    assert not store.replace_if(folder / "none", b"three", seen)
    assert store.read(folder / "none") is None


def test_no_count_is_lost_between_threads(store, folder):
    store.write(folder / "a", b"0")

    def add():
        done = 0
        while done < 4:
            seen = store.look(folder / "a").version
            count = int(store.read(folder / "a")) + 1
            done += store.replace_if(folder / "a", str(count).encode(), seen)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read(folder / "a") == b"16"


def test_large_files_come_and_go_whole(store, folder, large, tmp_path):
    assert store.upload(large, folder / "a", only_if_absent=True)
    assert not store.upload(large, folder / "a", only_if_absent=True)
    assert store.upload(large, folder / "a")
    assert store.look(folder / "a").size == LARGE
    store.download(folder / "a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert store.read(folder / "a") == large.read_bytes()
    with pytest.raises(StorageError) as caught:
        store.download(folder / "none", tmp_path / "none")
    assert caught.value.reason is Reason.FILE_NOT_FOUND
    assert not (tmp_path / "none").exists()


def test_any_part_of_a_file_can_be_read(store, folder, large):
    data = large.read_bytes()
    store.upload(large, folder / "a")
    with store.open(folder / "a") as source:
        assert source.seek(-7, os.SEEK_END) == LARGE - 7
        assert source.read() == data[-7:]
        source.seek(7 << 20)
        assert source.read(3 << 20) == data[7 << 20 : 10 << 20]
        source.seek(0)
        assert source.readline() == data[: data.index(b"\n") + 1]
        source.seek(0)
        assert source.read() == data
        assert source.read() == b""


def test_a_file_that_is_replaced_while_it_is_read_is_not_read_as_a_mixture(store, folder, large):
    store.upload(large, folder / "a")
    version = store.look(folder / "a").version
    with store.open(folder / "a", version) as source:
        begun = source.read(10)
        store.write(folder / "a", b"x" * LARGE)
        if folder.scheme == "mem":
            assert begun + source.read() == large.read_bytes()
        else:
            with pytest.raises(StorageError, match="replaced"):
                source.read()
    with pytest.raises(StorageError, match="replaced"):
        store.open(folder / "a", version)


def _commit(target, text):
    try:
        with manifest.committed_artifact(target) as writer:
            (writer.directory / "y").write_text(text)
    except StorageError as error:
        return str(error.reason)
    return "success"


def test_of_two_who_commit_other_content_at_a_time_one_is_refused(store, folder):
    for attempt in range(3):
        target, barrier = folder / str(attempt), threading.Barrier(2)

        def commit(text, target=target, barrier=barrier):
            barrier.wait()
            return _commit(target, text)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            told = dict(zip(("a", "b"), pool.map(commit, ("a", "b")), strict=True))
        assert sorted(told.values()) == ["already_exists", "success"]
        there = store.read(manifest.locate(target) / "y").decode()
        assert told[there] == "success"
        assert len(store.listed(target)) == 3


def test_who_commits_between_another_ones_look_and_its_write_is_not_overruled(
    store, folder, monkeypatch
):
    """The late one finds a damaged pointer, and the early one repairs it first."""
    store.write(folder / manifest.NAME, b"half a man")
    told, whole = {}, manifest.whole

    def look(target):
        found = whole(target)
        if "early" not in told and found is None:
            told["early"] = ""
            told["early"] = _commit(folder, "early")
        return found

    monkeypatch.setattr(manifest, "whole", look)
    told["late"] = _commit(folder, "late")
    assert told == {"early": "success", "late": "already_exists"}
    assert store.read(manifest.locate(folder) / "y") == b"early"


# --- What the double cannot show ---------------------------------------------------------------


def test_forked_processes_have_clients_of_their_own(server_folder):
    """They have none of the threads of the client that their parent used."""
    store = stores.of(server_folder)
    assert store.read(server_folder / "a") is None
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(3)]

    def claim(number, pipe):
        pipe.send(stores.of(server_folder).create(server_folder / "a", str(number).encode()))

    started = [
        context.Process(target=claim, args=(number, pipe)) for number, (_, pipe) in enumerate(pipes)
    ]
    for process in started:
        process.start()
    created = [end.recv() if end.poll(60) else None for end, _ in pipes]
    for process in started:
        process.join(60)
    assert created.count(True) == 1
    assert store.read(server_folder / "a") == str(created.index(True)).encode()


_CLAIM = """
import sys
from estimator_lib.core import stores
from estimator_lib.core.places import Place
place = Place(sys.argv[1])
print(stores.of(place).create(place / "a", sys.argv[2].encode()))
"""


def test_of_processes_that_create_a_file_one_does(server_folder):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIM, str(server_folder), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    created = [process.communicate(timeout=60)[0].strip() for process in started]
    assert sorted(created) == ["False", "False", "True"]
    there = stores.of(server_folder).read(server_folder / "a")
    assert there == str(created.index("True")).encode()


def test_a_missing_bucket_is_final_and_named(server_folder):
    place = Place(f"{server_folder.scheme}://missing/a")
    store = stores.of(place)
    for act in (
        lambda: store.read(place),
        lambda: store.look(place),
        lambda: store.listed(place),
        lambda: store.write(place, b""),
        lambda: store.create(place, b""),
        lambda: store.open(place),
    ):
        with pytest.raises(StorageError, match="no bucket 'missing'") as caught:
            act()
        assert (caught.value.reason, caught.value.retryable) == (Reason.FILE_NOT_FOUND, False)


def test_lists_go_on_over_pages(started, monkeypatch):
    server = started("s3")  # which tells of fifty at a time
    connect(server, server.port, monkeypatch)
    folder = Place(f"{server.root}/many")
    store = stores.of(folder)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.write(folder / f"{n:03d}", b""), range(105)))
    assert list(store.listed(folder)) == [f"{n:03d}" for n in range(105)]
    store.remove(folder)
    assert store.listed(folder) == {}
