"""Google Cloud Storage through gcsfs, whose credentials and session its requests are made with."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any
from urllib import parse

import aiohttp
import google.auth.exceptions
import requests.exceptions
from gcsfs import core, retry

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.places import Place
from estimator_lib.core.stores import Entry, _checksum
from estimator_lib.core.stores._driver import ABSENT, Fault, Found, Meaning, Part, Piece

_EMULATOR = "STORAGE_EMULATOR_HOST"
_FIELDS = "nextPageToken,items(name,size,updated,generation)"


class _Answer(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Driver:
    """Requests of GCS."""

    advice = (
        "Set GOOGLE_APPLICATION_CREDENTIALS, or the service account of the pod, of one who may "
        "read and write there."
    )
    parallel = 1  # parts follow one another

    def __init__(self) -> None:
        try:
            self._files = core.GCSFileSystem(
                project="",  # which buckets do not need
                token="anon" if os.environ.get(_EMULATOR) else "google_default",
                skip_instance_cache=True,
                use_listings_cache=False,
                session_kwargs={"auto_decompress": False},
            )
        except google.auth.exceptions.GoogleAuthError as error:
            raise ConfigError(
                f"Google Cloud Storage cannot be used without credentials. {self.advice}",
                reason=Reason.UNSUPPORTED,
            ) from error

    async def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, bytes]:
        session = await self._files._set_session()
        session._retry_connection = False  # it would send a part again, unasked
        url = path if path.startswith("http") else f"{self._files._location}/{path}"
        sent = self._files._get_headers({"Accept-Encoding": "identity", **(headers or {})})
        async with session.request(method, url, params=params, data=data, headers=sent) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise _Answer(answer.status, _reason(content))
            return answer.status, answer.headers, content

    async def look(self, place: Place) -> Found | None:
        _, _, content = await self._ask("GET", _object(place))
        found = json.loads(content)
        return Found(_entry(found), found.get("metadata", {}).get("writer", ""))

    async def get(self, place: Place, begin: int, end: int, version: str | None) -> Piece:
        same = {} if version is None else {"generation": version}
        try:
            _, headers, data = await self._ask(
                "GET",
                _object(place),
                {"alt": "media", **same},
                # Of a file that is kept compressed, as it is kept.
                headers={"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "gzip"},
            )
        except _Answer as answer:
            if answer.status != 416:
                raise
            _, _, content = await self._ask("GET", _object(place), same)
            found = json.loads(content)
            return Piece(b"", int(found["size"]), str(found["generation"]))
        size = headers.get("Content-Range", "").rpartition("/")[2]
        return Piece(data, int(size) if size else len(data), headers["X-Goog-Generation"])

    async def page(self, folder: Place, after: str | None) -> tuple[dict[str, Entry], str | None]:
        params = {"fields": _FIELDS, "prefix": f"{folder.key}/" if folder.key else ""}
        if after is not None:
            params["pageToken"] = after
        _, _, content = await self._ask("GET", f"{_bucket(folder)}/o", params)
        found = json.loads(content)
        entries = {each["name"]: _entry(each) for each in found.get("items", ())}
        return entries, found.get("nextPageToken") or None

    async def put(self, place: Place, data: bytes, writer: str, condition: str | None) -> None:
        line = f"=={uuid.uuid4().hex}=="
        described = json.dumps(_described(place, writer, _checksum.of(data)))
        body = (
            f"--{line}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{described}\r\n"
            f"--{line}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        await self._ask(
            "POST",
            f"upload/{_bucket(place)}/o",
            {"uploadType": "multipart", **_params(condition)},
            data=body + data + f"\r\n--{line}--\r\n".encode(),
            headers={"Content-Type": f'multipart/related; boundary="{line}"'},
        )

    async def begin(self, place: Place, writer: str, condition: str | None, crc32c: str) -> str:
        _, headers, _ = await self._ask(
            "POST",
            f"upload/{_bucket(place)}/o",
            {"uploadType": "resumable", "name": place.key, **_params(condition)},
            data=json.dumps(_described(place, writer, crc32c)).encode(),
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": "application/octet-stream",
            },
        )
        return headers["Location"]

    async def part(self, place: Place, upload: str, part: Part, *, again: bool) -> str:
        """The last part ends the upload; the server refuses another content than it was told."""
        if again:
            # How much of it came before is not asked for: servers that speak the protocol take the
            # question, or the same bytes again, for more of the file.
            raise _Answer(410, "")
        end = part.begin + len(part.data)
        span = f"bytes {part.begin}-{end - 1}/{part.size}"
        await self._ask("PUT", upload, data=part.data, headers={"Content-Range": span})
        return str(part.number)

    async def finish(
        self, place: Place, upload: str, parts: list[str], writer: str, condition: str | None
    ) -> None:
        return

    async def abort(self, place: Place, upload: str) -> None:
        await self._ask("DELETE", upload)

    async def delete(self, place: Place) -> None:
        await self._ask("DELETE", _object(place))

    async def has_bucket(self, place: Place) -> bool:
        await self._ask("GET", _bucket(place))
        return True

    def fault(self, error: Exception) -> Fault:
        if isinstance(error, _Answer):
            return _answered(error)
        if isinstance(error, retry.NonRetryableError | google.auth.exceptions.GoogleAuthError):
            if getattr(error, "retryable", False):
                return Fault(Meaning.PASSING, "no answer from the server of tokens")
            return Fault(Meaning.DENIED, "no credentials")
        if isinstance(error, retry.HttpError):  # of a refresh of the credentials
            return Fault(Meaning.DENIED, "the credentials cannot be refreshed")
        if isinstance(
            error,
            aiohttp.ClientError
            | requests.exceptions.RequestException
            | OSError
            | asyncio.TimeoutError,
        ):
            return Fault(Meaning.PASSING, f"no answer from the server ({type(error).__name__})")
        return Fault(Meaning.FINAL, type(error).__name__)


def _bucket(place: Place) -> str:
    return f"storage/v1/b/{parse.quote(place.bucket, safe='')}"


def _object(place: Place) -> Any:
    return f"{_bucket(place)}/o/{parse.quote(place.key, safe='')}"


def _described(place: Place, writer: str, crc32c: str) -> dict[str, Any]:
    return {"name": place.key, "metadata": {"writer": writer}, "crc32c": crc32c}


def _params(condition: str | None) -> dict[str, str]:
    if condition is None:
        return {}
    return {"ifGenerationMatch": "0" if condition == ABSENT else condition}


def _entry(found: dict[str, Any]) -> Entry:
    changed = datetime.datetime.fromisoformat(found["updated"])
    return Entry(
        size=int(found["size"]), changed=changed.timestamp(), version=str(found["generation"])
    )


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        return ""


def _answered(answer: _Answer) -> Fault:
    text = f"HTTP {answer.status} {answer.reason}".strip()
    match answer.status:
        case 401 | 403 if answer.reason not in ("rateLimitExceeded", "userRateLimitExceeded"):
            return Fault(Meaning.DENIED, text)
        case 404 | 410:
            return Fault(Meaning.MISSING, text)
        case 304 | 412:
            return Fault(Meaning.CONDITION, text)
        case 403 | 408 | 409 | 429:
            return Fault(Meaning.PASSING, text)
        case status if status >= 500:
            return Fault(Meaning.PASSING, text)
    return Fault(Meaning.FINAL, text)
