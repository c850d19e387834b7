"""One client's connection: h11 over a bare socket, so that every way to break HTTP is at hand."""

import asyncio
import os
import socket
import struct

import h11

from wan_mcp.sandbox.http.message import Reply, Request

BODY_LIMIT = 1 << 20
_BLOCK = 65_536
_LEAVE_SECONDS = 1
# Windows declares both halves of struct linger as shorts.
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class TooLarge(Exception):
    """The client's body is over the limit of 1 MiB."""


class Peer:
    """Reads requests from one client and writes replies to it, well-formed or not."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._number = number
        self._http = h11.Connection(h11.SERVER)
        self._loop = asyncio.get_running_loop()

    async def head(self) -> Request | None:
        """The next request without its body; None when the client is gone.

        Raises: h11.RemoteProtocolError, OSError.
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
        """The body of the request at hand. Raises: TooLarge, h11.RemoteProtocolError, OSError."""
        if self._http.they_are_waiting_for_100_continue:
            await self.write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            )
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > BODY_LIMIT:
                raise TooLarge
        return bytes(body)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._loop.sock_recv(self._sock, _BLOCK))
        return event

    async def start(self, reply: Reply, length: int | None) -> None:
        """The status and headers; without a length the body goes out in chunks."""
        framing = (
            ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        )
        response = h11.Response(status_code=reply.status, headers=[*reply.headers.items(), framing])
        await self.write(self._http.send(response))

    async def data(self, block: bytes) -> None:
        """Part of the announced body."""
        await self.write(self._http.send(h11.Data(data=block)))

    async def end(self) -> None:
        await self.write(self._http.send(h11.EndOfMessage()))

    async def write(self, block: bytes | None) -> None:
        await self._loop.sock_sendall(self._sock, block or b"")

    def can_go_on(self) -> bool:
        """Whether the connection can carry another request; if so, it is made ready for it."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if done:
            self._http.start_next_cycle()
        return done

    @property
    def may_reply(self) -> bool:
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def until_gone(self) -> None:
        """Read and forget what the client still sends, until it hangs up."""
        while await self._loop.sock_recv(self._sock, _BLOCK):
            pass

    async def leave(self) -> None:
        """End in good order: closing with bytes unread would reset the connection instead."""
        if self._sock.fileno() >= 0:
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.until_gone()

    def reset(self) -> None:
        """Tear the connection down: the client's system reports a reset, not an end."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._sock.close()
