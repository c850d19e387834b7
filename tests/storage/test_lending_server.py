"""The server that lends files: exact bytes for who has the link, and one answer for the rest."""

import asyncio
import errno
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.lending_client import HOST, ask, everything, get
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.errors import CouldNotFindOut
from wan_mcp.storage import lending_server
from wan_mcp.storage.lending_server import (
    HEAD_SECONDS,
    SEND_SECONDS,
    LendingServer,
    requested,
)
from wan_mcp.storage.lent_files import LentFile

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)

TOKEN = "5e" * 32
PATH = f"/{TOKEN}.mp4"
DATA = random.Random(14).randbytes(300_000)
SHA256 = "ab" * 32
NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nCache-Control: private, no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
)


@dataclass
class Lender:
    """A server with one file, and the tokens that were looked up."""

    file: LentFile
    error: Exception | None = None
    looked_up: list[str] = field(default_factory=list)
    port: int = 0

    async def find(self, token: str) -> LentFile | None:
        self.looked_up.append(token)
        if self.error:
            raise self.error
        return self.file if token == TOKEN else None


@pytest.fixture
async def lender(tmp_path: Path, time: VirtualTime) -> AsyncIterator[Lender]:
    path = tmp_path / "copy"
    path.write_bytes(DATA)
    lender = Lender(LentFile(path, "sub_1", "video", SHA256, len(DATA), "video/mp4"))
    async with anyio.create_task_group() as tasks:
        server = LendingServer(0, "/my/files", lender.find, tasks, time.clock())
        server.open()
        lender.port = server.port
        yield lender
        tasks.cancel_scope.cancel()


async def test_whole_file_comes_with_all_that_a_reader_and_a_proxy_must_know(
    lender: Lender,
) -> None:
    """No proxy may keep it, and no browser may take it for something else (ours)."""
    reply = await get(lender.port, PATH)

    assert (reply.status, reply.body) == (200, DATA)
    assert reply.headers == {
        "accept-ranges": "bytes",
        "etag": f'"{SHA256}"',
        "content-type": "video/mp4",
        "content-length": str(len(DATA)),
        "cache-control": "private, no-store",
        "x-content-type-options": "nosniff",
        "connection": "close",
    }


@pytest.mark.parametrize("path", [PATH, f"/{TOKEN}", f"/my/files{PATH}"])
async def test_head_has_the_headers_of_the_file_and_no_body(path: str, lender: Lender) -> None:
    """A proxy may pass its own path on, or remove it; the ending is for the reader (ours)."""
    reply, whole = await get(lender.port, path, "HEAD"), await get(lender.port, path)

    assert (reply.status, reply.headers, reply.body) == (200, whole.headers, b"")


async def test_any_range_is_exactly_that_slice_of_the_file(lender: Lender) -> None:
    """Readers of videos jump to the index at the end; some ask for `0-` first (observed)."""
    chance = random.Random(140)
    ranges = [(0, 0), (0, len(DATA) - 1), (len(DATA) - 1, len(DATA) + 5)]
    firsts = [chance.randrange(len(DATA)) for _ in range(12)]
    ranges += [(first, chance.randrange(first, len(DATA))) for first in firsts]
    for first, last in ranges:
        reply = await get(lender.port, PATH, Range=f"bytes={first}-{last}")

        expected = DATA[first : last + 1]
        end = first + len(expected) - 1
        assert (reply.status, reply.body) == (206, expected)
        assert reply.headers["content-range"] == f"bytes {first}-{end}/{len(DATA)}"


@given(
    size=st.integers(0, 40),
    first=st.none() | st.integers(0, 50),
    last=st.none() | st.integers(0, 50),
)
def test_range_means_what_the_standard_says(size: int, first: int | None, last: int | None) -> None:
    """RFC 9110, 14.1.2: from first to last, from first to the end, or the last so many."""
    data = bytes(range(size))
    given_first = "" if first is None else str(first)
    given_last = "" if last is None else str(last)

    chosen = requested(f"bytes={given_first}-{given_last}", size)

    if (first is None and last is None) or (first and last is not None and last < first):
        assert chosen is None
        return
    if first is None:
        expected = data[-last:] if last else b""
    else:
        expected = data[first:] if last is None else data[first : last + 1]
    assert chosen is not None
    assert bytes(data[place] for place in chosen) == expected


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,5-6"),
        *("bytes=1--2", "bytes=\u00b2-", "bytes=" + "9" * 5_000 + "-", "bytes=0x1-2"),
    ],
)
async def test_range_that_is_not_understood_gives_the_whole_file(
    header: str, lender: Lender
) -> None:
    """A server may ignore the header (RFC 9110, 14.2)."""
    reply = await get(lender.port, PATH, Range=header)

    assert (reply.status, reply.body) == (200, DATA)


