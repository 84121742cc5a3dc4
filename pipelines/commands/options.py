"""What several commands share: kinds of values, options, and how they speak."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click

from estimator_lib.core.places import Place

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NUMBER = re.compile(r"-\d+$|-\d*\.\d+$")


def say(text: str) -> None:
    """Writes a line for the user."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class LocalPath(click.ParamType[pathlib.Path]):
    """A path of this machine; a URI would become a directory called `gs:` or so."""

    name = "path"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> pathlib.Path:
        place = Place.parse(str(value))
        if not place.is_local:
            self.fail(
                f"expected a path of this machine, got the URI {value}. Give a path, of a mounted "
                "volume if need be.",
                param,
                ctx,
            )
        return place.path


class AnyPlace(click.ParamType[Place]):
    """A path of this machine or a URI."""

    name = "place"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        del param, ctx
        return Place.parse(str(value))


class Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE as a pair; `empty` allows `NAME=` and `NAME` too, and splits at the first sign."""

    name = "pair"

    def __init__(self, form: str = "NAME=VALUE", *, empty: bool = False) -> None:
        self._form = form
        self._empty = empty

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        split = str.partition if self._empty else str.rpartition
        name, equals, text = split(str(value), "=")
        if not name or not (equals or self._empty):
            self.fail(f"expected {self._form}, got {value!r}", param, ctx)
        return name, text


class SpreadingCommand(click.Command):
    """A command whose options of several values also take them in a row: `--keep a b`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {
            name
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for name in option.opts
        }
        return super().parse_args(ctx, list(_spread(args, names)))


def _spread(words: Iterable[str], names: set[str]) -> Iterator[str]:
    """Puts the option's name before each of the words that follow it up to the next option."""
    left = list(words)
    while left:
        word = left.pop(0)
        values = []
        if word == "--":
            yield from (word, *left)
            return
        while word in names and left and not _is_option(left[0]):
            values.append(f"{word}={left.pop(0)}")
        yield from values or [word]


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and " " not in word and not _NUMBER.match(word)


LOCAL_PATH = LocalPath()
PLACE = AnyPlace()


def config_argument(function: _Command) -> _Command:
    """Adds the argument CONFIG, the run configuration's file, a path or URI."""
    return click.argument("path", type=PLACE, metavar="CONFIG")(function)


def set_option(example: str) -> Callable[[_Command], _Command]:
    """Adds `--set`.

    Args:
        example: A setting that most configurations accept.
    """
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"override one setting of the configuration, such as {example} (may be repeated)",
    )


def csv_options(function: _Command) -> _Command:
    """Adds how files of CSV are written: `--delimiter`, `--csv`, `--encoding`."""
    for add in (
        click.option("--encoding", default="utf-8", metavar="NAME", help="of CSV"),
        click.option(
            "--csv",
            multiple=True,
            type=Pair("NAME=CHARACTER"),
            metavar="NAME=CHARACTER",
            help="quote, escape, decimal or thousands of CSV (may be repeated)",
        ),
        click.option(
            "--delimiter", default=",", metavar="CHARACTER", help="between the fields of CSV"
        ),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(["csv", "parquet", "tfrecord"]),
            help="by default, as the first file's name says",
        ),
    ):
        function = add(function)
    return function
