"""The HTTP runner: every revision, who may call, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

import anyio
import httpx
import pytest
from mcp.server.mcpserver import MCPServer

from wan_mcp.transports import http, stdio

pytestmark = pytest.mark.anyio
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

# The server of the subprocess tests: its socket tells the test what happens inside, and the paid
# work waits there for the test.
STAND_IN = """
import socket, sys
from contextlib import asynccontextmanager

import anyio
from mcp.server.mcpserver import Context, MCPServer

from wan_mcp.transports.http import run_http

events = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tell = lambda word: events.sendall(word.encode() + b"\\n")


@asynccontextmanager
async def lifespan(server):
    tell("open")
    async with anyio.create_task_group() as paid:
        yield paid
        tell("leaving")
    await anyio.sleep(0)
    tell("closed")


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
        tell("cancelled")


@server.tool()
async def pay(ctx: Context) -> str:
    async def submit():
        with anyio.CancelScope(shield=True):
            tell("paying")
            await anyio.wait_readable(events)
            events.recv(2)
            tell("paid")
    ctx.request_context.lifespan_context.start_soon(submit)
    await ctx.report_progress(1, 2, "paying")
    await anyio.sleep_forever()


@server.tool()
async def flood() -> str:
    return "x" * 20_000_000


sys.exit(run_http(server, port=0, announce=tell))
"""


class Process:
    """A stand-in server in a process of its own."""

    def __init__(self, listener: socket.socket) -> None:
        port = str(listener.getsockname()[1])
        self.popen = subprocess.Popen(
            [sys.executable, "-c", STAND_IN, port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(stdio.__file__).parents[2],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.events = listener.accept()[0]
        self.events.settimeout(5)
        self._words = self.events.makefile("r")
        assert self.word() == "open"
        self.url = self.word()
        self.client = httpx.Client(timeout=5, trust_env=False)

    def word(self) -> str:
        """What the server says next about itself; "" when its process has ended."""
        return self._words.readline().strip()

    def request(self, revision: str, method: str, **params: object) -> httpx.Request:
        return self.client.build_request("POST", self.url, **message(revision, method, params))

    def ask(self, revision: str, method: str, **params: object) -> dict[str, Any]:
        """The result of one request, streamed or not."""
        response = self.client.send(self.request(revision, method, **params))
        assert response.status_code == 200, response.text
        return result(response)

    def end(self) -> tuple[int, str, str]:
        """The exit code and the output of a server that ends within two seconds."""
        code = self.popen.wait(timeout=2)
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


def start(stack: ExitStack) -> Process:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(10)
    return stack.enter_context(closing(Process(listener)))


@pytest.fixture(scope="module")
def shared() -> Iterator[Process]:
    """One server for the tests that leave it as it was."""
    with ExitStack() as stack:
        yield start(stack)


@pytest.fixture
def spawn() -> Iterator[Callable[[], Process]]:
    """Start servers of the test's own."""
    with ExitStack() as stack:
        yield lambda: start(stack)


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
    """Clients of five revisions are in use (mcp-sdk-notes 8)."""
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
    """Both are lost in the SDK's json_response mode (mcp-sdk-notes 3)."""
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
    request = message("2025-06-18", "tools/list", {"filler": "x" * http.MAX_BODY})
    body = json.dumps(request["json"]).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    headers = {**request["headers"], "content-type": "application/json"}
    response = await client.post("/mcp", content=body if declared else chunks(), headers=headers)

    assert response.status_code == 413


# The end


async def test_a_busy_port_is_refused_in_one_sentence(stand_in: MCPServer[None]) -> None:
    """The caller prints it; the lifespan has not begun (ours)."""
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
    spawn: Callable[[], Process], end: str
) -> None:
    """A submit torn in the middle is paid and unknown; streams end properly (ours)."""
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
        list(each)  # raises when the stream is torn instead of ended
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
    spawn: Callable[[], Process], revision: str
) -> None:
    """The answer waits for room in the connection; the lifespan must still leave (ours)."""
    process = spawn()
    request = process.request(revision, "tools/call", name="flood", arguments={})
    with closing(process.client.send(request, stream=True)) as response:
        chunks = response.iter_raw()  # kept: the connection closes with it
        assert any(b"xxx" in chunk for chunk in chunks)
        process.popen.send_signal(signal.SIGTERM)

        assert [process.word(), process.word()] == ["leaving", "closed"]
        assert process.end() == (0, "", "")


async def test_a_request_that_comes_too_late_is_told_to_go_elsewhere() -> None:
    """Between the signal and the closed connection: 503, and no work is begun (ours)."""
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
