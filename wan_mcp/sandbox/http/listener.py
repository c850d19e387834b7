"""The listening socket: it accepts connections and, when it closes, ends all of them."""

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
_REOPEN_ATTEMPTS = 100
_REOPEN_SECONDS = 0.05


class Listener:
    """Accepts connections on 127.0.0.1, and runs one conversation on each.

    Attributes:
        accepted: TCP connections accepted so far.
    """

    def __init__(self, port: int, exchange: Callable[[Peer], Awaitable[bool]]) -> None:
        """Prepare to listen; nothing listens yet.

        Args:
            port: 0 takes any free one.
            exchange: answers one request, and says whether the connection can carry another.
        """
        self.accepted = 0
        self._port = port
        self._exchange = exchange
        self._conversations: dict[asyncio.Task[None], Peer] = {}
        self._failures: list[BaseException] = []
        self._closed = False

    async def open(self) -> int:
        """Start to listen, and return the port.

        Raises:
            OSError: the port is taken.
        """
        sock = await self._bound()
        self._port = sock.getsockname()[1]
        self._closed = False
        self._server = await asyncio.start_server(self._accept, sock=sock)
        return self._port

    async def _bound(self) -> socket.socket:
        """The socket. After a close, another program's client may hold the port for a moment."""
        for _ in range(_REOPEN_ATTEMPTS if self._closed else 0):
            with suppress(OSError):
                return socket.create_server(("127.0.0.1", self._port))
            await asyncio.sleep(_REOPEN_SECONDS)
        return socket.create_server(("127.0.0.1", self._port))

    async def close(self) -> None:
        """Stop listening, and end every conversation.

        Raises:
            BaseExceptionGroup: conversations that failed.
        """
        with anyio.CancelScope(shield=True):
            self._closed = True
            self._server.close()
            conversations = dict(self._conversations)
            for task in conversations:
                task.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)
            await asyncio.gather(*(peer.closed() for peer in conversations.values()))
        failures, self._failures = self._failures, []
        if failures:
            raise BaseExceptionGroup("the sandbox failed while it answered", failures)

    # Not a coroutine, whose task would belong to asyncio: `close` must know every conversation.
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        self.accepted += 1
        peer = Peer(reader, writer, self.accepted)
        task = asyncio.create_task(self._converse(peer))
        self._conversations[task] = peer
        task.add_done_callback(partial(self._ended, peer))

    def _ended(self, peer: Peer, task: asyncio.Task[None]) -> None:
        # Here, because a task that is cancelled before its first step runs no `finally`.
        peer.close()
        del self._conversations[task]
        if not task.cancelled() and (failure := task.exception()):
            _log.error("the sandbox failed while it answered", exc_info=failure)
            self._failures.append(failure)

    async def _converse(self, peer: Peer) -> None:
        # An OSError or a timeout: the client is gone or too slow, and there is nobody to answer.
        with suppress(OSError, TimeoutError):
            await self._talk(peer)
            await peer.leave()

    async def _talk(self, peer: Peer) -> None:
        try:
            while await self._exchange(peer):
                pass
        except h11.RemoteProtocolError as exc:
            await _reject(peer, exc.error_status_hint)
        except TooLarge:
            await _reject(peer, 413)


async def _reject(peer: Peer, status: int) -> None:
    if peer.may_reply:
        await whole(peer, text_reply("Bad request", status, {"Connection": "close"}))
