"""Which web addresses may be handed on: a rule of its own, because a URL is the commonest attack.

PixelDojo fetches the inputs, so an address that only this machine or its network can see is
either a mistake (a local file) or an attempt to reach something private through somebody else.
"""

import ipaddress
import re
import socket
import unicodedata
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2_048

_REACHABLE = (
    "PixelDojo must be able to fetch it: upload the file to public storage and give its direct "
    "https link"
)
_PRIVATE_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "localdomain", "lan")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def media_url(text: str, *, loopback: bool = False, secure: bool = False) -> str:
    """The address itself, when it is a plain public http(s) URL.

    Args:
        text: what somebody gave as a URL.
        loopback: also accept this machine's loopback (only while the API is itself there).
        secure: demand https (the vendor's own output); loopback stays exempt.

    Raises:
        ValueError: one sentence that says what is wrong; it never repeats the address, which
            may carry a signature.
    """
    parts = _split(text)
    host = _ascii_host(parts)
    if is_loopback(host):
        if loopback:
            return text
        raise ValueError(f"points at this machine; {_REACHABLE}")
    if secure and parts.scheme.lower() != "https":
        raise ValueError("is not an https address")
    _refuse_private(host)
    return text


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine, in any spelling."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def is_global(address: Address) -> bool:
    """Whether an address lies on the public internet, seen through every IPv6 disguise."""
    inner = _unwrapped(address)
    return inner.is_global and not inner.is_multicast


def _split(text: str) -> SplitResult:
    if len(text) > MAX_URL:
        raise ValueError(f"is longer than {MAX_URL:,} characters")
    if any(unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp", "Zs"} for c in text):
        raise ValueError("contains spaces, control or invisible characters")
    _refuse_local(text)
    try:
        parts = urlsplit(text)
        _ = parts.port  # urlsplit checks the port only when asked for it
    except ValueError:
        raise ValueError("is not a well-formed URL") from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise ValueError("must start with https:// or http://")
    if "\\" in text:
        raise ValueError("contains a backslash")
    if "@" in parts.netloc:
        raise ValueError("contains a user name or password; give a link that needs no login")
    return parts


def _refuse_local(text: str) -> None:
    if text[:5].lower() == "data:":
        raise ValueError(f"is a data: URL; {_REACHABLE}")
    if text[:5].lower() == "file:" or re.match(r"[/~.\\]|[A-Za-z]:[\\/]", text):
        raise ValueError(f"is a path on this computer; {_REACHABLE}")
    if ":" not in text:
        raise ValueError(f"is not a URL; {_REACHABLE}")


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host:
        raise ValueError("has no host")
    try:
        # The codec folds full-width digits and dots, which would otherwise hide 127.0.0.1.
        plain = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        raise ValueError("has a host name that is not valid") from None
    if not re.fullmatch(r"[0-9a-z._-]+|[0-9a-f:.]+", plain.lower()):
        raise ValueError("has a host name that is not valid")
    return plain.lower()


def _refuse_private(host: str) -> None:
    name = host.rstrip(".")
    address = _address(name)
    if address is not None:
        if not is_global(address):
            raise ValueError(f"points into a private network; {_REACHABLE}")
        return
    if re.fullmatch(r"0x[0-9a-f]*|\d+", name.rpartition(".")[2]):
        raise ValueError("has a host that is neither a name nor a valid address")
    if "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _PRIVATE_SUFFIXES)):
        raise ValueError(f"names a host of a private network; {_REACHABLE}")


def _address(name: str) -> Address | None:
    """The address a host spells, also as 0x7f000001, 2130706433, 127.1 or 0177.0.0.1."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    if not re.fullmatch(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}", name):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        return None


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
