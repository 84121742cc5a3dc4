"""Feature columns as a configuration declares them: any kind that `core.columns` has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean

if TYPE_CHECKING:
    ColumnSpec = fc.ColumnSpec
else:
    ColumnSpec = Annotated[Union[fc.declarations()], Field(discriminator="kind")]  # noqa: UP007


def build_columns(specs: Mapping[str, ColumnSpec]) -> dict[str, fc.Column]:
    """Returns the declared columns under their names in the file.

    Raises:
        ConfigError: a column refers to one that is not there, or to itself, or two that differ
            have one name.
    """
    built: dict[str, fc.Column] = {}
    for name in specs:
        _Others(specs, built, ()).get(name, by=name)
    fc.feature_sources(built.values())
    return {name: built[name] for name in specs}


class _Others:
    """The columns of a configuration, each built when another is made of it."""

    def __init__(
        self, specs: Mapping[str, ColumnSpec], built: dict[str, fc.Column], path: tuple[str, ...]
    ) -> None:
        self._specs = specs
        self._built = built
        self._path = path

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def get(self, name: str, by: str) -> fc.Column:
        """Returns a column that another one is made of."""
        path = (*self._path, name)
        if name in self._path:
            raise ConfigError(
                f"Column {by!r} refers to itself: {' -> '.join(path)}.", reason=Reason.CONFLICT
            )
        if name not in self._specs:
            raise ConfigError(
                f"Column {by!r} refers to {name!r}, which is not declared under columns."
                + did_you_mean(name, self._specs),
                reason=Reason.UNKNOWN_NAME,
            )
        if name not in self._built:
            others = _Others(self._specs, self._built, path)
            self._built[name] = self._specs[name].build(name, others)
        return self._built[name]

    def category(self, name: str) -> fc.CategoricalColumn:
        """Returns a categorical column that the last of the path is made of."""
        by = self._path[-1]
        column = self.get(name, by)
        if not isinstance(column, fc.CategoricalColumn):
            raise ConfigError(
                f"Column {by!r} needs a categorical column, got {name!r}, which is {column.kind}.",
                reason=Reason.TYPE_MISMATCH,
            )
        return column
