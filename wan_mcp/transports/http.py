"""MCP over streamable HTTP, on this machine only.

Every answer may be a stream (never `json_response`, which loses cancellation and progress) and no
request depends on an earlier one (`stateless_http`), so every protocol revision works with any
replica.
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

from wan_mcp.transports.listener import Listener
from wan_mcp.transports.shutdown import HTTP, Deadlines, Shutdown, serve_and_leave

PATH = "/mcp"
MAX_BODY_BYTES = 1024 * 1024
"""The largest request body; the parameters of a job take a few hundred bytes."""

_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "[::1]"}


def http_app(server: MCPServer[Any], *, host: str, port: int) -> Starlette:
    """The ASGI app: `/mcp`, and `/healthz`, which answers without authentication.

    Its lifespan is that of `server`. It serves only requests whose Host header names this machine
    and `port` (any port if it is 0), and only browser pages of this machine: otherwise any web page
    could let its own host name resolve to loopback and spend credits.

    Raises:
        ValueError: `host` is not a loopback address.
    """
    _require_loopback(host)
    names = ("127.0.0.1", "localhost", "[::1]")
    ports = [f"{name}:{port or '*'}" for name in names]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
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
    deadlines: Deadlines = HTTP,
) -> int:
    """Serve as `serve_http` does until a signal, then return 0; end the process with it at once.

    The exit codes are those of `shutdown`.
    """
    serve = partial(
        serve_http, server, host=host, port=port, announce=announce, deadlines=deadlines
    )
    anyio.run(serve_and_leave, serve, deadlines)
    return 0


async def serve_http(
    server: MCPServer[Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    announce: Callable[[str], None] | None = None,
    deadlines: Deadlines = HTTP,
) -> None:
    """Serve until a signal; returns when all work and the lifespan have ended.

    When work goes on after the grace period, or at a second signal, the process is ended.

    Args:
        port: 0 takes a free one.
        announce: gets the URL once clients can connect.

    Raises:
        ValueError: `host` is not a loopback address; raised before the lifespan starts.
        OSError: the port cannot be used; the text is a sentence; raised before the lifespan starts.
        Exception: whatever the lifespan raises.
    """
    _require_loopback(host)
    with _listen(host, port) as listener, Shutdown(deadlines=deadlines) as shutdown:
        port = listener.getsockname()[1]
        requests = _Requests(http_app(server, host=host, port=port))
        async with server.session_manager.run():
            if announce:
                announce(f"http://{_LOOPBACK[host]}:{port}{PATH}")
            await _run(requests, listener, shutdown)


class _Requests:
    """Cuts open requests when serving ends; uvicorn would wait for the end of their streams."""

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
    """One response, which can be finished properly at whatever point it was cut."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False
        self._finished = False

    async def send(self, message: Message) -> None:
        await self._send(message)  # the notes follow, because a cancelled send has not happened
        self._started = True
        self._finished = message["type"] == "http.response.body" and not message.get("more_body")

    async def finish(self) -> None:
        if not self._started:
            await self._send({"type": "http.response.start", "status": 503, "headers": []})
        if not self._finished:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(requests: _Requests, listener: socket.socket, shutdown: Shutdown) -> None:
    config = uvicorn.Config(
        requests,
        http="h11",  # it comes with mcp, whatever else is installed
        ws="none",
        lifespan="off",  # entered by serve_http, where its errors reach the caller
        log_config=None,  # the root logger's handlers: stderr
        log_level="warning",
        access_log=False,  # it would contain URLs with their queries
        proxy_headers=False,
        server_header=False,
    )
    web = _Uvicorn(config)

    async def end_when_asked() -> None:
        await shutdown.asked.wait()
        web.should_exit = True
        requests.end()
        # uvicorn would wait forever for a client that does not read its answer.
        await anyio.sleep(shutdown.deadlines.last_write_seconds)
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


def _listen(host: str, port: int) -> Listener:
    address = _LOOPBACK[host].strip("[]")  # localhost means IPv4 here: one socket, one port
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return Listener.on((address, port), family)
    except OSError as error:
        raise OSError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
