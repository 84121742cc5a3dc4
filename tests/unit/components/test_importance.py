"""What a model sees when a raw field is shuffled: all that follows from it is computed anew."""

import numpy as np
import pytest

from components.steps import importance
from estimator_lib.core import manifest
from estimator_lib.core.config import Importance
from transforms.testing import Job

WANTED = Importance(rows=12, repeats=2)
ROWS = 12


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    rows = [(f"c{i % 3}", f"d{i % 4}", i, "|".join("xyz"[: i % 4]), i % 2) for i in range(ROWS)]
    text = "carrier,dest,wind,tags,late\n" + "".join(",".join(map(str, r)) + "\n" for r in rows)
    made = Job(
        root=tmp_path_factory.mktemp("job"),
        files={"train": [text], "eval": [text, text]},
        label={"field": "late"},
        columns={
            "carrier": {"kind": "vocabulary"},
            "route": {"kind": "crossed", "of": ["carrier", "dest"], "buckets": 1000},
            "wind": {"kind": "numeric", "default": 0.0},
            "tags": {"kind": "vocabulary"},
        },
        data={"fields": {"tags": {"separator": "|"}}},
        keep_raw=True,
    )
    made.run()
    return made


@pytest.fixture(scope="module")
def batches(job):
    files = manifest.read(job.examples, kind="examples").metadata["raw_eval"]
    raw = importance.raw_at(str(job.examples), files, np.arange(ROWS))
    assert list(raw) == ["carrier", "dest", "tags", "wind"]
    input_fn = importance.shuffles(raw, str(job.transform), WANTED)
    return [seen(batch) for batch in input_fn()]


def seen(batch):
    return {
        name: values.numpy() if hasattr(values, "numpy") else values.values.numpy()
        for name, values in batch.items()
    }


def test_first_batch_is_the_rows_as_they_are(job, batches):
    table = job.table("eval").slice(0, ROWS)
    assert len(batches) == 1 + 4 * WANTED.repeats
    for name in ("carrier", "carrier_X_dest", "wind"):
        assert np.array_equal(batches[0][name], table[name].to_numpy())
    assert batches[0]["tags"].tolist() == [v for row in table["tags"].to_pylist() for v in row]


def test_crosses_combine_the_shuffled_value_with_the_rows_own_others(batches):
    whole = batches[0]
    routes = {(i % 3, i % 4): int(whole["carrier_X_dest"][i]) for i in range(ROWS)}
    assert len(set(routes.values())) == ROWS  # every combination is there once
    carriers = {int(whole["carrier"][i]): i % 3 for i in range(ROWS)}
    for batch in batches[1:3]:
        moved = [carriers[int(c)] for c in batch["carrier"]]
        assert moved != [i % 3 for i in range(ROWS)]
        expected = [routes[carrier, i % 4] for i, carrier in enumerate(moved)]
        assert batch["carrier_X_dest"].tolist() == expected
        assert np.array_equal(batch["wind"], whole["wind"])
    for batch in batches[3:5]:  # dest, which no other feature reads
        assert np.array_equal(batch["carrier"], whole["carrier"])
        assert not np.array_equal(batch["carrier_X_dest"], whole["carrier_X_dest"])


def test_every_field_is_shuffled_by_the_same_orders(batches):
    orders = [batch["wind"].astype(int).tolist() for batch in batches[7:9]]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(ROWS))
    assert batches[1]["carrier"].tolist() == batches[0]["carrier"][orders[0]].tolist()
    lengths = [i % 4 for i in range(ROWS)]
    assert len(batches[5]["tags"]) == sum(lengths)
    assert not np.array_equal(batches[5]["tags"], batches[0]["tags"])


def test_rows_are_found_across_files_in_their_order(job):
    files = manifest.read(job.examples, kind="examples").metadata["raw_eval"]
    found = importance.raw_at(str(job.examples), files, np.array([1, 11, 12, 20]))
    assert found["wind"].tolist() == [1, 11, 0, 8]
