"""Which proxy of the environment leads to an address. No I/O but the system's own settings.

httpx has this too, but one NO_PROXY entry that it cannot read, or a SOCKS proxy beside the one for
https, makes every request impossible there (observed with 0.28). Here an entry without a meaning
has no effect, and networks (`10.0.0.0/8`) have the one that their authors expect.
"""

import ipaddress
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

_SOCKS = {"socks": "socks5", "socks5": "socks5", "socks5h": "socks5h"}
"""Desktops write `socks://` for SOCKS 5 (observed elsewhere)."""


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (or else the system) names for an address; None for none.

    A plain proxy wins over SOCKS, which needs a package of its own.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    named = urllib.request.getproxies_environment()
    if named:
        if _is_exempt(host, parts.port, named.get("no", "")):
            return None
    elif urllib.request.proxy_bypass(host):
        return None
    return chosen(named or urllib.request.getproxies(), parts.scheme)


def chosen(proxies: Mapping[str, str], scheme: str) -> str | None:
    """The best of these proxies for requests of a scheme; their keys are schemes or "all"."""
    given = [_spelt_out(proxies[name]) for name in (scheme, "all") if proxies.get(name)]
    given.sort(key=is_socks)  # stable: of two of a kind, the one of the scheme comes first
    return given[0] if given else None


def is_socks(proxy: str) -> bool:
    """Whether it is a SOCKS proxy, which needs the package socksio."""
    return proxy.partition("://")[0].lower() in _SOCKS


def _spelt_out(proxy: str) -> str:
    scheme, found, rest = proxy.partition("://")
    if not found:
        return f"http://{proxy}"
    return f"{_SOCKS.get(scheme.lower(), scheme)}://{rest}"


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    return any(_covers(entry.strip().lower(), host, port) for entry in no_proxy.split(","))


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Whether one entry of NO_PROXY means a host: `*`, a domain, an address or a network."""
    if not entry:
        return False
    entry = entry.rpartition("://")[2]
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdecimal() and (":" not in name or name.endswith("]")):
        if int(digits) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*.").strip(".")
    if entry == "*" or host == entry or (entry and host.endswith(f".{entry}")):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
