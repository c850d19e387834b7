"""The stdio transport: every revision, every end of a session, and a clean stdout."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    closing,
    suppress,
)
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread
import pytest
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from wan_mcp.front_desk.desk import FrontDesk
from wan_mcp.transports import stdio
from wan_mcp.transports.replay import Replay
from wan_mcp.transports.shutdown import STDIO, Deadlines, Shutdown

pytestmark = pytest.mark.anyio
SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""
PATIENT = {"grace_seconds": 600.0, "last_write_seconds": 600.0, "last_answers_seconds": 0.0}
"""Deadlines of a stand-in that a slow machine cannot miss."""
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

PIPE_BUF = getattr(select, "PIPE_BUF", 0)
OpenBoth = Callable[[], tuple[int, int]]
"""Opens the two ends of a connection: first the reading end, then the writing one."""

HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
DISCOVER = {
    "jsonrpc": "2.0",
    "id": "probe",
    "method": "server/discover",
    "params": {"_meta": ENVELOPE},
}

# The server of the subprocess tests. Its socket reports to the test what happens inside, and the
# paid work waits there for the test, so no test depends on how long anything takes.
STAND_IN = '''
import json, os, socket, subprocess, sys
from contextlib import asynccontextmanager

import anyio
from mcp.server.mcpserver import Context, MCPServer

from wan_mcp.transports.shutdown import Deadlines
from wan_mcp.transports.stdio import run_stdio

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    os.dup2(connection.fileno(), 99)  # away from the numbers of the standard streams
events = socket.socket(fileno=99)
report = lambda word: events.sendall(word.encode() + b"\\n")


@asynccontextmanager
async def lifespan(server):
    async with anyio.create_task_group() as paid:
        yield paid
        report("leaving")
    await anyio.sleep(0)
    report("closed")


server = MCPServer("stand-in", version="1", lifespan=lifespan, log_level="WARNING")


@server.tool()
async def pay(ctx: Context) -> str:
    """Submit, shielded, in the task group of the lifespan."""
    async def submit():
        with anyio.CancelScope(shield=True):
            report("paying")
            await anyio.wait_readable(events)
            events.recv(2)
            report("paid")
            done.set()
    done = anyio.Event()
    ctx.request_context.lifespan_context.start_soon(submit)
    try:
        await done.wait()
    except anyio.get_cancelled_exc_class():
        report("cancelled")
        raise
    return "paid"


@server.tool()
async def stray() -> str:
    """Write to stdout in every way a library might."""
    print("stray print", flush=True)
    os.write(1, b"stray write\\n")
    subprocess.run([sys.executable, "-S", "-c", "print('stray child', input())"], check=False)
    print("stray, held back")
    print("str\u00e4y", file=sys.stderr)
    return "h\\u00e9llo \\u2603"


@server.tool()
async def flood() -> str:
    """Answer with more than any pipe holds."""
    report("flooding")
    return "x" * 1_000_000


run_stdio(server, Deadlines(**json.loads(sys.argv[2])))
'''


class Process:
    """A stand-in server in a process of its own, spoken to in raw lines."""

    def __init__(self, command: list[str], listener: socket.socket) -> None:
        pipe = subprocess.PIPE
        root = Path(stdio.__file__).parents[2]
        odd = {**os.environ, "PYTHONIOENCODING": "latin-1"}  # neither the protocol's nor ASCII
        self.popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=root, env=odd
        )
        self.stdin, self.stdout, self.stderr = open_pipes(self.popen)
        self.events = listener.accept()[0]
        self.events.settimeout(SLOW_MACHINE_SECONDS)
        self._words = self.events.makefile("r")

    def send(self, method: str, **fields: object) -> None:
        self.stdin.write(line(method, **fields))
        self.stdin.flush()

    def receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.stdout.readline())
        return answer

    def initialize(self) -> None:
        self.send("initialize", id=0, params=hello("2025-11-25"))
        self.receive()
        self.send("notifications/initialized")

    def call(self, tool: str) -> None:
        self.send("tools/call", id=1, params={"name": tool, "arguments": {}})

    def word(self) -> str:
        """What the server reports next about itself; "" when its process has ended."""
        return self._words.readline().strip()

    def let_pay(self) -> None:
        self.events.sendall(b"go")

    def end(self) -> tuple[int, str]:
        """The exit code and stderr of a server that ends by itself."""
        code = self.popen.wait(timeout=SLOW_MACHINE_SECONDS)
        return code, self.stderr.read().decode("ascii")

    def close(self) -> None:
        for stream in (self._words, self.events, self.stdout, self.stderr):
            stream.close()
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.popen.kill()
        self.popen.wait()


def open_pipes(popen: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert popen.stdin is not None
    assert popen.stdout is not None
    assert popen.stderr is not None
    return popen.stdin, popen.stdout, popen.stderr


Spawn = Callable[..., Process]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start the stand-in, through the given command if any; it is killed after the test."""
    with ExitStack() as stack:

        def start(*before: str, deadlines: Mapping[str, float] = PATIENT) -> Process:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(SLOW_MACHINE_SECONDS)
            port = str(listener.getsockname()[1])
            command = [sys.executable, "-c", STAND_IN, port, json.dumps(deadlines)]
            process = Process([*before, *command], listener)
            return stack.enter_context(closing(process))

        yield start


