"""Finds what looks like a credential in text that is about to be written down or sent.

It knows the shapes that issuers give their keys, passwords in addresses, and values under names
such as `password`. It reports where, and what kind, never the value itself.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping

_SHAPES = {
    "an AWS access key": r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
    "a GitHub token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{22,})",
    "a GitLab token": r"\bglpat-[0-9A-Za-z_-]{20,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "a Google OAuth token": r"\bya29\.[0-9A-Za-z_-]{20,}",
    "a Google OAuth secret": r"\bGOCSPX-[0-9A-Za-z_-]{20,}|\b1//0[0-9A-Za-z_-]{30,}",
    "an AWS secret key": (
        r"(?<![0-9A-Za-z+/=_.-])(?=(?:[^A-Z\s]*[A-Z]){5})(?=(?:[^a-z\s]*[a-z]){5})"
        r"(?=(?:[^0-9\s]*[0-9]){2})[0-9A-Za-z+][0-9A-Za-z+/]{39}(?![0-9A-Za-z+/=_.-])"
    ),
    "an Azure storage key": r"\b(?:AccountKey|SharedAccessKey)\s*=\s*[0-9A-Za-z+/]{4,}={0,2}",
    "a shared access signature": (
        r"[?&]sig=[0-9A-Za-z%+/=_-]{32,}|[?&]X-(?:Amz|Goog)-Signature=[0-9a-f]{32,}"
    ),
    "an Azure client secret": r"(?<![\w~.])[\w~.]{3}8Q~[\w~.-]{31,}",
    "an Alibaba access key": r"\bLTAI[0-9A-Za-z]{16,}\b",
    "a Databricks token": r"\bdapi[0-9a-f]{32}\b",
    "a DigitalOcean token": r"\bdo[opr]_v1_[0-9a-f]{64}\b",
    "a Docker Hub token": r"\bdckr_pat_[0-9A-Za-z_-]{20,}",
    "a package registry's token": r"\bnpm_[0-9A-Za-z]{36}\b|\bpypi-AgE[0-9A-Za-z_-]{40,}",
    "a SendGrid key": r"\bSG\.[\w-]{16,}\.[\w-]{32,}",
    "a Slack token": r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    "a webhook that holds its key": (
        r"\bhooks\.slack\.com/(?:services|workflows)/\w+/\w+/\w+"
        r"|\bdiscord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}"
    ),
    "an access token": (
        r"\bATATT3[0-9A-Za-z_=-]{30,}|\bNRAK-[0-9A-Z]{27}\b|\bshp(?:at|ca|pa|ss)_[0-9a-f]{32}\b"
        r"|\blin_api_[0-9A-Za-z]{30,}|\bgl(?:sa|c)_[0-9A-Za-z_]{30,}|\bdp\.(?:pt|st)\.[0-9A-Za-z]{40,}"
        r"|\b[0-9A-Za-z]{14}\.atlasv1\.[0-9A-Za-z_-]{60,}|\b[0-9]{8,10}:AA[0-9A-Za-z_-]{33}"
        r"|\bSK[0-9a-f]{32}\b|\bkey-[0-9a-f]{32}\b|\bAGE-SECRET-KEY-1[0-9A-Z]{58}"
    ),
    "a Vault token": r"\bhv[sbr]\.[0-9A-Za-z_-]{24,}",
    "a Hugging Face token": r"\bhf_[0-9A-Za-z]{30,}",
    "an API secret key": r"\bsk-(?=[a-zA-Z_-]*[0-9])[0-9A-Za-z_-]{20,}",
    "a live or test key": r"\b[rs]k_(?:live|test)_\w{16,}",
    "a JSON web token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]*",
    "a bearer token": r"\b[Bb]earer\s+[0-9A-Za-z._~+/-]{20,}",
    "basic authentication": r"\b[Bb]asic\s+(?=[A-Za-z+/]*[0-9])[0-9A-Za-z+/]{12,}={0,2}",
    "a password in an address": (
        r"\b[A-Za-z][A-Za-z0-9+.-]*://"
        r"(?:[^\s/:@'\"{}]*:[^\s/@'\"{}]+|(?=[^@\s]*[0-9])[0-9A-Za-z_.~%-]{20,})@"
    ),
    "a password in a connection string": (
        r"(?i)(?:^|[^a-z0-9])(?:[a-z0-9]+[_-])?(?:pg|mysql_?)?(?:password|passwd|pwd)\s*=\s*"
        r"['\"]?(?!none\b|null\b|os\.)[^\s;&'\"{}()\[\],$]{3,}(?=[;&\s'\"]|$)"
    ),
    "a password beside its name": (
        r"(?i)\b(?:password|passwd)(?:['\"]?\s*:\s*['\"]?|\s+)"
        r"(?=[^\s'\"{}]*[0-9])[^\s'\"{}()\[\],]{6,}"
    ),
    "a default for what a template leaves open": (
        r"(?i)(?:password|passwd|secret|token|key)[^{}]*(?:\bdefault\s*\(\s*['\"]|:-)[^\s'\"})]{3,}"
    ),
    "a user with a password": (
        r"(?:^|\s)(?:-u|--user)[ =]['\"]?(?![0-9]+:[0-9]+\b)[^\s:'\"]+:[^\s'\"{}]{3,}"
        r"|\b(?:mysql|mysqldump|mariadb)\s(?:.*\s)?-p[^\s'\"{}]{3,}"
    ),
    "a value beside a name that stands for a secret": (
        r"(?i)(?:secret|token|api[_-]?key|access[_-]?key|account[_-]?key|password|passwd)"
        r"['\"]?\s*[=:]\s*['\"]?(?=[a-z+/_.-]*[0-9])(?=[0-9+/_.-]*[a-z])[0-9a-z+/_.=-]{16,}"
    ),
}
_KNOWN = {kind: re.compile(shape) for kind, shape in _SHAPES.items()}
_NAME = re.compile(
    r"(?:password|passwd|passphrase|(?:^|_)(?:pwd|secret|token|api_?key|access_?key|secret_?key|"
    r"account_?key|private_?key(?:_?pem)?|signing_?key|encryption_?key|subscription_?key|"
    r"session_?key|ssh_?key|credentials?|creds?|connection_?string|conn_?str|auth|authorization|"
    r"bearer|sas|kubeconfig|id_?rsa|otp|(?:db|pg|user|root|admin|smtp|ftp)_?pass|"
    r"(?:github|gitlab|azure|gh|gl)_?pat))(?:_(?:json|b64|base64|value))?_?\d*$"
)
_PASSWORD = re.compile(r"(?:password|passwd|passphrase|pwd|_pass)_?\d*$")
_TEMPLATE = re.compile(r"\{\{\s*(['\"])(.*?)\1\s*\}\}")
_SHORTEST = 8
"""Values inside structures shorter than this say what a thing is ("string"), not what it holds."""
_ENCODED = re.compile(r"[0-9A-Za-z+/_-]{32,}={0,2}")


def is_secret_name(name: str) -> bool:
    """Whether a name, in any spelling such as dbPassword or DB_PASSWORD_2, stands for a secret."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return _NAME.search(re.sub(r"[^a-z0-9]+", "_", words.lower())) is not None


