"""RunConfig, specs, hooks' timing, checkpoints' files, history, lease, early stopping."""

import gc
import json
import sys

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib.core.errors import CheckpointError, ConfigError, Reason, StorageError
from estimator_lib.estimator import Estimator
from estimator_lib.export.outputs import PredictOutput
from estimator_lib.inputs.arrays import arrays_input
from estimator_lib.specs import EstimatorSpec, EvalSpec, ModeKeys, TrainSpec
from estimator_lib.training import checkpoints, early_stopping, history, hooks
from estimator_lib.training.run_config import RunConfig


def test_run_config_defaults_and_conflicts():
    assert RunConfig().save_checkpoints_secs == 600
    assert RunConfig(save_checkpoints_steps=5).save_checkpoints_secs is None
    none = RunConfig(save_checkpoints_steps=None, save_checkpoints_secs=None)
    assert none.save_checkpoints_secs is None
    with pytest.raises(ConfigError):
        RunConfig(save_checkpoints_steps=5, save_checkpoints_secs=5)
    changed = RunConfig().replace(save_checkpoints_steps=7, model_dir="m")
    assert (changed.save_checkpoints_steps, changed.save_checkpoints_secs) == (7, None)
    with pytest.raises(ConfigError, match="keep_checkpoint_max"):
        RunConfig().replace(keep_checkpoint_mx=1)
    assert RunConfig(save_summary_steps=0).save_summary_steps is None
    for empty in (lambda: RunConfig(model_dir=""), lambda: Estimator(lambda features: None, "")):
        with pytest.raises(ConfigError, match="model_dir"):
            empty()
    assert not RunConfig().cluster_spec


def test_run_config_reads_tf_config(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}
    content = {"cluster": cluster, "task": {"type": "worker", "index": 1}, "model_dir": "m"}
    monkeypatch.setenv("TF_CONFIG", json.dumps(content))
    config = RunConfig()
    assert (config.task_type, config.task_id, config.is_chief) == ("worker", 1, False)
    assert (config.num_worker_replicas, config.num_ps_replicas) == (3, 1)
    assert config.global_id_in_cluster == 2
    assert config.cluster_spec.as_dict() == cluster
    assert config.master == "grpc://c:1"
    assert config.model_dir == "m"
    with pytest.raises(ConfigError):
        RunConfig(model_dir="other")
    monkeypatch.setenv("TF_CONFIG", json.dumps({**content, "task": {"type": "evaluator"}}))
    assert not RunConfig().cluster_spec
    assert (RunConfig().num_worker_replicas, RunConfig().is_chief) == (0, False)
    two = '{"cluster": {"chief": ["a", "b"]}, "task": {"type": "chief"}}'
    for bad in ("{", '{"cluster": {"worker": ["a"]}}', '{"task": {"index": -1}}', two):
        monkeypatch.setenv("TF_CONFIG", bad)
        with pytest.raises(ConfigError, match="TF_CONFIG"):
            RunConfig()


def test_specs_need_what_the_mode_needs():
    loss = tf.constant(1.0)
    with pytest.raises(ConfigError, match="train_op"):
        EstimatorSpec(ModeKeys.TRAIN, loss=loss)
    with pytest.raises(ConfigError, match="scalar"):
        EstimatorSpec(ModeKeys.EVAL, loss=tf.zeros([2]))
    with pytest.raises(ConfigError, match="metric object"):
        EstimatorSpec(ModeKeys.EVAL, loss=loss, eval_metric_ops={"a": 3})
    spec = EstimatorSpec(ModeKeys.PREDICT, predictions={"y": loss})
    assert isinstance(spec.export_outputs["serving_default"], PredictOutput)
    outputs = {"a": PredictOutput(loss), "b": PredictOutput(loss)}
    with pytest.raises(ConfigError, match="serving_default"):
        EstimatorSpec(ModeKeys.PREDICT, predictions=loss, export_outputs=outputs)
    assert EstimatorSpec(ModeKeys.EVAL, loss=tf.zeros([1])).loss.shape.rank == 0


def test_train_and_eval_specs_check_their_arguments():
    assert EvalSpec(dict).steps == 100
    for make in (
        lambda: TrainSpec(None),
        lambda: TrainSpec(dict, max_steps=0),
        lambda: EvalSpec(dict, steps=0),
        lambda: EvalSpec(dict, throttle_secs=-1),
        lambda: EvalSpec(dict, every_steps=1, every_epochs=1),
    ):
        with pytest.raises(ConfigError):
            make()


