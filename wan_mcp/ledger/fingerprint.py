"""When two requests count as equal, and which parts of a request may be written down.

Pure functions. Every engine compares requests by them, so that two engines cannot disagree.
"""

import hashlib
import hmac
import ipaddress
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlsplit

from wan_mcp.models import UPLOADS, Replacement

Arguments = dict[str, str | int | bool]

INPUTS = ("video", "character_image")
SENT = "sent_"
"""The prefix of the arguments of a record that say how its inputs were sent."""
_HASHES = tuple(f"{name}_sha256" for name in INPUTS)
DEFAULTS: Arguments = {"resolution": "480", "go_fast": False, "merge_audio": True}
"""What PixelDojo does when these are left out (documented). Spelling it out changes nothing."""
_ESCAPE = r"%([0-9A-Fa-f]{2})"
_IN_A_PATH = "%/:@!$&'()*+,;=~"
_DEVIATIONS = {"\u00df", "\u03c2", "\u200c", "\u200d"}
"""Letters in a host name that the old and the new IDNA encode differently."""
_PORTS = {"http": 80, "https": 443}
ORDER_DIGITS = 10
"""Hex digits of the name of an order (ours): a user has thousands of them at most."""
_REMEMBERED_URLS = 256
"""How many URLs are remembered in a common spelling: a submit compares each several times."""
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Fingerprint:
    """The keys by which the ledger compares requests.

    There are two keys, because a link that was signed again leads to the same video while its job
    runs, but `?id=2` is another video than `?id=1` and must not get the result of the other.

    Attributes:
        arguments: what the caller set, URLs without their queries; the URI of a file stays whole,
            so that the user recognises it.
        dedupe_key: equal for requests that differ at most in the query of a URL; 64 hex digits.
        exact_key: equal only for requests whose URLs have equal queries too; 64 hex digits.
    """

    arguments: Arguments
    dedupe_key: str
    exact_key: str

    @property
    def has_query(self) -> bool:
        """Whether one of the URLs has a query."""
        return self.exact_key != self.dedupe_key


def fingerprint_of(account: str, wanted: Replacement) -> Fingerprint:
    """The fingerprint of a request of that account.

    A file counts by its content, so that one that was moved, or uploaded again, is the same input.

    Raises:
        ValueError: a file has no hash.
    """
    given: Arguments = wanted.model_dump(exclude_none=True)
    if any(is_file(given[name]) and f"{name}_sha256" not in given for name in INPUTS):
        raise ValueError("the content of a file decides which request it is, and was not read")
    links = [name for name in INPUTS if is_link(given[name])]
    full = given | {name: _canonical(str(given[name]), keep_query=True) for name in links}
    bare = given | {name: str(full[name]).partition("?")[0] for name in links}
    dedupe_key = _key(account, DEFAULTS | _by_content(bare))
    exact_key = dedupe_key if full == bare else _key(account, DEFAULTS | _by_content(full))
    return Fingerprint(bare, dedupe_key, exact_key)


def is_link(input: object) -> bool:
    """Whether an input is a link, and neither a file of this computer nor another job's video."""
    return not str(input).startswith(("file:", "wan:"))


def is_file(input: object) -> bool:
    """Whether an input is a file: one of this computer, or one that was uploaded."""
    return str(input).startswith(("file:", UPLOADS))


def has_links_only(wanted: Replacement) -> bool:
    """Whether PixelDojo can fetch both inputs of a request itself."""
    return is_link(wanted.video) and is_link(wanted.character_image)


def _by_content(arguments: Arguments) -> Arguments:
    """The arguments that identify a request: a file by its hash and fragment, not how it was sent.

    For a request whose inputs are links this changes nothing.
    """
    kept = as_requested(arguments)
    for name, sha256 in zip(INPUTS, _HASHES, strict=True):
        path, mark, fragment = str(arguments.get(name, "")).partition("#")
        if sha256 in arguments and is_file(path):
            kept[name] = f"sha256:{arguments[sha256]}{mark}{fragment}"
    return kept


def as_requested(arguments: Arguments) -> Arguments:
    """What a caller asked for: without hashes of files, and without how inputs were sent."""
    return {n: v for n, v in arguments.items() if n not in _HASHES and not n.startswith(SENT)}


def account_name(secret: bytes, api_base: str, api_key: str) -> str:
    """HMAC-SHA256 of API base and key, as 64 hex digits.

    The secret lies in the ledger itself, so it does not protect against somebody who steals the
    file; that an API key is too random to guess does. The secret makes the names in two ledgers
    unrelated, and a table of hashes of known keys useless.
    """
    base = _canonical(_one_spelling(api_base), keep_query=False)
    return hmac.new(secret, f"{base}\0{api_key}".encode(), hashlib.sha256).hexdigest()


