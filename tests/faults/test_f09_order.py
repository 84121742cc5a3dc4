"""Fault 9: ties, shuffled shards, several workers, other bundle sizes change nothing.

Fails when tokens of one count are in the order of their arrival, or when a sum depends on how rows
were divided.
"""

import itertools
import random

import pytest

from estimator_lib.core import manifest
from transforms.reading import csv_reader
from transforms.testing import Job

COLUMNS = {
    "c": {"kind": "vocabulary"},
    "x": {"kind": "numeric", "normalize": "moments"},
    "b": {"kind": "bucketized", "field": "x", "quantiles": 5},
    "c_x_b": {"kind": "crossed", "of": ["c", "b"], "buckets": 100},
    "tags": {"kind": "vocabulary", "rank_by": "weight", "weight": "amounts"},
    "more": {"kind": "vocabulary", "rank_by": "mutual_information"},
    "c_x_tags": {"kind": "crossed", "of": ["c", "tags"], "buckets": 100},
}
LISTS = {
    "tags": {"separator": "|"},
    "amounts": {"kind": "float", "separator": "|"},
    "more": {"separator": "|"},
}


def rows():
    maker = random.Random(1)
    tokens = ["a", "b", "B", "ä", "aa", "z\n", "Z"]

    def row():
        tags = [maker.choice(tokens) for _ in range(maker.randrange(4))]
        amounts = "|".join(repr(maker.random()) for _ in tags)
        plain = f'"{maker.choice(tokens)}",{maker.gauss(0, 1e6)!r}'
        lists = f'"{"|".join(tags)}",{amounts},"{"|".join(sorted(tags[:2]))}"'
        return f"{plain},{lists},{maker.randint(0, 1)}\n"

    return [row() for _ in range(700)]


def learned(root, parts, options=()):
    header = "c,x,tags,amounts,more,y\n"
    files = {"train": [header + "".join(p) for p in parts], "eval": [header + "a,1,a,1,b,0\n"]}
    data = {"fields": LISTS}
    job = Job(root=root, files=files, columns=COLUMNS, label={"field": "y"}, data=data)
    job.run(options)
    assets = manifest.read(job.transform).files
    vocabulary = {n: e.sha256 for n, e in assets.items() if n.endswith(".tfrecord.gz")}
    statistics = (job.statistics / "train.pb").read_bytes()
    return (job.transform / "columns.json").read_bytes(), vocabulary, statistics


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return learned(tmp_path_factory.mktemp("one"), [rows()])


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_shards_give_the_same_bytes(tmp_path, expected, seed):
    shuffled = rows()
    random.Random(seed).shuffle(shuffled)
    cuts = [0, 50, 51, 400, 700]
    parts = [shuffled[a:b] for a, b in itertools.pairwise(cuts)]
    assert learned(tmp_path, parts) == expected


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_several_workers_give_the_same_bytes(tmp_path, expected, mode):
    parts = [rows()[i::8] for i in range(8)]
    options = ["--direct_num_workers=2", f"--direct_running_mode={mode}"]
    assert learned(tmp_path, parts, options) == expected


@pytest.mark.parametrize("block_bytes", [300, 5000])
def test_other_block_sizes_give_the_same_bytes(tmp_path, expected, monkeypatch, block_bytes):
    read_rows = csv_reader.read_rows

    def smaller(file, layout, *, summary=None, **_):
        return read_rows(file, layout, summary=summary, block_bytes=block_bytes)

    monkeypatch.setattr(csv_reader, "read_rows", smaller)
    assert learned(tmp_path, [rows()]) == expected