def _is_password(name: str, value: str) -> bool:
    """Whether a short value under a name is no kind or type of a thing."""
    return len(value) >= 4 and bool(_PASSWORD.search(name.lower()) and re.search("[0-9]", value))


def kind_of(text: str) -> str | None:
    """Returns the kind of credential that a text holds, as it is or in base64; None if none."""
    # Also what an address or a template writes otherwise.
    for said in dict.fromkeys((text, urllib.parse.unquote(text), _TEMPLATE.sub(r"\2", text))):
        for kind, known in _KNOWN.items():
            if known.search(said):
                return kind
    for blob in _ENCODED.findall(text):
        try:
            inside = base64.b64decode(blob + "=" * (-len(blob) % 4), altchars=b"-_").decode("ascii")
        except ValueError:
            continue
        if any(known.search(inside) for known in _KNOWN.values()):
            return "a credential in base64"
    return None


def find(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Yields the place and the kind of whatever looks like a credential.

    Args:
        value: Text, a number, or mappings and lists of them; JSON in a text is looked into.
        place: How the value is called in messages. A last part such as `password` makes any
            text there a credential.
    """
    yield from _find(value, place, place.rpartition(".")[2], 1)


def _find(value: object, place: str, name: str, shortest: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
            # As containers list their environment.
            yield from _find(value["value"], f"{place}.{value['name']}", value["name"], 1)
        for key, inner in value.items():
            yield from _find(inner, f"{place}.{key}", str(key), _SHORTEST)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _find(inner, f"{place}[{index}]", name, _SHORTEST)
    elif isinstance(value, str):
        kind = kind_of(value)
        if kind is not None:
            yield place, kind
        elif is_secret_name(name) and (len(value) >= shortest or _is_password(name, value)):
            # Also where a parameter is to fill it in: parameters are shown to everybody.
            yield place, "a value under a name that stands for a secret"
        elif value[:1] in ("{", "["):
            try:
                inside = json.loads(value)
            except (ValueError, RecursionError):
                return
            yield from _find(inside, place, name, _SHORTEST)
