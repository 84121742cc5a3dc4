"""Fault 8: input patterns that lead out of the base directory, or to other schemes.

Fails when `files.expand` opens a pattern before it looks whether that stays below the base
directory, links resolved, or lets another scheme pass.
"""

import pytest

from estimator_lib.core.errors import Reason, SecurityError
from transforms.reading import files


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base" / "data").mkdir(parents=True)
    (tmp_path / "base" / "data" / "a.csv").write_text("x\n1\n")
    (tmp_path / "secret.csv").write_text("x\n1\n")
    return tmp_path / "base"


@pytest.mark.parametrize(
    "pattern",
    [
        "../secret.csv",
        "data/../../*.csv",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "https://example.com/a.csv",
        "gs://bucket/a.csv?x=1",
        "gs://bucket/a.csv#x",
        "gs://bucket/a;b.csv",
        "gs://bucket/%2e%2e/a.csv",
        "s3://bucket/a/../b.csv",
    ],
)
def test_pattern_outside_is_refused_before_any_open(base, pattern):
    with pytest.raises(SecurityError) as caught:
        files.find({"train": [pattern]}, str(base))
    assert caught.value.reason == Reason.PATH_ESCAPES


def test_symbolic_link_out_of_the_base_directory_is_refused(base):
    (base / "data" / "link.csv").symlink_to(base.parent / "secret.csv")
    with pytest.raises(SecurityError):
        files.find({"train": ["data/link.csv"]}, str(base))


def test_pattern_inside_is_found(base):
    found = files.find({"train": ["data/*.csv", "./data/a.csv"]}, str(base))
    assert [f.name for f in found] == ["data/a.csv"]
