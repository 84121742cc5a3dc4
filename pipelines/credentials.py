"""Finds what looks like a credential in text that is about to be written down or sent.

It knows the shapes that issuers give their keys, passwords in addresses, and values under names
such as `password`. It reports where, and what kind, never the value itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_SHAPES = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a GitHub token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{22,})",
    "a GitLab token": r"\bglpat-[0-9A-Za-z_-]{20,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "a Google OAuth token": r"\bya29\.[0-9A-Za-z_-]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    "a Hugging Face token": r"\bhf_[0-9A-Za-z]{30,}",
    "an API secret key": r"\bsk-(?=[a-zA-Z_-]*[0-9])[0-9A-Za-z_-]{20,}",
    "a live or test key": r"\b[rs]k_(?:live|test)_\w{16,}",
    "a JSON web token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]*",
    "a bearer token": r"\b[Bb]earer [0-9A-Za-z._~+/-]{20,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"{}]+:[^\s/@'\"{}]+@",
}
_KNOWN = {kind: re.compile(shape) for kind, shape in _SHAPES.items()}
_NAME = re.compile(
    r"(?:^|[^a-z0-9])(?:password|passwd|pwd|secret|token|api_?key|access_?key|secret_?key|"
    r"private_?key|credentials?)$",
    re.IGNORECASE,
)
_SHORTEST = 8
"""Values inside structures shorter than this say what a thing is ("string"), not what it holds."""


def find(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yields the place and the kind of whatever looks like a credential.

    Args:
        value: Text, a number, or mappings and lists of them; JSON in a text is looked into.
        place: How the value is called in messages. A last part such as `password` makes any
            text there a credential.
    """
    yield from _find(value, place, place.rpartition(".")[2], 1)


def _find(value: Any, place: str, name: str, shortest: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _find(inner, f"{place}.{key}", str(key), _SHORTEST)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _find(inner, f"{place}[{index}]", name, _SHORTEST)
    elif isinstance(value, str):
        kinds = [kind for kind, shape in _KNOWN.items() if shape.search(value)]
        if kinds:
            yield place, kinds[0]
        elif _NAME.search(name) and len(value) >= shortest and not value.startswith("{{"):
            yield place, "a value under a name that stands for a secret"
        elif value[:1] in ("{", "["):
            try:
                inside = json.loads(value)
            except ValueError:
                return
            yield from _find(inside, place, name, _SHORTEST)
