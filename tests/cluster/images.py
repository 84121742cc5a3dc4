"""Container images without a container engine: OCI archives from folders, packed like a Dockerfile.

What a Dockerfile says is read from it: a change there is a change of what is tested.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pathlib
import re
import shlex
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.cluster import parts

SITE = "usr/local/lib/python3.11/dist-packages"
"""Where Debian's Python looks for packages; the official image's has them in `site-packages`."""
_PACKAGES = ("python3", "ca-certificates", "libstdc++6", "netbase", "tzdata")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of an image: a tar archive, or only its name where a node has it already."""

    digest: str
    size: int
    archive: pathlib.Path | None = None


def layer(archive: pathlib.Path) -> Layer:
    """Returns a tar archive as a layer."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Layer(digest, archive.stat().st_size, archive)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image by the name that pods ask for it with."""

    name: str
    layers: Sequence[Layer]
    config: dict[str, Any]


def archive(images: Iterable[Image], path: pathlib.Path) -> None:
    """Writes images into one OCI archive, every layer once."""
    written: set[str] = set()
    index = []
    with tarfile.open(path, "w") as out:
        for image in images:
            for one in image.layers:
                if one.archive is not None and one.digest not in written:
                    written.add(one.digest)
                    out.add(one.archive, f"blobs/sha256/{one.digest}")
            config = _blob(out, "config", _config(image))
            manifest = _blob(out, "manifest", _manifest(image, config))
            index.append({**manifest, "annotations": {"io.containerd.image.name": image.name}})
        _add(out, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(out, "index.json", {"schemaVersion": 2, "manifests": index})


def _add(out: tarfile.TarFile, name: str, value: Any) -> None:
    content = json.dumps(value).encode()
    info = tarfile.TarInfo(name)
    info.size = len(content)
    out.addfile(info, io.BytesIO(content))


def _blob(out: tarfile.TarFile, kind: str, value: Any) -> dict[str, Any]:
    content = json.dumps(value).encode()
    digest = hashlib.sha256(content).hexdigest()
    _add(out, f"blobs/sha256/{digest}", value)
    return _descriptor(kind, digest, len(content))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    media_type = f"application/vnd.oci.image.{kind}.v1{'.tar' if kind == 'layer' else '+json'}"
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _config(image: Image) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.digest}" for one in image.layers]},
    }


def _manifest(image: Image, config: dict[str, Any]) -> dict[str, Any]:
    layers = [_descriptor("layer", one.digest, one.size) for one in image.layers]
    return {"schemaVersion": 2, "config": config, "layers": layers}


def pack(folder: pathlib.Path, path: pathlib.Path, *options: str) -> Layer:
    """Returns a folder as a layer; its archive is `path`."""
    parts.run("tar", "--create", "--file", path, "--numeric-owner", *options, "-C", folder, ".")
    return layer(path)