def line(method: str, **fields: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, **fields}).encode() + b"\n"


def hello(revision: str) -> dict[str, object]:
    info = {"name": "test", "version": "1"}
    return {"protocolVersion": revision, "capabilities": {}, "clientInfo": info}


class Wire:
    """The client's ends of the two pipes of a session in this process."""

    def __init__(self, to_server: int, from_server: int, shutdown: Shutdown) -> None:
        self.to_server, self.shutdown = to_server, shutdown
        self._answers = open(from_server, "rb")  # noqa: SIM115 (closed by the fixture)

    def write(self, data: bytes) -> None:
        os.write(self.to_server, data)

    async def receive(self) -> dict[str, Any]:
        with anyio.fail_after(SLOW_MACHINE_SECONDS):
            text = await anyio.to_thread.run_sync(self._answers.readline, abandon_on_cancel=True)
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def ask(self, method: str, **fields: object) -> dict[str, Any]:
        self.write(line(method, **{"id": 1, **fields}))
        return await self.receive()

    async def open(self, revision: str) -> dict[str, object]:
        """Begin as a client of `revision` does; returns what its every request carries."""
        if revision == MODERN:
            return {"_meta": ENVELOPE}
        answer = await self.ask("initialize", params=hello(revision))
        assert answer["result"]["protocolVersion"] == revision
        self.write(line("notifications/initialized"))
        return {}

    def stop_reading(self) -> None:
        self._answers.close()

    def close(self) -> None:
        self._answers.close()
        with suppress(OSError):
            os.close(self.to_server)


@pytest.fixture
def journal() -> list[str]:
    """What happened inside the stand-in of this process."""
    return []


@pytest.fixture
def stand_in(journal: list[str]) -> MCPServer[None]:
    """A server whose one slow tool reports progress and then waits to be cancelled."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        journal.append("open")
        yield
        await anyio.lowlevel.checkpoint()
        journal.append("closed")

    server = MCPServer("stand-in", version="1", lifespan=lifespan, log_level="WARNING")

    async def echo(text: str) -> str:
        return text

    async def wait(ctx: Context[None]) -> str:
        await ctx.report_progress(1, 2, "half way")
        try:
            await anyio.Event().wait()
        finally:
            journal.append("cancelled")
        return "never"

    async def half_an_emoji() -> str:
        return "cut \ud83d"

    for tool in (echo, wait, half_an_emoji):
        server.add_tool(tool)
    return server


@pytest.fixture
def broken() -> MCPServer[None]:
    """A server whose lifespan fails to start."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        raise OSError("no ledger")
        yield

    return MCPServer("broken", lifespan=lifespan, log_level="WARNING")


