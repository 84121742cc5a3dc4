"""Features of texts: the same whether a batch brings them first or they are known already."""

import pyarrow as pa
import pytest

from estimator_lib.core import columns as fc
from transforms.applying import materialize

WORDS = ["a", "b", "c"]
BATCHES = [["b", None, "b"], [], ["a", "c", "strange", "b"], [None, "other", "strange", "a"]]
IDS = [[1, -1, 1], [], [0, 2, -1, 1], [-1, -1, -1, 0]]


@pytest.fixture
def transform():
    column = fc.categorical_column_with_vocabulary_list("word", WORDS)
    return materialize.BatchTransform([column], {"word": "string"})


def ids(transform, words, kind):
    (values,) = transform(pa.record_batch({"word": pa.array(words, kind)})).values()
    assert values.type == pa.int32()
    return values.to_pylist()


@pytest.mark.parametrize("known", [0, 2, 1 << 16])
@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_ids_do_not_depend_on_what_came_before(transform, monkeypatch, known, kind):
    monkeypatch.setattr(materialize, "KNOWN_TEXTS", known)
    for order in (range(4), range(3, -1, -1)):
        assert [ids(transform, BATCHES[i], kind) for i in order] == [IDS[i] for i in order]


def test_known_texts_are_not_looked_up_again(transform, monkeypatch):
    looked_up = []
    applied = materialize._applied
    monkeypatch.setattr(
        materialize,
        "_applied",
        lambda module, raw: looked_up.extend(raw["word"]) or applied(module, raw),
    )
    for batch in BATCHES:
        ids(transform, batch, pa.string())
    assert sorted(looked_up) == ["", "a", "b", "c", "other", "strange"]