@pytest.mark.parametrize("header", [f"bytes={len(DATA)}-", "bytes=-0", f"bytes={10**17}-{10**17}"])
async def test_range_behind_the_end_is_refused_with_the_length(header: str, lender: Lender) -> None:
    """The reader may choose another (RFC 9110, 15.5.17)."""
    reply = await get(lender.port, PATH, Range=header)

    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (f'"{SHA256}"', 206),
        (f'W/"{SHA256}"', 200),
        ('"other"', 200),
        ("Sun, 29 Nov 2026 12:00:00 GMT", 200),
    ],
)
async def test_reader_that_goes_on_gets_a_part_only_of_the_same_bytes(
    condition: str, status: int, lender: Lender
) -> None:
    """If-Range needs a strong validator (RFC 9110, 13.1.5)."""
    reply = await get(lender.port, PATH, Range="bytes=5-9", If_Range=condition)

    assert (reply.status, reply.body) == (status, DATA[5:10] if status == 206 else DATA)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "/index.html", "/.", "/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"),
        *("/my/files", "/my/files/", f"/my/other{PATH}", f"/my/files/my/files{PATH}", f"/{PATH}"),
        *(f"/x/..{PATH}", f"{PATH}/", f"{PATH}?x=1", f"{PATH}#x", f"{PATH}%00", f"/{TOKEN[:-1]}"),
        *(f"/{TOKEN}0", f"/{TOKEN.upper()}", f"/{TOKEN}.MP4", f"/{TOKEN}.", f"/%35{TOKEN[1:]}"),
        *(f"http://{HOST}{PATH}", "*", f"\\{TOKEN}", f"/{TOKEN}/../{TOKEN}", "/" + "a" * 8_000),
        *(f"/{'0' * 64}.mp4", f"/{TOKEN[:-1]}f.mp4", "/sub_1/video", "/copy", "/favicon.ico"),
    ],
)
async def test_every_other_path_gets_the_same_answer(path: str, lender: Lender) -> None:
    """Nobody can learn from an answer what there is (ours)."""
    assert (await get(lender.port, path)).raw == NOT_FOUND


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "get", "TRACE"])
async def test_every_other_method_gets_the_same_answer(method: str, lender: Lender) -> None:
    """The files can only be read (ours)."""
    assert (await get(lender.port, PATH, method)).raw == NOT_FOUND
    assert lender.looked_up == []


HIDDEN = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(HIDDEN)}\r\n\r\n{HIDDEN}",
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}",
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        f"\r\n0\r\n\r\n{HIDDEN}",
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n{HIDDEN}",
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n{HIDDEN}",
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\n folded\r\nX\x00: y\r\n\r\n",
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        f"GET {PATH} HTTP/1.1\r\n\r\n",
        f"GET {PATH} HTTP/9.9\r\nHost: x\r\n\r\n",
        f"GET  {PATH} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET {PATH}\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "GET /" + "a" * 100_000,
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 20_000,
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX: " + "y" * 100_000 + "\r\n\r\n",
    ],
)
async def test_request_that_two_servers_could_read_differently_is_refused(
    request_text: str, lender: Lender
) -> None:
    """A proxy in front of this one must not be led around its own rules (ours)."""
    reply = await ask(lender.port, request_text.encode("latin-1"))

    assert reply.status in (400, 431)
    assert reply.raw.count(b"HTTP/1.1 ") == 1
    assert lender.looked_up == []


async def test_second_request_on_a_connection_is_not_answered(lender: Lender) -> None:
    """Each connection carries one request, so none can hide behind another (ours)."""
    other = f"GET /{'0' * 64} HTTP/1.1\r\nHost: x\r\n\r\n"

    reply = await ask(lender.port, (other + HIDDEN).encode())

    assert reply.raw == NOT_FOUND
    assert lender.looked_up == ["0" * 64]


async def test_client_that_does_not_finish_its_request_is_cut_off(
    lender: Lender, time: VirtualTime
) -> None:
    """Else a few such clients would occupy every connection (ours)."""
    received = await ask(lender.port, f"GET {PATH} HTTP/1.1\r\nHost:".encode())

    assert received.raw == b""
    assert time.passed() == pytest.approx(HEAD_SECONDS, abs=1)


