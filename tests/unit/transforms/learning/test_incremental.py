"""Kept analyses: the same result as a full pass, and only new content is read."""

import pytest

from estimator_lib.core import config
from transforms.learning import first_pass, incremental
from transforms.reading import files, records
from transforms.testing import Job

COLUMNS = {"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}}


def shard(i):
    return "c,x,y\n" + "".join(f"t{(i * j) % 7},{i + j / 3},{j % 2}\n" for j in range(20))


class Setting:
    def __init__(self, root, monkeypatch):
        self.root = root
        self.cache = str(root / "cache")
        self.read = []
        real = first_pass.analyse_file

        def counting(file, source):
            self.read.append(file.name)
            return real(file, source)

        monkeypatch.setattr(first_pass, "analyse_file", counting)

    def analyse(self, shards, cache=True, columns=COLUMNS, held_out=1):
        for old in self.root.glob("data/*"):
            old.unlink()
        job = Job(
            root=self.root,
            files={"train": shards, "eval": [shard(held_out)]},
            columns=columns,
            label={"field": "y"},
        )
        part = job.part()
        inputs = files.find(part.data.patterns(), str(self.root))
        source = records.source(part, config.build_columns(part.columns), {})
        self.read.clear()
        analysis = first_pass.analyse(inputs, source, (), self.cache if cache else None)
        analysis.write(str(self.root / "analysis.arrow"), ordered=True)
        return (self.root / "analysis.arrow").read_bytes()


@pytest.fixture
def setting(tmp_path, monkeypatch):
    return Setting(tmp_path, monkeypatch)


def test_only_new_files_are_read_and_the_result_is_that_of_a_full_pass(setting):
    setting.analyse([shard(1), shard(2)])
    assert len(setting.read) == 3
    with_cache = setting.analyse([shard(1), shard(2), shard(3)])
    assert setting.read == ["data/train-2.csv"]
    assert with_cache == setting.analyse([shard(1), shard(2), shard(3)], cache=False)


def test_rolling_window_drops_the_old_files(setting):
    setting.analyse([shard(1), shard(2), shard(3)])
    windowed = setting.analyse([shard(2), shard(3), shard(4)])
    assert setting.read == ["data/train-2.csv"]
    assert windowed == setting.analyse([shard(2), shard(3), shard(4)], cache=False)


def test_a_file_that_becomes_train_after_it_was_eval_is_not_read_again(setting):
    setting.analyse([shard(1), shard(2)], held_out=3)
    moved = setting.analyse([shard(1), shard(2), shard(3)], held_out=4)
    assert setting.read == ["data/eval-0.csv"]
    assert moved == setting.analyse([shard(1), shard(2), shard(3)], cache=False, held_out=4)


def test_edited_content_or_another_reading_is_read_again(setting):
    setting.analyse([shard(1)])
    setting.analyse([shard(1).replace("t0", "t9")])
    assert setting.read == ["data/train-0.csv"]
    setting.analyse([shard(1)], columns={"c": {"kind": "vocabulary"}, "x": {"kind": "vocabulary"}})
    assert len(setting.read) == 2


def test_damaged_or_faulty_analyses_are_not_used(setting):
    expected = setting.analyse([shard(1)])
    for path in setting.root.glob("cache/*"):
        path.write_bytes(b"damaged")
    assert setting.analyse([shard(1)]) == expected
    assert len(setting.read) == 2
    before = len(list(setting.root.glob("cache/*")))
    setting.analyse(["c,x,y\na,bad,0\n"])
    assert len(list(setting.root.glob("cache/*"))) == before


def test_key_depends_on_content_and_reading_only(setting):
    setting.analyse([shard(1)])
    assert incremental.VERSION == 6
    assert all(len(p.stem) == 64 for p in setting.root.glob("cache/*.arrow"))
