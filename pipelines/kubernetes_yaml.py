"""YAML that a cluster reads as it was meant.

PyYAML writes by YAML 1.1 and leaves plain what other readers take for something else: Go's YAML,
by which Kubernetes and Kubeflow read, has the numbers `1e3` and `0o17`, the boolean `y` and the
date `2026-1-2`. Whatever one of them would not take for text is quoted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_NO_TEXT = re.compile(
    r"""
    [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?   # numbers of YAML 1.2
    |[-+]?0[xX][0-9a-fA-F]+|[-+]?0[oO][0-7]+|[-+]?0[bB][01]+
    |[yYnN]                                                # booleans of YAML 1.1
    |[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?             # dates, as lenient as Go's
    """,
    re.VERBOSE,
)


class Block(str):
    """Text of several lines that is written line by line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        del data
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Go's YAML leaves underscores out of what begins like a number.
        number = data if data.startswith("_") else data.replace("_", "")
        style = "'" if _NO_TEXT.fullmatch(number) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def represent_block(self, data: Block) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", str(data), style="|")


_Dumper.add_representer(Block, _Dumper.represent_block)
_Dumper.add_representer(str, _Dumper.represent_str)


def dump(documents: Iterable[Any], *, sort_keys: bool = True, width: int = 80) -> str:
    """Returns documents as YAML.

    Args:
        documents: JSON values.
        sort_keys: Whether the keys of mappings are sorted, else in their order.
        width: Of the lines that can be folded.
    """
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=sort_keys, width=width)