def started(stdin: int, stdout: int) -> FrontDesk:
    """A desk that reads a client's lines and answers none."""
    desk = FrontDesk(stdin, stdout)
    desk.start()
    return desk


Connect = Callable[[], AbstractAsyncContextManager[Wire]]


@pytest.fixture
def connect(stand_in: MCPServer[None]) -> Connect:
    """Serve the stand-in over two pipes of this process until the block ends."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Wire]:
        stdin, to_server = os.pipe()
        from_server, stdout = os.pipe()
        with (
            anyio.fail_after(SLOW_MACHINE_SECONDS),
            Shutdown(deadlines=Deadlines(**{**PATIENT, "last_answers_seconds": 600.0})) as shutdown,
        ):
            wire = Wire(to_server, from_server, shutdown)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stdio.serve_desk, stand_in, started(stdin, stdout), shutdown)
                yield wire
                shutdown.ask()
        wire.close()
        os.close(stdout)
        os.close(stdin)

    return connected


# Revisions


@pytest.mark.parametrize("revision", [*HANDSHAKE, MODERN])
async def test_every_revision_lists_and_calls_tools(connect: Connect, revision: str) -> None:
    """Hosts of five revisions are in use (observed elsewhere)."""
    async with connect() as wire:
        params = await wire.open(revision)
        tools = await wire.ask("tools/list", id=2, params=params)
        call = {"name": "echo", "arguments": {"text": "h\u00e9llo \u2603"}}
        echoed = await wire.ask("tools/call", id=3, params={**params, **call})

    assert [tool["name"] for tool in tools["result"]["tools"]] == ["echo", "wait", "half_an_emoji"]
    assert echoed["id"] == 3
    assert echoed["result"]["content"][0]["text"] == "h\u00e9llo \u2603"


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_initialize_works_after_server_discover(connect: Connect, revision: str) -> None:
    """Claude Code and Copilot CLI ask, then shake hands (claude-code#96183, copilot-cli#4525)."""
    async with connect() as wire:
        wire.write(json.dumps(DISCOVER).encode() + b"\n")
        found = await wire.receive()
        await wire.open(revision)
        tools = await wire.ask("tools/list", id=2)

    assert found["result"]["supportedVersions"] == [MODERN]
    assert len(tools["result"]["tools"]) == 3


async def test_modern_requests_work_after_server_discover(connect: Connect) -> None:
    """The revision's own way to begin (2026-07-28 specification)."""
    async with connect() as wire:
        for attempt in ("a", "b"):
            found = await wire.ask("server/discover", id=attempt, params={"_meta": ENVELOPE})
            assert found["id"] == attempt
        tools = await wire.ask("tools/list", id=2, params={"_meta": ENVELOPE})
        again = await wire.ask("server/discover", id="c", params={"_meta": ENVELOPE})

    assert len(tools["result"]["tools"]) == 3
    assert again["result"] == found["result"]


@pytest.mark.parametrize("meta", [ENVELOPE, None, {**ENVELOPE, next(iter(ENVELOPE)): "2099-01-01"}])
async def test_discover_is_answered_as_the_sdk_does(
    connect: Connect, stand_in: MCPServer[None], meta: dict[str, object] | None
) -> None:
    """Our relay must answer as the SDK does, errors included (ours)."""
    request: dict[str, object] = {**DISCOVER, "params": {"_meta": meta} if meta else {}}
    wanted = await sdk_answer(stand_in._lowlevel_server, request)
    async with connect() as wire:
        wire.write(json.dumps(request).encode() + b"\n")
        answer = await wire.receive()

    assert answer == wanted


async def sdk_answer(low: Server[Any], request: dict[str, object]) -> dict[str, Any]:
    """What the SDK alone answers on a fresh connection."""
    async with (
        create_client_server_memory_streams() as ((read, write), (server_in, server_out)),
        anyio.create_task_group() as tasks,
    ):
        options = low.create_initialization_options()
        tasks.start_soon(low.run, server_in, server_out, options)
        message = jsonrpc_message_adapter.validate_python(request)
        await write.send(SessionMessage(message))
        answer = await read.receive()
        tasks.cancel_scope.cancel()
    assert isinstance(answer, SessionMessage)
    dumped: dict[str, Any] = answer.message.model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    return dumped


# One call


@pytest.mark.parametrize("revision", ["2025-06-18", MODERN])
async def test_progress_arrives_and_a_cancel_stops_the_call(
    connect: Connect, journal: list[str], revision: str
) -> None:
    """A host shows progress and lets its user stop a call (documented in every revision)."""
    async with connect() as wire:
        params = await wire.open(revision)
        meta = {**(ENVELOPE if params else {}), "progressToken": "p"}
        call = {"name": "wait", "arguments": {}, "_meta": meta}
        progress = await wire.ask("tools/call", id=7, params=call)
        wire.write(line("notifications/cancelled", params={"requestId": 7}))
        after = await wire.ask("tools/list", id=8, params=params)

    assert progress["method"] == "notifications/progress"
    assert progress["params"] == {
        "progressToken": "p",
        "progress": 1,
        "total": 2,
        "message": "half way",
    }
    assert after["id"] == 8
    assert journal == ["open", "cancelled", "closed"]


async def test_a_text_with_half_an_emoji_is_delivered(connect: Connect) -> None:
    """The SDK's writer would end the whole server here (observed with mcp 2.3.0)."""
    async with connect() as wire:
        await wire.open("2025-11-25")
        call = {"name": "half_an_emoji", "arguments": {}}
        answer = await wire.ask("tools/call", id=2, params=call)

    assert answer["result"]["content"][0]["text"] == "cut ?"


# Garbage


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"   \r\n",
        b"not json\n",
        b"null\n",
        b"[]\n",
        b"[" + line("tools/list", id=1).strip() + b"]\n",
        b'{"jsonrpc":"2.0","id":1\n',
        b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","id":' + b"9" * 9000 + b',"method":"ping"}\n',
        b"[" * 100_000 + b"\n",
        b"\x00\xff\xfe\n",
        b"Content-Length: 99\r\n\r\n",
    ],
    ids=range(12),
)
async def test_a_line_that_is_not_a_message_is_skipped(connect: Connect, garbage: bytes) -> None:
    """Before and after the handshake; an answer without an id is no valid message (ours)."""
    async with connect() as wire:
        await anyio.to_thread.run_sync(wire.write, garbage)
        await wire.open("2025-03-26")
        await anyio.to_thread.run_sync(wire.write, garbage)
        answer = await wire.ask("ping", id=2)

    assert answer == {"jsonrpc": "2.0", "id": 2, "result": {}}


