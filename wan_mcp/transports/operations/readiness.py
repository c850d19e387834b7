"""`/livez` and `/readyz`: whether this process works, and whether it can take calls.

A supervisor starts a process again that is not alive; a balancer sends no calls to one that is not
ready. So whatever time or the operator can mend, as a ledger that cannot be reached, only makes it
not ready.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wan_mcp.front_desk import health

FRESH_SECONDS = 1.0
"""How long a finding is used again: many checks at the same time look once (ours)."""
LOOK_SECONDS = 3.0
"""After this time a check answers that the ledger does not (ours)."""

logger = logging.getLogger(__name__)

Missing = Mapping[str, str]
"""What a server lacks: a word for each thing, and a sentence about it. Never a secret."""


class Service(Protocol):
    """The running server, as an operator sees it."""

    async def missing(self) -> Missing:
        """What it lacks to take every call; empty if nothing."""

    async def drain(self) -> None:
        """End what goes on: begin no payment, end waits with an answer, let payments finish."""


class Readiness:
    """Answers health checks.

    Args:
        service: the running server.
        draining: whether it is about to end.
        now: seconds that never go back.
    """

    def __init__(
        self,
        service: Service,
        draining: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._draining = draining
        self._now = now
        self._found: Missing = {}
        self._found_at: float | None = None
        self._looking: asyncio.Task[None] | None = None

    async def missing(self) -> Missing:
        """What the server lacks at this moment; empty if it is ready."""
        if self._draining():
            return {"server": "It is about to end."}
        if self._looking is None:
            if self._found_at is not None and self._now() - self._found_at < FRESH_SECONDS:
                return self._found
            self._looking = asyncio.create_task(self._look())
        looking = self._looking
        await asyncio.wait({looking}, timeout=LOOK_SECONDS)  # it goes on if the caller leaves
        return self._found if looking.done() else {"ledger": "It does not answer in time."}

    async def _look(self) -> None:
        try:
            self._found = await self._service.missing()
        except Exception:
            logger.exception("a look at the readiness broke")
            self._found = {"server": "A check broke; the log has the details."}
        finally:
            self._found_at, self._looking = self._now(), None

    def routes(self) -> list[Route]:
        """The routes of all health checks. None needs credentials."""
        return [
            Route(health.PATH, alive, methods=["GET"]),
            Route(health.ALIVE_PATH, alive, methods=["GET"]),
            Route(health.READY_PATH, self._ready, methods=["GET"]),
        ]

    async def _ready(self, _request: Request) -> Response:
        missing = await self.missing()
        if not missing:
            return _json(b'{"status":"ready"}', 200)
        body = {"status": "not ready", "missing": missing}
        return _json(json.dumps(body, separators=(",", ":")).encode(), 503)


async def alive(_request: Request) -> Response:
    """The answer of a process whose event loop runs."""
    return _json(health.BODY, 200)


def _json(body: bytes, status: int) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(body, status, headers=headers, media_type="application/json")
