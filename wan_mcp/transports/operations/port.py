"""A port for operators only, with metrics and health checks, on which no credits can be spent."""

import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.routing import Route

from wan_mcp.transports.listener import Listener
from wan_mcp.transports.operations.web_server import WebServer, quiet_config


def listen_for_operators(host: str, port: int) -> Listener:
    """Listen on an address of this machine, which may be reachable from outside.

    Args:
        host: an IP address.
        port: the port; 0 for any free one.

    Raises:
        OSError: the port cannot be used; the text is a sentence.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    try:
        return Listener.on((host, port), family)
    except OSError as error:
        elsewhere = error.errno == errno.EADDRNOTAVAIL
        why = "the address is not of this machine" if elsewhere else error.strerror
        raise OSError(f"Cannot listen on {host} port {port} for metrics: {why}.") from error


@asynccontextmanager
async def serving(listener: Listener, routes: Sequence[Route]) -> AsyncIterator[None]:
    """Within it, these routes are served."""
    web = WebServer(quiet_config(Starlette(routes=list(routes))))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, web, listener)
        try:
            yield
        finally:
            web.should_exit = web.force_exit = True


async def _serve(web: WebServer, listener: Listener) -> None:
    with listener:
        await web.serve(sockets=[listener])
