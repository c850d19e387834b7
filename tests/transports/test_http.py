"""The HTTP transport: every revision, who may call, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import IO, Any

import anyio
import httpx
import pytest
from mcp.server.mcpserver import MCPServer

from wan_mcp.transports import http, stdio
from wan_mcp.transports.shutdown import HTTP

pytestmark = pytest.mark.anyio
SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""
PATIENT = {"grace_seconds": 600.0, "last_write_seconds": 600.0}
"""Deadlines of a stand-in that a slow machine cannot miss."""
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

# The server of the subprocess tests: its socket reports to the test what happens inside, and the
# paid work waits there for the test.
STAND_IN = """
import json, socket, sys
from contextlib import asynccontextmanager

import anyio
from mcp.server.mcpserver import Context, MCPServer

from wan_mcp.transports.http import run_http
from wan_mcp.transports.shutdown import Deadlines

events = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
report = lambda word: events.sendall(word.encode() + b"\\n")


@asynccontextmanager
async def lifespan(server):
    report("open")
    async with anyio.create_task_group() as paid:
        yield paid
        report("leaving")
    await anyio.sleep(0)
    report("closed")


server = MCPServer("stand-in", version="1", lifespan=lifespan, log_level="WARNING")


@server.tool()
async def echo(text: str) -> str:
    return text


@server.tool()
async def wait(ctx: Context) -> str:
    try:
        await ctx.report_progress(1, 2, "half way")
        await anyio.sleep_forever()
    finally:
        report("cancelled")


@server.tool()
async def pay(ctx: Context) -> str:
    async def submit():
        with anyio.CancelScope(shield=True):
            report("paying")
            await anyio.wait_readable(events)
            events.recv(2)
            report("paid")
    ctx.request_context.lifespan_context.start_soon(submit)
    await ctx.report_progress(1, 2, "paying")
    await anyio.sleep_forever()


@server.tool()
async def flood() -> str:
    return "x" * 20_000_000


deadlines = Deadlines(**json.loads(sys.argv[2]))
run_http(server, port=0, announce=report, deadlines=deadlines)
"""


class Process:
    """A stand-in server in a process of its own."""

    def __init__(self, listener: socket.socket, deadlines: Mapping[str, float]) -> None:
        port = str(listener.getsockname()[1])
        self.popen = subprocess.Popen(
            [sys.executable, "-c", STAND_IN, port, json.dumps(deadlines)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(stdio.__file__).parents[2],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.events = listener.accept()[0]
        self.events.settimeout(SLOW_MACHINE_SECONDS)
        self._words = self.events.makefile("r")
        assert self.word() == "open"
        self.url = self.word()
        self.client = httpx.Client(timeout=SLOW_MACHINE_SECONDS, trust_env=False)

    def word(self) -> str:
        """What the server reports next about itself; "" when its process has ended."""
        return self._words.readline().strip()

    def request(self, revision: str, method: str, **params: object) -> httpx.Request:
        return self.client.build_request("POST", self.url, **message(revision, method, params))

    def ask(self, revision: str, method: str, **params: object) -> dict[str, Any]:
        """The result of one request, streamed or not."""
        response = self.client.send(self.request(revision, method, **params))
        assert response.status_code == 200, response.text
        return result(response)

    def end(self) -> tuple[int, str, str]:
        """The exit code and the output of a server that ends by itself."""
        code = self.popen.wait(timeout=SLOW_MACHINE_SECONDS)
        return code, read(self.popen.stdout), read(self.popen.stderr)

    def close(self) -> None:
        self.popen.kill()
        self.popen.communicate()
        for open_file in (self._words, self.events, self.client):
            open_file.close()


def read(stream: IO[bytes] | None) -> str:
    assert stream is not None
    return stream.read().decode("ascii")


def message(revision: str, method: str, params: dict[str, object]) -> dict[str, Any]:
    """Body and headers of one request as a client of `revision` sends it."""
    headers = {"accept": "application/json, text/event-stream"}
    if revision not in ("2024-11-05", "2025-03-26"):  # the header came with 2025-06-18
        headers["mcp-protocol-version"] = revision
    if revision == MODERN:
        headers |= {"mcp-method": method, "mcp-name": str(params.get("name", ""))}
        params = {**params, "_meta": {**ENVELOPE, "progressToken": "p"}}
    elif method == "tools/call":
        params = {**params, "_meta": {"progressToken": "p"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return {"json": body, "headers": headers}


def result(response: httpx.Response) -> dict[str, Any]:
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        *_, text = (line[6:] for line in text.splitlines() if line.startswith("data: {"))
    answer: dict[str, Any] = json.loads(text)["result"]
    return answer


def start(stack: ExitStack, deadlines: Mapping[str, float] = PATIENT) -> Process:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(SLOW_MACHINE_SECONDS)
    return stack.enter_context(closing(Process(listener, deadlines)))


@pytest.fixture(scope="module")
def shared() -> Iterator[Process]:
    """One server for the tests that leave it as it was."""
    with ExitStack() as stack:
        yield start(stack)


@pytest.fixture
def spawn() -> Iterator[Callable[..., Process]]:
    """Start servers of the test's own."""
    with ExitStack() as stack:
        yield partial(start, stack)