def test_hooks_say_where_to_stop():
    class Every(hooks.Hook):
        every_steps = 10

        def after_step(self, context):
            """Runs."""

    assert Every().next_step(0) == 10
    assert Every().next_step(10) == 20
    assert hooks.Hook().next_step(3) is None
    assert hooks.StopAtStepHook(num_steps=5).next_step(7) == 12
    with pytest.raises(ConfigError):
        hooks.StopAtStepHook()
    with pytest.raises(ConfigError):
        hooks.LoggingTensorHook(["loss"])


def test_timer_counts_seconds_and_steps():
    now = [0.0]
    timer = hooks.SecondOrStepTimer(every_secs=2.0, clock=lambda: now[0])
    assert timer.should_trigger_for_step(1)
    timer.update_last_triggered_step(1)
    now[0] = 1.0
    assert not timer.should_trigger_for_step(2)
    now[0] = 2.0
    assert timer.should_trigger_for_step(2)
    assert timer.update_last_triggered_step(3) == (2.0, 2)


def test_checkpoint_names_escape_and_restore_checks(tmp_path):
    directory = checkpoints.CheckpointDirectory(str(tmp_path), keep_max=2)
    made = {"a/b.c": tf.Variable([1.0, 2.0]), "global_step": tf.Variable(3, dtype=tf.int64)}
    path = directory.save(made, 3, {"input": {"batch": 4}})
    loaded = checkpoints.load(path)
    assert set(loaded.values) == {"a/b.c", "global_step"}
    assert loaded.engine == {"input": {"batch": 4}}
    assert (loaded.step, loaded.legacy) == (3, False)
    other = {"a/b.c": tf.Variable([0.0]), "x": tf.Variable(1.0)}
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(loaded, other, exact=True)
    for part in ("a/b.c", "float32[1]", "float32[2]", "global_step", "missing"):
        assert part in caught.value.message
    assert other["x"].numpy() == 1.0
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_slots_of_old_checkpoints_are_found_by_their_old_names():
    values = {"training_2/Adagrad_1/dnn/logits/kernel/accumulator": np.ones(2), "b": np.zeros(1)}
    old = checkpoints.Loaded(path="p", values=values, engine={}, legacy=True)
    slot = tf.Variable([0.0, 0.0])
    variables = {"dnn/logits/kernel/Adagrad/accumulator": slot, "b": tf.Variable([9.0])}
    assert checkpoints.restore(old, variables, exact=False) == []
    np.testing.assert_array_equal(slot, [1.0, 1.0])
    assert old.find("dnn/logits/bias/Adagrad/accumulator") is None


def test_checkpoints_rewind_hold_and_delete(tmp_path):
    directory = checkpoints.CheckpointDirectory(str(tmp_path), keep_max=2)
    variable = tf.Variable(0.0)
    directory.hold([1])
    for step in range(1, 6):
        directory.save({"v": variable}, step, {})
    assert directory.steps() == [1, 4, 5]
    directory.rewind(4)
    assert directory.steps() == [1, 4]
    assert directory.latest() == directory.prefix(4)


def test_disk_full_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    directory = checkpoints.CheckpointDirectory(str(tmp_path))
    variable = tf.Variable(1.0)
    directory.save({"v": variable}, 1, {})

    def full(self, holder, step):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.CheckpointDirectory, "_write", full)
    monkeypatch.setattr(checkpoints.time, "sleep", lambda seconds: None)
    with pytest.raises(StorageError) as caught:
        directory.save({"v": variable}, 2, {})
    assert caught.value.retryable
    assert directory.load_latest().step == 0 or directory.steps() == [1]


def test_history_is_strict_json_and_forgets_the_future(tmp_path):
    path = tmp_path / "history.jsonl"
    for step in (1, 2, 3):
        history.append(path, {"step": step, **history.plain({"loss": float("nan")})})
    path.write_text(path.read_text() + '{"torn')
    assert [entry["loss"] for entry in history.read(path)] == [None] * 3
    history.forget_after(path, 2)
    assert [entry["step"] for entry in history.read(path)] == [1, 2]


def evaluated(record, step):
    made = history.Evaluation(step=step, metrics={"m": float(step)})
    record.add(made, made.line("eval", None))


