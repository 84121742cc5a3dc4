"""Analyses of single files, kept by content, so that new data re-reads only the new files.

An analysis is a function of a file's bytes and of how they are read; that is its key. Editing a
file, the columns or the reader makes another key; renaming or moving a file, or giving it to
another split, does not: days that a model was evaluated on are learned from later without being
read again. Of a file in an object store its content is known by its version, once it was read, so
that one that did not change is not read again. Files that a rolling window no longer holds are
simply not asked for. As analyses merge
exactly, the result equals that of a full pass, to the last bit.
"""

from __future__ import annotations

import dataclasses
import hashlib

from estimator_lib.core import columns as fc
from estimator_lib.core import storage, stores
from estimator_lib.core.errors import DataError, EstimatorLibError
from estimator_lib.core.places import Place
from transforms.learning.analysis import Analysis
from transforms.reading import readers
from transforms.reading.files import InputFile
from transforms.reading.records import Source

VERSION = 6
"""Changes with the meaning of an analysis, and makes all keys new."""


def key(sha256: str, file: InputFile, source: Source) -> str:
    """Returns the name under which the analysis of a file's content is kept."""
    described = {
        "version": VERSION,
        "sha256": sha256,
        "split": "by row" if not file.split else "by file",
        "layout": dataclasses.asdict(source.layout),
        "by": None if file.split else source.split.model_dump(),
        "labels": [label.model_dump() for label in source.labels.values()],
        "weight": source.weight,
        "every_token": sorted(source.every_token),
        "ranking": [dict(source.weighted), sorted(source.by_class)],
        "ages": {name: fc.to_json(column) for name, column in source.ages.items()},
        "function": source.derived and [source.derived.digest, dataclasses.asdict(source.outputs)],
    }
    return hashlib.sha256(storage.canonical_json(described).encode()).hexdigest()


def content_key(file: InputFile, source: Source) -> str:
    """Returns `key` of a file as it is now.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return key(_sha256(file, source), file, source)
    except OSError as error:
        raise file.unread(error) from error


def find(file: InputFile, source: Source, directory: str) -> Analysis | None:
    """Returns the kept analysis of a file's content, or None; a damaged one is removed.

    Args:
        file: What is to be analysed.
        source: How it is read.
        directory: Where analyses are kept, a path or URI; files may be deleted at any time.
    """
    try:
        sha256 = _known(file, source, directory) or _sha256(file, source)
    except (OSError, EstimatorLibError):
        return None  # reading it will report the fault
    path = _path(sha256, file, source, directory)
    if not stores.exists(path):
        return None
    try:
        analysis = Analysis.read(str(path))
        (known,) = analysis.files.values()
    except (DataError, ValueError):
        stores.remove(path)
        return None
    if file.split:
        known = dataclasses.replace(known, kept={file.split: sum(known.kept.values())})
        analysis.splits = dict(zip([file.split], analysis.splits.values(), strict=False))
    analysis.files = {file.key: known}
    return analysis


def keep(analysis: Analysis, file: InputFile, source: Source, directory: str) -> None:
    """Keeps the analysis of one file, unless it has faults."""
    if not analysis.failures and not analysis.problems.total:
        sha256 = analysis.files[file.key].sha256
        analysis.write(str(_path(sha256, file, source, directory)))
        if file.version:
            stores.write(_mark(file, source, directory), sha256.encode())


def _path(sha256: str, file: InputFile, source: Source, directory: str) -> Place:
    return Place.parse(directory) / f"{key(sha256, file, source)}.arrow"


def _known(file: InputFile, source: Source, directory: str) -> str:
    """The SHA-256 of a version of a URI, or "" if it was never read."""
    if not file.version:
        return ""
    known = stores.find(_mark(file, source, directory))
    return "" if known is None else known.decode(errors="replace")


def _mark(file: InputFile, source: Source, directory: str) -> Place:
    """Where the SHA-256 of a version of a URI, or of a part of it, is kept."""
    part = None if file.part is None else [file.part.begin, file.part.end]
    named = storage.canonical_json([file.path, file.version, source.layout.format, part])
    return Place.parse(directory) / "versions" / hashlib.sha256(named.encode()).hexdigest()


def _sha256(file: InputFile, source: Source) -> str:
    with readers.stream(file, source.layout.format) as stream:
        digest = hashlib.sha256()
        while data := stream.read(1 << 20):
            digest.update(data)
        return digest.hexdigest()
