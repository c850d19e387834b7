"""The site for uploads: who is answered, what is passed on, and who is left."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from tests.transports.pages import ACCESS, CALLERS, visitor
from wan_mcp.transports import uploads
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations import web_server
from wan_mcp.transports.operations.web_server import WebServer, quiet_config
from wan_mcp.transports.uploads import UploadSite

pytestmark = pytest.mark.anyio


@dataclass
class Answer:
    status: int
    body: dict[str, Any]
    retry_after: float | None = None


@dataclass
class Desk:
    """Takes what comes; only the ticket `right` is one.

    Attributes:
        taken: how many bytes have come.
        gone: how many uploads ended before their end.
    """

    taken: int = 0
    gone: int = 0
    blocks: list[int] = field(default_factory=list)
    more: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def until(self, taken: int) -> None:
        while self.taken < taken:
            await self.more.wait()

    async def page(self, ticket: str, nonce: str) -> tuple[int, str]:
        return (200 if ticket == "right" else 404), f"<script nonce={nonce}></script>"

    async def look(self, ticket: str, slot: str, size: int) -> Answer:
        return Answer(200 if ticket == "right" else 404, {"size": size, "slot": slot})

    async def receive(
        self, ticket: str, slot: str, size: int, blocks: AsyncIterator[bytes]
    ) -> Answer:
        if ticket != "right":
            return Answer(503, {"error": "full"}, retry_after=10.0)
        try:
            async for block in blocks:
                self.taken += len(block)
                self.blocks.append(len(block))
                self.more.set()
                self.more = anyio.Event()
        except BaseException:
            self.gone += 1
            self.ended.set()
            raise
        return Answer(201, {"size": size, "slot": slot})


@pytest.fixture
def desk() -> Desk:
    return Desk()


def app(desk: Desk | None) -> Starlette:
    return Starlette(routes=list(UploadSite(lambda: desk, ACCESS.page_rules(8765)).routes))


@asynccontextmanager
async def client(desk: Desk | None) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor(app(desk)) as client:
        yield client


@pytest.mark.parametrize(("headers", "status"), CALLERS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_only_the_servers_own_names_and_pages_are_answered(
    desk: Desk, method: str, headers: dict[str, str], status: int
) -> None:
    """A page elsewhere that knows a ticket could still not use its visitor for an upload (ours)."""
    async with client(desk) as caller:
        paths = ["/uploads/right/video?size=1", *(["/uploads/right"] if method == "GET" else [])]
        found = {
            (await caller.request(method, path, headers=headers, content=b"x")).status_code
            for path in paths
        }

    assert {200 if code == 201 else code for code in found} == {status}
    assert desk.taken == (1 if method == "PUT" and status == 200 else 0)


async def test_page_runs_only_its_own_script_and_stays_in_no_cache(desk: Desk) -> None:
    async with client(desk) as caller:
        first, second = [await caller.get("/uploads/right") for _ in range(2)]
        unknown = await caller.get("/uploads/wrong")
    policy = first.headers["content-security-policy"]

    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert policy != second.headers["content-security-policy"]
    for answer in (first, unknown):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
    assert (first.status_code, unknown.status_code) == (200, 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/uploads", 404),
        ("GET", "/uploads/right/video", 400),
        ("GET", "/uploads/right/video?size=-1", 400),
        ("GET", "/uploads/right/video?size=1e9", 400),
        ("GET", "/uploads/right/video?size=" + "9" * 40, 400),
        ("GET", "/uploads/right/video/more", 404),
        ("PUT", "/uploads/right", 405),
        ("POST", "/uploads/right/video", 405),
        ("DELETE", "/uploads/right/video", 405),
    ],
)
async def test_nothing_else_is_there(desk: Desk, method: str, path: str, status: int) -> None:
    async with client(desk) as caller:
        assert (await caller.request(method, path)).status_code == status


async def test_server_that_takes_no_uploads_has_no_page() -> None:
    async with client(None) as caller:
        answers = [await caller.get("/uploads/right"), await caller.put("/uploads/right/video")]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_refusal_says_when_to_try_again(desk: Desk) -> None:
    async with client(desk) as caller:
        answer = await caller.put("/uploads/wrong/video", content=b"x")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert desk.taken == 0


# Bytes on the wire


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[socket.socket]:
    """A connection to a server as `wan-mcp http` has it."""
    with listen("127.0.0.1", 0) as listener:
        web = WebServer(quiet_config(ACCESS.guard(app(desk))))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: web.serve(sockets=[listener]))
            with socket.create_connection(listener.getsockname()) as connection:
                connection.setblocking(False)
                yield connection
            web.should_exit = web.force_exit = True


HEAD = b"PUT /uploads/right/video HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def send(connection: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        await anyio.wait_writable(connection)
        view = view[connection.send(view) :]


async def answer(connection: socket.socket) -> bytes:
    """Everything that comes until the server closes the connection."""
    found = b""
    while True:
        await anyio.wait_readable(connection)
        try:
            block = connection.recv(65_536)
        except ConnectionError:
            return found
        if not block:
            return found
        found += block


async def test_a_file_may_come_for_longer_than_other_requests(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole one takes minutes on many lines (ours)."""
    async with served(desk) as connection:
        await send(connection, HEAD + b"Connection: close\r\nContent-Length: 9\r\n\r\n123")
        await desk.until(3)
        monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.0)  # from now on for each other one
        for block in (b"456", b"789"):
            await send(connection, block)
            await desk.until(int(block[-1:]))
        found = await answer(connection)

    assert found.startswith(b"HTTP/1.1 201")
    assert (desk.taken, desk.gone) == (9, 0)


async def test_without_a_ticket_no_request_may_take_longer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else anybody could keep connections with uploads that are refused (ours)."""
    monkeypatch.setattr(web_server, "REQUEST_SECONDS", 0.0)
    async with served(desk) as connection:
        wrong = HEAD.replace(b"right", b"wrong")
        await send(connection, wrong + b"Content-Length: 9\r\n\r\n123")
        await answer(connection)

    assert desk.taken == 0


@pytest.mark.parametrize("limit", ["STALL_SECONDS", "MOST_SECONDS"])
async def test_sender_that_is_too_slow_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """In the middle of a file, and over the whole of it (ours)."""
    monkeypatch.setattr(uploads, limit, 0.01)
    async with served(desk) as connection:
        await send(connection, HEAD + b"Content-Length: 9\r\n\r\n123")
        found = await answer(connection)

    assert found.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in found.lower()
    assert desk.gone == 1


async def test_sender_that_goes_ends_the_upload(desk: Desk) -> None:
    async with served(desk) as connection:
        await send(connection, HEAD + b"Content-Length: 9\r\n\r\n123")
        await desk.until(3)
        connection.shutdown(socket.SHUT_RDWR)
        await desk.ended.wait()

    assert (desk.taken, desk.gone) == (3, 1)


async def test_file_without_a_length_is_refused_before_it_comes(desk: Desk) -> None:
    """Its size could not be limited in time (ours)."""
    async with served(desk) as connection:
        await send(connection, HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        await send(connection, b"0\r\n\r\n")
        found = await answer(connection)

    assert found.startswith(b"HTTP/1.1 411")
    assert desk.taken == 0


async def test_a_large_file_passes_in_small_blocks(desk: Desk) -> None:
    """Memory does not grow with it (ours)."""
    size = 20_000_000
    async with served(desk) as connection:
        head = HEAD + f"Connection: close\r\nContent-Length: {size}\r\n\r\n".encode()
        await send(connection, head + bytes(size))
        await answer(connection)

    assert desk.taken == size
    assert max(desk.blocks) < 1_000_000
