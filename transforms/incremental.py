"""Analyses of single files, kept by content, so that new data re-reads only the new files.

An analysis is a function of a file's bytes and of how they are read; that is its key. Editing a
file, the columns or the reader makes another key; renaming or moving a file does not. Files
that a rolling window no longer holds are simply not asked for. As analyses merge exactly, the
result equals that of a full pass, to the last bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable

from estimator_lib.core import storage
from estimator_lib.core.errors import DataError, EstimatorLibError
from transforms.analysis import Analysis
from transforms.files import InputFile
from transforms.records import Source

VERSION = 1
"""Changes with the meaning of an analysis, and makes all keys new."""


def key(sha256: str, file: InputFile, source: Source) -> str:
    """Returns the name under which the analysis of a file's content is kept."""
    described = {
        "version": VERSION,
        "sha256": sha256,
        "split": file.split,
        "layout": dataclasses.asdict(source.layout),
        "by": source.split.model_dump(),
        "label": source.label.model_dump() if source.label is not None else None,
        "weight": source.weight,
    }
    return hashlib.sha256(storage.canonical_json(described).encode()).hexdigest()


def analyse(
    file: InputFile,
    source: Source,
    directory: str,
    read: Callable[[InputFile, Source], Analysis],
) -> Analysis:
    """Returns the analysis of a file: the kept one, or a new one that is then kept.

    Args:
        file: What to analyse.
        source: How it is read.
        directory: Where analyses are kept; files in it may be deleted at any time.
        read: Makes a new analysis. One with faults is not kept.
    """
    try:
        digest = _sha256(file)
    except (OSError, EstimatorLibError):
        return read(file, source)  # which reports the fault
    path = pathlib.Path(directory) / f"{key(digest, file, source)}.arrow"
    if path.exists():
        try:
            analysis = Analysis.read(str(path))
            (known,) = analysis.files.values()
        except (DataError, ValueError):
            storage.remove(path)
        else:
            analysis.files = {file.name: known}
            return analysis
    analysis = read(file, source)
    faulty = analysis.failures or analysis.problems.total
    if not faulty and analysis.files[file.name].sha256 == digest:
        analysis.write(str(path))
    return analysis


def _sha256(file: InputFile) -> str:
    with file.open() as stream:
        digest = hashlib.sha256()
        while data := stream.read(1 << 20):
            digest.update(data)
        return digest.hexdigest()
