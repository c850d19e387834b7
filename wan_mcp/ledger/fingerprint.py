"""When two requests are the same one, and what of a request may be written down.

Pure functions: every engine keys its rows by them, so that they cannot disagree.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from wan_mcp.models import Replacement

_URLS = ("video", "character_image")
_DEFAULTS = {"resolution": "480", "go_fast": False, "merge_audio": True}
"""What PixelDojo does when these are left out (documented): to spell it out changes nothing."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Request:
    """A request as the ledger knows it.

    Attributes:
        arguments: canonical JSON of what the caller set, URLs without query.
        digest: equal for requests that differ at most in the query of a URL.
        exact: equal only for equal queries.
    """

    arguments: str
    dedupe_key: str
    exact_key: str


def fingerprint_of(account: str, wanted: Replacement) -> Request:
    """The canonical form of a request and its two digests.

    Two, because a link signed anew is the same clip while its job runs, but `?id=2` is another
    clip than `?id=1`, and must not get the finished film of the other.
    """
    said = wanted.model_dump(exclude_none=True)
    full = said | {name: _bare(said[name], keep_query=True) for name in _URLS}
    bare = said | {name: without_query(full[name]) for name in _URLS}
    dedupe_key = _digest(account, _DEFAULTS | bare)
    exact_key = dedupe_key if full == bare else _digest(account, _DEFAULTS | full)
    return Request(arguments=_json(bare), dedupe_key=dedupe_key, exact_key=exact_key)


def account_name(secret: bytes, api_base: str, api_key: str) -> str:
    """HMAC-SHA256 of API base and key, as 64 hex digits.

    The secret lies in the ledger itself, so it does not protect against a thief of the file: what
    does is that an API key is too random to guess. It keeps the names of two ledgers unrelated,
    and useless beside a table of hashes of known keys.
    """
    base = _bare(api_base.rstrip("/"), keep_query=False)
    return hmac.new(secret, f"{base}\0{api_key}".encode(), hashlib.sha256).hexdigest()


def without_query(url: str) -> str:
    """One URL as rows keep it: without query and fragment, its scheme and host in one spelling.

    Raises:
        ValueError: it is no URL.
    """
    return _bare(url, keep_query=False)


def without_queries(text: str | None) -> str | None:
    """Text of somebody else's with the query and fragment of every URL in it cut off."""
    return text and re.sub(r"(https?://[^\s?#\"<>]*)[?#][^\s\"<>]*", r"\1", text, flags=re.I)


def without_fragment(url: str | None) -> str | None:
    """An output URL as it is kept: its query is the signature that the download needs."""
    return url and url.partition("#")[0]


def _bare(url: str, *, keep_query: bool) -> str:
    """The URL without fragment, its scheme and host in one spelling; its path stays as it is."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    shown = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    query = f"?{parts.query}" if keep_query and parts.query else ""
    return f"{parts.scheme}://{shown}{port}{parts.path or '/'}{query}"


def _digest(account: str, arguments: dict[str, object]) -> str:
    return hashlib.sha256(f"{account}\0{_json(arguments)}".encode()).hexdigest()


def _json(arguments: dict[str, object]) -> str:
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"))
