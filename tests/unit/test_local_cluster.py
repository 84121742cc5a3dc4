"""What the end of a process means for its cluster, and what is refused before it begins."""

import pytest

from estimator_lib import tensorflow_internals
from estimator_lib.core.errors import ConfigError, TrainingError
from estimator_lib.core.processes import Ended
from estimator_lib.local_cluster import Layout, Task, Verdict, judge, run_local_cluster

CHIEF, WORKER = Task("chief", 0), Task("worker", 0)


def failed(*, retryable=False, code=None):
    error = TrainingError("so it was")
    error.retryable = retryable
    return Ended(failure=error, code=code)


@pytest.mark.parametrize(
    ("task", "ended", "verdict"),
    [
        (CHIEF, Ended(), Verdict.DONE),
        (WORKER, Ended(), Verdict.GOES_ON),
        (WORKER, failed(), Verdict.FAILED),
        (WORKER, failed(retryable=True), Verdict.RESTART),
        (CHIEF, failed(code=-9), Verdict.RESTART),
        (CHIEF, failed(code=1), Verdict.FAILED),
    ],
)
def test_what_an_end_means(task, ended, verdict):
    assert judge(task, ended) is verdict


def test_in_step_all_that_train_start_again_but_not_the_evaluator():
    layout = Layout(workers=3, evaluator=True)
    assert [str(t) for t in layout.tasks()] == ["chief", "worker 0", "worker 1", "evaluator"]
    assert [str(t) for t in layout.needed_with(WORKER)] == ["chief", "worker 0", "worker 1"]
    assert layout.needed_with(Task("evaluator", 0)) == [Task("evaluator", 0)]


def test_with_servers_each_starts_again_alone_but_after_a_lost_server():
    layout = Layout(workers=2, parameter_servers=2)
    assert layout.needed_with(WORKER) == [WORKER]
    assert layout.needed_with(CHIEF) == [CHIEF]
    assert layout.needed_with(Task("ps", 1)) == layout.tasks()


@pytest.mark.parametrize(("workers", "servers"), [(0, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(workers, servers):
    with pytest.raises(ConfigError, match="Local cluster argument"):
        Layout(workers=workers, parameter_servers=servers)


def test_a_process_in_which_tensorflow_has_computed_is_refused(monkeypatch):
    monkeypatch.setattr(tensorflow_internals, "runtime_started", lambda: True)
    with pytest.raises(ConfigError, match="computed nothing yet"):
        run_local_cluster(lambda: None, workers=2)
