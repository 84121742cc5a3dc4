"""Amazon S3, and servers that speak its protocol, through s3fs."""

from __future__ import annotations

import asyncio
from typing import Any

import s3fs
from botocore import exceptions, parsers

from estimator_lib.core.places import Place
from estimator_lib.core.stores import Entry
from estimator_lib.core.stores._driver import ABSENT, Fault, Found, Meaning, Part, Piece

_PASSING_CODES = frozenset((
    "ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout",
    "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests", "XAmzContentSHA256Mismatch", "BadDigest",
))  # fmt: skip
_DENIED_CODES = frozenset((
    "AccessDenied", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId",
    "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
))  # fmt: skip
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound,
    exceptions.TokenRetrievalError,
)


_NO_ANSWER = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    parsers.ResponseParserError,
    OSError,
    asyncio.TimeoutError,
)


class Driver:
    """Requests of S3."""

    advice = (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the pod, of "
        "one who may read and write there."
    )
    parallel = 4

    def __init__(self) -> None:
        self._files = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "retries": {"total_max_attempts": 1},
                "connect_timeout": 10,
                "read_timeout": 30,
            },
        )

    async def _ask(self, operation: str, place: Place, **given: Any) -> dict[str, Any]:
        client = await self._files.set_session()
        return await getattr(client, operation)(Bucket=place.bucket, **given)

    async def look(self, place: Place) -> Found | None:
        found = await self._ask("head_object", place, Key=place.key)
        entry = Entry(
            size=found["ContentLength"],
            changed=found["LastModified"].timestamp(),
            version=found["ETag"],
        )
        return Found(entry, found.get("Metadata", {}).get("writer", ""))

    async def get(self, place: Place, begin: int, end: int, version: str | None) -> Piece:
        same = {} if version is None else {"IfMatch": version}
        span = f"bytes={begin}-{end - 1}"
        try:
            found = await self._ask("get_object", place, Key=place.key, Range=span, **same)
        except exceptions.ClientError as error:
            if _status(error) != 416:
                raise
            empty = await self._ask("head_object", place, Key=place.key, **same)
            return Piece(b"", empty["ContentLength"], empty["ETag"])
        data = await found["Body"].read()
        size = found.get("ContentRange", "").rpartition("/")[2]
        return Piece(data, int(size) if size else len(data), found["ETag"])

    async def page(self, folder: Place, after: str | None) -> tuple[dict[str, Entry], str | None]:
        given = {"Prefix": f"{folder.key}/"} if folder.key else {}
        if after is not None:
            given["ContinuationToken"] = after
        found = await self._ask("list_objects_v2", folder, **given)
        entries = {
            each["Key"]: Entry(
                size=each["Size"], changed=each["LastModified"].timestamp(), version=each["ETag"]
            )
            for each in found.get("Contents", ())
        }
        return entries, found.get("NextContinuationToken")

    async def put(self, place: Place, data: bytes, writer: str, condition: str | None) -> None:
        await self._ask(
            "put_object",
            place,
            Key=place.key,
            Body=data,
            Metadata={"writer": writer},
            **_headers(condition),
        )

    async def begin(self, place: Place, writer: str, condition: str | None, crc32c: str) -> str:
        begun = await self._ask(
            "create_multipart_upload", place, Key=place.key, Metadata={"writer": writer}
        )
        return begun["UploadId"]

    async def part(self, place: Place, upload: str, part: Part, *, again: bool) -> str:
        sent = await self._ask(
            "upload_part",
            place,
            Key=place.key,
            UploadId=upload,
            PartNumber=part.number,
            Body=part.data,
        )
        return sent["ETag"]

    async def finish(
        self, place: Place, upload: str, parts: list[str], writer: str, condition: str | None
    ) -> None:
        listed = [{"PartNumber": at, "ETag": name} for at, name in enumerate(parts, 1)]
        await self._ask(
            "complete_multipart_upload",
            place,
            Key=place.key,
            UploadId=upload,
            MultipartUpload={"Parts": listed},
            **_headers(condition),
        )

    async def abort(self, place: Place, upload: str) -> None:
        await self._ask("abort_multipart_upload", place, Key=place.key, UploadId=upload)

    async def delete(self, place: Place) -> None:
        await self._ask("delete_object", place, Key=place.key)

    async def has_bucket(self, place: Place) -> bool:
        await self._ask("head_bucket", place)
        return True

    def fault(self, error: Exception) -> Fault:
        if isinstance(error, exceptions.ClientError):
            return _answered(error)
        if isinstance(error, _NO_CREDENTIALS):
            return Fault(Meaning.DENIED, "no credentials")
        if isinstance(error, _NO_ANSWER):
            return Fault(Meaning.PASSING, f"no answer from the server ({type(error).__name__})")
        if isinstance(error, exceptions.NoRegionError):
            return Fault(Meaning.FINAL, "no region is given; set AWS_DEFAULT_REGION")
        return Fault(Meaning.FINAL, type(error).__name__)


def _headers(condition: str | None) -> dict[str, str]:
    if condition is None:
        return {}
    return {"IfNoneMatch": "*"} if condition == ABSENT else {"IfMatch": condition}


def _status(error: exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answered(error: exceptions.ClientError) -> Fault:
    status = _status(error)
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = f"HTTP {status} {code}".strip()
    if status in (401, 403) or code in _DENIED_CODES:
        return Fault(Meaning.DENIED, text)
    if status == 412:
        return Fault(Meaning.CONDITION, text)
    if code in _PASSING_CODES or status in (0, 408, 409, 429) or status >= 500:
        return Fault(Meaning.PASSING, text)
    if status == 404:
        return Fault(Meaning.MISSING, text)
    return Fault(Meaning.FINAL, text)
