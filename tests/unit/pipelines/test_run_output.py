"""What a run keeps below a URI: whole steps, found again from another machine."""

import json
import shutil

import pytest
from kfp import dsl

from estimator_lib.core import manifest, stores
from estimator_lib.core.errors import StorageError
from estimator_lib.core.places import Place
from pipelines.local import output, verified_cache
from tests import memory_store

PLACE = Place("mem://bucket/run")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    memory_store.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "estimator-pipelines"


def write(kept, text):
    """An artifact of a step, as KFP describes it."""
    folder = kept.folder / "artifacts" / "job" / "train" / text
    with manifest.committed_artifact(folder) as writer:
        (writer.directory / "weights").write_text(text)
    return {"model": dsl.Model(name="model", uri=str(folder), metadata={})}


def look(kept):
    """The key of a step, and its outputs in the cache; None if they are not there."""
    cache = verified_cache.VerifiedCache(kept, lambda _: None)
    key = cache.compute_key("comp-train", "image", ["command"], {})
    return cache, key, cache.get(key)


def test_a_step_is_found_from_another_machine(caches):
    with output.held(PLACE) as kept:
        cache, key, found = look(kept)
        assert found is None
        cache.put(key, write(kept, "first"))
    shutil.rmtree(caches)
    with output.held(PLACE) as kept:
        _, _, found = look(kept)
        assert (kept.folder / "artifacts/job/train/first/weights").read_text() == "first"
    assert found["model"].path.endswith("/first")
    assert f"{PLACE}/.lock" not in memory_store.FILES


def test_what_is_damaged_there_is_made_and_kept_again(caches):
    with output.held(PLACE) as kept:
        cache, key, _ = look(kept)
        cache.put(key, write(kept, "first"))
    stores.write(PLACE / "artifacts/job/train/first/weights", b"other")
    for _ in range(2):
        shutil.rmtree(caches)
        with output.held(PLACE) as kept:
            cache, key, found = look(kept)
            if found is None:
                cache.put(key, write(kept, "again"))
    assert found["model"].path.endswith("/again")
    stores.write(PLACE / "cache" / f"{key}.json", b"{")
    shutil.rmtree(caches)
    with output.held(PLACE) as kept:
        assert look(kept)[2] is None


def test_an_entry_comes_after_what_it_names(caches):
    with output.held(PLACE) as kept:
        cache, key, _ = look(kept)
        cache.put(key, write(kept, "first"))
    written = [name for name in memory_store.WRITTEN if "/cache/" in name or "/artifacts/" in name]
    assert written[-1] == f"{PLACE}/cache/{key}.json"
    assert len(written) == 3
    assert json.loads(stores.read(written[-1]))["model"]["uri"].startswith(str(caches))


def test_a_run_that_left_nothing_has_not_begun_and_two_at_once_are_refused():
    assert not output.has_begun(PLACE)
    with output.held(PLACE) as kept:
        (kept.folder / "logs").mkdir()
        (kept.folder / "logs" / "train.log").write_text("said")
        with pytest.raises(StorageError, match=r"Output of a run mem://bucket/run is in use"):
            output.held(PLACE).__enter__()
    assert output.has_begun(PLACE)
    assert stores.read(PLACE / "logs" / "train.log") == b"said"
