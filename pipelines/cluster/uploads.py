"""Pipelines on a server: each change of a compiled pipeline is a version of the same pipeline.

A version is named after the digest of what was compiled, so uploading the same again finds it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from estimator_lib.core.errors import PipelineError, Reason
from pipelines.cluster import client
from pipelines.specification import Specification

_NAMED = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uploaded:
    """A version of a pipeline on a server.

    Attributes:
        pipeline: The pipeline's id.
        version: The version's id.
        name: The version's name.
        new: False if it was there already.
        link: Its page.
    """

    pipeline: str
    version: str
    name: str
    new: bool
    link: str


def upload(server: client.Connection, specification: Specification) -> Uploaded:
    """Uploads a compiled pipeline as a version; the pipeline is made if there is none of its name.

    Args:
        server: Where to.
        specification: The pipeline.

    Raises:
        PipelineError: the server refuses or does not answer (`retryable`).
    """
    digest = client.fingerprint(specification, {})
    name = digest[:_NAMED]
    pipeline = _pipeline(server, specification.name)
    found = _version(server, pipeline, name)
    new = found is None
    if found is None:
        sent = client.package(specification, {}, None)
        with server.errors(f"upload version {name} of {specification.name}"), sent as path:
            found = server.client.upload_pipeline_version(
                path,
                pipeline_version_name=name,
                pipeline_id=pipeline,
                description=f"digest {digest}",
            )
    version = str(found.pipeline_version_id)
    link = f"{server.where.host}/#/pipelines/details/{pipeline}/version/{version}"
    return Uploaded(pipeline=pipeline, version=version, name=name, new=new, link=link)


def _pipeline(server: client.Connection, name: str) -> str:
    """The id of the pipeline of that name, which is made if there is none."""
    import kfp_server_api

    namespace = server.where.namespace or None
    with server.errors(f"find or make pipeline {name}"):
        found = client.pages(
            server.client.list_pipelines,
            "pipelines",
            namespace=namespace,
            filter=client.by_name(name),
        )
        if not found:
            wanted = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=namespace)
            found = [server.client.pipelines.pipeline_service_create_pipeline(pipeline=wanted)]
    if len(found) > 1:
        raise PipelineError(
            f"{server.where.host} has {len(found)} pipelines that are called {name}: expected one. "
            "Rename or delete the others.",
            reason=Reason.DUPLICATE,
        )
    return str(found[0].pipeline_id)


def _version(server: client.Connection, pipeline: str, name: str) -> Any | None:
    with server.errors(f"list the versions of pipeline {pipeline}"):
        found = client.pages(
            server.client.list_pipeline_versions,
            "pipeline_versions",
            pipeline_id=pipeline,
            filter=client.by_name(name),
        )
    return found[0] if found else None
