"""MCP over standard input and output, for hosts that start this program themselves.

The sessions are the SDK's. The pipes below them are ours, because those of mcp 2.3.0 (all observed)

* hang on SIGINT, and on SIGTERM die during a paid request, because a read cannot be cancelled;
* end in a traceback when the client closes its end, or when a text contains half an emoji;
* keep a line of any length in memory;
* refuse the `initialize` that real hosts send after a `server/discover`.
"""

import json
import os
import select
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.lowlevel import EventLoopToken, current_token
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.os.win32.utilities import rebind_std_handle_to_fd
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp.types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from pydantic_core import PydanticSerializationError

from wan_mcp.front_desk.desk import EarlyLine, FrontDesk
from wan_mcp.front_desk.lines import Line
from wan_mcp.front_desk.streams import take_standard_streams, write_all
from wan_mcp.transports.messages import Unreadable, decoded
from wan_mcp.transports.replay import Replay
from wan_mcp.transports.shutdown import STDIO, Deadlines, Shutdown, serve_and_leave

PARENT_POLL_SECONDS = 0.4
"""How often the parent process is checked; together with the grace period this is under 2 s."""
MAX_ANSWERS_PER_WRITE = 256
_STAYS_OPEN = "subscriptions/listen"
"""The one request that is answered only when its session ends."""


def run_stdio(
    server: MCPServer[Any], deadlines: Deadlines = STDIO, desk: FrontDesk | None = None
) -> NoReturn:
    """Serve one client on this process's standard streams until it leaves, then end the process.

    A given desk reads already, and has taken over the standard streams; without one, they are taken
    over here.

    The exit codes are those of `shutdown`.

    Raises:
        Exception: whatever the lifespan of `server` raises.
    """
    if desk is None:
        desk = FrontDesk(*take_standard_streams())
        desk.start()
    for number in (0, 1):
        rebind_std_handle_to_fd(number)  # for child processes on Windows; nothing elsewhere
    serve_and_leave(partial(serve_stdio, server, desk, deadlines), deadlines)


async def serve_stdio(server: MCPServer[Any], desk: FrontDesk, deadlines: Deadlines) -> None:
    """Serve one client; returns when all work and the lifespan have ended.

    The signal handlers are restored at the end.
    """
    with Shutdown(deadlines=deadlines) as shutdown:
        await serve_desk(server, desk, shutdown)


async def serve_desk(server: MCPServer[Any], desk: FrontDesk, shutdown: Shutdown) -> None:
    """Serve the client of a desk that reads already, until `shutdown` is asked for.

    Handlers are cancelled by the end of their session, not from outside. So the lifespan ends
    normally, may await in its clean-up, and waits for shielded work.
    """
    low = server._lowlevel_server  # there is no public way to serve an MCPServer on our own streams
    async with low.lifespan(low) as state, anyio.create_task_group() as tasks:
        waiting = _Waiting()
        replay = Replay(low, state, desk)
        session, requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outbox, answers = anyio.create_memory_object_stream[SessionMessage](0)
        intake = _Intake(low, state, session, outbox.clone(), shutdown, waiting, replay)
        tasks.start_soon(_watch_parent, shutdown)
        tasks.start_soon(_write_answers, answers, desk, shutdown, waiting, replay)
        tasks.start_soon(intake.run, desk)
        tasks.start_soon(replay.keep_snapshot, shutdown.asked)
        await serve_dual_era_loop(low, requests, outbox, lifespan_state=state)
        tasks.cancel_scope.deadline = anyio.current_time() + shutdown.deadlines.last_write_seconds


class _Intake:
    """Feeds lines to one session of the SDK, and each early `server/discover` to another."""

    def __init__(
        self,
        low: Server[Any],
        state: object,
        session: ObjectSendStream[SessionMessage | Exception],
        outbox: ObjectSendStream[SessionMessage],
        shutdown: Shutdown,
        waiting: "_Waiting",
        replay: Replay,
    ) -> None:
        self._low = low
        self._state = state
        self._session = session
        self._outbox = outbox
        self._shutdown = shutdown
        self._waiting = waiting
        self._replay = replay
        self._consumed = threading.Semaphore(0)
        self._undecided = True

    async def run(self, desk: FrontDesk) -> None:
        """Feed the session until the end of stdin or of serving, then close it."""
        pump, lines = anyio.create_memory_object_stream[Line](1)
        early = desk.hand_over(partial(_pump_line, pump, self._consumed, current_token()))
        async with self._session, self._outbox, pump, lines, anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed, early, lines)
            await self._shutdown.asked.wait()
            tasks.cancel_scope.cancel()

    async def _feed(self, early: list[EarlyLine], lines: ObjectReceiveStream[Line]) -> None:
        for line, answer in early:
            if line is not None:
                await self._take(line, answer)
        if not early or early[-1][0] is not None:  # more may come
            async for line in lines:
                await self._take(line, None)
                self._consumed.release()
        # Requests from before the end are answered: a script may close its end at once.
        with anyio.move_on_after(self._shutdown.deadlines.last_answers_seconds):
            await self._waiting.none_left()
        self._shutdown.ask()

    async def _take(self, line: Line, answer: bytes | None) -> None:
        """Let the SDK answer a line. If the desk has answered it, wait until the SDK has, too."""
        message = decoded(line)
        if answer is not None:
            self._replay.expect(message, answer)
        if isinstance(message, Unreadable):
            await self._send(SessionMessage(message.answer))
            message = None
        self._waiting.note(message)
        if self._undecided and isinstance(message, JSONRPCRequest):
            self._undecided = message.method == "server/discover"
            if self._undecided:
                await self._discover(message)
                message = None
        if message is not None:
            await self._session.send(SessionMessage(message))
        if answer is not None:
            await self._replay.confirmation()

    async def _send(self, answer: SessionMessage) -> None:
        with suppress(anyio.BrokenResourceError):  # the client no longer reads
            await self._outbox.send(answer)

    async def _discover(self, request: JSONRPCRequest) -> None:
        """Answer in a session of its own, so that the next request decides the protocol era.

        In the SDK the first request decides for the whole session. Claude Code and Copilot CLI
        ask for 2026-07-28 here and then continue with `initialize` (claude-code#96183,
        copilot-cli#4525).
        """
        ask, requests = anyio.create_memory_object_stream[SessionMessage | Exception](1)
        outbox, answers = anyio.create_memory_object_stream[SessionMessage](1)
        ask.send_nowait(SessionMessage(request))

        async def serve() -> None:
            await serve_dual_era_loop(self._low, requests, outbox, lifespan_state=self._state)

        async with ask, requests, outbox, answers, anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await self._send(await answers.receive())
            tasks.cancel_scope.cancel()


