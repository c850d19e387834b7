"""The operators' side of an HTTP server: what they see of it and decide about it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from wan_mcp.logs import facts
from wan_mcp.logs.facts import Figures
from wan_mcp.transports.listener import Listener
from wan_mcp.transports.operations.port import serving
from wan_mcp.transports.operations.proxies import NOBODY_ELSE, Access
from wan_mcp.transports.operations.readiness import ALIVE, Readiness, Service
from wan_mcp.transports.own_key.site import SignedInDesk
from wan_mcp.transports.uploads import Desk


class Server(Service, Protocol):
    """The running server, as an operator sees it."""

    async def figures(self) -> Figures:
        """The present figures of its ledger."""


@dataclass(frozen=True)
class Operators:
    """The operators' side of one HTTP server.

    Attributes:
        server: the running server.
        port: already listens for the operators' own requests; None if they have no port of their
            own, and then nothing is counted.
        access: who may call.
        uploads: takes the files that users upload; None if they cannot, or not yet.
        own_keys: takes the PixelDojo keys that users store; None if they cannot, or not yet.
    """

    server: Server
    port: Listener | None = None
    access: Access = NOBODY_ELSE
    uploads: Callable[[], Desk | None] = lambda: None
    own_keys: Callable[[], SignedInDesk | None] = lambda: None

    @asynccontextmanager
    async def own_port(self, readiness: Readiness) -> AsyncIterator[None]:
        """Within it, facts are counted and shown at the port, if there is one."""
        if self.port is None:
            yield
            return
        from wan_mcp.transports.operations.metrics import Metrics  # its package is an extra

        metrics = Metrics(self.server.figures, readiness)
        facts.listeners.append(metrics)
        try:
            async with serving(self.port, [metrics.route, *ALIVE, *readiness.routes]):
                yield
        finally:
            facts.listeners.remove(metrics)
