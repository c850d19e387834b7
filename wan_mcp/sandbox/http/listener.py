"""The listening socket: takes connections in, ends them all on close, keeps none too long."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio
import h11

from wan_mcp.sandbox.http.delivery import whole
from wan_mcp.sandbox.http.message import text_reply
from wan_mcp.sandbox.http.peer import Peer, TooLarge

_log = logging.getLogger(__name__)
_CONNECTIONS_AT_ONCE = 256
RETURNS = 100
"""How often a listener that closed tries to have its port again."""


class Listener:
    """Accepts on 127.0.0.1 and has one conversation per connection."""

    def __init__(self, port: int, exchange: Callable[[Peer], Awaitable[bool]]) -> None:
        """`exchange` answers one request and says whether there can be another."""
        self.accepted = 0
        self._port = port
        self._exchange = exchange
        self._conversations: set[asyncio.Task[None]] = set()
        self._crashes: list[BaseException] = []
        self._closing = False

    async def open(self) -> int:
        """Start to listen; the port. Raises: OSError when it is taken."""
        self._socket = await self._listening()
        self._closing = False
        self._socket.setblocking(False)
        self._port = self._socket.getsockname()[1]
        self._room = asyncio.Semaphore(_CONNECTIONS_AT_ONCE)
        self._accepting = asyncio.create_task(self._accept())
        return self._port

    async def _listening(self) -> socket.socket:
        """The socket; a port that was ours may be somebody's client's for a moment."""
        for _ in range(RETURNS if self._closing else 0):
            with suppress(OSError):
                return socket.create_server(("127.0.0.1", self._port), backlog=128)
            await asyncio.sleep(0.05)
        return socket.create_server(("127.0.0.1", self._port), backlog=128)

    async def close(self) -> None:
        """End every conversation. Raises: what went wrong inside one, if anything did."""
        with anyio.CancelScope(shield=True):
            self._closing = True
            for task in self._conversations:
                task.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)
            await self._stop_accepting()
        crashes, self._crashes = self._crashes, []
        if crashes:
            raise BaseExceptionGroup("the sandbox failed while it answered", crashes)

    async def _stop_accepting(self) -> None:
        # A cancelled sock_accept can lose a socket that it has just accepted, so it is woken.
        with socket.socket() as waker:
            waker.setblocking(False)
            await asyncio.get_running_loop().sock_connect(waker, self._socket.getsockname())
            await self._accepting
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            sock, _ = await loop.sock_accept(self._socket)
            if self._closing:
                sock.close()
                return
            self.accepted += 1
            task = loop.create_task(self._converse(sock, self.accepted))
            self._conversations.add(task)
            task.add_done_callback(partial(self._ended, sock))

    def _ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        # Here, because a task that is cancelled before its first step runs no `finally`.
        sock.close()
        self._room.release()
        self._conversations.discard(task)
        if not task.cancelled() and (crash := task.exception()):
            _log.error("the sandbox failed while it answered", exc_info=crash)
            self._crashes.append(crash)

    async def _converse(self, sock: socket.socket, number: int) -> None:
        try:
            peer = Peer(sock, number)
            await self._talk(peer)
            await peer.leave()
        except (OSError, TimeoutError):
            # The client is gone or too slow: nobody is left to be told.
            return

    async def _talk(self, peer: Peer) -> None:
        try:
            while await self._exchange(peer):
                pass
        except h11.RemoteProtocolError as wrong:
            await _turn_away(peer, wrong.error_status_hint)
        except TooLarge:
            await _turn_away(peer, 413)


async def _turn_away(peer: Peer, status: int) -> None:
    if peer.may_reply:
        await whole(peer, text_reply("Bad request", status, {"Connection": "close"}))