class _Waiting:
    """The requests that have no answer yet. A client may use one id for several."""

    def __init__(self) -> None:
        self._ids: Counter[RequestId] = Counter()
        self._changed = anyio.Event()

    def note(self, message: JSONRPCMessage | None) -> None:
        """Note a message from the client."""
        if isinstance(message, JSONRPCRequest) and message.method != _STAYS_OPEN:
            self._ids[message.id] += 1
        elif isinstance(message, JSONRPCNotification) and message.method.endswith("/cancelled"):
            self._remove((message.params or {}).get("requestId"))

    def written(self, answer: JSONRPCMessage) -> None:
        """Note that a message has reached the client."""
        if isinstance(answer, JSONRPCResponse | JSONRPCError):
            self._remove(answer.id)

    async def none_left(self) -> None:
        """Wait until every request has its answer."""
        while self._ids:
            await self._changed.wait()

    def _remove(self, id: object) -> None:
        if isinstance(id, str | int):
            self._ids -= Counter([id])
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


async def _write_answers(
    answers: MemoryObjectReceiveStream[SessionMessage],
    desk: FrontDesk,
    shutdown: Shutdown,
    waiting: _Waiting,
    replay: Replay,
) -> None:
    """Write until the last sender has closed; a client that stops reading ends serving quietly."""
    async with answers:
        await anyio.to_thread.run_sync(desk.finish_writing, abandon_on_cancel=True)
        if desk.client_left:
            return shutdown.ask()
        async for answer in answers:
            batch = [answer, *_ready(answers)]
            unsent = [each for each in batch if not replay.has_sent(each.message)]
            data = b"".join(_encode(each.message) for each in unsent)
            try:
                if _takes_at_once(desk.stdout, data):
                    write_all(desk.stdout, data)
                else:
                    await anyio.to_thread.run_sync(
                        write_all, desk.stdout, data, abandon_on_cancel=True
                    )
            except OSError:
                return shutdown.ask()
            for each in batch:
                waiting.written(each.message)


def _ready(answers: MemoryObjectReceiveStream[SessionMessage]) -> Iterator[SessionMessage]:
    """The further messages that can be written now: an answer must not wait behind a thousand
    notifications that each need a change of threads."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        for _ in range(MAX_ANSWERS_PER_WRITE):
            yield answers.receive_nowait()


async def _watch_parent(shutdown: Shutdown) -> None:
    """End serving if the parent has died although a third process keeps stdin open.

    This polls, because Linux's PR_SET_PDEATHSIG fires when the *thread* that started us ends, and
    hosts start servers from worker threads. On Windows the parent's id never changes; there only
    the end of stdin shows that it has died.
    """
    parent = os.getppid()
    while os.getppid() == parent:
        with anyio.move_on_after(PARENT_POLL_SECONDS):
            return await shutdown.asked.wait()
    shutdown.ask()


def _pump_line(
    pump: MemoryObjectSendStream[Line],
    consumed: threading.Semaphore,
    loop: EventLoopToken,
    line: Line | None,
) -> None:
    # Nobody receives a line that is read after serving has ended: `pump` is closed then, and
    # perhaps the loop, too (a RuntimeError).
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, RuntimeError):
        if line is None:
            return anyio.from_thread.run_sync(pump.close, token=loop)
        anyio.from_thread.run_sync(pump.send_nowait, line, token=loop)
        consumed.acquire()


def _encode(message: JSONRPCMessage) -> bytes:
    try:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
    except (
        PydanticSerializationError
    ):  # half a surrogate pair, from a text that was cut inside an emoji
        text = json.dumps(message.model_dump(by_alias=True, exclude_unset=True), ensure_ascii=False)
    return text.encode("utf-8", errors="replace") + b"\n"


def _takes_at_once(stdout: int, data: bytes) -> bool:
    """Whether writing all data certainly does not block, so that no change of threads is needed.

    A pipe that is ready takes PIPE_BUF bytes at once (POSIX); so does a socket. A terminal may not.
    """
    if sys.platform == "win32" or len(data) > select.PIPE_BUF:
        return False
    kind = os.fstat(stdout).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return False
    poll = select.poll()
    poll.register(stdout, select.POLLOUT)
    return bool(poll.poll(0))