async def test_stranger_who_keeps_its_connection_open_loses_it_soon(
    lender: Lender, monkeypatch: pytest.MonkeyPatch, time: VirtualTime
) -> None:
    """Guesses must not hold the connections that PixelDojo needs (ours)."""
    monkeypatch.setattr(lending_server, "MAX_CONNECTIONS", 1)
    async with anyio.create_task_group() as tasks:
        server = LendingServer(0, "", lender.find, tasks, time.clock())
        server.open()
        async with await anyio.connect_tcp(HOST, server.port) as stranger:
            await stranger.send(b"GET /guess HTTP/1.1\r\nHost: a\r\n\r\n")

            reply = await get(server.port, PATH)

        tasks.cancel_scope.cancel()
    assert reply.body == DATA
    assert time.passed() < HEAD_SECONDS < SEND_SECONDS


async def test_client_that_does_not_take_the_file_is_cut_off(
    lender: Lender, time: VirtualTime
) -> None:
    """Each block has its own limit, so a slow line that moves is not cut off (ours)."""
    os.truncate(lender.file.path, 30_000_000)  # more than the system keeps for a client
    lender.file = LentFile(lender.file.path, "sub_1", "video", SHA256, 30_000_000, "video/mp4")
    async with await anyio.connect_tcp(HOST, lender.port) as stream:
        await stream.send(HIDDEN.encode())
        await anyio.sleep(2 * SEND_SECONDS)  # virtual time

        received = await everything(stream)

    assert 0 < len(received) < 30_000_000


async def test_more_clients_than_connections_are_served_in_turn(
    lender: Lender, monkeypatch: pytest.MonkeyPatch, time: VirtualTime
) -> None:
    """Whoever holds a connection loses it in bounded time, and the next one is served (ours)."""
    monkeypatch.setattr(lending_server, "MAX_CONNECTIONS", 3)
    async with anyio.create_task_group() as tasks:
        server = LendingServer(0, "", lender.find, tasks, time.clock())
        server.open()
        silent = [await anyio.connect_tcp(HOST, server.port) for _ in range(3)]

        reply = await get(server.port, PATH)

        for stream in silent:
            assert await everything(stream) == b""
            await stream.aclose()
        tasks.cancel_scope.cancel()
    assert reply.body == DATA
    assert time.passed() == pytest.approx(HEAD_SECONDS, abs=1)


async def test_file_with_another_length_is_gone(lender: Lender) -> None:
    """Half a file is worse than none: the job would be paid, and fail (ours)."""
    os.truncate(lender.file.path, 1_000)

    assert (await get(lender.port, PATH)).status == 410


async def test_file_that_is_shortened_while_it_is_sent_ends_before_its_length(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader sees that something is missing (RFC 9112, 8)."""
    send: Callable[..., Awaitable[None]] = lending_server._sent

    async def shorten(*given: object) -> None:
        os.truncate(lender.file.path, 0)
        await send(*given)

    monkeypatch.setattr(lending_server, "_sent", shorten)

    reply = await get(lender.port, PATH)

    assert (reply.status, int(reply.headers["content-length"])) == (200, len(DATA))
    assert len(reply.body) < len(DATA)


async def test_deleted_file_is_like_one_that_never_was(lender: Lender) -> None:
    """Its request has ended (ours)."""
    lender.file.path.unlink()

    assert (await get(lender.port, PATH)).raw == NOT_FOUND


async def test_ledger_that_cannot_be_read_lends_nothing_for_now(lender: Lender) -> None:
    """Whether the request still lives is not known; the reader may come again (ours)."""
    lender.error = CouldNotFindOut("The ledger cannot be read.")

    reply = await get(lender.port, PATH)

    assert (reply.status, reply.headers["retry-after"], reply.body) == (503, "10", b"")


async def test_defect_ends_one_connection_and_not_the_server(
    lender: Lender, caplog: pytest.LogCaptureFixture
) -> None:
    """Payments run in the same tasks (ours)."""
    lender.error = ZeroDivisionError()
    broken = await get(lender.port, PATH)
    lender.error = None

    assert broken.raw == b""
    assert "a file could not be lent" in caplog.text
    assert (await get(lender.port, PATH)).body == DATA


async def test_server_without_descriptors_serves_again_when_some_are_free(
    lender: Lender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The files of the jobs must come back, without a restart (ours)."""
    loop = asyncio.get_running_loop()
    failures = [OSError(errno.EMFILE, "Too many open files") for _ in range(3)]
    really = loop.sock_accept

    async def accept(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return await really(listener)

    monkeypatch.setattr(loop, "sock_accept", accept)
    await get(lender.port, PATH)  # the server waits for this one already

    assert (await get(lender.port, PATH)).body == DATA
    assert failures == []
    assert "Too many open files" in caplog.text
