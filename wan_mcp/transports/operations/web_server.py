"""uvicorn as this program uses it: quiet, with limited patience, and without signals.

An app that expects a large body calls `take_time` with its scope. From then on it has to end slow
requests itself.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 30.0
"""How long a client may take for a whole request (ours). One that sends a byte now and then would
keep its connection for ever, and the limit of open files also limits the connections."""
_EXTENSION = "wan_mcp.take_time"


def take_time(scope: Scope) -> None:
    """Let the current request take as long as its app permits."""
    lift = scope.get("extensions", {}).get(_EXTENSION)
    if lift is not None:  # another server, or none, as in some tests
        lift()


class PatientProtocol(H11Protocol):
    """One connection, which is closed if a request is not complete within REQUEST_SECONDS.

    It is based on h11, which comes with mcp, whatever else is installed.
    """

    _deadline: asyncio.TimerHandle | None = None
    _takes_time = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the request, if there is one."""
        super().data_received(data)
        if self.scope is not None:
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[_EXTENSION] = self._take_time
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._takes_time = False
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop()
        super().connection_lost(exc)

    def _take_time(self) -> None:
        self._takes_time = True
        self._stop()

    def _watch(self) -> None:
        if self._takes_time or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def quiet_config(app: ASGIApp) -> uvicorn.Config:
    """The configuration of every port of this program."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",  # entered elsewhere, where its errors reach the caller
        log_config=None,  # the root logger's handlers: stderr
        log_level="warning",
        access_log=False,  # it would contain URLs with their queries
        proxy_headers=False,
        server_header=False,
    )


class WebServer(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave every signal to `shutdown`."""
        yield
