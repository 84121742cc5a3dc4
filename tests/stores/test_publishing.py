"""Publishers and trainers in real stores: at once, under a reader, and with a server that dies."""

import contextlib
import json
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from components.steps import work
from estimator_lib.core.places import Place
from estimator_lib.export import retention
from tests.stores import servers
from tests.stores.conftest import connect

PUBLISHER = """
import pathlib, sys
from estimator_lib.core.errors import StorageError
from estimator_lib.export import retention
from pipelines import models
for turn in range(4):
    for attempt in range(20):
        try:
            if turn == 3:
                print(models.rollback(sys.argv[2])[1])
            else:
                print(retention.publish(sys.argv[1], sys.argv[2], keep=30))
            break
        except StorageError as error:
            assert error.retryable, error
"""
KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_model(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A model whose every file tells whose it is."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(name)
    (folder / "variables" / "variables.data").write_text(name * 1000)
    (folder / "lineage.json").write_text(json.dumps({"model": name}))
    return folder


def check(serving: Place, seen: set[int]) -> None:
    """Fetches each version that was not seen yet, as a server that polls does."""
    for number in set(retention.versions(serving)) - seen:
        found = retention.fetch(serving / str(number))
        name = (found / "saved_model.pb").read_text()
        assert (found / "variables" / "variables.data").read_text() == name * 1000
        assert json.loads((found / "lineage.json").read_text())["model"] == name
        seen.add(number)


def test_processes_that_publish_at_once_overrule_nobody(server, tmp_path, monkeypatch):
    connect(server, server.port, monkeypatch)
    serving = Place(f"{server.root}/{tmp_path.name}/serving")
    retention.publish(make_model(tmp_path / "first", "first"), serving)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(make_model(tmp_path / name, name)), str(serving)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    seen: set[int] = set()
    while any(process.poll() is None for process in processes):
        check(serving, seen)
        time.sleep(0.1)
    check(serving, seen)
    told = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(told) == sorted(str(serving / str(number)) for number in range(2, 18))
    assert seen == set(range(1, 18))


def test_a_server_that_is_killed_and_started_again_loses_nothing(tmp_path, monkeypatch):
    """Of fake-gcs-server: Azurite writes what it knows every few seconds only, moto never."""
    if reason := servers.missing("gs"):
        pytest.skip(reason)
    with servers.running("gs", tmp_path / "server") as server:
        connect(server, server.port, monkeypatch)
        serving, checkpoints = Place(f"{server.root}/serving"), f"{server.root}/checkpoints"

        @contextlib.contextmanager
        def killed(after_s: float) -> Iterator[None]:
            dies = threading.Timer(after_s, lambda: (server.kill(), server.start()))
            dies.start()
            yield
            dies.join()

        for number, after_s in enumerate((0.01, 0.05, 0.1), 1):
            model = make_model(tmp_path / f"{number}", f"{number}")
            with killed(after_s):
                assert retention.publish(model, serving) == str(serving / str(number))
        seen: set[int] = set()
        check(serving, seen)
        assert seen == {1, 2, 3}
        with work.directory(checkpoints, KEY, keep=3) as held:
            for step, after_s in enumerate((0.005, 0.02)):
                (held.path / f"model.ckpt-{step}.index").write_text(f"{step}")
                (held.path / "checkpoint").write_text(f'"model.ckpt-{step}"')
                with killed(after_s):
                    held.carry()
        with work.directory(checkpoints, KEY, keep=3) as held:
            assert (held.path / "checkpoint").read_text() == '"model.ckpt-1"'
            assert (held.path / "model.ckpt-1.index").read_text() == "1"
