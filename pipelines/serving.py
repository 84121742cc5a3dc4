"""How a published model is served: on KServe, or by TF Serving's own image.

`plan` looks at what is published; `kserve` and `docker` are pure, from a plan to a manifest or a
command. Which versions a server loads is pinned by a ModelServerConfig of TF Serving; without one
a server follows the newest version of its directory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

from components.steps.quiet import startup_lines_hidden
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean
from estimator_lib.core.stores import Where
from estimator_lib.export import retention, server_versions, version_labels
from estimator_lib.export.server_versions import Needs
from pipelines import kubernetes_yaml, models

SERVER = "2.19.1"
"""The release of TF Serving that is used unless another is asked for."""
_IMAGE = "tensorflow/serving"
_KSERVE_MODELS = "/mnt/models"
_KSERVE_CONFIG = "/etc/tf-serving"
_POLL_S = 30
_LABELS_FIRST = "--allow_version_labels_for_unavailable_models=true"
_PLACES = ("pvc", "gs", "s3", "https", "hdfs", "webhdfs")
_LONGEST = 47
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_OWN = "estimator-pipelines"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    """A model as it is to be served.

    Attributes:
        name: That clients ask for, and of the InferenceService: lower case, digits, dashes.
        newest: The newest version, for the record.
        needs: What the served versions ask of a server.
        server: Release of TF Serving.
        labels: Label -> version.
        version: The one version to load; None for the labelled ones, or else the newest.
    """

    name: str
    newest: int
    needs: Needs
    server: str = SERVER
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    version: int | None = None

    def __post_init__(self) -> None:
        self.needs.refuse(self.server)

    def pins(self, base_path: str) -> version_labels.Served | None:
        """Returns what pins the versions; None where the newest is followed."""
        if self.version is not None:
            return version_labels.Served(
                name=self.name, base_path=base_path, versions=(self.version,)
            )
        if self.labels:
            return version_labels.Served(name=self.name, base_path=base_path, labels=self.labels)
        return None


def plan(
    serving_dir: Where,
    name: str | None = None,
    *,
    version: int | None = None,
    server: str = SERVER,
) -> Deployment:
    """Returns how the versions below a directory are to be served.

    Args:
        serving_dir: The directory of the versions; its labels are taken.
        name: That clients ask for; by default the one given with the labels.
        version: The one version to load, whatever the labels; by default all that have one,
            without any the newest.
        server: Release of TF Serving.

    Raises:
        ConfigError: there is no such version, no name, or the server is too old.
        DataError: a version is damaged.
    """
    known = models.read(serving_dir)
    told = version_labels.read(serving_dir)
    labels = told.labels if told is not None and version is None else {}
    if labels and told is not None and name not in (None, told.name):
        raise ConfigError(
            f"The labelled versions are served as {told.name!r}, not {name!r}. Leave --name away, "
            f"or rename them: models label {serving_dir} --name {name}.",
            reason=Reason.CONFLICT,
        )
    wanted = sorted(set(labels.values())) if labels else [version]
    chosen = [models.choose(known, number) for number in wanted]
    for model in chosen:
        models.require_whole(model)
    return Deployment(
        name=_name(name, told),
        newest=known[-1]["version"],
        needs=max(map(_needs, chosen), key=lambda needs: needs.order),
        server=server,
        labels=labels,
        version=version,
    )


def labelled(serving_dir: Where) -> version_labels.Served | None:
    """Returns what servers that follow a serving directory are told; None if nothing.

    Raises:
        ConfigError: the directory holds no version.
        DataError: the file was written by other means.
    """
    models.read(serving_dir)
    return version_labels.read(serving_dir)


def label(
    serving_dir: Where, changes: Mapping[str, int | None], name: str | None = None
) -> version_labels.Served:
    """Gives versions labels, in the file that servers follow; returns what it says then.

    Args:
        serving_dir: The directory of the versions.
        changes: Label -> version, or None to take it away; other labels stay.
        name: That clients ask for; by default the one given before.

    Raises:
        ConfigError: there is no such version or label, or no name.
        DataError: a version is damaged, or the file was written by other means.
        StorageError: another process publishes there (`retryable`).
    """
    models.read(serving_dir)  # refused before anything is written
    with retention.publisher(serving_dir):
        known = models.read(serving_dir)
        told = version_labels.read(serving_dir)
        labels = dict(told.labels) if told is not None else {}
        for one, number in changes.items():
            _check_label(one)
            if number is not None:
                models.require_whole(models.choose(known, number))
                labels[one] = number
            elif labels.pop(one, None) is None:
                raise ConfigError(
                    f"Label {one!r} does not exist.{did_you_mean(one, labels)}",
                    reason=Reason.UNKNOWN_NAME,
                )
        chosen = _name(name, told)
        served = version_labels.Served(name=chosen, base_path=f"/models/{chosen}", labels=labels)
        version_labels.write(serving_dir, served)
        return served


def kserve(model: Deployment, storage_uri: str, canary_percent: int | None = None) -> str:
    """Returns an InferenceService of KServe (serving.kserve.io/v1beta1) as YAML.

    Where versions are pinned, an immutable ConfigMap named after its content comes first: each
    change of versions is then a new revision, which traffic can be divided between.

    Args:
        model: What is served.
        storage_uri: The directory above the versions: pvc://CLAIM/PATH, gs://, s3://, https://.
        canary_percent: Of the traffic, for this revision; the one before gets the rest. Needs
            KServe with Knative.

    Raises:
        ConfigError: the URI is none that KServe loads from, or two revisions would be the same.
    """
    _check_place(storage_uri)
    if canary_percent is not None and model.version is None:
        raise ConfigError(
            "Traffic cannot be divided between revisions that both serve the newest version. Give "
            "--version too.",
            reason=Reason.MISSING_VALUE,
        )
    pinned = model.pins(_KSERVE_MODELS)
    predictor: dict[str, Any] = {}
    if canary_percent is not None:
        predictor["canaryTrafficPercent"] = canary_percent
    predictor["model"] = {
        "modelFormat": {"name": "tensorflow"},
        "protocolVersion": "v1",
        "runtimeVersion": model.server,
        "storageUri": storage_uri,
    }
    documents = []
    if pinned is not None:
        text = pinned.text()
        name = f"{model.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {"app.kubernetes.io/name": model.name}},
                "immutable": True,
                "data": {version_labels.FILE: kubernetes_yaml.Block(text)},
            }
        )
        predictor["model"]["args"] = [
            f"--model_config_file={_KSERVE_CONFIG}/{version_labels.FILE}",
            _LABELS_FIRST,
        ]
        mount = {"name": "versions", "mountPath": _KSERVE_CONFIG, "readOnly": True}
        predictor["model"]["volumeMounts"] = [mount]
        predictor["volumes"] = [{"name": "versions", "configMap": {"name": name}}]
    documents.append(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": model.name,
                "labels": {"app.kubernetes.io/name": model.name},
                "annotations": _annotations(model),
            },
            "spec": {"predictor": predictor},
        }
    )
    return kubernetes_yaml.dump(documents, sort_keys=False, width=100)


def docker(model: Deployment, serving_dir: str) -> str:
    """Returns the command that serves a model on this machine with TF Serving's image.

    Args:
        model: What is served; its labels are those of the directory's `models.config`.
        serving_dir: Absolute path of the directory of the versions.
    """
    target = f"/models/{model.name}"
    options = []
    if model.labels:
        options = [
            f"--model_config_file={target}/{version_labels.FILE}",
            f"--model_config_file_poll_wait_seconds={_POLL_S}",
            _LABELS_FIRST,
        ]
    lines = [
        "docker run --rm -p 8501:8501 -p 8500:8500",
        f"--mount {shlex.quote(f'type=bind,source={serving_dir},target={target},readonly')}",
        f"--env MODEL_NAME={model.name}",
        f"{_IMAGE}:{model.server}",
        *options,
    ]
    return " \\\n  ".join(lines)


def _name(given: str | None, told: version_labels.Served | None) -> str:
    name = given or (told.name if told is not None else None)
    if name is None:
        raise ConfigError(
            "The model has no name yet. Give the one that clients ask for: --name flights.",
            reason=Reason.MISSING_VALUE,
        )
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise ConfigError(
            f"Name {name!r} is invalid: expected at most {_LONGEST} small letters, digits and "
            "dashes, a letter first, as Kubernetes takes them with what it appends.",
        )
    return name


def _check_label(label: str) -> None:
    if not _NAME.fullmatch(label) or len(label) > _LONGEST:
        raise ConfigError(
            f"Label {label!r} is invalid: expected small letters, digits and dashes, such as "
            "stable or canary.",
        )


def _needs(model: Mapping[str, Any]) -> Needs:
    """What a published model asks of a server: what its lineage says, else its graph."""
    said = model["lineage"].get("server")
    if said is None:
        with startup_lines_hidden():
            return server_versions.needs(str(retention.fetch(model["path"])))
    return Needs(tensorflow=said["tensorflow"], because=tuple(said["because"]))


def _annotations(model: Deployment) -> dict[str, str]:
    version = model.newest if model.version is None else model.version
    numbers = model.labels or {"version": version}
    return {
        f"{_OWN}/tensorflow-serving": f">={model.needs.tensorflow}",
        **{f"{_OWN}/{label}": str(number) for label, number in sorted(numbers.items())},
    }


def _check_place(uri: str) -> None:
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in _PLACES or not rest.strip("/"):
        raise ConfigError(
            f"KServe cannot load from {uri!r}: expected pvc://CLAIM/PATH or a URI that begins "
            f"with {', '.join(f'{place}://' for place in _PLACES[1:])}. Give where the cluster "
            "finds the serving directory.",
            reason=Reason.UNSUPPORTED,
        )
    last = rest.rstrip("/").rpartition("/")[2]
    if last.isdecimal():
        raise ConfigError(
            f"{uri} is one version: expected the directory above the versions. Give "
            f"{uri.rstrip('/').rpartition('/')[0]}, and --version {last}.",
        )
