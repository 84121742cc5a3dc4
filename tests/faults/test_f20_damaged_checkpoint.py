"""Fault 20: a damaged checkpoint is passed over for the newest whole one, never trained on.

Fails when `checkpoints.load_latest` believes the state file or a name, when the checksums are not
looked at, or when training starts anew where there were checkpoints.
"""

import logging
import shutil

import pytest

from estimator_lib.core.errors import CheckpointError, Reason
from tests.contract.test_estimator import data, estimator


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    estimator(folder, save_checkpoints_steps=4).train(data(epochs=2))
    return folder


@pytest.fixture
def work(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "work")
    return tmp_path / "work"


def newest(work, suffix):
    return next(work.glob(f"model.ckpt-8.{suffix}*"))


DAMAGES = {
    "data cut": lambda work: newest(work, "data").write_bytes(b"x" * 10),
    "data empty": lambda work: newest(work, "data").write_bytes(b""),
    "data gone": lambda work: newest(work, "data").unlink(),
    "index cut": lambda work: newest(work, "index").write_bytes(
        newest(work, "index").read_bytes()[:20]
    ),
    "index empty": lambda work: newest(work, "index").write_bytes(b""),
    "index gone": lambda work: newest(work, "index").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_newest_checkpoint_damaged_goes_back_to_the_one_before(work, damage, caplog):
    DAMAGES[damage](work)
    with caplog.at_level(logging.WARNING):
        made = estimator(work)
        assert made.evaluate(data())["global_step"] == 4
    loud = sum("GOING BACK" in record.message for record in caplog.records)
    assert loud == (0 if damage == "index gone" else 1)  # without an index there is none
    made.train(data(epochs=2), max_steps=8)
    assert made.get_variable_value("global_step") == 8


@pytest.mark.parametrize("part", range(8))
def test_flipped_bit_is_found_by_its_checksum_wherever_it_is(work, part):
    path = newest(work, "data" if part % 2 else "index")
    content = bytearray(path.read_bytes())
    content[part * (len(content) - 1) // 7] ^= 0x10
    made = estimator(work)
    paths = {step: str(work / f"model.ckpt-{step}") for step in (4, 8)}
    right = {step: made.evaluate(data(), checkpoint_path=path) for step, path in paths.items()}
    path.write_bytes(bytes(content))
    # One of the two as it was written: never numbers that nobody saved.
    found = estimator(work).evaluate(data())
    assert found == right[found["global_step"]]


@pytest.mark.parametrize(
    "state", [b"", b"\x00garbage", b"\xff\xfe", b'model_checkpoint_path: "nowhere-9"', None]
)
def test_state_file_that_says_nothing_is_not_needed(work, state):
    (work / "checkpoint").unlink() if state is None else (work / "checkpoint").write_bytes(state)
    made = estimator(work)
    assert made.evaluate(data())["global_step"] == 8
    made.train(data(epochs=None), steps=1)
    assert made.get_variable_value("global_step") == 9


@pytest.mark.parametrize("kept", ["both", "data only"])
def test_training_never_starts_anew_where_checkpoints_were(work, kept):
    for path in work.glob("model.ckpt-*.index"):
        path.write_bytes(b"x") if kept == "both" else path.unlink()
    before = {path.name for path in work.glob("model.ckpt-*")}
    with pytest.raises(CheckpointError) as caught:
        estimator(work).train(data(), steps=1)
    assert caught.value.reason is Reason.CORRUPT_FILE
    assert "Restore" in caught.value.message
    assert {path.name for path in work.glob("model.ckpt-*")} == before
