"""MCP over streamable HTTP, on this machine only.

Every answer may be a stream (never `json_response`, which loses cancelling and progress) and no
request depends on an earlier one (`stateless_http`), so all revisions work against any replica.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.transports.shutdown import LAST_WRITE, Shutdown, serve_and_leave

PATH = "/mcp"
MAX_BODY = 1024 * 1024
"""Largest request body in bytes; the parameters of a job take a few hundred."""

GRACE = 9.5
"""Seconds from a signal until work is cut: room for a paid request to be answered. Who stops a
service commonly kills it after 10 s (assumed)."""

_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "[::1]"}


def http_app(server: MCPServer[Any], *, host: str, port: int) -> Starlette:
    """The ASGI app: `/mcp`, and `/healthz`, which answers without authentication.

    Its lifespan is that of `server`. Only requests that name this machine and `port` (any port
    when it is 0) in Host are served, and browser pages only from this machine: otherwise a page
    anywhere could have its own name resolve to loopback and spend credits.

    Raises ValueError when `host` is not a loopback address.
    """
    _require_loopback(host)
    names = ("127.0.0.1", "localhost", "[::1]")
    ports = [f"{name}:{port or '*'}" for name in names]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=MAX_BODY,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[*names, *ports],
            allowed_origins=[*origins, *(f"{origin}:*" for origin in origins)],
        ),
    )
    app.router.routes.append(Route("/healthz", _healthz, methods=["GET"]))
    return app


def run_http(
    server: MCPServer[Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Serve as `serve_http` does until a signal, then return 0; end the process with it at once.

    As with `run_stdio`, whose exit codes these are.
    """
    serve = partial(serve_http, server, host=host, port=port, announce=announce)
    anyio.run(serve_and_leave, serve)
    return 0


async def serve_http(
    server: MCPServer[Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until a signal; returns when all work and the lifespan have ended.

    `port` 0 takes a free one; `announce` gets the URL once clients can connect. When work outlives
    the grace, or at a second signal, the process is ended.

    Raises ValueError for a `host` that is not loopback and OSError, with a sentence, for a port
    that cannot be had; both before the lifespan starts. What the lifespan raises comes through.
    """
    _require_loopback(host)
    with _listen(host, port) as listener, Shutdown(grace=GRACE) as shutdown:
        port = listener.getsockname()[1]
        requests = _Requests(http_app(server, host=host, port=port))
        async with server.session_manager.run():
            if announce:
                announce(f"http://{_LOOPBACK[host]}:{port}{PATH}")
            await _run(requests, listener, shutdown)


class _Requests:
    """Cuts open requests short when serving ends; uvicorn would wait for streams to end alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[anyio.CancelScope] = set()
        self._ending = False

    def end(self) -> None:
        self._ending = True
        for request in self._open:
            request.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Reply(send)
        with anyio.CancelScope() as request:
            self._open.add(request)
            if self._ending:
                request.cancel()
            try:
                await self._app(scope, receive, reply.send)
            finally:
                self._open.discard(request)
        if request.cancel_called:
            await reply.finish()


class _Reply:
    """One response, so that it can be finished properly wherever it was cut."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False
        self._finished = False

    async def send(self, message: Message) -> None:
        await self._send(message)  # noted after it: a send that is cancelled has not happened
        self._started = True
        self._finished = message["type"] == "http.response.body" and not message.get("more_body")

    async def finish(self) -> None:
        if not self._started:
            await self._send({"type": "http.response.start", "status": 503, "headers": []})
        if not self._finished:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers, which raise the signal again after an orderly end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(requests: _Requests, listener: socket.socket, shutdown: Shutdown) -> None:
    config = uvicorn.Config(
        requests,
        http="h11",  # what comes with mcp, whatever else is installed
        ws="none",
        lifespan="off",  # entered by serve_http, where its errors reach the caller
        log_config=None,  # the root logger's handlers: stderr
        log_level="warning",
        access_log=False,  # it would hold URLs with their queries
        proxy_headers=False,
        server_header=False,
    )
    web = _Uvicorn(config)

    async def end_when_asked() -> None:
        await shutdown.asked.wait()
        web.should_exit = True
        requests.end()
        # uvicorn would wait for ever for a client that does not read its answer.
        await anyio.sleep(LAST_WRITE)
        for connection in tuple(web.server_state.connections):
            connection.transport.abort()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_when_asked)
        await web.serve(sockets=[listener])
        tasks.cancel_scope.cancel()


def _require_loopback(host: str) -> None:
    if host not in _LOOPBACK:
        raise ValueError(
            f"Refusing to listen on {host!r}: without authentication this server may only be "
            f"reached from this machine. Use one of {', '.join(_LOOPBACK)}."
        )


def _listen(host: str, port: int) -> socket.socket:
    address = _LOOPBACK[host].strip("[]")  # localhost means IPv4 here: one socket, one port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise OSError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