async def test_a_line_over_the_limit_is_skipped(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One endless line may not fill the memory of the user's machine (ours)."""
    monkeypatch.setattr("wan_mcp.front_desk.lines.MAX_LINE_BYTES", 200)
    refused = threading.Event()
    monkeypatch.setattr(caplog.handler, "flush", refused.set)
    fits, too_long = line("ping", id=1)[:-1].ljust(199), line("ping", id=2)[:-1].ljust(200)
    async with connect() as wire:
        wire.write(b"y" * 1000)
        assert await anyio.to_thread.run_sync(refused.wait, SLOW_MACHINE_SECONDS), (
            "kept until the line ends"
        )
        wire.write(b"yyy\n" + fits + b"\n" + too_long + b"\n")
        answers = [await wire.receive(), await wire.receive()]
        last = await wire.ask("ping", id=3)

    (refused_line,) = (answer for answer in answers if "error" in answer)
    assert sorted(answer["id"] for answer in answers) == [1, 2]
    assert refused_line["id"] == 2
    assert last["id"] == 3
    assert caplog.messages == ["wan-mcp: ignored a line of more than 200 bytes"] * 2


@pytest.mark.parametrize(
    "request_line",
    [
        b'{"jsonrpc":"2.0","id":"7","method":"tools/list","params":[]}\n',
        b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"\\ud83d"}}\n',
        b'{"jsonrpc":"1.0","id":"7","method":"tools/list"}\n',
    ],
    ids=["list of parameters", "half a surrogate pair", "other version"],
)
async def test_request_that_cannot_be_read_gets_an_error_with_its_id(
    connect: Connect, request_line: bytes
) -> None:
    """Else its sender waits until its own time is up (observed)."""
    async with connect() as wire:
        await wire.open("2025-06-18")
        wire.write(request_line)
        answer = await wire.receive()

    assert (answer["id"], answer["error"]["code"]) == ("7", -32600)


