"""Katib, installed from its own manifests, with images packed here under the names they ask for."""

from __future__ import annotations

import pathlib
import re
import shutil
from typing import Any

import yaml

from tests.cluster import images, machine, parts

NAMESPACE = "kubeflow"
_INSTALLED = "manifests/v1beta1/installs/katib-standalone-postgres"
_OPT = "opt/katib"
_ENVIRONMENT = [
    "PATH=/usr/local/bin:/usr/bin:/bin",
    f"PYTHONPATH=/{_OPT}:/{_OPT}/pkg/apis/manager/v1beta1/python"
    f":/{_OPT}/pkg/apis/manager/health/python",
]
_SERVICES = {
    "suggestion-hyperopt": "cmd/suggestion/hyperopt/v1beta1",
    "earlystopping-medianstop": "cmd/earlystopping/medianstop/v1beta1",
}
"""Images of Katib's Python programs, and where they are in its module."""
_PROGRAMS = {
    "katib-controller": "katib-controller",
    "katib-db-manager": "katib-db-manager",
    "file-metrics-collector": "file-metricscollector",
}
"""Images of Katib's Go programs, and what they are called here."""
_MORE = ("setuptools<81", "pgserver==0.1.4")
"""What hyperopt imports and the official Python image has; a wheel with PostgreSQL in it."""
_PGREP = """#!/bin/sh
for process in /proc/[0-9]*; do
  while read -r name value rest; do
    [ "$name" = PPid: ] && [ "$value" = "$2" ] && echo "${process#/proc/}"
  done < "$process/status"
done
exit 0
"""
_NOBODY = "65534"
_DATABASE_STARTS = f"""
cd /{images.SITE}/pgserver/pginstall/bin
printf %s "$POSTGRES_PASSWORD" > /tmp/password
./initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 --locale=C
echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
echo "CREATE DATABASE $POSTGRES_DB" | ./postgres --single postgres
exec ./postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


def install(cluster: machine.Cluster, suite: str, work: pathlib.Path) -> None:
    """Installs Katib and waits until it takes experiments.

    Args:
        cluster: Where.
        suite: The Debian that its Python programs run on.
        work: An empty folder for archives and for the database.
    """
    module = pathlib.Path(parts.module_of("katib", "github.com/kubeflow/katib")["Dir"])
    rendered = cluster.kubectl("kustomize", module / _INSTALLED)
    names = set(re.findall(r"image: (\S+)", rendered.out))
    cluster.load(*_images(cluster, module, suite, names, work))
    database = work / "database"
    database.mkdir()
    database.chmod(0o777)  # PostgreSQL runs as nobody
    cluster.volume(database, NAMESPACE, "katib-postgres")
    objects = [one for one in yaml.safe_load_all(rendered.out) if not _is_of_the_page(one)]
    answer = cluster.kubectl("create", "--filename=-", given=yaml.safe_dump_all(objects))
    if answer.code:
        raise machine.Failed(answer.error)
    for name in ("katib-postgres", "katib-db-manager", "katib-controller"):
        words = ("rollout", "status", f"--namespace={NAMESPACE}", f"deployment/{name}")
        answer = cluster.kubectl(*words, "--timeout=180s")
        if answer.code:
            logs = cluster.logs_of(f"--namespace={NAMESPACE}", f"deployment/{name}")
            raise machine.Failed(f"{answer.error}\n{logs}")


def _is_of_the_page(one: dict[str, Any]) -> bool:
    """Katib's page is JavaScript from another registry, and nothing here looks at it."""
    return one["kind"] == "Deployment" and one["metadata"]["name"] == "katib-ui"


def _tools(cache: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A shell and `pgrep -P PARENT`, by which the collector finds the process that it ends."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(parts.debian(cache) / "bin/busybox", folder / "bin")
    (folder / "bin/sh").symlink_to("busybox")
    (folder / "bin/pgrep").write_text(_PGREP)
    (folder / "bin/pgrep").chmod(0o755)
    return folder


def _images(
    cluster: machine.Cluster,
    module: pathlib.Path,
    suite: str,
    names: set[str],
    work: pathlib.Path,
) -> list[images.Image]:
    """The images of those names that this knows how to make."""
    requirements = {
        line
        for folder in _SERVICES.values()
        for line in (module / folder / "requirements.txt").read_text().split()
    }
    installed = parts.python_packages(cluster.cache, [*sorted(requirements), *_MORE])
    base = images.debian(cluster.cache, suite)
    debian = cluster.layers.layer(base, lambda: images.layer(base))
    packages = cluster.layers.layer(
        installed,
        lambda: images.pack(installed, work / "packages.tar", images.below(images.SITE)),
    )
    source = work / "source"
    for folder in ("pkg", *_SERVICES.values()):
        shutil.copytree(module / folder, source / _OPT / folder)
    (source / "usr/local/bin").mkdir(parents=True)
    (source / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    python = [debian, packages, images.pack(source, work / "source.tar")]
    tools = images.pack(_tools(cluster.cache, work / "tools"), work / "tools.tar")

    made = []
    for name in sorted(names):
        known = name.rpartition("/")[2].partition(":")[0]
        if known in _PROGRAMS:
            program = _PROGRAMS[known]
            app = work / known / "app"
            app.mkdir(parents=True)
            shutil.copy(cluster.programs / program, app / program)
            layer = images.pack(app.parent, work / f"{known}.tar")
            config: dict[str, Any] = {"WorkingDir": "/app", "Entrypoint": [f"./{program}"]}
            made.append(images.Image(name, [tools, layer], config))
        elif known in _SERVICES:
            config = {
                "Env": _ENVIRONMENT,
                "WorkingDir": f"/{_OPT}/{_SERVICES[known]}",
                "Entrypoint": ["python", "main.py"],
            }
            made.append(images.Image(name, python, config))
        elif known == "postgres":
            config = {"User": _NOBODY, "Entrypoint": ["sh", "-ec", _DATABASE_STARTS]}
            made.append(images.Image(f"docker.io/library/{name}", python, config))
    return made
