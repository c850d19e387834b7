"""What a server behind proxies believes, and what it refuses."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp.server.mcpserver import MCPServer

from wan_mcp.logs.context import ids_of_line
from wan_mcp.settings import BadSettings, Settings
from wan_mcp.transports import http
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations import web_server
from wan_mcp.transports.operations.proxies import Access
from wan_mcp.transports.operations.web_server import WebServer, quiet_config

pytestmark = pytest.mark.anyio
ACCESS = Access(["wan.example.com"], ["https://tools.example.com"], ["10.1.0.0/16", "127.0.0.2"])
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def client(access: Access) -> AsyncIterator[httpx.AsyncClient]:
    server = MCPServer[None]("stand-in", version="1", log_level="WARNING")
    app = http.http_app(
        server,
        host="127.0.0.1",
        port=8765,
        access=access,
        uploads=lambda: None,
        own_keys=lambda: None,
    )
    transport = httpx.ASGITransport(access.guard(app))
    async with (
        server.session_manager.run(),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "wan.example.com"}, 200),
        ({"host": "wan.example.com:8443"}, 200),
        ({"host": "127.0.0.1:8765"}, 200),
        ({"host": "wan.example.com.evil.example"}, 421),
        ({"host": "evil.example", "x-forwarded-host": "wan.example.com"}, 421),
        ({"host": "evil.example", "forwarded": "host=wan.example.com"}, 421),
        ({"host": "wan.example.com", "origin": "https://wan.example.com"}, 200),
        ({"host": "wan.example.com", "origin": "https://tools.example.com"}, 200),
        ({"host": "wan.example.com", "origin": "http://wan.example.com"}, 403),
        ({"host": "wan.example.com", "origin": "https://evil.example"}, 403),
    ],
)
async def test_only_hosts_and_pages_that_the_operator_names_may_call(
    headers: dict[str, str], status: int
) -> None:
    """No header can add one (ours)."""
    async with client(ACCESS) as caller:
        answer = await caller.post("/mcp", json=LIST, headers={**ACCEPT, **headers})

    assert answer.status_code == status


async def test_pages_that_may_call_may_not_send_the_forms_of_this_server() -> None:
    """They have tokens of their own, and no business with what a browser carries (ours)."""
    own, other = "https://wan.example.com", "https://tools.example.com"
    async with client(ACCESS) as caller:
        statuses = [
            (await caller.request(method, path, headers={"origin": origin})).status_code
            for method, path in (("POST", "/key"), ("PUT", "/uploads/ticket/video"))
            for origin in (own, other)
        ]

    assert statuses == [404, 403, 404, 403]


@pytest.mark.parametrize(
    ("port", "origins"),
    [
        (8765, ["http://127.0.0.1:8765", "http://localhost:8765", "http://[::1]:8765"]),
        (0, ["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"]),
    ],
)
def test_own_pages_are_those_at_the_names_of_the_server(port: int, origins: list[str]) -> None:
    """Over TLS, unless a name is one of this machine (ours)."""
    access = Access(["wan.example.com", "localhost:9000"], ["https://tools.example.com"])
    rules, others = access.page_rules(port), access.rules(port)

    assert rules.allowed_origins == [
        *origins,
        "https://wan.example.com",
        "https://localhost:9000",
        "http://localhost:9000",
    ]
    assert rules.allowed_hosts == others.allowed_hosts
    assert "https://tools.example.com" in others.allowed_origins


class Seen:
    """An app that keeps what reaches it."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.ids: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.ids = dict(scope), dict(ids_of_line())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


CLAIMS = {
    "x-forwarded-for": "198.51.100.7",
    "x-forwarded-proto": "https",
    "x-forwarded-user": "admin",
    "forwarded": "for=198.51.100.7;proto=https",
    "x-real-ip": "198.51.100.7",
    "x-client-ip": "198.51.100.7",
    "x-original-host": "wan.example.com",
}