@pytest.fixture
def stand_in() -> MCPServer[None]:
    return MCPServer("stand-in", version="1", log_level="WARNING")


@pytest.fixture
async def client(stand_in: MCPServer[None]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app in this process, for what needs no stream."""
    app = http.http_app(stand_in, host="127.0.0.1", port=8765)
    transport = httpx.ASGITransport(app)
    async with (
        stand_in.session_manager.run(),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client,
    ):
        yield client


# Revisions


@pytest.mark.parametrize("revision", [*HANDSHAKE, MODERN])
def test_every_revision_lists_and_calls_tools(shared: Process, revision: str) -> None:
    """Clients of five revisions are in use (observed elsewhere)."""
    if revision != MODERN:
        info = {"name": "test", "version": "1"}
        hello = {"protocolVersion": revision, "capabilities": {}, "clientInfo": info}
        assert shared.ask(revision, "initialize", **hello)["protocolVersion"] == revision
    tools = shared.ask(revision, "tools/list")["tools"]
    echoed = shared.ask(revision, "tools/call", name="echo", arguments={"text": "h\u00e9 \u2603"})

    assert [tool["name"] for tool in tools] == ["echo", "wait", "pay", "flood"]
    assert echoed["content"][0]["text"] == "h\u00e9 \u2603"


@pytest.mark.parametrize("revision", ["2025-06-18", MODERN])
def test_progress_is_streamed_and_hanging_up_stops_the_call(shared: Process, revision: str) -> None:
    """Both are lost in the SDK's json_response mode (observed)."""
    request = shared.request(revision, "tools/call", name="wait", arguments={})
    response = shared.client.send(request, stream=True)
    first = next(line for line in response.iter_lines() if line.startswith("data: {"))
    response.close()

    assert json.loads(first[6:])["params"]["message"] == "half way"
    assert shared.word() == "cancelled"


# Who may call


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8765"}, 200),
        ({"host": "[::1]:8765"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "evil.example:8765"}, 421),
        ({"host": "localhost.evil.example:8765"}, 421),
        ({"host": "127.0.0.1:9999"}, 421),
        ({"origin": "http://localhost:6274"}, 200),
        ({"origin": "https://127.0.0.1"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("revision", ["2025-06-18", MODERN])
async def test_only_this_machine_may_call(
    client: httpx.AsyncClient, revision: str, headers: dict[str, str], status: int
) -> None:
    """A web page could spend the user's credits through its own name for loopback (ours)."""
    request = message(revision, "tools/list", {})
    request["headers"] |= headers
    response = await client.post("/mcp", **request)

    assert response.status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.com", "::", ""])
async def test_a_reachable_address_is_refused_before_listening(
    stand_in: MCPServer[None], host: str
) -> None:
    """Without authentication anybody in the network could spend credits (ours)."""
    with pytest.raises(ValueError, match="only be reached from this machine"):
        http.http_app(stand_in, host=host, port=0)
    with pytest.raises(ValueError, match="only be reached from this machine"):
        await http.serve_http(stand_in, host=host, port=0)


async def test_the_health_check_answers_without_any_credentials(
    client: httpx.AsyncClient,
) -> None:
    """A balancer or a supervisor asks here (ours)."""
    response = await client.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_one_mebibyte_is_refused(
    client: httpx.AsyncClient, declared: bool
) -> None:
    """With and without a Content-Length; media travels by URL, never in a body (ours)."""
    request = message("2025-06-18", "tools/list", {"filler": "x" * http.MAX_BODY_BYTES})
    body = json.dumps(request["json"]).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    headers = {**request["headers"], "content-type": "application/json"}
    response = await client.post("/mcp", content=body if declared else chunks(), headers=headers)

    assert response.status_code == 413


# The end


def test_an_http_server_ends_before_supervisors_kill_it() -> None:
    """They commonly do so ten seconds after the signal (assumed)."""
    assert HTTP.grace_seconds + HTTP.exit_seconds < 10
    assert HTTP.last_write_seconds < HTTP.grace_seconds


async def test_a_busy_port_is_refused_in_one_sentence(stand_in: MCPServer[None]) -> None:
    """The caller prints it; the lifespan has not started (ours)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Cannot listen on localhost port {port}: ") as caught:
            await http.serve_http(stand_in, host="localhost", port=port)

    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="session manager"):
        _ = stand_in.session_manager


@posix_only
@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT"])
def test_open_calls_are_cut_and_paid_work_is_finished(
    spawn: Callable[..., Process], end: str
) -> None:
    """The outcome of an interrupted paid request is unknown; streams end properly (ours)."""
    process = spawn()
    streams = []
    for revision, tool in (("2025-06-18", "pay"), (MODERN, "wait")):
        request = process.request(revision, "tools/call", name=tool, arguments={})
        streams.append(process.client.send(request, stream=True))
    lines = [stream.iter_lines() for stream in streams]
    for each in lines:
        assert "half way" in "".join(take(each)) or process.word() == "paying"

    process.popen.send_signal(getattr(signal, end))
    assert process.word() == "cancelled"
    assert process.word() == "leaving"
    for each in lines:
        list(each)  # raises if the stream breaks off
    process.events.sendall(b"go")

    assert [process.word(), process.word(), process.word()] == ["paid", "closed", ""]
    assert process.end() == (0, "", "")


def take(lines: Iterator[str]) -> Iterator[str]:
    """Up to and including the first event."""
    for line in lines:
        yield line
        if line.startswith("data: {"):
            return


@posix_only
@pytest.mark.parametrize("revision", ["2025-06-18", MODERN])
def test_a_client_that_does_not_read_cannot_hold_up_the_end(
    spawn: Callable[..., Process], revision: str
) -> None:
    """The answer waits for room in the connection; the lifespan must still end (ours)."""
    process = spawn({**PATIENT, "last_write_seconds": 0.0})
    request = process.request(revision, "tools/call", name="flood", arguments={})
    with closing(process.client.send(request, stream=True)) as response:
        chunks = response.iter_raw()  # kept: the connection closes with it
        assert any(b"xxx" in chunk for chunk in chunks)
        process.popen.send_signal(signal.SIGTERM)

        assert [process.word(), process.word()] == ["leaving", "closed"]
        assert process.end() == (0, "", "")


async def test_a_request_that_comes_too_late_is_refused() -> None:
    """Between the signal and the closed connection: 503, and no work is started (ours)."""
    sent: list[dict[str, Any]] = []

    async def app(scope: object, receive: object, send: object) -> None:
        await anyio.lowlevel.checkpoint()
        pytest.fail("the request was served")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    requests = http._Requests(app)
    requests.end()
    await requests({"type": "http"}, receive, send)

    assert [part.get("status", part.get("body")) for part in sent] == [503, b""]
