"""Fault 32: two exports in one second, a clock set back, a number taken: always a new number.

Fails when a version's number is the time alone, or when a directory of a number is written over.
"""

import threading

import pytest

from estimator_lib.export import retention, saved_model


def fill(text):
    return lambda folder: (folder / "saved_model.pb").write_text(text)


@pytest.mark.parametrize("times", [(100, 100, 100), (100, 50, 10), (100, 200, 150)])
def test_numbers_grow_whatever_the_clock_says(tmp_path, times, monkeypatch):
    monkeypatch.setattr(
        saved_model, "write", lambda folder, *a, **k: (folder / "saved_model.pb").write_text("x")
    )
    found = []
    for now in times:
        monkeypatch.setattr(saved_model.time, "time", lambda now=now: now)
        path = saved_model.write_timestamped(str(tmp_path), [], None, {}, as_text=False)
        found.append(int(path.decode().rpartition("/")[2]))
    assert found == sorted(set(found))
    assert found[0] == 100
    assert retention.versions(tmp_path) == found


@pytest.mark.parametrize("kind", ["empty directory", "half a model", "file", "link"])
def test_number_that_something_has_is_not_used(tmp_path, kind):
    retention.commit(tmp_path, fill("1"))
    match kind:
        case "empty directory":
            (tmp_path / "7").mkdir()
        case "half a model":
            (tmp_path / "7" / "variables").mkdir(parents=True)
        case "file":
            (tmp_path / "7").write_text("x")
        case "link":
            (tmp_path / "7").symlink_to("/nowhere")
    assert retention.commit(tmp_path, fill("8")).name == "8"
    assert retention.versions(tmp_path) == [1, 8]


def test_number_taken_while_the_model_was_written_is_left_to_its_owner(tmp_path):
    def slow(folder):
        fill("slow")(folder)
        retention.commit(tmp_path, fill("fast"))

    assert retention.commit(tmp_path, slow).name == "2"
    texts = [(tmp_path / n / "saved_model.pb").read_text() for n in ("1", "2")]
    assert texts == ["fast", "slow"]


def test_many_exports_at_once_get_a_number_each(tmp_path):
    threads = [
        threading.Thread(target=lambda n=n: retention.commit(tmp_path, fill(str(n))))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert retention.versions(tmp_path) == list(range(1, 13))
    texts = {(tmp_path / str(n) / "saved_model.pb").read_text() for n in range(1, 13)}
    assert texts == {str(n) for n in range(12)}
