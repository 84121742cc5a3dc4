"""What the one-node cluster is made of: built or downloaded once, into a folder of its own.

Servers are Go modules whose versions and digests are in `servers/`; containerd and runc are
Debian's packages, unpacked and never installed; Katib's algorithms are Python from its module.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

HERE = pathlib.Path(__file__).parent
SERVERS = HERE / "servers"
_KUBERNETES = "k8s.io/kubernetes/cmd"
_KATIB = "github.com/kubeflow/katib/cmd"
PROGRAMS = {
    "kube-apiserver": ("kubernetes", f"{_KUBERNETES}/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", f"{_KUBERNETES}/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", f"{_KUBERNETES}/kube-scheduler"),
    "kubelet": ("kubernetes", f"{_KUBERNETES}/kubelet"),
    "kubectl": ("kubernetes", f"{_KUBERNETES}/kubectl"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "katib-controller": ("katib", f"{_KATIB}/katib-controller/v1beta1"),
    "katib-db-manager": ("katib", f"{_KATIB}/db-manager/v1beta1"),
    "file-metricscollector": (
        "katib",
        f"{_KATIB}/metricscollector/v1beta1/file-metricscollector",
    ),
    "pause": ("pause", "."),
}
"""Each program, the folder of `servers/` with its versions, and its package."""
DEBIAN = ("containerd", "runc", "containernetworking-plugins", "mmdebstrap", "busybox-static")
_TOOLS = ("go", "apt-get", "dpkg", "ip", "nsenter", "openssl", "perl", "tar", "unshare")

log = logging.getLogger("cluster")


def check_machine() -> None:
    """Skips the tests where a cluster cannot be run at all."""
    if sys.platform != "linux":
        pytest.skip(f"the node runs on Linux, this is {sys.platform}")
    if os.geteuid() != 0:
        pytest.skip("containers and namespaces are made by root only, this is another user")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"programs are missing: {', '.join(missing)}")


def run(*command: str | pathlib.Path, **options: object) -> str:
    """Returns what a command printed; its errors are in the exception's notes."""
    try:
        return subprocess.run(
            [str(word) for word in command], check=True, capture_output=True, text=True, **options
        ).stdout
    except subprocess.CalledProcessError as error:
        error.add_note((error.stderr or error.stdout)[-3000:])
        raise


def _download(*command: str | pathlib.Path, **options: object) -> None:
    """Runs a command that needs a package registry; skips the tests where there is none."""
    try:
        run(*command, **options)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{' '.join(map(str, command))}: {error.__notes__[0]}")


def once(folder: pathlib.Path, key: object, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Returns a folder that `make` filled, now or in an earlier run with the same `key`."""
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
    made = folder.with_name(f"{folder.name}-{digest}")
    if not made.exists():
        for old in folder.parent.glob(f"{folder.name}-*"):
            shutil.rmtree(old)
        log.info("making %s (once)", folder.name)
        started = time.monotonic()
        unfinished = folder.with_name(f"unfinished-{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(made)
        log.info("%s took %.0f s", folder.name, time.monotonic() - started)
    return made


def programs(cache: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the servers' programs."""
    source = [path for path in sorted(SERVERS.rglob("*")) if path.is_file()]
    digest = [hashlib.sha256(path.read_bytes()).hexdigest() for path in source]

    def make(folder: pathlib.Path) -> None:
        for module in sorted({module for module, _ in PROGRAMS.values()}):
            log.info("modules of %s", module)
            _download("go", "mod", "download", cwd=SERVERS / module)
        for name, (module, package) in PROGRAMS.items():
            log.info("building %s", name)
            _build(folder / name, module, package)

    return once(cache / "programs", (digest, run("go", "version")), make)


def _build(program: pathlib.Path, module: str, package: str) -> None:
    flags = "-s -w"
    if module == "kubernetes":
        # Without it the server calls itself v0.0.0 and refuses newer clients.
        version = module_of("kubernetes", "k8s.io/kubernetes")["Version"]
        major, minor = version.removeprefix("v").split(".")[:2]
        numbers = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        flags += "".join(f" -X k8s.io/component-base/version.{k}={v}" for k, v in numbers.items())
    run(
        *("nice", "go", "build", "-trimpath", "-buildvcs=false", f"-ldflags={flags}"),
        *("-o", program, package),
        cwd=SERVERS / module,
        env={**os.environ, "CGO_ENABLED": "0"},
    )


def module_of(server: str, module: str) -> Mapping[str, str]:
    """Returns what Go knows of a module: its `Version` and `Dir`."""
    found: Mapping[str, str] = json.loads(
        run("go", "list", "-m", "-json", module, cwd=SERVERS / server)
    )
    return found


def debian(cache: pathlib.Path) -> pathlib.Path:
    """Returns the folder that Debian's packages are unpacked in."""

    def make(folder: pathlib.Path) -> None:
        for name in DEBIAN:
            _download("apt-get", "download", name, cwd=folder)
        for package in folder.glob("*.deb"):
            run("dpkg", "-x", package, folder)
            package.unlink()

    return once(cache / "debian", DEBIAN, make)


def root_of_debian(cache: pathlib.Path, suite: str, packages: Sequence[str]) -> pathlib.Path:
    """Returns a folder with `root.tar`: a small Debian with `packages`."""
    tool = debian(cache) / "usr/bin/mmdebstrap"

    def make(folder: pathlib.Path) -> None:
        _download(
            *("perl", tool, "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
            *(suite, folder / "root.tar"),
        )

    return once(cache / "root", (suite, packages), make)


def python_packages(cache: pathlib.Path, requirements: Sequence[str]) -> pathlib.Path:
    """Returns a folder with Python packages that are installed nowhere else."""

    def make(folder: pathlib.Path) -> None:
        _download(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--prefer-binary"),
            *("--target", folder, *requirements),
        )

    return once(cache / "python", (requirements, sys.version), make)