def _one_spelling(api_base: str) -> str:
    """The same text for each spelling of an API's address.

    It must never change for an address in its plain spelling, which stays as it was given: the
    records of that account would no longer be found.
    """
    parts = urlsplit(api_base)
    host = (parts.hostname or "").rstrip(".")
    path = re.sub(_ESCAPE, _unescaped, parts.path)
    steps: list[str] = []
    for step in re.sub("/{2,}", "/", path).strip("/").split("/"):
        if step == "..":
            del steps[-1:]
        elif step != ".":
            steps.append(step)
    port = f":{parts.port}" if parts.port is not None else ""
    shown = "127.0.0.1" if _is_this_machine(host) else f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{port}/{'/'.join(steps)}".rstrip("/")


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unescaped(escape: re.Match[str]) -> str:
    """An escape in one spelling: unreserved characters (RFC 3986) need none."""
    letter = chr(int(escape[1], 16))
    return letter if re.fullmatch(r"[A-Za-z0-9._~-]", letter) else escape[0].upper()


def without_query(url: str) -> str:
    """A URL as records keep it: without query and fragment, scheme and host in one spelling.

    Raises:
        ValueError: the text is not a URL.
    """
    return _canonical(url, keep_query=False)


def without_queries(text: str | None) -> str | None:
    """Text from outside as it may be kept: every URL in it without its query and fragment.

    Half a surrogate pair, which is valid in JSON and not in UTF-8, becomes a question mark.
    """
    text = text and text.encode(errors="replace").decode()
    return text and re.sub(r"(https?://[^\s?#\"<>]*)[?#][^\s\"<>]*", r"\1", text, flags=re.I)


def without_fragment(url: str | None) -> str | None:
    """The link of a result as it is kept: its query is the signature that a download needs."""
    return url and url.partition("#")[0]


def canonical_json(arguments: Arguments) -> str:
    """JSON that is the same for equal arguments."""
    return _JSON.encode(arguments)


@lru_cache(_REMEMBERED_URLS)
def _canonical(url: str, *, keep_query: bool) -> str:
    """The URL without its fragment, scheme and host in one spelling; its path stays as it is."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    shown = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    query = f"?{parts.query}" if keep_query and parts.query else ""
    return f"{parts.scheme}://{shown}{port}{parts.path or '/'}{query}"


def one_spelling(arguments: Arguments) -> Arguments:
    """The arguments with their URLs in one of the spellings that mean the same (RFC 3986, IDNA).

    The result is not sent, and the keys by which a claim finds a request are not made of it: every
    version of this program must make the same keys, or two of them could pay for one request.
    """
    kept = _by_content(arguments)
    links = [name for name in INPUTS if name in kept and is_link(arguments[name])]
    return DEFAULTS | kept | {name: _standard(str(kept[name])) for name in links}


def spelling_key(account: str, arguments: Arguments) -> str:
    """A hash, 64 hex digits, that is equal for arguments whose links mean the same.

    It stands for the arguments of a request whose links were removed.
    """
    return _key(account, one_spelling(arguments))


def order_of(arguments: Arguments) -> str | None:
    """A name for the order that a request is a take of: the same if only the seeds differ.

    What follows the ? of a link is in no record, so links that differ only there count as one.

    Args:
        arguments: those of a record.

    Returns:
        ORDER_DIGITS hex digits. None if the inputs are not known: the job was submitted elsewhere,
        or its user had it forgotten.
    """
    if any(name not in arguments for name in INPUTS):
        return None
    order = {name: value for name, value in one_spelling(arguments).items() if name != "seed"}
    return hashlib.sha256(canonical_json(order).encode()).hexdigest()[:ORDER_DIGITS]


@lru_cache(_REMEMBERED_URLS)
def _standard(url: str) -> str:
    parts = urlsplit(url)
    path = re.sub(_ESCAPE, _unescaped, quote(parts.path, safe=_IN_A_PATH, errors="replace"))
    host = parts.hostname or ""
    if not host.isascii() and _DEVIATIONS.isdisjoint(host):
        with suppress(UnicodeError):
            host = host.encode("idna").decode()
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{_without_dots(path)}?{parts.query}"


def _without_dots(path: str) -> str:
    steps: list[str] = []
    for step in path.split("/"):
        if step == "..":
            del steps[max(1, len(steps) - 1) :]
        elif step != ".":
            steps.append(step)
    ends_in_folder = path.endswith(("/.", "/.."))
    return "/".join([*steps, ""] if ends_in_folder else steps)


def _key(account: str, arguments: Arguments) -> str:
    return hashlib.sha256(f"{account}\0{canonical_json(arguments)}".encode()).hexdigest()
