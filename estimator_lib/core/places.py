"""Places: a path of this machine or a URI, as users give them.

Layer 0. A place is parsed once, where a user's text comes in: at the command line, in a
configuration, in a component. From there on it is a `Place`, so that no URI is ever taken for a
path and written as a directory that is called `s3:`.

    a/b, /a/b                     a path of this machine
    s3://BUCKET/KEY               Amazon S3, and servers that speak its protocol
    gs://BUCKET/KEY               Google Cloud Storage
    az://CONTAINER/NAME           Azure Blob Storage; abfs:// says the same
    hdfs://PATH                   raw data only: Beam reads it

`stores` reads and writes URIs.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

from estimator_lib.core.errors import ConfigError, Reason, SecurityError, quote

SCHEMES = {"s3", "gs", "az", "abfs"}
"""Schemes of the object stores, to which `stores.register` may add."""
RAW_DATA_SCHEMES = frozenset(("hdfs",))
"""Schemes of which raw data may be; nothing is written there."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MEANT = re.compile(r"(s3|gs|az|abfs|hdfs|file):/", re.IGNORECASE)
_ODD = re.compile(r"[?#;%\\\x00-\x1f\x7f]")
_USER = re.compile("//[^/]*@")
_RENAMED = {
    "azfs": "Give az://CONTAINER/NAME, and the account in AZURE_STORAGE_ACCOUNT_NAME",
    "abfss": "Give abfs://CONTAINER/NAME, and the account in AZURE_STORAGE_ACCOUNT_NAME",
    "s3a": "Give s3://BUCKET/KEY",
    "file": "Give the path alone",
}


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """A path of this machine or a URI.

    A local place is an `os.PathLike`, so that it can be opened; a URI refuses to be used so.

    Args:
        given: What the user gave; `str` gives it back.

    Raises:
        SecurityError: it is a URI of an unknown scheme, or one with parts that are no path: a
            query, a fragment, an escape, "..", a name before an "@".
    """

    given: str

    def __post_init__(self) -> None:
        problem = _problem(self.given)
        if problem:
            shown = _USER.sub("//***@", self.given)
            raise SecurityError(f"Place {quote(shown)} {problem}.")

    @classmethod
    def parse(cls, given: str | os.PathLike[str]) -> Place:
        """Returns the place that a text, a path or a place means."""
        return given if isinstance(given, Place) else cls(os.fspath(given))

    def __str__(self) -> str:
        return self.given

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str | os.PathLike[str]) -> Place:
        """The place below this one.

        Raises:
            SecurityError: the name leads out of it.
        """
        below = os.fspath(name)
        if below.startswith("/") or ".." in below.split("/"):
            raise SecurityError(
                f"Name {quote(below)} leaves {quote(self.given)}: expected a name below it."
            )
        if self.is_local:
            return Place(os.path.join(self.given, below))
        return Place(f"{self.given.rstrip('/')}/{below}")

    @property
    def scheme(self) -> str:
        """Scheme of a URI, such as "s3"; "" for a path of this machine."""
        found = _SCHEME.match(self.given)
        return found[1] if found else ""

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return not self.scheme

    @property
    def path(self) -> pathlib.Path:
        """The local path.

        Raises:
            ConfigError: it is a URI.
        """
        if not self.is_local:
            raise ConfigError(
                f"Place {quote(self.given)} is a URI: expected a path of this machine. Copy or "
                "mount it.",
                reason=Reason.UNSUPPORTED,
            )
        return pathlib.Path(self.given)

    def absolute(self) -> Place:
        """The same place, whatever the working directory is."""
        return Place(str(self.path.absolute())) if self.is_local else self

    @property
    def bucket(self) -> str:
        """Bucket or container of a URI; "" for a path of this machine."""
        return "" if self.is_local else self._parts[0]

    @property
    def key(self) -> str:
        """What a URI names in its bucket, without a slash at the end; "" for all of it."""
        return "" if self.is_local else self._parts[1]

    @property
    def _parts(self) -> tuple[str, str]:
        bucket, _, key = self.given.partition("://")[2].partition("/")
        return bucket, key.rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the path; "" for a bucket."""
        return self.path.name if self.is_local else self.key.rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The place that holds this one; a bucket, and "/", are their own."""
        if self.is_local:
            return Place(str(self.path.parent))
        above = self.key.rpartition("/")[0]
        return Place(f"{self.scheme}://{self.bucket}{'/' if above else ''}{above}")


def _problem(given: str) -> str:
    """Why a text is no place, and what to do; "" if it is one."""
    found = _SCHEME.match(given)
    if found is None:
        if not given:
            return "is empty: expected a path or a URI. Give one"
        if "\0" in given:
            return "holds a NUL character. Correct it"
        if "://" in given or _MEANT.match(given):
            return "is neither a path nor a URI: expected SCHEME://BUCKET/KEY. Correct it"
        return ""
    scheme = found[1]
    known = SCHEMES | RAW_DATA_SCHEMES
    if scheme not in known:
        advice = _RENAMED.get(scheme, "Correct it")
        return (
            f"has the scheme {scheme!r}: expected a path, or a plain URI with one of the schemes "
            f"{', '.join(sorted(known))}. {advice}"
        )
    rest = given[found.end() :]
    odd = _ODD.search(rest)
    if odd or "@" in rest.partition("/")[0]:
        return f"contains {odd[0] if odd else '@'!r}: expected a plain URI. Correct it"
    bucket, *parts = rest.split("/")
    if not bucket and scheme in SCHEMES:
        return f"names no bucket: expected {scheme}://BUCKET/KEY. Correct it"
    while parts and not parts[-1]:
        parts.pop()
    for part in parts:
        if part in ("", ".", "..") and (scheme in SCHEMES or part == ".."):
            return f"contains '/{part}/': expected a plain URI. Correct it"
    return ""


LOCAL = frozenset(("base_dir",))
"""The parameters of components and pipelines that are local paths: relative file patterns start
there, and those elsewhere are given as URIs."""
ANYWHERE = frozenset((
    "analysis_cache", "champion", "checkpoint_root", "model", "serving_dir", "study_root",
))  # fmt: skip
"""Those that may be URIs, too, as file patterns may."""


def fault(name: str, value: object) -> str | None:
    """Returns why a value cannot be given for a parameter, or None if it can."""
    if name not in LOCAL | ANYWHERE or not isinstance(value, str) or not value:
        return None
    try:
        place = Place.parse(value)
    except SecurityError as error:
        return error.message.rstrip(".")
    if place.is_local or (name in ANYWHERE and place.scheme in SCHEMES):
        return None
    if name in ANYWHERE:
        return (
            f"expected a path, or a URI with one of the schemes {', '.join(sorted(SCHEMES))}, got "
            f"{quote(value)}"
        )
    return (
        f"expected a path in the pod, such as a directory of a mounted volume, got the URI "
        f"{quote(value)}. Give the data's files as URIs instead"
    )


def require(name: str, value: object) -> None:
    """Refuses what a step cannot use as a place.

    Args:
        name: Of a parameter; those that are no places may have any value.
        value: What was given for it; "" is fine.

    Raises:
        ConfigError: naming both.
    """
    found = fault(name, value)
    if found:
        raise ConfigError(f"{name} is invalid: {found}.", reason=Reason.UNSUPPORTED)
