"""Decides which web addresses may be passed on to PixelDojo or fetched by this server.

PixelDojo fetches the inputs, so an address that only this machine or its network can see is
either a mistake (a local file) or an attempt to reach something private through somebody else.
"""

import ipaddress
import re
import socket
import unicodedata
from urllib.parse import SplitResult, urlsplit

from wan_mcp.web import share_links

MAX_URL = 8_192
"""Characters of a link. Links of storage that a role signed have 2,000 to 8,000 (observed
elsewhere), and servers commonly take a line of 8 KiB."""

_REACHABLE = "PixelDojo must be able to fetch it: give a public https link to the file itself"
_REACHABLE_OR_PATH = (
    "PixelDojo must be able to fetch it: give the whole path of the file on this computer, or a "
    "public https link to it"
)
_PRIVATE_SUFFIXES = (
    *("localhost", "local", "internal", "home.arpa", "localdomain"),
    *("lan", "home", "corp", "intranet", "private"),
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
"""All IPv6 addresses assigned for the public internet; Python's own table has gaps."""
# Special blocks in the registries of IANA (documented). The table of an older Python does not have
# them all: 3fff::/20 is from 2024.
_SPECIAL = tuple(
    ipaddress.ip_network(block)
    for block in ("192.0.0.0/24", "192.88.99.0/24", "2001:db8::/32", "3fff::/20")
)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_ENDS_A_LINK = frozenset('"<>')
"""Characters that end a link in a text or a log; RFC 3986 forbids them in a URL."""
_PLAIN_BASE = r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?"
_INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _NotPublic(ValueError):
    """Only this machine or its network can see the address."""


def media_url(
    text: str, *, loopback: bool = False, secure: bool = False, paths: bool = False
) -> str:
    """Return the address unchanged if it is a plain public http(s) URL that may lead to a file.

    Args:
        text: the URL as it was given.
        loopback: also accept this machine's loopback (only while the API itself is there).
        secure: require https (for the vendor's own links); loopback is exempt.
        paths: whether the caller may give the path of a file instead, which the advice then names.

    Raises:
        ValueError: the rest of a sentence that begins with the argument's name and says what is
            wrong. It never repeats the address, which may carry a signature.
    """
    try:
        _check(text, loopback, secure, paths)
    except _NotPublic as exc:
        # `secure` means that it is the vendor's own link: the user has no file to give instead.
        advice = _REACHABLE_OR_PATH if paths else _REACHABLE
        raise ValueError(str(exc) if secure else f"{exc} ({advice})") from None
    return text


def public_base(text: str) -> str:
    """The beginning of our own public links, without a slash at its end.

    Args:
        text: https, or http on this machine; it may have a path.

    Raises:
        ValueError: the rest of a sentence that begins with the name of the setting.
    """
    if not re.fullmatch(_PLAIN_BASE, text):
        raise ValueError("must be a plain https:// address, without a query and a password")
    return media_url(text, loopback=True, secure=True).rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or an address, in any spelling, means this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address is not None and address.is_loopback


def is_global(address: Address) -> bool:
    """Whether an address is on the public internet, also when IPv6 embeds an IPv4 address."""
    if any(address in block for block in _SPECIAL):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    inner = _embedded(address)
    if inner is not None:
        return is_global(inner)
    return address in _PUBLIC_V6 and address.is_global


def _check(text: str, loopback: bool, secure: bool, paths: bool) -> None:
    parts = _split(text)
    host = _ascii_host(parts)
    if not secure and not _ENDS_A_LINK.isdisjoint(text):
        raise ValueError('contains one of " < >, which a link has to spell %22 %3C %3E')
    if is_loopback(host):
        if loopback:
            return
        raise _NotPublic("points at this machine")
    if secure and parts.scheme.lower() != "https":
        raise ValueError("is not an https address")
    _refuse_private(host)
    if secure:
        return
    if advice := share_links.advice_if_page(host, parts.path, parts.query, paths=paths):
        raise ValueError(f"shows a page, not the file itself ({advice})")


def _split(text: str) -> SplitResult:
    _refuse_local(text)
    if len(text) > MAX_URL:
        raise ValueError(f"is longer than {MAX_URL:,} characters")
    if any(unicodedata.category(c) in _INVISIBLE_CATEGORIES for c in text):
        raise ValueError("contains spaces, control or invisible characters")
    try:
        parts = urlsplit(text)
        port = parts.port  # urlsplit checks the port only when it is read
    except ValueError:
        raise ValueError("is not a well-formed URL") from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise ValueError("must start with https:// or http://")
    if "\\" in text:
        raise ValueError("contains a backslash")
    if "@" in parts.netloc:
        raise ValueError("contains a user name or password (give a link that needs no login)")
    if port == 0:
        raise ValueError("names port 0, which nothing can listen on")
    return parts


def _refuse_local(text: str) -> None:
    """Refuse a local path first: its length or its spaces are not what is wrong with it."""
    if text[:5].lower() == "data:":
        raise _NotPublic("is a data: URL")
    if text[:5].lower() == "file:" or re.match(r"/(?!/)|[~.\\]|[A-Za-z]:[\\/]", text):
        raise _NotPublic("is a path on this computer")
    if ":" not in text and text[:2] != "//":
        raise _NotPublic("is not a URL")


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host:
        raise ValueError("has no host")
    try:
        # The codec converts full-width digits and dots, which could otherwise hide 127.0.0.1.
        plain = host.encode("idna").decode("ascii").lower() if not host.isascii() else host
    except UnicodeError:
        plain = ""
    if not (_is_v6(parts.netloc, host) if "[" in parts.netloc else _is_name(plain)):
        raise ValueError("has a host name that is not valid")
    return plain


def _is_v6(netloc: str, host: str) -> bool:
    # Other parsers read [2606::1].evil.test as a name, so only a port may follow the brackets.
    if not re.fullmatch(r"\[[^\[\]]*\](:[0-9]*)?", netloc):
        return False
    return isinstance(_address(host), ipaddress.IPv6Address) and "%" not in host


def _is_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return len(host) <= 254 and all(re.fullmatch(_LABEL, label) for label in labels)


def _refuse_private(host: str) -> None:
    name = host.rstrip(".")
    address = _address(name)
    if address is not None and not is_global(address):
        raise _NotPublic("points into a private network")
    if str(address) == name or isinstance(address, ipaddress.IPv6Address):
        return
    # One parser reads 010.8.8.8 as 8.8.8.8, another as 10.8.8.8.
    if re.fullmatch(r"0x[0-9a-f]*|[0-9]+", name.rpartition(".")[2]):
        raise ValueError("has a host that is neither a name nor an address in its usual spelling")
    if "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _PRIVATE_SUFFIXES)):
        raise _NotPublic("names a host of a private network")


def _address(name: str) -> Address | None:
    """The address that a host spells, also as 0x7f000001, 2130706433, 127.1 or 0177.0.0.1."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    if not re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", name):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        return None


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that receives packets to this one: mapped, NAT64 or 6to4."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