async def test_requests_before_the_end_of_stdin_are_answered(connect: Connect) -> None:
    """A script pipes its lines and closes its end at once (observed)."""
    async with connect() as wire:
        await wire.open("2025-06-18")
        wire.write(b"".join(line("tools/list", id=number) for number in range(2, 12)))
        os.close(wire.to_server)
        answered = {(await wire.receive())["id"] for _ in range(10)}
        await wire.shutdown.asked.wait()

    assert answered == set(range(2, 12))


async def test_a_byte_order_mark_and_windows_line_ends_are_accepted(connect: Connect) -> None:
    """Some Windows shells write both when they pipe (observed elsewhere)."""
    async with connect() as wire:
        wire.write(b"\xef\xbb\xbf" + line("ping", id=1).replace(b"\n", b"\r\n"))
        answer = await wire.receive()

    assert answer["id"] == 1


# The end, inside


async def test_the_end_of_stdin_ends_serving_and_runs_the_lifespan_exit(
    connect: Connect, journal: list[str]
) -> None:
    """A last line without its end still counts (ours)."""
    async with connect() as wire:
        wire.write(line("ping", id=1).strip())
        os.close(wire.to_server)
        answer = await wire.receive()
        await wire.shutdown.asked.wait()

    assert answer["id"] == 1
    assert journal == ["open", "closed"]


def test_a_stdio_server_ends_before_hosts_kill_it() -> None:
    """They do so two seconds after the end of stdin, or after a signal (observed elsewhere)."""
    killed_after = 2.0

    assert STDIO.grace_seconds + STDIO.exit_seconds < killed_after
    assert STDIO.grace_seconds + stdio.PARENT_POLL_SECONDS < killed_after
    assert STDIO.last_write_seconds < STDIO.grace_seconds


