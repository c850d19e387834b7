"""What an answer's headers tell of a film; which storage it is, and what it tells, is not known."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from wan_mcp.videos.partial import SUFFIXES, Algorithm, Note, Suffix

_TYPES: dict[str, Suffix] = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
}
_DIGESTS: tuple[tuple[str, Algorithm, str], ...] = (
    ("repr-digest", "sha256", r"(?:.*[ ,])?sha-256=:([^:]*):.*"),  # RFC 9530
    ("x-amz-checksum-sha256", "sha256", r"(.*)"),  # of an upload in parts, it ends in "-3"
    ("content-md5", "md5", r"(.*)"),
    ("x-goog-hash", "md5", r"(?:.*[ ,])?md5=([^ ,]*).*"),
)


def note_of(headers: Mapping[str, str], url: str) -> Note:
    """What a 200 tells before its first byte; the digests are of the whole film."""
    return Note(
        etag=strong_etag(headers),
        total=_number(headers.get("content-length", "")),
        suffix=_suffix(headers, url),
        digests=_digests(headers),
    )


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """The ETag, if the same ETag means the same bytes, and it can be sent back."""
    etag = headers.get("etag", "")
    return etag if re.fullmatch(r'"[!#-~]*"', etag) else None


def content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The first byte of a part and the length of the whole, as far as they are told."""
    told = re.fullmatch(
        r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)", headers.get("content-range", "")
    )
    return (_number(told[1] or ""), _number(told[2])) if told else (None, None)


def retry_after(headers: Mapping[str, str]) -> int:
    """Seconds to wait; 0 when nothing is told, or a date."""
    return _number(headers.get("retry-after", "")) or 0


def is_no_film(headers: Mapping[str, str]) -> bool:
    """Whether it calls itself a page, data, or a packed film, which would be saved packed."""
    kind = _kind(headers)
    return (
        kind.startswith("text/")
        or kind.endswith(("json", "xml"))
        or headers.get("content-encoding", "identity").lower() != "identity"
    )


def _suffix(headers: Mapping[str, str], url: str) -> Suffix:
    by_url = PurePosixPath(urlsplit(url).path).suffix.lower()
    named = next((suffix for suffix in SUFFIXES if suffix == by_url), SUFFIXES[0])
    return _TYPES.get(_kind(headers), named)


def _kind(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _digests(headers: Mapping[str, str]) -> dict[Algorithm, str]:
    told: dict[Algorithm, str] = {}
    for name, algorithm, form in _DIGESTS:
        match = re.fullmatch(form, headers.get(name, ""))
        digest = _decoded(match[1]) if match else b""
        if len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            told.setdefault(algorithm, digest.hex())
    return told


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
