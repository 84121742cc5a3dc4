"""Azure Blob Storage through adlfs, whose credentials and client its requests are made with."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import adlfs
from azure.core import MatchConditions, exceptions
from azure.storage.blob import BlobBlock

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.places import Place
from estimator_lib.core.stores import Entry
from estimator_lib.core.stores._driver import ABSENT, Fault, Found, Meaning, Part, Piece

_ONCE: dict[str, Any] = {"retry_total": 0, "connection_timeout": 10, "read_timeout": 30}


class Driver:
    """Requests of Azure."""

    advice = (
        "Set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with a key, a SAS or "
        "the identity of the pod, of one who may read and write there."
    )
    parallel = 4

    def __init__(self) -> None:
        try:
            self._files = adlfs.AzureBlobFileSystem(
                skip_instance_cache=True, use_listings_cache=False
            )
        except ValueError as error:
            raise ConfigError(
                f"Azure Blob Storage cannot be used without an account. {self.advice}",
                reason=Reason.UNSUPPORTED,
            ) from error

    def _blob(self, place: Place) -> Any:
        return self._files.service_client.get_blob_client(place.bucket, place.key)

    def _container(self, place: Place) -> Any:
        return self._files.service_client.get_container_client(place.bucket)

    async def look(self, place: Place) -> Found | None:
        found = await self._blob(place).get_blob_properties(**_ONCE)
        return Found(_entry(found), (found.metadata or {}).get("writer", ""))

    async def get(self, place: Place, begin: int, end: int, version: str | None) -> Piece:
        blob = self._blob(place)
        try:
            stream = await blob.download_blob(
                offset=begin, length=end - begin, **_same(version), **_ONCE
            )
        except exceptions.HttpResponseError as error:
            if error.status_code != 416:
                raise
            empty = await blob.get_blob_properties(**_same(version), **_ONCE)
            return Piece(b"", empty.size, _plain(empty.etag))
        data = await stream.readall()
        found = stream.properties
        size = (found.content_range or "").rpartition("/")[2]
        return Piece(data, int(size) if size else len(data), _plain(found.etag))

    async def page(self, folder: Place, after: str | None) -> tuple[dict[str, Entry], str | None]:
        prefix = f"{folder.key}/" if folder.key else None
        pages = self._container(folder).list_blobs(name_starts_with=prefix, **_ONCE)
        listed = pages.by_page(continuation_token=after)
        found: dict[str, Entry] = {}
        async for page in listed:
            found |= {blob.name: _entry(blob) async for blob in page}
            break
        return found, listed.continuation_token or None

    async def put(self, place: Place, data: bytes, writer: str, condition: str | None) -> None:
        await self._blob(place).upload_blob(
            data,
            length=len(data),
            metadata={"writer": writer},
            overwrite=condition != ABSENT,
            **({} if condition == ABSENT else _same(condition)),
            **_ONCE,
        )

    async def begin(self, place: Place, writer: str, condition: str | None, crc32c: str) -> str:
        return writer

    async def part(self, place: Place, upload: str, part: Part, *, again: bool) -> str:
        name = base64.b64encode(f"{upload}{part.number:08d}".encode()).decode()
        await self._blob(place).stage_block(name, part.data, length=len(part.data), **_ONCE)
        return name

    async def finish(
        self, place: Place, upload: str, parts: list[str], writer: str, condition: str | None
    ) -> None:
        await self._blob(place).commit_block_list(
            [BlobBlock(block_id=name) for name in parts],
            metadata={"writer": writer},
            **_same(condition),
            **_ONCE,
        )

    async def abort(self, place: Place, upload: str) -> None:
        return  # parts that are not committed show nowhere, and are gone in a week

    async def delete(self, place: Place) -> None:
        await self._blob(place).delete_blob(**_ONCE)

    async def has_bucket(self, place: Place) -> bool:
        await self._container(place).get_container_properties(**_ONCE)
        return True

    def fault(self, error: Exception) -> Fault:
        if isinstance(error, exceptions.ClientAuthenticationError):
            return Fault(Meaning.DENIED, _text(error))
        if isinstance(error, exceptions.HttpResponseError) and error.status_code:
            return _answered(error)
        if isinstance(error, exceptions.AzureError | OSError | asyncio.TimeoutError):
            return Fault(Meaning.PASSING, f"no answer from the server ({type(error).__name__})")
        return Fault(Meaning.FINAL, type(error).__name__)


def _same(condition: str | None) -> dict[str, Any]:
    if condition is None:
        return {}
    if condition == ABSENT:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": f'"{condition}"', "match_condition": MatchConditions.IfNotModified}


def _plain(etag: str) -> str:
    return etag.strip('"')  # of which answers have some and lists none


def _entry(found: Any) -> Entry:
    return Entry(
        size=found.size, changed=found.last_modified.timestamp(), version=_plain(found.etag)
    )


def _text(error: exceptions.HttpResponseError) -> str:
    code = getattr(error, "error_code", None)
    return f"HTTP {error.status_code} {getattr(code, 'value', code) or ''}".strip()


def _answered(error: exceptions.HttpResponseError) -> Fault:
    code = getattr(error, "error_code", None)
    name, text = str(getattr(code, "value", code) or ""), _text(error)
    match error.status_code:
        case 401 | 403:
            return Fault(Meaning.DENIED, text)
        case 404:
            return Fault(Meaning.MISSING, text)
        case 412 | 304:
            return Fault(Meaning.CONDITION, text)
        case 409 if name in ("BlobAlreadyExists", "ResourceAlreadyExists"):
            return Fault(Meaning.CONDITION, text)
        case 408 | 409 | 429:
            return Fault(Meaning.PASSING, text)
        case status if status is not None and status >= 500:
            return Fault(Meaning.PASSING, text)
    return Fault(Meaning.FINAL, text)
