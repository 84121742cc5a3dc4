"""Labels of published versions, such as stable and canary, as TF Serving reads them.

Layer 3. They are kept in one file beside the versions: `models.config`, a ModelServerConfig of TF
Serving in its text form, so that what servers follow and what is listed cannot differ. A server
told to read it (`--model_config_file`) loads the labelled versions, and finds a label's version
when a client asks for `/v1/models/NAME/labels/LABEL`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from estimator_lib.core import stores
from estimator_lib.core.errors import DataError, Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.core.stores import Where

FILE = "models.config"
_LABEL = re.compile(r'version_labels \{ key: "([^"\\]+)" value: (\d+) \}')
_VERSION = re.compile(r"\b(?:versions|value): *(\d+)")
_NAME = re.compile(r'^    name: "([^"\\]+)"$', re.MULTILINE)
_BASE_PATH = re.compile(r'^    base_path: "([^"\\]+)"$', re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """What a server is told to load of one model.

    Attributes:
        name: That clients ask for.
        base_path: The directory of the versions, as the server sees it.
        labels: Label -> version.
        versions: Loaded beside the labelled ones; where there are none of either, the newest is.
    """

    name: str
    base_path: str
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    versions: tuple[int, ...] = ()

    def text(self) -> str:
        """Returns the ModelServerConfig."""
        loaded = sorted({*self.versions, *self.labels.values()})
        policy = " ".join(f"versions: {version}" for version in loaded)
        lines = [
            f'    name: "{self.name}"',
            f'    base_path: "{self.base_path}"',
            '    model_platform: "tensorflow"',
            "    model_version_policy { "
            + (f"specific {{ {policy} }}" if loaded else "latest { num_versions: 1 }")
            + " }",
            *(
                f'    version_labels {{ key: "{label}" value: {version} }}'
                for label, version in sorted(self.labels.items())
            ),
        ]
        return "\n".join(["model_config_list {", "  config {", *lines, "  }", "}", ""])


def read(serving_dir: Where) -> Served | None:
    """Returns what servers are told of a serving directory; None if there is no file.

    Raises:
        DataError: the file was written by other means.
    """
    path = Place.parse(serving_dir) / FILE
    text = _read(path)
    if text is None:
        return None
    name, base_path = _NAME.search(text), _BASE_PATH.search(text)
    labels = {label: int(version) for label, version in _LABEL.findall(text)}
    if name and base_path:
        found = Served(name=name[1], base_path=base_path[1], labels=labels)
        if found.text() == text:
            return found
    raise DataError(
        f"{path} was not written by `estimator-pipelines models label`, which would lose what is "
        "in it. Edit it by hand, or move it away.",
        reason=Reason.CONFLICT,
    )


def write(serving_dir: Where, served: Served) -> Place:
    """Writes what servers are told, whole or not at all; returns the file.

    The caller is the directory's `publisher`, and has checked that the versions exist.
    """
    path = Place.parse(serving_dir) / FILE
    stores.write(path, served.text().encode())
    return path


def in_use(serving_dir: Where) -> frozenset[int]:
    """Returns the versions that the file names, whoever wrote it: they are not to be deleted."""
    text = _read(Place.parse(serving_dir) / FILE) or ""
    return frozenset(map(int, _VERSION.findall(text)))


def _read(path: Place) -> str | None:
    try:
        return stores.read(path).decode(errors="replace")
    except StorageError as error:
        absent = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        if absent or error.reason is Reason.FILE_NOT_FOUND:
            return None
        raise
