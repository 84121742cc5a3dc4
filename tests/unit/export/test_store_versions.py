"""Publishing below a URI: readers see whole versions, whatever ends a publisher and whenever."""

import json
import threading

import pytest

from estimator_lib.core import leases, stores
from estimator_lib.core.errors import DataError, ExportError, Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.export import retention
from pipelines import models
from tests import memory_store

SERVING = "mem://bucket/serving"


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    memory_store.clear()


def make_model(folder, name):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(f"graph {name}")
    (folder / "variables" / "variables.data").write_text(f"weights {name}" * 50)
    (folder / "lineage.json").write_text(json.dumps({"step": 1, "model": name}))
    return folder


def weights(version):
    return (retention.fetch(version) / "variables" / "variables.data").read_text()


def test_versions_are_counted_kept_and_fetched(tmp_path):
    published = [
        retention.publish(make_model(tmp_path / name, name), SERVING, keep=2) for name in "abc"
    ]
    assert published == [f"{SERVING}/{number}" for number in (1, 2, 3)]
    assert retention.versions(SERVING) == [2, 3]
    assert retention.newest(SERVING) == f"{SERVING}/3"
    assert retention.newest(f"{SERVING}/3") == f"{SERVING}/3"
    assert weights(f"{SERVING}/3") == "weights c" * 50
    assert retention.fetch(f"{SERVING}/3").name == "3"
    assert json.loads(retention.read(f"{SERVING}/2", "lineage.json"))["model"] == "b"
    assert retention.read(f"{SERVING}/2", "nothing") is None
    assert not memory_store.below(f"{SERVING}/1")


def test_the_manifest_comes_first_and_what_servers_load_last(tmp_path):
    retention.publish(make_model(tmp_path / "m", "a"), SERVING)
    written = [name for name in memory_store.WRITTEN if name.startswith(f"{SERVING}/1/")]
    assert written[0] == f"{SERVING}/1/manifest.json"
    assert written[-1] == f"{SERVING}/1/saved_model.pb"
    assert len(written) == 4


def test_whichever_call_fails_readers_see_whole_versions_and_the_next_one_publishes(tmp_path):
    old, new = make_model(tmp_path / "old", "old"), make_model(tmp_path / "new", "new")
    call, failed = 0, True
    while failed:
        call += 1
        memory_store.clear()
        retention.publish(old, SERVING)
        memory_store.fail_from(call)
        try:
            retention.publish(new, SERVING)
            failed = memory_store.Outage.calls >= call  # what may fail at the end, unheard
        except StorageError:
            pass
        memory_store.fail_from(None)
        serving = retention.versions(SERVING)
        assert serving in ([1], [1, 2])
        for version in serving:
            assert retention.damage(f"{SERVING}/{version}") is None
        again = retention.publish(new, SERVING)
        assert retention.newest(SERVING) == again
        assert len(set(retention.versions(SERVING)) - set(serving)) == 1
        left = {name.partition("/")[0] for name in memory_store.below(SERVING)}
        assert left == {str(version) for version in retention.versions(SERVING)}
    assert call > 10


def test_what_a_killed_publisher_left_is_swept_and_what_others_copy_is_not(tmp_path):
    stores.write(Place(f"{SERVING}/1/manifest.json"), b"{}")
    stores.write(Place(f"{SERVING}/1/variables/variables.data"), b"x")
    stores.write(Place(f"{SERVING}/2/variables/variables.data"), b"being copied by hand")
    assert retention.newest(SERVING) is None
    assert retention.publish(make_model(tmp_path / "m", "a"), SERVING) == f"{SERVING}/3"
    assert not memory_store.below(f"{SERVING}/1")
    assert memory_store.below(f"{SERVING}/2") == {"variables/variables.data"}


