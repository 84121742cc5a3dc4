"""Environments of the peers: each has its own, made on demand under .venv-peers/."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2] / ".venv-peers"

REQUIREMENTS = {
    "tf_estimator": ("tensorflow-cpu==2.15.1", "tensorflow-estimator==2.15.0"),
    "keras": ("tensorflow-cpu==2.21.0", "keras==3.15.1"),
}


def python(name):
    """The interpreter of a peer's environment, which is made and filled if it is not there."""
    folder = ROOT / name
    done = folder / "installed.txt"
    wanted = "\n".join(REQUIREMENTS[name])
    interpreter = folder / "bin" / "python"
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "-q", *REQUIREMENTS[name]]
        subprocess.run(pip, check=True)
        done.write_text(wanted)
    return str(interpreter)


if __name__ == "__main__":
    for peer in REQUIREMENTS:
        print(python(peer))