def test_evaluations_of_this_process_are_in_memory_and_those_of_others_read(tmp_path, monkeypatch):
    record = history.evaluations(tmp_path)
    assert history.evaluations(str(tmp_path)) is record
    evaluated(history.Evaluations(tmp_path), 1)  # of a process before
    evaluated(record, 2)
    assert [one.step for one in record.all()] == [1, 2]
    with monkeypatch.context() as patched:
        patched.delattr(history, "read")
        assert [one.metrics["m"] for one in record.all()] == [1.0, 2.0]
        evaluated(record, 3)
        assert [one.step for one in record.all()] == [1, 2, 3]
    evaluated(history.Evaluations(tmp_path), 4)  # of an evaluator beside
    assert [one.step for one in record.all()] == [1, 2, 3, 4]
    (tmp_path / history.EVALUATIONS).unlink()
    assert record.all() == []


class FakeEstimator:
    def __init__(self, path):
        self.path = path

    def eval_dir(self):
        return str(self.path)

    def train(self):
        """Is there."""


def stops(path, hook, values):
    (path / "evaluations.jsonl").unlink(missing_ok=True)
    for step, value in values:
        history.append(path / "evaluations.jsonl", {"step": step, "metrics": {"m": value}})
    return hook.should_stop()


def test_early_stopping_rules(tmp_path):
    made = FakeEstimator(tmp_path)
    higher = early_stopping.stop_if_higher_hook(made, "m", 0.8, min_steps=5)
    assert not stops(tmp_path, higher, [(1, 0.9), (9, 0.7)])
    assert stops(tmp_path, higher, [(1, 0.1), (9, 0.9)])
    lower = early_stopping.stop_if_lower_hook(made, "m", 0.2)
    assert stops(tmp_path, lower, [(1, 0.1)])
    falling = early_stopping.stop_if_no_decrease_hook(made, "m", 10)
    assert not stops(tmp_path, falling, [(0, 1.0), (5, 1.1), (9, 1.2)])
    assert stops(tmp_path, falling, [(0, 1.0), (5, None), (10, 1.2)])
    rising = early_stopping.stop_if_no_increase_hook(made, "m", 10)
    assert not stops(tmp_path, rising, [(0, 1.0), (10, 1.2), (15, 1.1)])
    assert not stops(tmp_path, rising, [])
    counted = early_stopping.MetricStoppingHook(
        made, "m", higher_is_better=True, patience_evaluations=2
    )
    assert not stops(tmp_path, counted, [(0, 1.0), (1, 0.5)])
    assert stops(tmp_path, counted, [(0, 1.0), (1, 0.5), (2, 0.6)])


def test_lease_of_a_dead_process_is_taken_over(tmp_path):
    from estimator_lib.training.lease import Lease

    with Lease(str(tmp_path)) as lease:
        content = json.loads((tmp_path / ".trainer").read_text())
        lease.check()
        (tmp_path / ".trainer").write_text(json.dumps({**content, "started": "0", "token": "x"}))
        with pytest.raises(CheckpointError) as caught:
            lease.check()
        assert caught.value.reason is Reason.LEASED
        with Lease(str(tmp_path)) as taken:
            taken.check()
    assert not (tmp_path / ".trainer").exists()


class _CountBlocks(hooks.Hook):
    def __init__(self, *steps):
        self._steps = steps
        self.counts = []

    def after_step(self, context):
        if context.step in self._steps:
            gc.collect()
            self.counts.append(sys.getallocatedblocks())


@pytest.mark.parametrize("compiled", [False, True])
def test_long_training_keeps_no_object_of_its_steps(tmp_path, compiled):
    x = np.linspace(-1, 1, 512, dtype=np.float32)
    config = RunConfig(
        save_checkpoints_steps=None,
        save_checkpoints_secs=None,
        log_step_count_steps=1,
        jit_compile=compiled,
    )
    column = estimator_lib.feature_column.numeric_column("x")
    model = estimator_lib.LinearClassifier([column], model_dir=str(tmp_path), config=config)
    inputs = arrays_input({"x": x}, (x > 0).astype(int), batch_size=16, epochs=None)
    hook = _CountBlocks(200, 1400)
    model.train(inputs, max_steps=1400, hooks=[hook])
    before, after = hook.counts
    # The hook makes each step a call of its own: a block kept of each would be 1,200.
    assert after - before < 600
