"""The other Pythons: whether both lock files install there, and a small run from table to model.

    python -m tests.pythons [VERSION...]

Without versions, a run is made with the newest interpreter that is on this machine. Needs uv.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
OTHERS = ("3.12", "3.13")
LOCKS = ("requirements.txt", "requirements-dev.txt")
TABLE = ROOT / "tests" / "golden" / "version_0_1" / "config.yaml"


def main(asked: list[str]) -> int:
    """Returns the exit code."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(pathlib.Path(sys.executable).parent))
    if uv is None:
        print("skipped: uv is not installed (`pip install uv`)")
        return 0 if not asked else 2
    for version in asked or OTHERS:
        for lock in LOCKS:
            resolve(uv, version, lock)
        print(f"Python {version}: {' and '.join(LOCKS)} have files of every package", flush=True)
    found = {version: place for version in asked or OTHERS if (place := interpreter(version))}
    for version in [one for one in asked or OTHERS if one not in found]:
        print(f"Python {version}: no run, there is no such interpreter")
    if asked and len(found) < len(asked):
        return 2
    for version in asked or [*found][-1:]:
        began = time.monotonic()
        run(uv, version, found[version])
        print(f"Python {version}: a run ended well after {time.monotonic() - began:.0f} s")
    return 0


def interpreter(version: str) -> str | None:
    """Returns an interpreter of a version, on the PATH or of pyenv."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [
        sys.executable,
        shutil.which(f"python{version}"),
        *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"))),
    ]
    for candidate in filter(None, candidates):
        told = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.stdout.strip() == version:
            return candidate
    return None


def resolve(uv: str, version: str, lock: str) -> None:
    """Asks the package index for every file that a lock file needs on a version."""
    with tempfile.TemporaryDirectory() as nowhere:
        options = ["--dry-run", "--no-deps", "--require-hashes", "--quiet", "--target", nowhere]
        where = ["--python-version", version, "--python", sys.executable]
        command = [uv, "pip", "install", *options, *where, "-r", lock]
        subprocess.run(command, cwd=ROOT, check=True)


def run(uv: str, version: str, python: str) -> None:
    """Installs what the image has, and trains, evaluates and publishes a model of a small table."""
    place = ROOT / "build" / "pythons" / version
    output = place / "run"
    shutil.rmtree(output, ignore_errors=True)
    if not (place / "bin" / "python").exists():
        subprocess.run([uv, "venv", "-q", "--python", python, place], check=True)
    own = str(place / "bin" / "python")
    options = ["-q", "--require-hashes", "--python", own]
    subprocess.run([uv, "pip", "sync", *options, "requirements.txt"], cwd=ROOT, check=True)
    environment = {name: v for name, v in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run(
        [own, "-m", "pipelines.cli", "run", str(TABLE), "--output", str(output)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    if not (output / "serving" / "1" / "saved_model.pb").is_file():
        raise SystemExit(f"Python {version}: no model was published")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
