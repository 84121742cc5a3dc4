"""One step server for the whole session: TensorFlow and Beam are imported once."""

import pytest

from pipelines.local.warm_steps import WarmSteps


@pytest.fixture(scope="session")
def warm_steps(tmp_path_factory):
    log = tmp_path_factory.mktemp("warm") / "steps.log"
    with WarmSteps(log) as steps:
        yield steps
