"""`models`: the published versions, going back to one, labels, and how to serve them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

import click

from estimator_lib.core.errors import ConfigError
from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import LOCAL_PATH, PLACE, Pair, say

with defer_imports(__name__):
    from estimator_lib.core import storage
    from pipelines import models as published
    from pipelines import serving as servers

_serving = click.argument("serving", type=PLACE)
_version = click.option("--version", type=int, help="which version")
_name = click.option("--name", help="that clients ask for (default: the one given with labels)")
_server = click.option(
    "--server-version",
    metavar="X.Y.Z",
    help="of TF Serving; refused if it does not know the model's operations (default: 2.19.1)",
)


@click.group()
def models() -> None:
    """List published models, go back to one, label them, tell how to serve them.

    SERVING is the directory of the versions.
    """


@models.command("list")
@_serving
def list_(serving: Place) -> None:
    """List the versions, newest first."""
    say(published.table(published.read(serving)))


@models.command()
@_serving
@_version
def show(serving: Place, version: int | None) -> None:
    """Show what made a version, back to its first ancestor. By default the newest."""
    known = published.read(serving)
    chosen = published.choose(known, version)
    published.require_whole(chosen)
    found = {**chosen, "ancestors": published.ancestors(known, chosen)}
    say(json.dumps(found, indent=1))


@models.command()
@_serving
@_version
def rollback(serving: Place, version: int | None) -> None:
    """Publish an older version again. By default the one before the newest."""
    chosen, path = published.rollback(serving, version)
    say(f"version {chosen} is published again as {path}")


@models.command()
@_serving
@click.argument("labels", nargs=-1, type=Pair("LABEL=VERSION", empty=True))
@_name
def label(serving: Place, labels: Sequence[tuple[str, str]], name: str | None) -> None:
    """Label versions: `label SERVING stable=3 canary=4`; `canary=` takes a label away.

    Without any, tells which there are.
    Servers that follow SERVING/models.config load the labelled versions within seconds. A version
    with a label is never deleted.
    """
    changes = {one: _number(one, version) for one, version in labels}
    changed = changes or name is not None
    told = servers.label(serving, changes, name) if changed else servers.labelled(serving)
    for one, version in sorted(told.labels.items() if told is not None else ()):
        say(f"{one:<12} version {version}")


def _number(label: str, text: str) -> int | None:
    if text and not text.isdecimal():
        raise ConfigError(f"Label {label} is invalid: expected a version's number, got {text!r}.")
    return int(text) if text else None


@models.command()
@_serving
@_name
@_version
@_server
@click.option(
    "--storage-uri",
    required=True,
    metavar="URI",
    help="where the cluster finds SERVING: pvc://CLAIM/PATH, gs://, s3:// or https://",
)
@click.option(
    "--canary-percent",
    type=click.IntRange(0, 100),
    help="of the traffic for this revision, the rest for the one before; needs --version, and "
    "KServe with Knative",
)
@click.option("-o", "--output", type=LOCAL_PATH, metavar="FILE", help="default: standard output")
def kserve(
    serving: Place,
    name: str | None,
    version: int | None,
    server_version: str | None,
    storage_uri: str,
    canary_percent: int | None,
    output: pathlib.Path | None,
) -> None:
    """Write an InferenceService for KServe.

    It serves --version, else the labelled versions, else the newest.
    """
    model = servers.plan(serving, name, version=version, server=server_version or servers.SERVER)
    text = servers.kserve(model, storage_uri, canary_percent)
    if output is None:
        say(text.rstrip("\n"))
    else:
        storage.write_text(output, text)


@models.command()
@click.argument("serving", type=LOCAL_PATH)
@_name
@_server
def docker(serving: pathlib.Path, name: str | None, server_version: str | None) -> None:
    """Print the command that serves the labelled versions, else the newest, with TF Serving."""
    model = servers.plan(serving, name, server=server_version or servers.SERVER)
    say(servers.docker(model, str(serving.resolve())))
