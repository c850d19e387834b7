"""One client's connection. It uses h11 and the bare transport, so HTTP can be broken in any way."""

import asyncio
import os
import socket
import struct
from contextlib import suppress

import h11

from wan_mcp.sandbox.http.message import Reply, Request

BODY_LIMIT_BYTES = 1 << 20
_BLOCK_BYTES = 65_536
_LEAVE_SECONDS = 600  # a client that leaves slowly costs one waiting task
# On Windows both halves of struct linger are shorts.
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class TooLarge(Exception):
    """The request's body is larger than 1 MiB."""


class Peer:
    """Reads requests from one client and writes replies to it, valid or broken."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        """Use a connection that has just been accepted; `number` goes into its requests."""
        # With a limit of 0, `drain` returns only when the system has taken every byte.
        writer.transport.set_write_buffer_limits(0)
        self._reader = reader
        self._writer = writer
        self._number = number
        self._http = h11.Connection(h11.SERVER)

    async def head(self) -> Request | None:
        """The next request without its body; None when the client has closed the connection.

        Raises:
            h11.RemoteProtocolError: it is not HTTP.
            OSError: the connection is broken.
        """
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Request(
            event.method.decode("ascii"), event.target.decode("ascii"), headers, self._number
        )

    async def body(self) -> bytes:
        """The body of the current request.

        Raises:
            TooLarge: it is over the limit.
            h11.RemoteProtocolError: it is not HTTP.
            OSError: the connection is broken.
        """
        if self._http.they_are_waiting_for_100_continue:
            await self.write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            )
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > BODY_LIMIT_BYTES:
                raise TooLarge
        return bytes(body)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_BLOCK_BYTES))
        return event

    async def start(self, reply: Reply, length: int | None) -> None:
        """Send the status and the headers; if `length` is None, the body is sent in chunks."""
        framing = (
            ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        )
        response = h11.Response(status_code=reply.status, headers=[*reply.headers.items(), framing])
        await self.write(self._http.send(response))

    async def data(self, block: bytes) -> None:
        """Send a part of the announced body."""
        await self.write(self._http.send(h11.Data(data=block)))

    async def end(self) -> None:
        """Send the end of the body."""
        await self.write(self._http.send(h11.EndOfMessage()))

    async def write(self, block: bytes | None) -> None:
        """Send bytes as they are."""
        self._writer.write(block or b"")
        await self._writer.drain()

    def can_go_on(self) -> bool:
        """Whether the connection can carry another request; if so, it is made ready for it."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if done:
            self._http.start_next_cycle()
        return done

    @property
    def may_reply(self) -> bool:
        """Whether no reply to the current request has been started."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def until_gone(self) -> None:
        """Read and discard what the client still sends, until it closes the connection."""
        while await self._reader.read(_BLOCK_BYTES):
            pass

    async def leave(self) -> None:
        """End the connection in good order. Closing it with unread bytes would reset it."""
        if not self._writer.is_closing():
            self._writer.write_eof()
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.until_gone()

    def reset(self) -> None:
        """Break the connection off: the client's system reports a reset instead of an end."""
        client: socket.socket = self._writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.close()

    def close(self) -> None:
        """Close the connection at once, and drop what has not been sent."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Wait until the connection is closed."""
        with suppress(OSError):  # how it ended does not matter here
            await self._writer.wait_closed()
