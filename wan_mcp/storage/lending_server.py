"""A small HTTP server on loopback that gives out the files of live requests, and nothing else.

It answers one GET or HEAD on each connection and closes it, so no second request can be hidden in
the first one. Everything but a lent file gets the same answer, 404. h11 parses the requests; no
client can make it keep more than MAX_HEAD_BYTES, or occupy a connection for ever.
"""

import logging
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO

import anyio
import anyio.to_thread
import h11
from anyio.abc import SocketListener, SocketStream, TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import WanError
from wan_mcp.storage.delivery import Changed
from wan_mcp.storage.lent_files import LentFile

HOST = "127.0.0.1"
MAX_CONNECTIONS = 64
"""How many connections are served at the same time; others wait until one of these has ended."""
MAX_HEAD_BYTES = 16_384
HEAD_SECONDS = 10.0
"""How long a client may take to send its request."""
SEND_SECONDS = 30.0
"""How long a client may take to receive one block, and to close the connection after a file."""
LEAVE_SECONDS = 2.0
"""How long it may take to close the connection after any other answer. It is short, because
strangers must not occupy the connections that PixelDojo needs."""
BLOCK_BYTES = 1 << 17
_SHORTAGE_SECONDS = 1.0
_RECEIVE_BYTES = 4_096
_MOST_IGNORED_BYTES = 1 << 20
"""How many more bytes a client may send after its answer, so that it can read that answer."""
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""Raised if the client closed the connection, or is too slow: a TimeoutError is an OSError."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

Find = Callable[[str], Awaitable[LentFile | None]]
"""The file that a token names; None if nothing is lent under it. May raise WanError."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    file: BinaryIO | None = None
    start: int = 0
    length: int = 0


_NOT_FOUND = _Answer(404)


class LendingServer:
    """Serves files on a loopback port, as soon as that port is free.

    Args:
        port: the port; 0 for any free one, in tests.
        prefix: a path before the token, such as `/files`, which a proxy may keep or remove.
        find: finds the file that a token names.
        tasks: the server's own tasks, in which connections are served.
        clock: time.
    """

    def __init__(self, port: int, prefix: str, find: Find, tasks: TaskGroup, clock: Clock) -> None:
        self.port = port
        self._path = re.compile(rf"(?:{re.escape(prefix)})?/([0-9a-f]{{64}})(?:\.[a-z0-9]{{1,8}})?")
        self._find = find
        self._tasks = tasks
        self._clock = clock
        self._slots = anyio.Semaphore(MAX_CONNECTIONS)
        self._listens = False

    def open(self) -> None:
        """Listen on the port, unless this server already does.

        Raises:
            OSError: the port is taken, or must not be used.
        """
        if self._listens:
            return
        listener = socket.create_server((HOST, self.port))
        self.port = listener.getsockname()[1]
        listener.setblocking(False)
        self._listens = True
        self._tasks.start_soon(self._serve, listener)

    async def _serve(self, plain: socket.socket) -> None:
        try:
            async with (
                await SocketListener.from_socket(plain) as listener,
                anyio.create_task_group() as connections,
            ):
                while True:
                    await self._slots.acquire()
                    connections.start_soon(self._connection, await self._accepted(listener))
        finally:
            self._listens = False
            plain.close()

    async def _accepted(self, listener: SocketListener) -> SocketStream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:  # no descriptor is left, or the client has gone again
                logger.warning("no file can be lent at the moment: %s", error.strerror)
                await self._clock.sleep(_SHORTAGE_SECONDS)

    async def _connection(self, stream: SocketStream) -> None:
        try:
            async with stream:
                with suppress(*_GONE):
                    await self._converse(stream)
        except Exception:
            logger.exception("a file could not be lent")  # a defect ends this connection only
        finally:
            self._slots.release()

    async def _converse(self, stream: SocketStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        request = None
        try:
            with anyio.fail_after(HEAD_SECONDS):
                request = await _head(http, stream)
            answer = await self._answer(request)
        except h11.RemoteProtocolError as error:
            answer = _Answer(error.error_status_hint)
        try:
            await _send(http, stream, answer, body=request is None or request.method != b"HEAD")
        finally:
            if answer.file is not None:
                answer.file.close()  # nothing waits here, so a cancelled task closes it too
        await _leave(stream, LEAVE_SECONDS if answer.file is None else SEND_SECONDS)

    async def _answer(self, request: h11.Request) -> _Answer:
        path = self._path.fullmatch(request.target.decode("latin-1"))
        if path is None or request.method not in (b"GET", b"HEAD"):
            return _NOT_FOUND
        try:
            lent = await self._find(path[1])
            if lent is None:
                return _NOT_FOUND
            file = await anyio.to_thread.run_sync(lent.open)
        except FileNotFoundError:
            return _NOT_FOUND
        except Changed:
            return _Answer(410)
        except (OSError, WanError):  # too many open files, or a ledger that cannot be read
            return _Answer(503, {"Retry-After": "10"})
        return _file_answer(lent, file, _headers(request))


def requested(header: str, size: int) -> range | None:
    """The bytes that a Range header asks for, in a file of `size` bytes.

    Returns:
        An empty range if the file has no such bytes. None if the header is to be ignored, because
        it asks for several ranges or makes no sense (RFC 9110, 14.2).
    """
    parts = _RANGE.fullmatch(header)
    if parts is None or not (parts[1] or parts[2]):
        return None
    if not parts[1]:
        return range(max(size - int(parts[2]), 0), size)
    first, last = int(parts[1]), int(parts[2] or size)
    if parts[2] and last < first:
        return None
    return range(first, min(last + 1, size))


def etag(sha256: str) -> str:
    """The strong ETag of the bytes with this hash."""
    return f'"{sha256}"'


def _file_answer(lent: LentFile, file: BinaryIO, headers: Mapping[str, str]) -> _Answer:
    wanted = headers.get("range", "")
    if headers.get("if-range", etag(lent.sha256)) != etag(lent.sha256):
        wanted = ""
    common = {"Accept-Ranges": "bytes", "ETag": etag(lent.sha256)}
    typed = {**common, "Content-Type": lent.media_type}
    chosen = requested(wanted, lent.size)
    if chosen is None:
        return _Answer(200, typed, file, 0, lent.size)
    if not chosen:
        return _Answer(416, {**common, "Content-Range": f"bytes */{lent.size}"}, file)
    part = f"bytes {chosen[0]}-{chosen[-1]}/{lent.size}"
    return _Answer(206, {**typed, "Content-Range": part}, file, chosen[0], len(chosen))


def _headers(request: h11.Request) -> dict[str, str]:
    """The headers by their names in lower case; the value of a repeated one becomes "repeated"."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key = name.decode("ascii")
        headers[key] = "repeated" if key in headers else value.decode("latin-1")
    return headers


