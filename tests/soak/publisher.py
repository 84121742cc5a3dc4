"""One of the processes that publish and roll back.

    python -m tests.soak.publisher DIR SERVING NUMBER SEED

It needs no TensorFlow, and says in a line how each attempt ended.
"""

import pathlib
import random
import sys
import time

from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.export import retention
from pipelines import models

KEPT = 30
ROLLBACKS = 0.3
PAUSE_S = 0.2


def publish_until_told(folder: pathlib.Path, serving: str, number: int, seed: int) -> None:
    """Publishes model `number` and rolls back until there is a file `stop`."""
    draw = random.Random(f"{seed} {number}")
    while not (folder / "stop").exists():
        try:
            if draw.random() < ROLLBACKS:
                models.rollback(serving)
                print("rolled back")
            else:
                retention.publish(folder / f"model-{number}", serving, keep=KEPT)
                print("published")
        except EstimatorLibError as error:
            print("try again" if error.exit_code == 75 else f"{number}: {error.message}")
        time.sleep(draw.random() * PAUSE_S)


if __name__ == "__main__":
    publish_until_told(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
