"""Numbered versions of a model below a URI: in a store that renames nothing.

Layer 3. Servers such as TF Serving list the numbers and load the highest; nothing can hide a
number from them while its files arrive. So a version is written in an order in which nobody takes
a part for the whole:

1. its `manifest.json`, created only if absent: who creates it has the number;
2. its files, each created only if absent, so that none of another publisher is ever replaced;
3. its `saved_model.pb`: from then on it is a version. A server that looked earlier found a model
   that cannot be loaded yet; it keeps the one it has and tries again.

It is removed in the other direction. What a killed publisher left has no `saved_model.pb`. There is
one publisher at a time (`store_leases`): the next removes that, when it has a higher number itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterator

from estimator_lib.core import fetched, manifest, store_leases, stores
from estimator_lib.core.errors import DataError, Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.core.stores import Entry

MODEL = "saved_model.pb"
_FILE = re.compile(r"(0|[1-9][0-9]{0,17})/(.+)", re.DOTALL)
_COMMITS = 100
_PUBLISHER = ".publisher"


@dataclasses.dataclass(frozen=True)
class Versions:
    """The versions below a URI.

    Attributes:
        root: The URI.
    """

    root: Place

    def numbers(self) -> list[int]:
        """Returns the numbers of the whole versions, oldest first."""
        return sorted(number for number, files in self._listed().items() if MODEL in files)

    def newest(self) -> str | None:
        """Returns the newest version's URI, or the root if that is a model; None if neither is."""
        if stores.of(self.root).look(self.root / MODEL) is not None:
            return str(self.root)
        found = self.numbers()
        return str(self.root / str(found[-1])) if found else None

    def _listed(self) -> dict[int, dict[str, Entry]]:
        """Every number that is taken, with its files."""
        found: dict[int, dict[str, Entry]] = {}
        for name, entry in stores.of(self.root).listed(self.root).items():
            match = _FILE.fullmatch(name)
            if match is not None:
                found.setdefault(int(match[1]), {})[match[2]] = entry
        return found

    @contextlib.contextmanager
    def publisher(self, wait_s: float) -> Iterator[Publisher]:
        """Holds the serving directory during the block; see `retention.publisher`."""
        lease_place = self.root / _PUBLISHER
        with store_leases.leased(lease_place, what="Serving directory", wait_s=wait_s) as lease:
            yield Publisher(self, lease)

    def clean(self, keep: int | None, protect: Collection[int] = ()) -> list[int]:
        """Removes the oldest versions beyond `keep`; see `retention.clean`."""
        removed = choose(self.numbers(), keep, protect)
        for number in removed:
            self.remove(number)
        return removed

    def remove(self, number: int) -> None:
        """Removes a version: first what makes it one, last what says that it was."""
        store, place = stores.of(self.root), self.root / str(number)
        store.remove(place / MODEL)
        for name in store.listed(place):
            if name != manifest.NAME:
                store.remove(place / name)
        store.remove(place / manifest.NAME)


def choose(found: list[int], keep: int | None, protect: Collection[int]) -> list[int]:
    """Returns which of some versions go so that `keep` stay; the newest always does."""
    if not keep:
        return []
    safe = {*protect, *found[-1:]}
    spare = len(found) - max(keep, len([v for v in found if v in safe]))
    return [version for version in found if version not in safe][: max(0, spare)]


@dataclasses.dataclass(frozen=True)
class Publisher:
    """The one that may publish below a URI while it holds the lease."""

    versions: Versions
    lease: store_leases.StoreLease

    def publish(self, staged_dir: pathlib.Path) -> str:
        """Publishes a model of this machine, manifest included, as the next version.

        Raises:
            StorageError: another publisher took this one for dead (`retryable`), or the store
                cannot be reached.
        """
        number = self._claim(staged_dir / manifest.NAME)
        try:
            self._sweep(below=number)
            self._upload(staged_dir, number)
        except BaseException:
            with contextlib.suppress(StorageError):
                self.versions.remove(number)
            raise
        return str(self.versions.root / str(number))

    def _sweep(self, below: int) -> None:
        """Removes what killed publishers left; what other programs are copying stays.

        Only now that a higher number is taken: nobody gets a number that a publisher who was
        silent for too long may still write to.
        """
        for number, files in self.versions._listed().items():
            if number < below and MODEL not in files and manifest.NAME in files:
                self.versions.remove(number)

    def _claim(self, described: pathlib.Path) -> int:
        number = max(self.versions._listed(), default=0)
        for _ in range(_COMMITS):
            number += 1
            place = self.versions.root / str(number) / manifest.NAME
            if stores.of(place).create(place, described.read_bytes()):
                return number
        raise StorageError(
            f"No version could be published below {self.versions.root}: others take every number. "
            "Run again.",
            reason=Reason.LEASED,
        )

    def _upload(self, staged_dir: pathlib.Path, number: int) -> None:
        place = self.versions.root / str(number)
        store = stores.of(place)
        paths = {
            path.relative_to(staged_dir).as_posix(): path
            for path in sorted(staged_dir.rglob("*"))
            if path.is_file()
        }
        last = paths.pop(MODEL)
        del paths[manifest.NAME]
        alone = all(
            store.upload(path, place / name, only_if_absent=True) for name, path in paths.items()
        )
        alone = alone and self.lease.is_held()
        alone = alone and store.upload(last, place / MODEL, only_if_absent=True)
        # Who was silent for so long that another one came may find its files swept, or a later
        # version serving: that one was judged without this.
        found = self.versions._listed() if alone else {}
        if (
            not alone
            or {*paths, MODEL, manifest.NAME} - set(found.get(number, ()))
            or (max(n for n, files in found.items() if MODEL in files) != number)
        ):
            raise StorageError(
                f"Cannot publish {place}: this process was silent for too long, and another one "
                "publishes there by now. Run again.",
                reason=Reason.LEASED,
            )


def damage(version: Place, *, deep: bool) -> str | None:
    """Returns what is wrong with a published version, or None; see `retention.damage`."""
    try:
        known = manifest.finished(str(version))
        if known is None:
            return None
        if deep:
            fetched.fetch(version)
    except DataError as error:
        return error.message
    return fetched.missing(version, known, stores.of(version).listed(version))
