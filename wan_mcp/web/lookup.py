"""Which addresses of a host may be connected to: public ones, and each is looked up just before."""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from wan_mcp.web import addresses

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host name (given with its port); raises socket.gaierror."""

MAX_TRIES = 3
"""Addresses of one name that are tried, so that one dead server of several does not decide."""

_CONTROL_NAME = "pixeldojo.ai"
"""Exists for sure: who does not find it either is offline, or sees the web through a proxy."""
_UNKNOWN_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
# A VPN or proxy on this machine may give such addresses to names that are public elsewhere
# (Clash: 198.18/15, Zscaler and Cloudflare WARP: 100.64/10; observed elsewhere).
_STAND_INS = tuple(map(ipaddress.ip_network, ("198.18.0.0/15", "100.64.0.0/10")))


class Unreachable(Exception):
    """No answer, or none that may be used.

    Attributes:
        what: one plain sentence; the address is not in it, because it may carry a signature.
        passing: whether it may pass by itself.
        everywhere: whether nobody can fetch it, PixelDojo included (assumed).
    """

    def __init__(self, what: str, *, transient: bool = False, everywhere: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.transient = transient
        self.everywhere = everywhere


class Lookup:
    """Looks names up, and lets only addresses through that may be connected to.

    Args:
        loopback: this machine's own addresses may be, too.
        resolve: stands in for the system's resolver in tests.
        seconds: how long one lookup may take.
    """

    def __init__(self, *, loopback: bool, resolve: Resolve | None, seconds: float) -> None:
        self._loopback = loopback
        self._resolve = resolve or _system_resolver
        self._seconds = seconds

    async def find(self, host: str, port: int) -> list[str]:
        """A few addresses of a host, IPv4 first.

        Raises:
            Unreachable: it has none, or none that is public.
        """
        found = [ipaddress.ip_address(text) for text in await self._resolved(host, port)]
        usable = [address for address in found if self._is_allowed(address)]
        if not usable:
            stands_in = any(address in network for address in found for network in _STAND_INS)
            raise Unreachable("its host is in a private network", everywhere=not stands_in)
        # Where one of the two does not work, it is mostly IPv6.
        usable.sort(key=lambda address: address.version)
        return [str(address) for address in usable[:MAX_TRIES]]

    def _is_allowed(self, address: addresses.Address) -> bool:
        return addresses.is_global(address) or (
            self._loopback and addresses.is_loopback(str(address))
        )

    async def _resolved(self, host: str, port: int) -> list[str]:
        try:
            with anyio.fail_after(self._seconds):
                return await self._resolve(host, port)
        except socket.gaierror as exc:
            if exc.errno in _UNKNOWN_NAME and await self._names_are_found():
                raise Unreachable("its host name does not exist", everywhere=True) from exc
            raise Unreachable("its host name could not be looked up", transient=True) from exc
        except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError
            raise Unreachable("its host name could not be looked up", transient=True) from exc

    async def _names_are_found(self) -> bool:
        with anyio.move_on_after(self._seconds), suppress(OSError):
            return bool(await self._resolve(_CONTROL_NAME, 443))
        return False


async def _system_resolver(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A scoped address (fe80::1%eth0) is link-local, and would be refused in any case.
    return [str(place[0]).partition("%")[0] for *_, place in found]
