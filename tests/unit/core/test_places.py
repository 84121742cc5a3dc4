"""A text is a path, a URI or refused; nothing between."""

import os
import pathlib
import pickle

import pytest

from estimator_lib.core.errors import ConfigError, SecurityError
from estimator_lib.core.places import Place


@pytest.mark.parametrize("text", ["a", "a/b", "/a/b/", ".", "a:b", "c:/x", "1s3:/a", "ü/ö"])
def test_paths_are_local_and_stay_as_given(text):
    place = Place.parse(text)
    assert place.is_local
    assert (str(place), place.path) == (text, pathlib.Path(text))
    assert os.fspath(place) == str(pathlib.Path(text))
    assert (place.scheme, place.bucket, place.key) == ("", "", "")


@pytest.mark.parametrize(
    ("text", "scheme", "bucket", "key"),
    [
        ("s3://b", "s3", "b", ""),
        ("gs://b/", "gs", "b", ""),
        ("az://c/a/b.csv", "az", "c", "a/b.csv"),
        ("abfs://c/a/", "abfs", "c", "a"),
        ("s3://b/day=1/*.csv", "s3", "b", "day=1/*.csv"),
        ("hdfs://data/x", "hdfs", "data", "x"),
    ],
)
def test_uris_are_taken_apart_and_stay_as_given(text, scheme, bucket, key):
    place = Place.parse(text)
    assert (place.scheme, place.bucket, place.key) == (scheme, bucket, key)
    assert str(place) == text
    assert Place.parse(place) is place
    assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301 - of our own
    assert place.absolute() == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("s3:/b/x", "neither a path nor a URI"),
        ("/data/s3://b/x", "neither a path nor a URI"),
        ("S3://b/x", "scheme 'S3'"),
        ("ftp://b/x", "scheme 'ftp'"),
        ("https://b/x", "scheme 'https'"),
        ("file:///etc/passwd", "Give the path alone"),
        ("azfs://account/c/x", "az://CONTAINER/NAME.*AZURE_STORAGE_ACCOUNT_NAME"),
        ("s3a://b/x", "Give s3://BUCKET/KEY"),
        ("s3://", "no bucket"),
        ("s3:///x", "no bucket"),
        ("s3://b/x?y", r"'\?'"),
        ("s3://b/x#y", "'#'"),
        ("s3://b/x;y", "';'"),
        ("s3://b/%2e", "'%'"),
        ("s3://b/a\\b", "contains"),
        ("s3://b/a\nb", "contains"),
        ("s3://b/../x", r"/\.\./"),
        ("s3://b/./x", r"/\./"),
        ("s3://b//x", "//"),
        ("abfs://c@account.dfs.core.windows.net/x", "'@'"),
    ],
)
def test_what_is_neither_is_refused(text, said):
    with pytest.raises(SecurityError, match=said) as caught:
        Place.parse(text)
    assert caught.value.exit_code == 2


def test_a_password_is_not_repeated():
    with pytest.raises(SecurityError) as caught:
        Place.parse("s3://me:hunter2@b/x")
    assert "hunter2" not in str(caught.value)


def test_a_uri_is_no_path():
    with pytest.raises(ConfigError, match=r"s3://b/x.*is a URI"):
        open(Place("s3://b/x"))  # noqa: SIM115
    with pytest.raises(ConfigError, match="is a URI"):
        pathlib.Path(Place("s3://b/x"))
    assert not os.path.exists("s3:")


@pytest.mark.parametrize("base", ["a", "/a/b", "s3://b", "s3://b/a/"])
def test_names_go_below_and_back(base):
    below = Place(base) / "c/d.txt"
    assert below.name == "d.txt"
    assert below.parent.parent == Place(base.rstrip("/"))
    for name in ("/c", "../c", "c/../../d"):
        with pytest.raises(SecurityError, match="leaves"):
            Place(base) / name


def test_a_bucket_is_its_own_parent():
    assert Place("s3://b/x").parent == Place("s3://b") == Place("s3://b").parent
    assert Place("s3://b").name == ""
