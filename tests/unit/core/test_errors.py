"""Errors as values: another process raises what this one met."""

import errno
import json

import pytest

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Failure, Reason, raise_first
from estimator_lib.errors import NotSavedError

MET = {
    "a disk that is full": storage.storage_error("write", "/x", OSError(errno.ENOSPC, "full")),
    "a disk that denies": storage.storage_error("write", "/x", OSError(errno.EROFS, "read-only")),
    "a wrong type": ConfigError("No.", reason=Reason.TYPE_MISMATCH),
    "a class of the library's": NotSavedError("No."),
}


@pytest.mark.parametrize("met", MET)
def test_an_error_comes_out_of_json_as_it_went_in(met):
    error = MET[met]
    with pytest.raises(EstimatorLibError) as caught:
        raise_first([Failure(*json.loads(json.dumps(Failure.of(error))))])
    found = caught.value
    assert (found.message, found.reason, found.exit_code) == (
        error.message, error.reason, error.exit_code,
    )  # fmt: skip
    assert isinstance(found, TypeError) == isinstance(error, TypeError)


def test_the_first_by_kind_and_message_is_raised():
    told = [Failure.of(ConfigError(text)) for text in ("b", "a", "c")]
    with pytest.raises(ConfigError, match="a"):
        raise_first(told)
    raise_first([])
