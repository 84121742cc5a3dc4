"""Dates in file patterns."""

import pytest

from estimator_lib.core import spans
from estimator_lib.core.errors import ConfigError, DataError
from transforms.reading import files


@pytest.fixture
def root(tmp_path):
    for day in ("2026-01-30", "2026-01-31", "2026-02-01", "latest", "2026-02"):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        for part in (0, 1):
            (folder / f"part-{part}.csv").touch()
    for day in ("20260130", "20260201"):
        (tmp_path / f"log-{day}-a.csv").touch()
    return tmp_path


def found(root, pattern):
    return [f.name for f in files.find({"train": [pattern]}, str(root))]


def test_any_day(root):
    names = found(root, "day={date}/*.csv")
    assert len(names) == 6
    assert not any("latest" in name for name in names)


def test_newest_days_with_all_their_files(root):
    assert found(root, "day={date:2}/*.csv") == [
        "day=2026-01-31/part-0.csv",
        "day=2026-01-31/part-1.csv",
        "day=2026-02-01/part-0.csv",
        "day=2026-02-01/part-1.csv",
    ]
    assert found(root, "log-{date:1}-*.csv") == ["log-20260201-a.csv"]
    assert len(found(root, "day={date:99}/part-0.csv")) == 3


def test_days_before_the_newest(root):
    assert found(root, "day={date:2-3}/part-0.csv") == [
        "day=2026-01-30/part-0.csv",
        "day=2026-01-31/part-0.csv",
    ]
    assert found(root, "day={date:2-}/part-0.csv") == found(root, "day={date:2-3}/part-0.csv")
    with pytest.raises(ConfigError, match="no day"):
        found(root, "day={date:3-2}/part-0.csv")


def test_no_day_is_refused_with_the_pattern(root):
    with pytest.raises(DataError, match="week"):
        found(root, "week={date:2}/*.csv")


@pytest.mark.parametrize("pattern", ["{date}/{date}.csv", "{date}/**/x.csv"])
def test_ambiguous_dates_are_refused(root, pattern):
    with pytest.raises(ConfigError):
        found(root, pattern)


def test_patterns_without_dates_are_left_alone():
    patterns, choose = spans.parse("a/{x}/*.csv")
    assert patterns == ["a/{x}/*.csv"]
    assert choose(["b", "a"]) == ["b", "a"]
