"""A line to a server that breaks, or falls silent, after so many bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Wire:
    """What passes all connections together.

    Args:
        endpoint: the address of the server.
        breaks_after: bytes towards the server after which one connection breaks, once.
        breaks_each_after: the same, for every connection.
        falls_silent: nothing passes any more, instead of a break.
        bytes_per_second: how fast everything passes towards the server; 0: as fast as it can.
        holds_at: bytes towards the server after each of which nothing passes until `release`.

    Attributes:
        bytes_per_second: may be changed at any time.
        breaks: how often it broke or fell silent.
        passed: how many bytes have passed towards the server.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        breaks_after: int | None = None,
        breaks_each_after: int | None = None,
        falls_silent: bool = False,
        bytes_per_second: int = 0,
        holds_at: Sequence[int] = (),
    ) -> None:
        self._server = urlsplit(endpoint)
        self._left = breaks_after
        self._for_each = breaks_each_after
        self._falls_silent = falls_silent
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._holds_at = list(holds_at)
        self._held = asyncio.Event()
        self._released = asyncio.Event()
        self.breaks = 0
        self.passed = 0

    async def holds(self) -> None:
        """Wait until it holds."""
        await self._held.wait()

    def break_each_after(self, count: int | None) -> None:
        """Let every connection from now on break after so many bytes; None for never."""
        self._for_each = count

    def hold_after(self, count: int) -> None:
        """Hold when so many more bytes have passed."""
        self._holds_at = [self.passed + count]

    def release(self) -> None:
        """Let everything pass up to the next of the points."""
        self._held.clear()
        self._released.set()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """The address of this end of the line."""
        listener = socket.create_server(("127.0.0.1", 0))
        # Else the system takes megabytes from the sender that never pass.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        server = await asyncio.start_server(self._accept, sock=listener)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._connect(reader, writer)))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            address = self._server.hostname, self._server.port
            answers, requests = await asyncio.open_connection(*address)
            try:
                await self._both_ways(reader, writer, answers, requests)
            finally:
                await _end(requests)
        finally:
            await _end(writer)

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
    ) -> None:
        ways = [self._forward(reader, requests), _copy(answers, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        left = self._for_each
        while block := await reader.read(65_536):
            if left is not None:
                left -= len(block)
            if self._left is not None:
                self._left -= len(block)
            if (left or 0) < 0 or (self._left or 0) < 0:
                self.breaks += 1
                if self._falls_silent:
                    await asyncio.Event().wait()
                self._left = None
                return
            self.passed += len(block)
            if self._holds_at and self.passed >= self._holds_at[0]:
                self._holds_at.pop(0)
                self._released.clear()
                self._held.set()
                await self._released.wait()
            if self.bytes_per_second:
                now = asyncio.get_running_loop().time()
                self._free_at = max(self._free_at, now) + len(block) / self.bytes_per_second
                await asyncio.sleep(self._free_at - now)
            requests.write(block)
            await requests.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(65_536):
        writer.write(block)
        await writer.drain()


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError):  # the other side ended it first
        await writer.wait_closed()


@asynccontextmanager
async def always_answering(status: int, body: str = "", location: str = "") -> AsyncIterator[str]:
    """The address of a server that answers every request with the same, before its body came.

    Args:
        location: where the answer says that something is.
    """
    elsewhere = f"Location: {location}\r\n" if location else ""
    answer = (
        f"HTTP/1.1 {status} Answer\r\nContent-Type: application/xml\r\n{elsewhere}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
