"""Changes to inputs that keep most of their structure, so that they get past the first check."""

import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Draw = random.Random

_NUMBERS = (0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64, 10**30, 0.5, 1e-320, 1e308, -0.0)
_TEXTS = (
    "", " ", "0", "-1", "true", "null", "nan", "inf", "1e999", "é", "\ud800", "\0", "\n", "a" * 300,
    "../x", "/", "*", "[", "{date}", "$", "{}", "%s", "9" * 30, "2024-02-30", "self", "__class__",
)  # fmt: skip
_BYTES = (
    b"", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b'"', b'""', b",", b"\\",
    b"{", b"}", b"[", b"]", b"[" * 1500, b": ", b"- ", b"&a ", b"*a", b"<<: ", b"!!", b"#", b"'",
    b"-", b".nan", b"1e999", b"9" * 25, b"\x80" * 10, b"\xff" * 8, b"\x1f\x8b", b"PK\x03\x04",
    b"\xed\xa0\x80",
)  # fmt: skip


def bytes_of(draw: Draw, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Returns bytes with a few stretches removed, doubled, moved, replaced or put in."""
    found = bytearray(content)
    for _ in range(_few(draw)):
        at = draw.randint(0, len(found))
        end = min(len(found), at + draw.choice((0, 1, 1, 2, 4, 16, 200)))
        match draw.randrange(6):
            case 0:
                del found[at:end]
            case 1:
                found[at:at] = found[at:end] * draw.choice((1, 1, 2, 50))
            case 2:
                found[at:end] = draw.choice(_BYTES)
            case 3:
                found[at:end] = draw.randbytes(end - at)
            case 4 if found:
                found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
            case _:
                other = draw.choice(others) if others else content
                start = draw.randint(0, len(other))
                found[at:end] = other[start : start + draw.randint(0, 40)]
    return bytes(found)


def text_of(draw: Draw, content: str, tokens: Sequence[str]) -> str:
    """Returns a text with a few tokens put in, or characters removed or doubled."""
    found = content
    for _ in range(_few(draw)):
        at = draw.randint(0, len(found))
        end = min(len(found), at + draw.choice((0, 0, 1, 2, 5)))
        put = draw.choice((draw.choice(tokens), draw.choice(_TEXTS), found[at:end] * 2, ""))
        found = found[:at] + put + found[end:]
    return found


def tree_of(draw: Draw, content: Any, keys: Sequence[str]) -> Any:
    """Returns JSON with a few places removed, renamed, put elsewhere or given another value.

    Args:
        draw: What decides.
        content: Values of JSON.
        keys: Names that mean something to the reader.
    """
    found = copy.deepcopy(content)
    for _ in range(_few(draw)):
        places = list(_places(found))
        if not places:
            return _value(draw, found, keys)
        node, key = draw.choice(places)
        match draw.randrange(7):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[draw.choice((draw.choice(keys), *_TEXTS[:6]))] = node.pop(key)
            case 2 if isinstance(node, dict):
                node[draw.choice(keys)] = _value(draw, found, keys)
            case 3 if isinstance(node, list):
                node.extend([copy.deepcopy(node[key])] * draw.choice((1, 2, 100)))
            case 4:
                node[key] = [node[key]]
            case 5:
                node[key] = str(node[key])
            case _:
                node[key] = _value(draw, found, keys)
    return found


def lines_of(draw: Draw, content: bytes, change: Callable[[Draw, bytes], bytes]) -> bytes:
    """Returns lines with a few of them removed, doubled, moved or changed."""
    lines = content.splitlines(keepends=True) or [b""]
    for _ in range(_few(draw)):
        at = draw.randrange(len(lines)) if lines else 0
        match draw.randrange(4):
            case 0:
                del lines[at : at + 1]
            case 1:
                lines[at:at] = lines[at : at + 1] * draw.choice((1, 30))
            case 2 if lines:
                lines.append(lines.pop(at))
            case _ if lines:
                lines[at] = change(draw, lines[at])
            case _:
                lines.append(b"\n")
    return b"".join(lines)


def json_bytes(content: Any) -> bytes:
    """Writes JSON, half characters and numbers that are not finite as they are."""
    return json.dumps(content, default=str).encode()


def _few(draw: Draw) -> int:
    return draw.choice((1, 1, 1, 2, 3, 5))


def _value(draw: Draw, whole: Any, keys: Sequence[str]) -> Any:
    simple: Sequence[Callable[[], Any]] = (
        lambda: draw.choice(_NUMBERS),
        lambda: draw.choice(_TEXTS),
        lambda: draw.choice(keys),
        lambda: draw.choice((None, True, False, [], {}, [[]], [None], {"": None})),
        lambda: draw.choice((float("nan"), float("inf"), -float("inf"))),
        lambda: _nested(draw.choice((5, 70, 150))),
        lambda: copy.deepcopy(_some(draw, whole)),
    )
    return draw.choice(simple)()


def _some(draw: Draw, whole: Any) -> Any:
    places = list(_places(whole))
    if not places:
        return whole
    node, key = draw.choice(places)
    return node[key]


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def _places(node: Any) -> Any:
    """Yields every container with a key of it."""
    items: Any = ()
    if isinstance(node, Mapping):
        items = list(node.items())
    elif isinstance(node, list):
        items = list(enumerate(node))
    for key, value in items:
        yield node, key
        yield from _places(value)
