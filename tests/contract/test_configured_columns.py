"""Which kinds of columns `config check` lets a model list: those that its constructor takes."""

import pytest

import estimator_lib
from estimator_lib.core import columns as fc
from estimator_lib.core import constructors
from estimator_lib.core.errors import ConfigError

category = fc.categorical_column_with_vocabulary_list("c", ["a", "b"])
number = fc.numeric_column("x")
positions = fc.sequence_categorical_column(category)
COLUMNS = {
    "number": number,
    "absent": fc.missing_indicator_column("x"),
    "cut": fc.bucketized_column(number, [0.0, 1.0]),
    "way": fc.piecewise_linear_embedding(number, [0.0, 1.0]),
    "waves": fc.periodic_embedding(number),
    "category": category,
    "hashed": fc.categorical_column_with_hash_bucket("h", 5),
    "ids": fc.categorical_column_with_identity("i", 5),
    "crossed": fc.crossed_column(["a", "b"], 5),
    "weighted": fc.weighted_categorical_column(category, "w"),
    "month": fc.date_part_column("d", "month"),
    "circle": fc.cyclic_date_column("d", "hour"),
    "age": fc.age_column("d", "2026-01-31"),
    "positions": positions,
    "numbers": fc.sequence_numeric_column("n"),
    "hot": fc.indicator_column(category),
    "vector": fc.embedding_column(category, 2),
    "vectors": fc.embedding_column(positions, 2),
}
OTHERS = {
    "hidden_units": [2], "dnn_hidden_units": [2], "units": [2], "expert_units": [2],
    "tower_units": [2], "num_clusters": 2,
}  # fmt: skip
LISTS = [
    (name, argument)
    for name, arguments in constructors.signatures().items()
    for argument in arguments
    if argument.endswith("feature_columns")
]


def arguments_of(name, argument, column):
    known = constructors.signatures()[name]
    given = {key: value for key, value in OTHERS.items() if key in known}
    if argument == "context_feature_columns":
        given["sequence_feature_columns"] = ["numbers"]
    return given | {argument: [column]}


def test_every_kind_is_tried():
    transformed = {"bucket_ids", "cyclic_number"}  # which no configuration declares
    shared = {"shared_embedding"}
    assert {column.kind for column in COLUMNS.values()} == set(fc.kinds()) - transformed - shared


@pytest.mark.parametrize(("name", "argument"), LISTS)
def test_check_agrees_with_the_constructor_for_every_kind(name, argument):
    taken = 0
    for column in COLUMNS:
        given = arguments_of(name, argument, column)
        bound = constructors.bind_columns(given, COLUMNS)
        if constructors.takes_head(name):
            head = estimator_lib.BinaryClassHead(name="one")
            several = estimator_lib.MultiHead([head]) if name.startswith("MMoE") else head
            bound["head"] = several
        try:
            getattr(estimator_lib, name)(**bound)
            refused = False
        except ConfigError:
            refused = True
        if refused:
            with pytest.raises(ConfigError, match=f"'{column}' is a "):
                constructors.check_kinds(name, given, COLUMNS)
        else:
            constructors.check_kinds(name, given, COLUMNS)
            taken += 1
    assert 0 < taken < len(COLUMNS)
