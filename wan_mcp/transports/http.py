"""MCP over streamable HTTP, on this machine only unless people sign in.

Every answer may be a stream (never `json_response`, which loses cancellation and progress), and no
request depends on an earlier one (`stateless_http`), so every protocol revision works with any
replica.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.transports.listener import here, listen, require_loopback
from wan_mcp.transports.operations.operators import Operators
from wan_mcp.transports.operations.proxies import NOBODY_ELSE, Access
from wan_mcp.transports.operations.readiness import ALIVE, Readiness
from wan_mcp.transports.operations.web_server import WebServer, quiet_config
from wan_mcp.transports.own_key.site import KeySite, SignedInDesk
from wan_mcp.transports.shutdown import HTTP, Deadlines, Shutdown, serve_and_leave
from wan_mcp.transports.uploads import Desk, UploadSite

if TYPE_CHECKING:
    from wan_mcp.transports.sign_in.sign_in import SignIn

PATH = "/mcp"
MAX_BODY_BYTES = 1024 * 1024
"""The largest request body; the parameters of a job take a few hundred bytes."""


def http_app(
    server: MCPServer[Any],
    *,
    host: str,
    port: int,
    readiness: Readiness | None = None,
    access: Access = NOBODY_ELSE,
    uploads: Callable[[], Desk | None] | None = None,
    own_keys: Callable[[], SignedInDesk | None] | None = None,
    signed_in: bool = False,
) -> Starlette:
    """The ASGI app: `/mcp`, health checks, and the pages for files and keys of users.

    Its lifespan is that of `server`. Besides what `access` allows, it serves only requests whose
    Host header names this machine and `port` (any port if it is 0), and only browser pages of this
    machine: otherwise any web page could let its own host name resolve to loopback and spend
    credits.

    Args:
        signed_in: whether people sign in, so that other machines may connect.

    Raises:
        ValueError: `host` is not a loopback address, and nobody signs in.
    """
    if not signed_in:
        require_loopback(host)
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=access.rules(port),
    )
    app.router.redirect_slashes = False  # a redirect would go to whatever host the request names
    app.router.routes.extend([*ALIVE, *(readiness.routes if readiness else ())])
    if uploads is not None:
        app.router.routes.extend(UploadSite(uploads, access.page_rules(port)).routes)
    if own_keys is not None:
        app.router.routes.extend(KeySite(own_keys, access.page_rules(port)).routes)
    return app


def run_http(
    server: MCPServer[Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    announce: Callable[[str], None] | None = None,
    deadlines: Deadlines = HTTP,
    desk: HealthDesk | None = None,
    operators: Operators | None = None,
    sign_in: "SignIn | None" = None,
) -> NoReturn:
    """Serve as `serve_http` does until a signal, then end the process.

    The exit codes are those of `shutdown`.
    """
    serve = partial(
        serve_http,
        server,
        host=host,
        port=port,
        announce=announce,
        deadlines=deadlines,
        desk=desk,
        operators=operators,
        sign_in=sign_in,
    )
    serve_and_leave(serve, deadlines)


async def serve_http(
    server: MCPServer[Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    announce: Callable[[str], None] | None = None,
    deadlines: Deadlines = HTTP,
    desk: HealthDesk | None = None,
    operators: Operators | None = None,
    sign_in: "SignIn | None" = None,
) -> None:
    """Serve until a signal; returns when all work and the lifespan have ended.

    After a signal the server is no longer ready, but still answers while it drains. If work goes
    on after the grace period, or at a second signal, the process is ended.

    Args:
        port: the port; 0 for any free one.
        announce: called with the URL once clients can connect.
        desk: a desk that listens on `host` already; its callers are served, too.
        operators: what operators see and decide; None for a server without operators.
        sign_in: how people sign in; None if everybody on this machine may call.

    Raises:
        ValueError: `host` is not a loopback address, and nobody signs in; raised before the
            lifespan starts.
        OSError: the port cannot be used; the text is a sentence; raised before the lifespan starts.
        Exception: whatever the lifespan raises.
    """
    desk = desk or HealthDesk(listen(host, port, anywhere=sign_in is not None))
    with desk.listener, Shutdown(deadlines=deadlines) as shutdown:
        port = desk.listener.getsockname()[1]
        is_ending = shutdown.asked.is_set
        readiness = Readiness(operators.server, is_ending) if operators else None
        access = operators.access if operators else NOBODY_ELSE
        uploads = operators.uploads if operators else None
        app = http_app(
            server,
            host=host,
            port=port,
            readiness=readiness,
            access=access,
            uploads=uploads,
            own_keys=operators.own_keys if operators else None,
            signed_in=sign_in is not None,
        )
        requests = _Requests(access.guard(app))
        async with AsyncExitStack() as serving:
            if operators and readiness:
                await serving.enter_async_context(operators.own_port(readiness))
            await serving.enter_async_context(server.session_manager.run())
            if sign_in is not None:
                rules, own_keys = access.page_rules(port), operators.own_keys if operators else None
                await serving.enter_async_context(behind_doors(app, sign_in, rules, own_keys))
            if announce:
                announce(f"{here(host, port)}{PATH}")
            await _run(requests, desk, shutdown, operators)


@asynccontextmanager
async def behind_doors(
    app: Starlette,
    sign_in: "SignIn",
    rules: TransportSecuritySettings | None = None,
    own_keys: Callable[[], SignedInDesk | None] | None = None,
) -> AsyncIterator[None]:
    """Within it, only people who have signed in reach MCP.

    Args:
        rules, own_keys: for the pages on which people sign in to store a key of their own; None
            if there are no such pages.
    """
    routes = app.router.routes
    (open_to_all,) = (each for each in routes if isinstance(each, Route) and each.path == PATH)
    routes.remove(open_to_all)
    async with sign_in.open(PATH, open_to_all.app, MAX_BODY_BYTES) as opened:
        routes.extend(opened.doors)
        if opened.browsers and rules and own_keys:
            from wan_mcp.transports.own_key.signed_in import SignedInSite  # a team has its packages

            routes.extend(SignedInSite(own_keys, rules, sign_in, opened.browsers).routes)
        yield


class _Requests:
    """Cuts open requests when serving ends; uvicorn would wait for the end of their streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[anyio.CancelScope] = set()
        self._ending = False
        self._left = anyio.Event()

    async def all_answered(self, seconds: float) -> None:
        """Wait until no request is open any more, but at most this many seconds."""
        with anyio.move_on_after(seconds):
            while self._open:
                self._left = anyio.Event()
                await self._left.wait()

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
                self._left.set()
        if request.cancel_called:
            await reply.finish()


