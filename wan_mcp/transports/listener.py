"""A listening socket that answers even when no more connections can be opened."""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from wan_mcp.logs.seldom import Seldom

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "[::1]"}
"""The hosts on which this program may listen, each with its address as written in a URL."""

logger = logging.getLogger(__name__)


def listen(host: str, port: int, *, anywhere: bool = False) -> "Listener":
    """Listen on this machine.

    Args:
        host: one of LOOPBACK, or an IP address of this machine.
        port: the port; 0 for any free one.
        anywhere: whether other machines may connect, because people sign in.

    Raises:
        ValueError: `host` is not a loopback address, but must be one.
        OSError: the port or the address cannot be used; the text is a sentence.
    """
    if not anywhere:
        require_loopback(host)
    elif not _is_address(host):
        raise OSError(f"The host must be an IP address, or one of {', '.join(LOOPBACK)}.")
    # localhost means IPv4 here: one socket, one port
    address = LOOPBACK.get(host, host).strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return Listener.on((address, port), family)
    except OSError as error:
        raise OSError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error


def here(host: str, port: int) -> str:
    """The address of a server that listens there, without a path."""
    return f"http://{LOOPBACK.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def _is_address(host: str) -> bool:
    import ipaddress  # most servers listen on loopback

    if host in LOOPBACK:
        return True
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raises ValueError if a host is not one of LOOPBACK."""
    if host not in LOOPBACK:
        raise ValueError(
            f"Refusing to listen on {host!r}: without authentication this server may only be "
            f"reached from this machine. Use one of {', '.join(LOOPBACK)}."
        )


class Listener(socket.socket):
    """A listening socket for asyncio's accept loop, with one descriptor in reserve.

    When the process has no descriptor left, asyncio 3.11 logs a traceback for each of 2,048
    attempts, every second, and the caller waits in vain (observed). Here the reserve is used to
    answer the caller with status 503, without reading the request, and one line is logged. As soon
    as descriptors are free again, connections are served as before.
    """

    _seldom: Seldom
    _reserve: int | None

    @classmethod
    def on(
        cls, address: tuple[str, int], family: int, now: Callable[[], float] = time.monotonic
    ) -> Self:
        """Listen on an address.

        Raises:
            OSError: the address cannot be used.
        """
        plain = socket.create_server(address, family=family)
        listener = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        listener._seldom = Seldom(now)
        listener._reserve = os.open(os.devnull, os.O_RDONLY)
        return listener

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises BlockingIOError if none waits, or none can be served."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _SHORTAGE:
                raise
            self._say_so(error)
            self._turn_away()
            raise BlockingIOError(errno.EWOULDBLOCK, "no descriptor is left") from None

    def close(self) -> None:
        """Stop listening."""
        self._release()
        super().close()

    def _say_so(self, error: OSError) -> None:
        if self._seldom.is_due():
            logger.error("connections are refused: %s; free some and they go on", error.strerror)

    def _turn_away(self) -> None:
        self._release()
        # If something else has taken even the reserve, the caller waits until a descriptor is free.
        with suppress(OSError):
            connection, _ = super().accept()
            with connection:
                connection.setblocking(False)
                connection.send(FULL)
                connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)

    def _release(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
