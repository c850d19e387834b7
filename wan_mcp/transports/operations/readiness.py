"""`/livez` and `/readyz`: whether this process works, and whether it can take calls.

A supervisor restarts a process that is not alive; a balancer sends no calls to one that is not
ready. So a fault that time or the operator can repair, such as a ledger that cannot be reached,
only makes the process not ready.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wan_mcp.front_desk import health
from wan_mcp.transports.operations.shared_look import SharedLook

Missing = Mapping[str, str]
"""What a server lacks: a word for each thing, with a sentence about it. Never a secret."""


class Service(Protocol):
    """The running server, as an operator sees it."""

    async def missing(self) -> Missing:
        """What the server lacks to take every call; empty if nothing."""

    async def drain(self) -> None:
        """Begin no more payments, end waits with an answer, and let payments finish."""


class Readiness:
    """Answers health checks.

    Args:
        service: the running server.
        draining: tells whether it is about to end.
        now: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        service: Service,
        draining: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        broken = {"server": "A check broke; the log has the details."}
        self._look = SharedLook[Missing](service.missing, broken, now)
        self._draining = draining

    async def missing(self) -> Missing:
        """What the server lacks at this moment; empty if it is ready."""
        if self._draining():
            return {"server": "It is about to end."}
        missing = await self._look.find()
        return {"ledger": "It does not answer in time."} if missing is None else missing

    @property
    def routes(self) -> list[Route]:
        """The route that tells whether the server is ready."""
        return [Route(health.READY_PATH, self._ready, methods=["GET"])]

    async def _ready(self, _request: Request) -> Response:
        missing = await self.missing()
        if not missing:
            return _json(b'{"status":"ready"}', 200)
        body = {"status": "not ready", "missing": missing}
        return _json(json.dumps(body, separators=(",", ":")).encode(), 503)


async def _alive(_request: Request) -> Response:
    return _json(health.BODY, 200)


def _json(body: bytes, status: int) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(body, status, headers=headers, media_type="application/json")


ALIVE = [Route(path, _alive, methods=["GET"]) for path in (health.PATH, health.ALIVE_PATH)]
"""The routes that answer as long as the event loop of the process runs."""
