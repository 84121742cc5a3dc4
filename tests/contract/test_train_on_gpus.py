"""A step that is given two GPUs trains on both as one device does, batch for batch.

Two logical CPUs stand in for the GPUs; everything else is what a pod runs.
"""

import os
import pathlib
import subprocess
import sys
import textwrap

from estimator_lib.core import environment

SCRIPT = textwrap.dedent("""
    import json, os, pathlib, sys
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    import numpy as np
    from components.steps import model as artifact
    from components.steps import raw_files, train
    from estimator_lib.core import config, environment, manifest
    from estimator_lib.training import devices

    here = pathlib.Path(sys.argv[1])
    loaded = config.load(here / "run.yaml")
    raw_files.preprocess(loaded.preprocess_part(), base_dir=here, output=str(here / "prepared"))
    devices.visible = lambda: ["CPU:0", "CPU:1"]

    def trained(name):
        work = here / name
        prepared = here / "prepared"
        found = train.fit(
            loaded.train_part(),
            artifact.read_columns(str(prepared / "transform")),
            str(prepared / "examples"),
            manifest.read(str(prepared / "examples")).metadata,
            work,
        )
        reader = tf.train.load_checkpoint(str(work / found[0]))
        shapes = reader.get_variable_to_shape_map()
        weights = {n: reader.get_tensor(n) for n in shapes if "OBJECT_GRAPH" not in n}
        return found[1:], weights

    (step, metrics), one = trained("one")
    os.environ[environment.GPUS] = "2"
    strategies = []
    real = tf.distribute.MirroredStrategy
    tf.distribute.MirroredStrategy = lambda names: strategies.append(names) or real(names)
    (both_step, both_metrics), both = trained("both")
    assert strategies == [["CPU:0", "CPU:1"]], strategies
    assert step == both_step == 20, (step, both_step)
    assert set(one) == set(both), set(one) ^ set(both)
    for name in one:
        if np.issubdtype(np.asarray(one[name]).dtype, np.number):
            np.testing.assert_allclose(one[name], both[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for name, value in metrics.items():
        assert abs(value - both_metrics[name]) < 1e-4, (name, value, both_metrics[name])
    print("ok")
    sys.stdout.flush()
    os._exit(0)
""")
CONFIG = """
name: tiny
data:
  files: [rows.csv]
  types: {x: float}
  split: {hash: {key: [id], eval_fraction: 0.25}}
label: {field: late}
columns: {x: {kind: numeric, field: x, normalize: moments}}
estimator:
  name: DNNClassifier
  args: {feature_columns: [x], hidden_units: [4]}
train: {max_steps: 20, batch_size: 32, evaluate_every_steps: 10, seed: 3}
"""


def test_two_devices_train_as_one_with_the_same_batches(tmp_path):
    rows = [f"{n},{n * 37 % 100 / 10},{int(n * 37 % 100 > 40)}" for n in range(400)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,x,late", *rows]) + "\n")
    (tmp_path / "run.yaml").write_text(CONFIG)
    environ = {k: v for k, v in os.environ.items() if k != environment.GPUS}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "ok"