async def test_the_second_signal_ends_at_once() -> None:
    """The user who presses Ctrl-C twice does not want to wait (ours)."""
    codes: list[int] = []
    time = [0.0]
    before = signal.getsignal(signal.SIGINT)
    shutdown = Shutdown(deadlines=Deadlines(**PATIENT), end=codes.append, now=lambda: time[0])
    with shutdown, anyio.fail_after(SLOW_MACHINE_SECONDS):
        signal.raise_signal(signal.SIGINT)
        await shutdown.asked.wait()
        signal.raise_signal(signal.SIGTERM)
        assert codes == []  # a host that sends both at once must not tear a payment
        time[0] = shutdown.deadlines.repeated_signal_seconds + 0.01
        signal.raise_signal(signal.SIGTERM)

    assert codes == [128 + signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is before


@posix_only
async def test_a_server_under_nohup_outlives_its_terminal() -> None:
    """That is what nohup is for (its convention)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Shutdown():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_work_is_cut_when_the_grace_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Hosts kill the process soon after, and then nothing is logged (ours)."""
    cut = anyio.Event()
    codes: list[int] = []
    loop = anyio.lowlevel.current_token()

    def end(code: int) -> None:
        codes.append(code)
        anyio.from_thread.run_sync(cut.set, token=loop)

    with (
        Shutdown(deadlines=Deadlines(grace_seconds=0), end=end) as shutdown,
        anyio.fail_after(SLOW_MACHINE_SECONDS),
    ):
        shutdown.ask()
        await cut.wait()

    assert codes == [1]
    assert caplog.messages == ["wan-mcp: stopped while work was still running"]


async def test_a_client_that_leaves_while_asking_is_no_failure(
    connect: Connect, journal: list[str]
) -> None:
    """Every answer then meets a broken pipe, the one to a `server/discover` too (ours)."""
    async with connect() as wire:
        wire.stop_reading()
        wire.write((json.dumps(DISCOVER).encode() + b"\n") * 3 + line("ping", id=1) * 3)
        with anyio.fail_after(SLOW_MACHINE_SECONDS):
            await wire.shutdown.asked.wait()

    assert journal == ["open", "closed"]


async def test_an_error_of_the_lifespan_is_raised_as_it_is(broken: MCPServer[None]) -> None:
    """The command line prints one sentence for it, so it must not be in a group (ours)."""
    with Shutdown() as shutdown, pytest.raises(OSError, match="no ledger"):
        await stdio.serve_desk(broken, FrontDesk(0, 1), shutdown)


async def test_an_answer_to_discover_that_nobody_reads_is_dropped(
    stand_in: MCPServer[None],
) -> None:
    """The writer may already have met the broken pipe (ours)."""
    session, requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outbox, answers = anyio.create_memory_object_stream[SessionMessage](0)
    answers.close()
    stdin, to_server = os.pipe()
    os.write(to_server, json.dumps(DISCOVER).encode())
    os.close(to_server)
    deadlines = Deadlines(last_answers_seconds=0.0)
    with (
        Shutdown(deadlines=deadlines) as shutdown,
        anyio.fail_after(SLOW_MACHINE_SECONDS),
        requests,
    ):
        low, desk, waiting = stand_in._lowlevel_server, started(stdin, 1), stdio._Waiting()
        replay = Replay(low, None, desk)
        await stdio._Intake(low, None, session, outbox, shutdown, waiting, replay).run(desk)

        assert shutdown.asked.is_set()
    os.close(stdin)


# The end, outside


@posix_only
@pytest.mark.parametrize("end", ["eof", "SIGTERM"])
def test_a_paid_submit_is_finished_before_the_process_ends(spawn: Spawn, end: str) -> None:
    """The outcome of an interrupted paid request is unknown (ours)."""
    process = spawn()
    process.initialize()
    process.call("pay")
    assert process.word() == "paying"

    process.stdin.close() if end == "eof" else process.popen.send_signal(getattr(signal, end))
    assert process.word() == "cancelled"
    assert process.word() == "leaving"
    process.let_pay()

    assert [process.word(), process.word(), process.word()] == ["paid", "closed", ""]
    assert process.end() == (0, "")
    assert [json.loads(left)["id"] for left in process.stdout] == [1]


@posix_only
def test_an_idle_server_ends_on_ctrl_c(spawn: Spawn) -> None:
    """The SDK's own runner hangs until stdin ends (python-sdk#3551, observed)."""
    process = spawn()
    process.initialize()

    process.popen.send_signal(signal.SIGINT)

    assert process.end() == (0, "")
    assert [process.word(), process.word(), process.word()] == ["leaving", "closed", ""]


@posix_only
def test_a_dead_parent_ends_the_server_while_stdin_stays_open(spawn: Spawn) -> None:
    """Some hosts leave the pipe open in another process when they die (observed elsewhere)."""
    process = spawn("sh", "-c", '"$@"; true', "sh")
    process.initialize()

    process.popen.kill()

    assert [process.word(), process.word(), process.word()] == ["leaving", "closed", ""]
    assert process.stdout.read() == b""
    assert process.stderr.read() == b""


def sockets() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


@posix_only
@pytest.mark.parametrize("open_both", [os.pipe, sockets], ids=["pipe", "socket"])
def test_only_a_write_that_cannot_block_is_made_in_the_event_loop(open_both: OpenBoth) -> None:
    """A client that does not read must not stop the work of the server (ours)."""
    reading, writing = open_both()
    with ExitStack() as closing_both:
        closing_both.callback(os.close, reading)
        closing_both.callback(os.close, writing)
        assert stdio._takes_at_once(writing, b"short")
        assert not stdio._takes_at_once(writing, bytes(PIPE_BUF + 1))

        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(PIPE_BUF))
        os.set_blocking(writing, True)
        assert not stdio._takes_at_once(writing, b"short")


