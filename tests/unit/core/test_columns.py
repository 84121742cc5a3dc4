import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason

carrier = fc.categorical_column_with_vocabulary("carrier", top_k=5, min_count=2)
hour = fc.bucketized_column(fc.numeric_column("hour"), fc.Quantiles(buckets=4))
EVERY_KIND = [
    fc.numeric_column("x", (2,), [1, 2], "int64", fc.Moments()),
    fc.numeric_column("x", default_value=fc.Mean(), normalizer_fn=fc.ZScore(mean=1.0, stddev=2.0)),
    fc.missing_indicator_column("x"),
    hour,
    fc.bucketized_column(fc.numeric_column("x"), [1, 2.5]),
    carrier,
    fc.categorical_column_with_vocabulary_list("c", ["a", "b"], num_oov_buckets=2),
    fc.categorical_column_with_vocabulary_list("c", [3, 1], default_value=0),
    fc.categorical_column_with_hash_bucket("c", 10),
    fc.categorical_column_with_identity("c", 4, 0),
    fc.crossed_column(["a", carrier, hour], 100, 7),
    fc.indicator_column(carrier),
    fc.embedding_column(fc.crossed_column(["a", "b"], 9), 3, "sum"),
]


@pytest.mark.parametrize("column", EVERY_KIND, ids=lambda c: c.kind)
def test_json_round_trip_gives_an_equal_column(column):
    assert fc.from_json(fc.to_json(column)) == column


@pytest.mark.parametrize("column", EVERY_KIND, ids=lambda c: c.kind)
def test_resolve_closes_every_open_part(column):
    learned = {
        fc.Vocabulary: ("a", "b"),
        fc.Quantiles: (1.0, 2.0),
        fc.Moments: fc.ZScore(mean=0.0, stddev=1.0),
        fc.Mean: 0.5,
    }
    closed = fc.resolve(column, lambda field, part: learned[type(part)])
    assert not [part for c in fc.walk([closed]) for part in fc.open_parts(c)]
    assert closed.name == column.name


@pytest.mark.parametrize("column", EVERY_KIND, ids=lambda c: c.kind)
def test_transformed_reads_the_transformed_feature_only(column):
    closed = fc.resolve(
        column,
        lambda field, part: {
            "Vocabulary": ("a", "b"),
            "Quantiles": (1.0, 2.0),
            "Moments": fc.ZScore(mean=0.0, stddev=1.0),
            "Mean": 0.5,
        }[type(part).__name__],
    )
    reader = fc.transformed(closed)
    assert list(fc.raw_fields([reader])) == list(fc.feature_sources([closed]))
    assert reader.name in (closed.name, f"{closed.name}")


def test_names_are_those_of_tf_feature_column():
    assert hour.name == "hour_bucketized"
    assert fc.crossed_column(["dest", carrier], 10).name == "carrier_X_dest"
    assert fc.embedding_column(carrier, 2).name == "carrier_embedding"
    assert fc.indicator_column(hour).name == "hour_bucketized_indicator"


def test_open_column_has_no_size_yet():
    with pytest.raises(ConfigError) as caught:
        _ = carrier.num_buckets
    assert caught.value.reason is Reason.UNRESOLVED


def test_raw_fields_refuses_two_types_for_one_field():
    with pytest.raises(ConfigError, match="'hour'"):
        fc.raw_fields([hour, fc.categorical_column_with_vocabulary("hour")])


def test_feature_sources_refuses_two_columns_of_one_name():
    other = fc.bucketized_column(fc.numeric_column("hour"), [1.0])
    with pytest.raises(ConfigError, match="hour_bucketized"):
        fc.feature_sources([hour, other])
    assert list(fc.feature_sources([hour, fc.indicator_column(hour)])) == ["hour_bucketized"]


def test_a_python_function_cannot_go_to_a_file():
    with pytest.raises(ConfigError, match="normalizer"):
        fc.to_json(fc.numeric_column("x", normalizer_fn=abs))


def test_unknown_kind_suggests_the_nearest():
    with pytest.raises(ConfigError, match="numeric"):
        fc.from_json({"kind": "numerc", "key": "x"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: fc.numeric_column(""),
        lambda: fc.numeric_column("x", 0),
        lambda: fc.numeric_column("x", normalizer_fn=3),
        lambda: fc.bucketized_column(fc.numeric_column("x"), [2, 1]),
        lambda: fc.bucketized_column(fc.numeric_column("x"), []),
        lambda: fc.categorical_column_with_vocabulary("c", top_k=0),
        lambda: fc.categorical_column_with_vocabulary("c", min_count=0),
        lambda: fc.categorical_column_with_vocabulary_list("c", ["a", "a"]),
        lambda: fc.categorical_column_with_vocabulary_list("c", ["a"], None, 0, 1),
        lambda: fc.categorical_column_with_hash_bucket("c", 0),
        lambda: fc.categorical_column_with_identity("c", True),
        lambda: fc.crossed_column(["a"], 10),
        lambda: fc.crossed_column(["a", fc.categorical_column_with_hash_bucket("b", 3)], 10),
        lambda: fc.indicator_column(fc.numeric_column("x")),
        lambda: fc.embedding_column(carrier, 0),
        lambda: fc.embedding_column(carrier, 2, "max"),
        lambda: fc.ZScore(mean=float("nan"), stddev=1.0),
        lambda: fc.Quantiles(buckets=1),
    ],
)
def test_bad_argument_is_refused_at_construction(make):
    with pytest.raises(ConfigError):
        make()


def places(content, at=()):
    yield at
    if isinstance(content, dict | list):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(item, (*at, key))


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]),
    st.just({}), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none()),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(column=st.sampled_from(EVERY_KIND), data=st.data())
def test_mutated_json_is_read_or_refused(column, data):
    content = json.loads(json.dumps(fc.to_json(column)))
    where = data.draw(st.sampled_from([place for place in places(content) if place]))
    node = content
    for key in where[:-1]:
        node = node[key]
    if data.draw(st.booleans()):
        node[where[-1]] = data.draw(ODD)
    elif isinstance(node, dict):
        node[data.draw(st.text(max_size=5))] = node.pop(where[-1])
    try:
        read = fc.from_json(content)
    except ConfigError:
        return
    assert fc.from_json(fc.to_json(read)) == read or read != read


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique=True))
def test_boundaries_survive_json_exactly(values):
    column = fc.bucketized_column(fc.numeric_column("x"), sorted(values))
    assert fc.from_json(fc.to_json(column)) == column