@pytest.mark.parametrize("awakes", ["before its number", "before the last file", "at the end"])
def test_a_publisher_that_was_taken_for_dead_overrules_nobody(tmp_path, monkeypatch, awakes):
    slow, fast = make_model(tmp_path / "slow", "slow"), make_model(tmp_path / "fast", "fast")
    retention.publish(make_model(tmp_path / "old", "old"), SERVING)
    sleeps_at = {
        "before its number": ("create", "/manifest.json"),
        "before the last file": ("upload", "/variables/variables.data"),
        "at the end": ("upload", "/saved_model.pb"),
    }
    method, ending = sleeps_at[awakes]
    real = getattr(memory_store.MemoryStore, method)
    slept = []

    def sleeping(self, *given, **options):
        if any(str(one).endswith(ending) for one in given) and not slept:
            slept.append(True)
            lease = f"{SERVING}/.publisher"
            stores.of(Place(lease)).remove(Place(lease))  # as of an owner that is dead
            assert retention.publish(fast, SERVING)
        return real(self, *given, **options)

    monkeypatch.setattr(memory_store.MemoryStore, method, sleeping)
    with pytest.raises(StorageError, match=r"taken|another one publishes there") as error:
        retention.publish(slow, SERVING)
    assert error.value.reason is Reason.LEASED
    assert error.value.retryable
    assert weights(retention.newest(SERVING)) == "weights fast" * 50
    for version in retention.versions(SERVING):
        assert retention.damage(f"{SERVING}/{version}") is None


def test_publishers_at_once_get_a_number_each(tmp_path):
    names = [make_model(tmp_path / str(n), str(n)) for n in range(6)]
    told = {}

    def publish(model):
        told[model.name] = retention.publish(model, SERVING, keep=0)

    threads = [threading.Thread(target=publish, args=(model,)) for model in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert retention.versions(SERVING) == [1, 2, 3, 4, 5, 6]
    for name, version in told.items():
        assert weights(version) == f"weights {name}" * 50


def test_a_damaged_version_is_named_and_another_published_again(tmp_path):
    for name in "ab":
        retention.publish(make_model(tmp_path / name, name), SERVING)
    stores.write(Place(f"{SERVING}/2/variables/variables.data"), b"weights c" * 50)
    assert retention.damage(f"{SERVING}/2", deep=False) is None
    with pytest.raises(DataError, match=f"{SERVING}/2 is damaged: .*variables.data has changed"):
        retention.fetch(f"{SERVING}/2")
    stores.write(Place(f"{SERVING}/2/variables/variables.data"), b"half")
    assert "expected 450 bytes, got 4" in retention.damage(f"{SERVING}/2", deep=False)
    assert "DAMAGED" in models.table(models.read(Place(SERVING)))
    retention.publish(tmp_path / "a", SERVING)
    with pytest.raises(DataError, match="Version 2 is damaged"):
        models.rollback(Place(SERVING), 2)
    assert models.rollback(Place(SERVING), 1) == (1, f"{SERVING}/4")
    assert weights(f"{SERVING}/4") == "weights a" * 50
    assert models.read(Place(SERVING))[-1]["lineage"]["again"] == 1


def test_a_model_that_another_program_put_there_is_fetched_as_it_is(tmp_path):
    stores.write(Place("mem://bucket/own/saved_model.pb"), b"graph")
    stores.write(Place("mem://bucket/own/variables/v"), b"weights")
    assert retention.newest("mem://bucket/own") == "mem://bucket/own"
    found = retention.fetch("mem://bucket/own")
    assert (found / "variables" / "v").read_bytes() == b"weights"
    stores.write(Place("mem://bucket/own/variables/v"), b"others!")
    assert (retention.fetch("mem://bucket/own") / "variables" / "v").read_bytes() == b"others!"


def test_what_is_no_model_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ExportError, match=r"no saved_model\.pb"):
        retention.publish(tmp_path, SERVING)
    assert memory_store.FILES == {}


def test_the_lease_outlives_no_publication(tmp_path):
    retention.publish(make_model(tmp_path / "m", "a"), SERVING)
    assert f"{SERVING}/.publisher" not in memory_store.FILES
    assert leases.STALE_S > 3 * leases.BEAT_S