def below(place: str) -> str:
    """Returns the option of `pack` that puts a folder's content below another place."""
    return f"--transform=flags=rSH;s,^\\.,./{place},"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a Dockerfile says, without what installs packages."""

    suite: str
    config: dict[str, Any]
    copies: Sequence[str]
    commands: Sequence[str]


def recipe(dockerfile: pathlib.Path) -> Recipe:
    """Reads a Dockerfile: FROM an official Python image, ENV, WORKDIR, COPY, RUN and USER.

    Raises:
        ValueError: an instruction is none of those; teach this function what it means.
    """
    suite, config, copies, commands = "", {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]}, [], []
    text = re.sub(r"\\\n\s*", " ", dockerfile.read_text(encoding="utf-8"))
    for line in text.splitlines():
        instruction, _, rest = line.strip().partition(" ")
        match instruction:
            case "" | "ARG" | "#":
                pass
            case "FROM":
                found = re.fullmatch(r"python:3\.11-slim-(\w+)(@sha256:[0-9a-f]{64})?", rest)
                if found is None:
                    raise ValueError(f"{dockerfile}: expected python:3.11-slim-SUITE, got {rest}")
                suite = found[1]
            case "ENV":
                config["Env"] += shlex.split(rest)
            case "WORKDIR":
                config["WorkingDir"] = rest
            case "USER":
                config["User"] = rest
            case "COPY":
                copies += [word for word in rest.split()[:-1] if not word.startswith("--")]
            case "RUN":
                every = [command.strip() for command in rest.split("&&")]
                commands += [command for command in every if not command.startswith("pip ")]
            case _ if not line.startswith("#"):
                raise ValueError(f"{dockerfile}: instruction {instruction} is not known here")
    return Recipe(suite, config, copies, commands)


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node has already, so that it is packed and loaded once.

    Attributes:
        records: A file that remembers layers by what they were made of.
        has: Tells of a layer's digest whether the node has it.
    """

    records: pathlib.Path
    has: Callable[[str], bool]

    def layer(self, key: object, make: Callable[[], Layer]) -> Layer:
        """Returns the layer that `make` makes, without its archive where the node has it."""
        records = json.loads(self.records.read_text()) if self.records.exists() else {}
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        if name in records and self.has(records[name]["digest"]):
            return Layer(**records[name])
        made = make()
        records[name] = {"digest": made.digest, "size": made.size}
        self.records.write_text(json.dumps(records))
        return made


def debian(cache: pathlib.Path, suite: str) -> pathlib.Path:
    """Returns the archive of the small Debian with Python that all images stand on."""
    return parts.root_of_debian(cache, suite, _PACKAGES) / "root.tar"


def steps(
    name: str, repository: pathlib.Path, cache: pathlib.Path, work: pathlib.Path, node: Node
) -> Image:
    """Packs the image of all steps like the Dockerfile of `repository`.

    Args:
        name: The image's.
        repository: Has the Dockerfile, what it copies, and the environment `.venv`.
        cache: Of the cluster.
        work: A folder for archives; they are read once.
        node: Where it will be loaded.
    """
    said = recipe(repository / "Dockerfile")
    base = debian(cache, said.suite)
    system = node.layer((base, said.commands), lambda: _system(said, base, work))
    installed = (repository / ".venv").resolve() / "lib/python3.11/site-packages"
    state = [str(installed), *sorted(path.name for path in installed.glob("*.dist-info"))]
    packages = node.layer(state, lambda: _packages(installed, work))
    return Image(name, [system, packages, _code(said, repository, work)], said.config)


def _system(said: Recipe, base: pathlib.Path, work: pathlib.Path) -> Layer:
    """Debian with Python, and what the Dockerfile runs in it."""
    system = work / "system"
    system.mkdir()
    parts.run("tar", "--extract", "--file", base, "-C", system)
    (system / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for command in said.commands:
        parts.run("chroot", system, "sh", "-ec", command)
    packed = pack(system, work / "system.tar", "--exclude=./dev/*")
    shutil.rmtree(system)
    return packed


def _packages(installed: pathlib.Path, work: pathlib.Path) -> Layer:
    """The environment's packages: 2.8 GB."""
    parts.log.info("packing %s", installed)
    return pack(
        installed,
        work / "packages.tar",
        *("--exclude=./__editable__*", "--exclude=./*.pth", "--exclude=./estimator_pipelines-*"),
        *("--exclude=./tensorflow/include", below(SITE)),
    )


def _code(said: Recipe, repository: pathlib.Path, work: pathlib.Path) -> Layer:
    """The project as `pip install .` leaves it: a wheel of what the Dockerfile copies."""
    context, folder = work / "context", work / "code"
    context.mkdir()
    for name in said.copies:
        source = repository / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "data", "*.egg-info")
            shutil.copytree(source, context / name, ignore=ignored)
        else:
            shutil.copy(source, context / name)
    build = "import setuptools.build_meta as builder; print(builder.build_wheel('..'))"
    python = repository / ".venv/bin/python"
    wheel = parts.run(python, "-c", build, cwd=context).splitlines()[-1]
    shutil.unpack_archive(work / wheel, folder / SITE, "zip")
    return pack(folder, work / "code.tar")