@posix_only
def test_a_write_to_a_terminal_or_a_file_may_block(tmp_path: Path) -> None:
    """A person can stop a terminal, and a file may be on a slow disk (ours)."""
    with ExitStack() as closing_all:
        ends = [*os.openpty(), os.open(tmp_path / "answers", os.O_CREAT | os.O_WRONLY)]
        for end in ends:
            closing_all.callback(os.close, end)
        assert not any(stdio._takes_at_once(end, b"short") for end in ends)


@posix_only
def test_a_client_that_stops_reading_gets_a_quiet_exit(spawn: Spawn) -> None:
    """The SDK's runner ends with code 1 and a traceback (observed)."""
    process = spawn()
    process.initialize()
    process.call("pay")
    assert process.word() == "paying"

    process.stdout.close()
    process.send("ping", id=2)
    assert process.word() == "cancelled"
    assert process.word() == "leaving"
    process.let_pay()

    assert process.word() == "paid"
    assert process.end() == (0, "")


@posix_only
def test_a_client_that_reads_too_slowly_cannot_hold_up_the_end(spawn: Spawn) -> None:
    """A write into a full pipe cannot be cancelled; the lifespan must still end (ours)."""
    process = spawn(deadlines={**PATIENT, "last_write_seconds": 0.0})
    process.initialize()
    process.call("flood")
    assert process.word() == "flooding"
    process.stdout.read(1)

    process.popen.send_signal(signal.SIGTERM)

    assert [process.word(), process.word()] == ["leaving", "closed"]
    assert process.end() == (0, "")


@posix_only
def test_work_that_does_not_end_is_cut_and_reported(spawn: Spawn) -> None:
    """The host would kill it after two seconds anyway, without a message (observed elsewhere)."""
    process = spawn(deadlines={"grace_seconds": 0.0})
    process.initialize()
    process.call("pay")
    assert process.word() == "paying"

    process.popen.send_signal(signal.SIGTERM)

    assert process.end() == (1, "wan-mcp: stopped while work was still running\n")


@posix_only
def test_a_second_signal_does_not_wait_for_work(spawn: Spawn) -> None:
    """The exit code then names the signal, as shells do (ours)."""
    process = spawn(deadlines={**PATIENT, "repeated_signal_seconds": 0.0})
    process.initialize()
    process.call("pay")
    assert process.word() == "paying"

    process.popen.send_signal(signal.SIGINT)
    assert process.word() == "cancelled"
    process.popen.send_signal(signal.SIGTERM)

    assert process.popen.wait(SLOW_MACHINE_SECONDS) == 128 + signal.SIGTERM


@posix_only
def test_only_protocol_reaches_stdout_and_as_utf_8(spawn: Spawn) -> None:
    """Hosts drop a server for one stray line; this one runs in latin-1 (observed elsewhere)."""
    process = spawn()
    process.initialize()
    process.call("stray")
    answer = process.stdout.readline()
    process.stdin.close()
    code, stderr = process.end()

    assert json.loads(answer)["result"]["content"][0]["text"] == "h\u00e9llo \u2603"
    assert "h\u00e9llo \u2603".encode() in answer
    assert b"\r" not in answer
    assert process.stdout.read() == b""
    assert "stray print" in stderr
    assert "stray write" in stderr
    assert "str\\xe4y" in stderr
    assert "EOFError" in stderr  # the child saw the null device, not the client
    assert code == 0


@posix_only
def test_closed_standard_streams_do_no_harm(spawn: Spawn) -> None:
    """Otherwise a file of ours would get their numbers and receive the protocol (ours)."""
    process = spawn("sh", "-c", '"$@" 0<&- 2>&-', "sh")

    assert process.end() == (0, "")
    assert [process.word(), process.word(), process.word()] == ["leaving", "closed", ""]
    assert process.stdout.read() == b""
