"""Preprocessing with raw data, artifacts and analyses in each store."""

import pytest

from estimator_lib.core import manifest, stores
from estimator_lib.core.errors import ConfigError, SecurityError, StorageError
from transforms import preprocess
from transforms.learning import first_pass
from transforms.testing import Job


def job(root, data=None):
    rows = "".join(f"{'abc'[i % 3]},{i},{i % 2}\n" for i in range(12))
    return Job(
        root=root,
        files={"train": [f"c,x,y\n{rows}"] * 2, "eval": [f"c,x,y\n{rows}"]},
        columns={"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}},
        label={"field": "y"},
        data=data or {},
    )


def run(made, out, **options):
    return preprocess.run(
        made.part(),
        base_dir=str(made.root),
        examples_dir=str(out / "examples"),
        transform_dir=str(out / "transform"),
        statistics_dir=str(out / "statistics"),
        **options,
    )


def sent(made, folder):
    """The job with its raw files in the store."""
    store = stores.of(folder)
    for path in (made.root / "data").iterdir():
        store.upload(path, folder / "data" / path.name)
    patterns = {split: [f"{folder}/data/{split}-*.csv"] for split in ("train", "eval")}
    return job(made.root / "stored", {"split": {"files": patterns}})


def test_what_is_made_of_a_store_equals_what_is_made_of_files(server_folder, tmp_path):
    local = job(tmp_path)
    local.run()
    stored = run(sent(local, server_folder), server_folder / "out")
    assert stored.rows == 36
    for name, made in (("statistics", local.statistics), ("examples", local.examples)):
        there = manifest.read(server_folder / "out" / name)
        assert there.metadata["splits"] == manifest.read(made).metadata["splits"]
    place = manifest.locate(server_folder / "out" / "examples")
    assert {*manifest.read(place).files, manifest.NAME} == set(stores.of(place).listed(place))


def test_files_that_did_not_change_are_not_read_to_learn_from(server_folder, tmp_path, monkeypatch):
    read, real = [], first_pass.analyse_file
    monkeypatch.setattr(first_pass, "analyse_file", lambda f, s: read.append(f.name) or real(f, s))
    local = job(tmp_path)
    local.part()
    made, cache = sent(local, server_folder), str(server_folder / "cache")
    run(made, server_folder / "one", analysis_cache=cache)
    assert len(read) == 3
    read.clear()
    run(made, server_folder / "two", analysis_cache=cache)
    assert read == []
    stores.write(server_folder / "data" / "train-1.csv", b"c,x,y\nd,1,0\n")
    run(made, server_folder / "three", analysis_cache=cache)
    assert read == [f"{server_folder}/data/train-1.csv"]


def test_a_file_that_is_replaced_during_a_run_is_not_learned_from_as_two(
    server_folder, tmp_path, monkeypatch
):
    local = job(tmp_path)
    local.part()
    made, real = sent(local, server_folder), first_pass.analyse_file

    def analyse(file, source):
        stores.write(server_folder / "data" / "train-0.csv", b"c,x,y\nd,1,0\n")
        return real(file, source)

    monkeypatch.setattr(first_pass, "analyse_file", analyse)
    with pytest.raises(StorageError, match="replaced"):
        run(made, server_folder / "out")
    assert manifest.finished(server_folder / "out" / "examples") is None


@pytest.mark.parametrize(
    ("uri", "error"),
    [("hdfs://name/out", ConfigError), ("azfs://account/c/out", SecurityError)],
)
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, uri, error):
    made = job(tmp_path)
    with pytest.raises(error):
        preprocess.run(
            made.part(), base_dir=str(tmp_path), examples_dir=uri, transform_dir=uri,
            statistics_dir=uri,
        )  # fmt: skip