class _Reply:
    """One response, which can be completed properly wherever it was cut."""

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


class _Uvicorn(WebServer):
    """Serves the port of a desk.

    Args:
        desk: listens already; its callers come before all others.
    """

    def __init__(self, config: uvicorn.Config, desk: HealthDesk) -> None:
        super().__init__(config)
        self._desk = desk

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        early = self._desk.hand_over()
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for connection in early:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """The protocol for one connection, created as uvicorn creates its own."""
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


async def _drain(requests: _Requests, operators: Operators, deadlines: Deadlines) -> None:
    """Let open requests end with an answer, while a balancer notices that the server stops."""
    async with anyio.create_task_group() as both:
        both.start_soon(operators.server.drain)
        await anyio.sleep(deadlines.linger_seconds)
    await requests.all_answered(deadlines.answer_seconds)


async def _run(
    requests: _Requests, desk: HealthDesk, shutdown: Shutdown, operators: Operators | None
) -> None:
    web = _Uvicorn(quiet_config(requests), desk)

    async def end_when_asked() -> None:
        await shutdown.asked.wait()
        if operators is not None:
            await _drain(requests, operators, shutdown.deadlines)
        web.should_exit = True
        requests.end()
        # uvicorn would wait forever for a client that does not read its answer.
        await anyio.sleep(shutdown.deadlines.last_write_seconds)
        for connection in tuple(web.server_state.connections):
            connection.transport.abort()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_when_asked)
        await web.serve(sockets=[desk.listener])
        tasks.cancel_scope.cancel()
