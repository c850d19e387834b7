"""What the tests of lending share: contents, a raw HTTP client, and a tunnel on loopback."""

import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import SocketAttribute, SocketStream

from wan_mcp.storage.delivery import Content

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Reply:
    """What a server answered until it closed the connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes


def content_of(data: bytes, suffix: str = ".mp4", media_type: str = "video/mp4") -> Content:
    """The content of a file that is in memory."""
    return Content(
        lambda: io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest(), suffix, media_type
    )


async def ask(port: int, request: bytes) -> Reply:
    """Send bytes to a port of this computer, and read until the connection is closed."""
    async with await anyio.connect_tcp(HOST, port) as stream:
        await stream.send(request)
        return parsed(await everything(stream))


async def get(port: int, path: str, method: str = "GET", **headers: str) -> Reply:
    """Ask for a path; an underscore in the name of a header means a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {HOST}", *lines])
    return await ask(port, f"{head}\r\n\r\n".encode("latin-1"))


async def everything(stream: SocketStream) -> bytes:
    """All that still comes, until the connection is closed or reset."""
    received = b""
    try:
        while True:
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received


def parsed(raw: bytes) -> Reply:
    """A whole answer; status 0 for none."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    return Reply(int(status.split(" ")[1]) if status else 0, headers, body, raw)


@asynccontextmanager
async def tunnel(target: Callable[[], int | bytes]) -> AsyncIterator[int]:
    """A port of this computer that leads to another one, as a tunnel or a proxy does.

    Args:
        target: the other port, or the answer that the tunnel itself gives, at each connection.
    """

    async def connection(stream: SocketStream) -> None:
        leads_to = target()
        async with stream:
            if isinstance(leads_to, bytes):
                await stream.receive()
                await stream.send(leads_to)
                await stream.send_eof()
                await everything(stream)
                return
            behind = await anyio.connect_tcp(HOST, leads_to)
            async with behind, anyio.create_task_group() as tasks:
                tasks.start_soon(_pass_on, stream, behind)
                await _pass_on(behind, stream)
                tasks.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host=HOST)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, connection)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def _pass_on(source: SocketStream, target: SocketStream) -> None:
    try:
        while True:
            await target.send(await source.receive())
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return