@pytest.mark.parametrize(
    ("peer", "headers", "address", "scheme"),
    [
        ("10.1.2.3", CLAIMS, "198.51.100.7", "https"),
        ("127.0.0.1", CLAIMS, "127.0.0.1", "http"),
        ("203.0.113.9", CLAIMS, "203.0.113.9", "http"),
        (
            "10.1.2.3",
            {"x-forwarded-for": "1.1.1.1, 198.51.100.7, 10.1.9.9"},
            "198.51.100.7",
            "http",
        ),
        ("10.1.2.3", {}, "10.1.2.3", "http"),
    ],
)
async def test_only_a_named_proxy_says_where_a_request_came_from(
    peer: str, headers: dict[str, str], address: str, scheme: str
) -> None:
    """Anybody can send such a header, and the first address in it is the caller's word (ours)."""
    seen = Seen()
    transport = httpx.ASGITransport(ACCESS.guard(seen), client=(peer, 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as caller:
        answer = await caller.get("/", headers=headers)
    names = {name.decode() for name, _ in seen.scope["headers"]}

    assert (seen.scope["client"][0], seen.scope["scheme"]) == (address, scheme)
    assert not names & {*CLAIMS}
    assert answer.headers["x-request-id"] == seen.ids["request_id"]


async def test_callers_do_not_choose_the_id_of_their_request() -> None:
    """It stands in the log (ours)."""
    seen = Seen()
    transport = httpx.ASGITransport(ACCESS.guard(seen))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as caller:
        first, second = [
            (await caller.get("/", headers={"x-request-id": "mine"})).headers["x-request-id"]
            for _ in range(2)
        ]

    assert len({first, second, "mine"}) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAN_MCP_TRUSTED_PROXIES", "*"),
        ("WAN_MCP_TRUSTED_PROXIES", "0.0.0.0/0"),
        ("WAN_MCP_TRUSTED_PROXIES", "::/0"),
        ("WAN_MCP_TRUSTED_PROXIES", "proxy.example.com"),
        ("WAN_MCP_ALLOWED_HOSTS", "*"),
        ("WAN_MCP_ALLOWED_HOSTS", "https://wan.example.com"),
        ("WAN_MCP_ALLOWED_HOSTS", "wan.example.com/mcp"),
        ("WAN_MCP_ALLOWED_ORIGINS", "*"),
        ("WAN_MCP_ALLOWED_ORIGINS", "https://wan.example.com/"),
        ("WAN_MCP_METRICS_HOST", "localhost"),
        ("WAN_MCP_LOG_FORMAT", "xml"),
    ],
)
def test_setting_that_lets_everybody_in_or_means_nothing_is_refused(
    name: str, value: str, tmp_path: Path
) -> None:
    """One line says what is allowed (ours)."""
    with pytest.raises(BadSettings, match=f"^{name}: must be "):
        Settings.read({name: value}, tmp_path)


# Bytes on the wire


@asynccontextmanager
async def port(access: Access = ACCESS) -> AsyncIterator[tuple[str, int]]:
    """A real port in front of an app that answers 200 to everything."""
    listener = listen("127.0.0.1", 0)
    web = WebServer(quiet_config(access.guard(Seen())))
    with listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(web.serve, sockets=[listener]))
            yield listener.getsockname()
            web.should_exit = True


async def answer(address: tuple[str, int], sent: bytes) -> bytes:
    """All that the server says until it closes the connection."""

    def talk() -> bytes:
        with socket.create_connection(address, 600) as connection:
            said = b""
            with suppress(ConnectionResetError):  # it closes without reading the rest
                connection.sendall(sent)
                while piece := connection.recv(1000):
                    said += piece
            return said

    return await anyio.to_thread.run_sync(talk)


HEAD = b"POST /mcp HTTP/1.1\r\nHost: wan.example.com\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        HEAD
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Host: evil.example\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\n\r\n",
        HEAD + b"X-Forwarded-For : 1.2.3.4\r\n\r\n",
        HEAD + b"X: a\r\n b\r\nTransfer-Encoding\x0b: chunked\r\n\r\n",
    ],
    ids=[
        *("two lengths", "lengths differ", "two codings", "two hosts", "no host"),
        *("a space in a name", "a control in a name"),
    ],
)
async def test_request_that_two_servers_would_read_differently_is_refused(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With it, a caller could slip another request past a proxy (documented: RFC 9112)."""
    async with port() as address:
        with caplog.at_level(logging.ERROR):
            said = await answer(address, request_)

    assert said.startswith(b"HTTP/1.1 400 ") or b" 501 " in said
    assert said.count(b"HTTP/1.1 ") == 1
    assert not caplog.records


@pytest.mark.parametrize("begin", [b"", b"POST /m", HEAD, HEAD + b"Content-Length: 9\r\n\r\nhal"])
async def test_client_that_never_finishes_its_request_is_cut(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few such clients would hold every connection that there can be (ours)."""
    monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.0)
    async with port() as address:
        assert await answer(address, begin) == b""


@pytest.mark.parametrize(
    "headers", [b"X: " + b"a" * 1_000_000 + b"\r\n", b"X: a\r\n" * 200_000], ids=["one", "many"]
)
async def test_giant_headers_are_refused_and_the_server_goes_on(headers: bytes) -> None:
    """What is kept of a request has a limit (ours)."""
    async with port() as address:
        said = await answer(address, HEAD + headers + b"\r\n")
        after = await answer(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert not said or said.startswith(b"HTTP/1.1 400 ")
    assert after.startswith(b"HTTP/1.1 200 ")