async def _head(http: h11.Connection, stream: SocketStream) -> h11.Request:
    """The request, which has no body.

    Raises:
        h11.RemoteProtocolError: it is not HTTP/1, is too long, or has a body.
        anyio.EndOfStream: the client has closed the connection.
    """
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await stream.receive(_RECEIVE_BYTES))
    if not isinstance(event, h11.Request):
        raise anyio.EndOfStream
    if event.http_version not in (b"1.0", b"1.1") or any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in event.headers
    ):
        raise h11.RemoteProtocolError("another version, or a request with a body")
    return event


async def _send(http: h11.Connection, stream: SocketStream, answer: _Answer, *, body: bool) -> None:
    headers = {
        **answer.headers,
        "Content-Length": str(answer.length),
        "Cache-Control": "private, no-store",  # no proxy may keep it for longer than it is lent
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    reason = HTTPStatus(answer.status).phrase.encode()
    response = h11.Response(status_code=answer.status, headers=[*headers.items()], reason=reason)
    await _sent(stream, http.send(response))
    if answer.file is None or not body:
        return
    await anyio.to_thread.run_sync(answer.file.seek, answer.start)
    left = answer.length
    while left:
        block = await anyio.to_thread.run_sync(answer.file.read, min(left, BLOCK_BYTES))
        if not block:
            return  # the file was shortened: the client sees that the end is missing
        left -= len(block)
        await _sent(stream, http.send(h11.Data(data=block)))


async def _sent(stream: SocketStream, data: bytes | None) -> None:
    with anyio.fail_after(SEND_SECONDS):
        await stream.send(data or b"")


async def _leave(stream: SocketStream, seconds: float) -> None:
    """Close the connection properly: closing it with unread bytes would reset it."""
    await stream.send_eof()
    ignored = 0
    with anyio.move_on_after(seconds):
        while ignored < _MOST_IGNORED_BYTES:
            ignored += len(await stream.receive())
