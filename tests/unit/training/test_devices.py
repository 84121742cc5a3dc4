"""GPUs that are paid for compute: a batch is shared by all of them, or the step says why not."""

import pytest

from estimator_lib.core import environment
from estimator_lib.core.errors import ConfigError
from estimator_lib.training import devices


@pytest.fixture
def seen(monkeypatch):
    """Says how many GPUs TensorFlow sees."""

    def see(count):
        monkeypatch.setattr(devices, "visible", lambda: [f"GPU:{n}" for n in range(count)])

    return see


def test_a_step_without_gpus_leaves_the_device_to_tensorflow(monkeypatch, seen):
    monkeypatch.delenv(environment.GPUS, raising=False)
    seen(2)  # such as those of a workstation
    assert devices.choose(96) == devices.Devices(strategy=None, batch_size=96)


def test_one_gpu_needs_no_strategy(monkeypatch, seen):
    monkeypatch.setenv(environment.GPUS, "1")
    seen(1)
    assert devices.choose(96) == devices.Devices(strategy=None, batch_size=96)


@pytest.mark.parametrize(("asked", "there"), [("1", 0), ("4", 2)])
def test_gpus_that_are_paid_for_and_not_seen_end_the_step(monkeypatch, seen, asked, there):
    monkeypatch.setenv(environment.GPUS, asked)
    seen(there)
    with pytest.raises(ConfigError, match=rf"{asked} GPU.*sees {there or 'none'}.*and-cuda"):
        devices.choose(96)


def test_tensorflow_without_cuda_sees_no_gpu(monkeypatch):
    monkeypatch.setenv(environment.GPUS, "1")
    with pytest.raises(ConfigError, match="sees none"):
        devices.require()


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size 100 .*3 GPUs.*Use 99\."):
        devices.spread(100, ["GPU:0", "GPU:1", "GPU:2"])
