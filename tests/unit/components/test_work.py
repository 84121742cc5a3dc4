"""Working directories below a URI: what was saved is found again, whenever an attempt ended."""

import pathlib

import pytest

from components.steps import work
from estimator_lib.core import stores
from estimator_lib.core.errors import Reason, StorageError
from estimator_lib.core.places import Place
from tests import memory_store

ROOT = "mem://bucket/checkpoints"
KEY = "0123456789abcdef"
THERE = f"{ROOT}/{KEY}"


@pytest.fixture(autouse=True)
def empty():
    memory_store.clear()


def save(folder: pathlib.Path, step: int, keep: int = 2) -> None:
    """What a save leaves: data, index, the file that names the newest, and no old ones."""
    steps = [s for s in range(1, step + 1) if s > step - keep]
    (folder / f"model.ckpt-{step}.data-00000-of-00001").write_text(f"weights {step}")
    (folder / f"model.ckpt-{step}.index").write_text(f"index {step}")
    lines = [f'model_checkpoint_path: "model.ckpt-{step}"']
    lines += [f'all_model_checkpoint_paths: "model.ckpt-{s}"' for s in steps]
    (folder / "checkpoint").write_text("\n".join(lines))
    for path in folder.glob(f"model.ckpt-{step - keep}.*"):
        path.unlink()
    with (folder / "history.jsonl").open("a") as history:
        history.write(f"{step}\n")


def newest(folder: pathlib.Path) -> int:
    """The step that training goes on from; whole, or the test fails."""
    state = folder / "checkpoint"
    if not state.exists():
        assert not list(folder.glob("model.ckpt-*")), "there are checkpoints that nothing names"
        return 0
    step = int(state.read_text().split('"')[1].rpartition("-")[2])
    assert (folder / f"model.ckpt-{step}.data-00000-of-00001").read_text() == f"weights {step}"
    assert (folder / f"model.ckpt-{step}.index").read_text() == f"index {step}"
    return step


def attempt(steps: int) -> None:
    """Goes on from what is there, and saves that often."""
    with work.directory(ROOT, KEY, keep=3) as held:
        first = newest(held.path)
        for step in range(first + 1, first + 1 + steps):
            save(held.path, step)
            held.carry()


def test_the_next_attempt_goes_on_from_the_last_save():
    attempt(3)
    with work.directory(ROOT, KEY, keep=3) as held:
        assert newest(held.path) == 3
        assert (held.path / "history.jsonl").read_text() == "1\n2\n3\n"
        found = {path.name for path in held.path.iterdir()}
    assert not any(name.startswith("model.ckpt-1.") for name in found)
    assert memory_store.below(THERE) == found, "and nothing else is there"


@pytest.mark.parametrize("kept", [1, 2])
def test_whichever_call_is_the_last_one_save_is_lost_at_most(kept):
    call, ended = 0, False
    while not ended:
        call += 1
        memory_store.clear()
        saved = 0
        try:
            with work.directory(ROOT, KEY, keep=3) as held:
                memory_store.fail_from(call)
                for step in (1, 2, 3):
                    save(held.path, step, kept)
                    held.carry()
                    saved = step
            ended = True
        except StorageError:
            pass
        memory_store.fail_from(None)
        with work.directory(ROOT, KEY, keep=3) as held:
            assert newest(held.path) in (saved, saved + 1)
            if newest(held.path) < 3:
                save(held.path, newest(held.path) + 1, kept)
                held.carry()
    assert call > 12


def test_an_attempt_that_was_taken_for_dead_changes_nothing_any_more():
    after = []

    def sleep():
        with work.directory(ROOT, KEY, keep=3) as held:
            save(held.path, 1)
            held.carry()
            stores.remove(f"{THERE}/.step")  # as of an owner that is dead
            attempt(2)
            after.append(stores.read(f"{THERE}/checkpoint"))
            save(held.path, 2)
            held.carry()

    with pytest.raises(StorageError, match="taken over by another attempt") as error:
        sleep()
    assert error.value.reason is Reason.LEASED
    (before,) = after
    assert stores.read(f"{THERE}/checkpoint") == before


def test_a_save_whose_answer_the_server_forgot_is_no_take_over(monkeypatch):
    def forgets(method):
        def call(self, place, *given):
            written = method(self, place, *given)
            return written and place.name != "checkpoint"

        return call

    for name in ("create", "replace_if"):
        kept = getattr(memory_store.MemoryStore, name)
        monkeypatch.setattr(memory_store.MemoryStore, name, forgets(kept))
    attempt(2)
    with work.directory(ROOT, KEY, keep=3) as held:
        assert newest(held.path) == 2


def test_two_attempts_at_once_are_refused():
    with (
        work.directory(ROOT, KEY, keep=3),
        pytest.raises(StorageError, match="in use by process") as error,
    ):
        attempt(1)
    assert error.value.retryable


def test_the_newest_directories_stay():
    for number in range(5):
        with work.directory(ROOT, f"{number:016x}", keep=2) as held:
            (held.path / "history.jsonl").write_text("x")
            held.carry()
        for name in memory_store.below(f"{ROOT}/{number:016x}"):
            memory_store.CHANGED[f"{ROOT}/{number:016x}/{name}"] = 1000.0 + number
        work._keep_newest(Place(ROOT), 2)
    kept = {name.partition("/")[0] for name in memory_store.below(ROOT)}
    assert kept == {f"{3:016x}", f"{4:016x}"}


def test_one_that_nobody_goes_on_in_is_cleared():
    with work.directory(ROOT, KEY, keep=3) as held:
        save(held.path, 1)
        held.carry()
        held.clear()
    assert memory_store.FILES == {}


def test_without_a_place_to_keep_it_nothing_stays(tmp_path):
    with work.directory("", KEY, keep=3) as held:
        save(held.path, 1)
        held.carry()
        gone = held.path
    assert not gone.exists()
    with work.directory(str(tmp_path), KEY, keep=3) as held:
        save(held.path, 1)
    assert newest(tmp_path / KEY) == 1
