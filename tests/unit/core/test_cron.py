import datetime
import itertools

import pytest

from estimator_lib.core import cron
from estimator_lib.core.errors import ConfigError

NOW = datetime.datetime(2026, 11, 22, 8, 30, tzinfo=datetime.UTC)


def starts(text, count=2):
    return [f"{t:%m-%d %H:%M:%S}" for t in itertools.islice(cron.parse(text).times(NOW), count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 3 * * *", ["11-23 03:00:00", "11-24 03:00:00"]),
        ("0 0 3 ? * MON", ["11-23 03:00:00", "11-30 03:00:00"]),
        ("30 15 */6 * * *", ["11-22 12:15:30", "11-22 18:15:30"]),
        ("0 0 0 1 jan-mar ?", ["01-01 00:00:00", "02-01 00:00:00"]),
        ("0 30 8 * * *", ["11-23 08:30:00", "11-24 08:30:00"]),
        ("0 20/20 9 22,25 11 *", ["11-22 09:20:00", "11-22 09:40:00"]),
        # Both day fields restricted: either is enough. 24 November 2026 is a Tuesday.
        ("0 0 0 25 * 2", ["11-24 00:00:00", "11-25 00:00:00"]),
    ],
)
def test_times_follow_the_expression_in_utc(text, expected):
    assert starts(text) == expected


def test_leap_day_is_found_across_a_century_that_has_none():
    after = datetime.datetime(2096, 3, 1, tzinfo=datetime.UTC)
    assert next(cron.parse("0 0 0 29 2 ?").times(after)).year == 2104


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 3 * * *", '"0 0 3 \\* \\* \\*"'),
        ("", "got 0"),
        ("60 0 3 * * *", "second '60': expected 0 to 59"),
        ("0 0 24 * * *", "hour"),
        ("0 0 3 0 * *", "day of month"),
        ("0 0 3 * 13 *", "month"),
        ("0 0 3 * * 7", "day of week"),
        ("0 0 3 * * funday", "expected a number"),
        ("0 0 5-3 * * *", "backwards"),
        ("0 */0 3 * * *", "step"),
        ("0 -1 3 * * *", "minute"),
        ("0 \u0661 3 * * *", "minute"),
        ("0 0 3 30 2 *", "no date matches"),
        ("@daily", "got 1"),
    ],
)
def test_malformed_expression_is_refused_with_the_field_at_fault(text, said):
    with pytest.raises(ConfigError, match=said):
        cron.parse(text)
