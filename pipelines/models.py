"""Published models: which versions there are, what made them, and going back to one.

`lineage.json` beside each model names the rows, schema, code, configuration and evaluation it came
from, and its parent: the published model whose weights it started from. Rolling back publishes
the older model again under the next number: servers take the highest version, nothing is
overwritten, and the history stays readable.
"""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

from estimator_lib.core import manifest, storage, stores
from estimator_lib.core.errors import ConfigError, DataError, Reason
from estimator_lib.export import retention
from pipelines import lineage as lineages

LINEAGE = manifest.LINEAGE


def read(serving_dir: stores.Where) -> list[dict[str, Any]]:
    """Returns what is known of every version, oldest first.

    Each has version, path, published, lineage, and damage: what is wrong with its files, or None
    (sizes are compared; `require_whole` compares contents).

    Raises:
        ConfigError: the directory holds no version.
    """
    found = []
    for version in retention.versions(serving_dir):
        path = f"{serving_dir}/{version}"
        published = datetime.datetime.fromtimestamp(retention.published_at(path), datetime.UTC)
        lineage, damage = lineages.parse(retention.read(path, LINEAGE), f"{path}/{LINEAGE}")
        found.append(
            {
                "version": version,
                "path": path,
                "published": published.isoformat(timespec="seconds"),
                "lineage": lineage,
                "damage": damage or retention.damage(path, deep=False),
            }
        )
    if not found:
        raise ConfigError(
            f"Directory {serving_dir} holds no published model. Give the serving directory of a "
            "run, such as runs/flights/serving.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return found


def require_whole(model: dict[str, Any]) -> None:
    """Refuses a version that is not what was published.

    Raises:
        DataError: naming it, and what is wrong.
    """
    damage = model["damage"] or retention.damage(model["path"])
    if damage is not None:
        raise DataError(
            f"Version {model['version']} is damaged: {damage.rstrip('.')}. Give another version, "
            "or publish it anew.",
            reason=Reason.CORRUPT_FILE,
        )


def choose(models: list[dict[str, Any]], version: int | None, *, back: int = 0) -> dict[str, Any]:
    """Returns the model of a version, or the one `back` before the newest.

    Raises:
        ConfigError: there is no such version; those that exist are listed.
    """
    known = [model["version"] for model in models]
    if version is None:
        if len(models) <= back:
            raise ConfigError(
                f"There is nothing to go back to: the only version is {known[-1]}.",
                reason=Reason.MISSING_VALUE,
            )
        return models[-1 - back]
    if version not in known:
        raise ConfigError(
            f"Version {version} does not exist. There are: {', '.join(map(str, known))}.",
            reason=Reason.UNKNOWN_NAME,
        )
    return models[known.index(version)]


def ancestors(models: list[dict[str, Any]], model: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the published models whose weights a model comes from, parents first.

    One that is no longer kept is named by what its child knows of it, and ends the walk.

    Raises:
        DataError: a version descends from itself, or what an ancestor says of itself is damaged.
    """
    by_version = {known["version"]: known for known in models}
    found = []
    line = [model["version"]]
    while parent := model["lineage"].get("parent"):
        if parent["version"] in line:
            line.append(parent["version"])
            raise DataError(
                f"The lineage of version {line[0]} is damaged: it descends from itself "
                f"({' from '.join(map(str, line))}). Restore {LINEAGE} from a copy.",
                reason=Reason.CORRUPT_FILE,
            )
        line.append(parent["version"])
        kept = by_version.get(parent["version"])
        if kept is None:
            found.append({**parent, "kept": False})
            break
        if kept["damage"]:
            require_whole(kept)
        found.append({"version": parent["version"], **_facts(kept)})
        model = kept
    return found


def _facts(model: dict[str, Any]) -> dict[str, Any]:
    """What tells a model of a line from the others."""
    lineage = model["lineage"]
    names = ("model", "step", "rows", "data_fingerprint", "schema", "code_version", "again")
    shown = {name: lineage[name] for name in names if name in lineage}
    return {"published": model["published"], **shown, **dict([_main_metric(lineage)])}


def _main_metric(lineage: dict[str, Any]) -> tuple[str, float | None]:
    """The most telling metric of a model, by name."""
    name = lineage.get("main_metric") or "auc"
    return name, lineage.get("metrics", {}).get(name)


def rollback(serving_dir: stores.Where, version: int | None = None) -> tuple[int, str]:
    """Publishes an older model again as the newest version.

    Args:
        serving_dir: TF Serving base directory, a path or URI.
        version: Which; by default the one before the newest.

    Returns:
        The version gone back to, and the new version's directory.

    Raises:
        ConfigError: there is no such version, or it is the newest already.
        DataError: it is damaged.
        StorageError: another process publishes there (`retryable`).
    """
    read(serving_dir)  # refused before anything is written
    with retention.publisher(serving_dir) as publisher, storage.temporary_directory() as folder:
        models = read(serving_dir)
        chosen = choose(models, version, back=1)
        if chosen is models[-1]:
            raise ConfigError(
                f"Version {chosen['version']} is the newest already; it is what servers use.",
                reason=Reason.CONFLICT,
            )
        require_whole(chosen)
        copy = storage.make_directory(pathlib.Path(folder) / "model")
        retention.copy_tree(retention.fetch(chosen["path"]), copy)
        storage.write_json(copy / LINEAGE, {**chosen["lineage"], "again": chosen["version"]})
        return chosen["version"], publisher.publish(copy, keep=0)


def table(models: list[dict[str, Any]]) -> str:
    """Returns one line per version, newest first."""
    lines = [f"{'version':>7}  {'published':<25}  {'step':>8}  {'metric':<16}  {'data':<8}  code"]
    for model in reversed(models):
        lineage = model["lineage"]
        name, value = _main_metric(lineage)
        metric = "" if value is None else f"{name} {value:.4f}"
        step = lineage.get("step")
        note = f"  (version {lineage['again']} again)" if "again" in lineage else ""
        note += "  DAMAGED" if model["damage"] else ""
        lines.append(
            f"{model['version']:>7}  {model['published']:<25}  {'' if step is None else step:>8}  "
            f"{metric:<16}  "
            f"{lineage.get('data_fingerprint', '')[:8]:<8}  "
            f"{lineage.get('code_version', '')[:12]}{note}"
        )
    lines += [f"version {m['version']}: {m['damage']}" for m in models if m["damage"]]
    return "\n".join(lines)
