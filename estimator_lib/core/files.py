"""File patterns to files, and what identifies their content.

Layer 0.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from estimator_lib.core import spans, storage
from estimator_lib.core.errors import ConfigError, DataError, Reason, quote


def expand(patterns: Sequence[str], base_dir: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the files that match, sorted by path, each once.

    Args:
        patterns: Glob patterns, with dates as `spans` has them; relative ones start at
            `base_dir` and stay below it.
        base_dir: An existing directory.

    Raises:
        ConfigError: a pattern is not a local path.
        DataError: a pattern matches no file; it and the directory searched are named.
        SecurityError: a relative pattern leads out of `base_dir`.
    """
    found: dict[pathlib.Path, None] = {}
    for pattern in patterns:
        if "://" in pattern or not _is_path(pattern):
            raise ConfigError(
                f"File pattern {quote(pattern)} is not a local path. Copy or mount the files.",
                reason=Reason.UNSUPPORTED,
            )
        root = glob.escape(os.fspath(base_dir))
        plain_patterns, choose = spans.parse(pattern)
        matches = choose(
            match
            for plain_pattern in plain_patterns
            for match in glob.glob(os.path.join(root, plain_pattern), recursive=True)
        )
        if not matches and os.path.exists(literal := os.path.join(base_dir, pattern)):
            matches = [literal]  # a name that happens to hold "[" or "?"
        files = [pathlib.Path(m) for m in matches if os.path.isfile(m)]
        if not files:
            plain = not glob.has_magic(plain_patterns[0])
            raise DataError(
                f"File {quote(pattern)} does not exist in {os.path.abspath(base_dir)}."
                if plain
                else f"File pattern {quote(pattern)} matches no file in "
                f"{os.path.abspath(base_dir)}.",
                reason=Reason.FILE_NOT_FOUND,
            )
        if not os.path.isabs(pattern):
            for match in matches:
                storage.safe_join(base_dir, os.path.relpath(match, base_dir))
        found.update(dict.fromkeys(files))
    return sorted(found)


def _is_path(text: str) -> bool:
    """Whether a file could have such a name: without NUL, and of whole characters."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def expand_splits(
    patterns: Mapping[str, Sequence[str]], base_dir: str | os.PathLike[str]
) -> dict[str, list[pathlib.Path]]:
    """Returns the files of each split.

    Raises:
        ConfigError: as `expand`.
        DataError: as `expand`, or one file is in two splits.
    """
    found = {split: expand(wanted, base_dir) for split, wanted in patterns.items()}
    owner: dict[pathlib.Path, str] = {}
    for split, files in found.items():
        for file in files:
            if owner.setdefault(file, split) != split:
                raise DataError(
                    f"File {file} is in two splits: {owner[file]} and {split}. Make the patterns "
                    "exclude each other.",
                    reason=Reason.CONFLICT,
                )
    return found


def fingerprint(files: Iterable[pathlib.Path], root: str | os.PathLike[str]) -> str:
    """Returns a SHA-256 over the names (relative to `root`) and contents of `files`."""
    digest = hashlib.sha256()
    for file in sorted(files):
        name = os.path.relpath(file, root).encode()
        digest.update(len(name).to_bytes(8, "big") + name)
        digest.update(bytes.fromhex(storage.sha256_file(file)))
    return digest.hexdigest()
