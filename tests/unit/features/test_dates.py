"""Columns of dates against Python's datetime."""

import datetime
import math
import random

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, SchemaError
from estimator_lib.features.dense import dense_features
from estimator_lib.features.parsing import make_parse_example_spec
from estimator_lib.features.transform import FeatureTransform

PARTS = {
    "year": lambda t: t.year - 1,
    "quarter": lambda t: (t.month - 1) // 3,
    "month": lambda t: t.month - 1,
    "week": lambda t: t.isocalendar().week - 1,
    "day_of_year": lambda t: t.timetuple().tm_yday - 1,
    "day": lambda t: t.day - 1,
    "weekday": lambda t: t.weekday(),
    "hour": lambda t: t.hour,
    "minute": lambda t: t.minute,
    "second": lambda t: t.second,
}
NO_DATE = [
    "", "x", "2024-02-30", "1900-02-29", "0000-01-01", "2024-13-01", "2024-1-1", "24-01-01",
    "2024-01-01 24:00", "2024-01-01 10", "2024-01-01 10:30+24:00", "2024-01-01 10:30 CET",
    "0001-01-01 00:00+01:00", "9999-12-31 23:30-01:00", "2024-01-01 ", " 2024-01-01", "12:30",
    "20240101", "1704067200",
]  # fmt: skip


def texts_and_moments(seed):
    """Texts of dates and times of any year as people write them, and the moments they are."""
    chosen = random.Random(seed)
    for _ in range(400):
        moment = datetime.datetime.fromordinal(chosen.randint(2, datetime.date.max.toordinal() - 1))
        text = f"{moment.date()}"
        form = chosen.choice(["date", "minutes", "seconds", "fraction"])
        if form != "date":
            minutes = chosen.randrange(1440)
            moment += datetime.timedelta(minutes=minutes)
            text += f"{chosen.choice(' T')}{minutes // 60:02}:{minutes % 60:02}"
            if form != "minutes":
                second = chosen.randrange(60)
                moment += datetime.timedelta(seconds=second)
                text += f":{second:02}"
            if form == "fraction":
                micro = chosen.randrange(10**6)
                moment += datetime.timedelta(microseconds=micro)
                text += f".{micro:06}"
            zone = chosen.choice(["", "Z", " UTC", "+00:00", "-0930", "+14", " +05:45", "-11:59"])
            if digits := zone.strip(" +-:UTCZ").replace(":", ""):
                away = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
                moment -= -away if "-" in zone else away
            text += zone
        yield text, moment


@pytest.mark.parametrize("seed", range(3))
def test_parts_and_ages_are_those_of_datetime(seed):
    pairs = list(texts_and_moments(seed))
    until = datetime.datetime.fromisoformat("2026-01-31 12:30")
    columns = [fc.date_part_column("d", part) for part in PARTS]
    columns += [fc.cyclic_date_column("d", "weekday"), fc.age_column("d", until, unit="hours")]
    out = FeatureTransform(columns)({"d": tf.constant([text for text, _ in pairs])})
    moments = [moment for _, moment in pairs]
    for part, expected in PARTS.items():
        np.testing.assert_array_equal(out[f"d_{part}"], [expected(m) for m in moments], part)
    np.testing.assert_array_equal(out["d_weekday_cyclic"], [m.weekday() for m in moments])
    hours = [(until - m) / datetime.timedelta(hours=1) for m in moments]
    np.testing.assert_array_equal(out["d_age"], np.float32(hours))


def test_what_is_no_date_is_missing():
    columns = [
        fc.date_part_column("d", "month"),
        fc.cyclic_date_column("d", "month"),
        fc.age_column("d", "2026-01-31"),
        fc.age_column("d", until_field="e", default_value=-5.0),
    ]
    days = {"d": tf.constant(NO_DATE), "e": tf.constant(["2024-01-01"] * len(NO_DATE))}
    out = FeatureTransform(columns)(days)
    assert set(out["d_month"].numpy()) == {-1}
    assert np.all(np.isnan(out["d_month_cyclic"]))
    assert np.all(np.isnan(out["d_age"]))
    assert set(out["d_until_e"].numpy()) == {-5.0}
    assert not np.any(dense_features([columns[1]], days))


def test_age_between_fields_is_scaled_and_has_its_sign():
    column = fc.age_column(
        "a", until_field="b", unit="years", normalizer_fn=fc.ZScore(mean=1.0, stddev=2.0)
    )
    fields = {"a": tf.constant(["2001-01-01", "2401-01-01"]), "b": tf.constant(["2401-01-01"] * 2)}
    np.testing.assert_allclose(dense_features([column], fields), [[399 / 2], [-0.5]])


def test_circle_closes():
    column = fc.cyclic_date_column("d", "month")
    months = [f"2024-{month:02}-15" for month in range(1, 13)]
    points = dense_features([column], {"d": tf.constant(months)}).numpy()
    np.testing.assert_allclose(np.hypot(*points.T), 1, rtol=1e-6)
    steps = np.hypot(*(points - np.roll(points, 1, axis=0)).T)
    np.testing.assert_allclose(steps, 2 * math.sin(math.pi / 12), rtol=1e-5)


def test_dates_are_read_of_parsed_examples():
    columns = [
        fc.indicator_column(fc.date_part_column("d", "weekday")),
        fc.age_column("d", until_field="e", default_value=0.0),
    ]
    days = [{"d": "2024-02-29", "e": "2024-03-01"}, {"e": "2024-03-01"}]
    examples = [
        tf.train.Example(features=tf.train.Features(feature={
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
            for name, text in row.items()
        })).SerializeToString()
        for row in days
    ]  # fmt: skip
    parsed = tf.io.parse_example(examples, make_parse_example_spec(columns))
    expected = [[1.0, 0, 0, 0, 1, 0, 0, 0], [0.0] * 8]
    np.testing.assert_array_equal(dense_features(columns, parsed), expected)
    sparse = {"d": tf.sparse.from_dense(["2024-02-29", "2024-01-01"])}
    sparse["d"] = tf.sparse.reshape(sparse["d"], (2, 1))
    found = FeatureTransform([fc.date_part_column("d", "month")])(sparse)
    np.testing.assert_array_equal(found["d_month"], [1, 0])


def test_several_dates_in_a_field_are_refused():
    with pytest.raises(SchemaError, match=r"'d'.*one date per example"):
        FeatureTransform([fc.date_part_column("d", "month")])({"d": tf.constant([["a", "b"]])})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: fc.date_part_column("d", "century"), "part"),
        (lambda: fc.cyclic_date_column("d", "year"), "part"),
        (lambda: fc.age_column("d"), "until"),
        (lambda: fc.age_column("d", "2026-01-01", until_field="e"), "until"),
        (lambda: fc.age_column("d", "2026-02-30"), "until"),
        (lambda: fc.age_column("d", "2026-01-01", unit="months"), "unit"),
        (lambda: fc.check_list_fields([fc.date_part_column("d", "day")], {"d"}), "one date"),
    ],
)
def test_what_no_date_column_can_be_is_refused(make, named):
    with pytest.raises(ConfigError, match=named):
        make()
