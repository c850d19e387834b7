"""One job from end to end by clients of every revision, over both transports of the real server."""

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.surface.wire_schema import HANDSHAKE, MODERN, violations
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.transports import stdio

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 600
"""Ends a test whose server hangs; a slow machine must only make it slow."""
WAIT_SECONDS = 300
"""More than enough for a job that is completed as soon as it is accepted."""
INFO = {"name": "test", "version": "1"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}
TOOLS = {
    *("replace_character", "get_job_status", "wait_for_job", "list_jobs"),
    *("check_credits", "cancel_job"),
}

Message = dict[str, Any]
Exchange = Callable[[str, Message], Awaitable[list[Message]]]
"""Sends one message; all that came back, the response last, or nothing to a notification."""


class Peer:
    """A client of one revision, in raw JSON-RPC."""

    def __init__(self, revision: str, exchange: Exchange) -> None:
        self.notes: list[Message] = []
        self._revision = revision
        self._exchange = exchange
        self._ids = count(1)

    async def open(self) -> None:
        """Begin as a client of the revision does; the modern one just asks."""
        if self._revision == MODERN:
            return
        hello = {"protocolVersion": self._revision, "capabilities": {}, "clientInfo": INFO}
        answer = await self.ask("initialize", **hello)
        assert answer["protocolVersion"] == self._revision
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await self._exchange(self._revision, note)

    async def ask(self, method: str, **params: object) -> Message:
        meta: Message = {**ENVELOPE} if self._revision == MODERN else {}
        if method == "tools/call":
            meta["progressToken"] = "p"
        if meta:
            params["_meta"] = meta
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        *notes, answer = await self._exchange(self._revision, request)
        self.notes += notes
        assert answer["id"] == request["id"]
        assert not [fault for note in notes for fault in violations(note, self._revision)]
        assert not violations(answer, self._revision, method)
        result: Message = answer["result"]
        return result

    async def call(self, tool: str, **arguments: object) -> Message:
        return await self.ask("tools/call", name=tool, arguments=arguments)


async def run_a_job(peer: Peer, sandbox: Sandbox) -> list[Message]:
    """What submit, wait and status answer."""
    media = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    submitted = await peer.call("replace_character", **media, seed=len(sandbox.charges))
    job_id = submitted["structuredContent"]["job_id"]
    waited = await peer.call("wait_for_job", job_id=job_id, timeout_seconds=WAIT_SECONDS)
    return [submitted, waited, await peer.call("get_job_status", job_id=job_id)]


def check(answers: list[Message], notes: list[Message], sandbox: Sandbox) -> None:
    """The same facts in both forms, and one charge for one job."""
    data = [answer["structuredContent"] for answer in answers]
    texts = [answer["content"][0]["text"] for answer in answers]
    job_id = sandbox.charges[-1].job_id

    assert [answer.get("isError", False) for answer in answers] == [False] * 3
    assert [page["job_id"] for page in data[1:]] == [job_id] * 2
    assert [page["charged"] for page in data[1:]] == ["no", "no"]
    assert [page["status"] for page in data[1:]] == ["completed", "completed"]
    started = {name: data[0][name] for name in ("job_id", "charged", "status")}
    assert started in (
        {"job_id": job_id, "charged": "yes", "status": "running"},
        # A machine too slow for an answer of the sandbox within the time of a call.
        {"job_id": started["job_id"], "charged": "unknown", "status": "submitting"},
    )
    assert all(page["job_id"] in text for page, text in zip(data, texts, strict=True))
    assert all(data[2]["video_url"] in text for text in texts[1:])
    assert {note["method"] for note in notes} == {"notifications/progress"}
    assert {note["params"]["progressToken"] for note in notes} == {"p"}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Its jobs are completed as soon as they are accepted, and its links never expire."""
    terms = Terms(
        pending_seconds=0, processing_seconds=0, url_seconds=None, requests_per_minute=600
    )
    async with Sandbox(terms) as sandbox:
        yield sandbox


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """What a host would set, and a ledger in the test's own folder."""
    inherited = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return {
        **inherited,
        "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(Path(stdio.__file__).parents[2]),
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
    }


Start = Callable[..., AbstractAsyncContextManager[anyio.abc.Process]]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Start:
    """Start the real server as a host does."""

    @asynccontextmanager
    async def started(*arguments: str) -> AsyncIterator[anyio.abc.Process]:
        command = [sys.executable, "-m", "wan_mcp", *arguments]
        with anyio.fail_after(LIMIT_SECONDS):
            process = await anyio.open_process(
                command, env=environment, cwd=tmp_path, stderr=None if not arguments else -1
            )
            try:
                yield process
            finally:
                if arguments:
                    process.terminate()
                await process.aclose()

    return started


def over_stdio(process: anyio.abc.Process) -> Exchange:
    assert process.stdin
    assert process.stdout
    stdin, lines = process.stdin, BufferedByteReceiveStream(process.stdout)

    async def exchange(revision: str, message: Message) -> list[Message]:
        await stdin.send(json.dumps(message).encode() + b"\n")
        heard: list[Message] = []
        while "id" in message and not (heard and "id" in heard[-1]):
            heard.append(json.loads(await lines.receive_until(b"\n", 1 << 20)))
        return heard

    return exchange


def over_http(client: httpx.AsyncClient, url: str) -> Exchange:
    async def exchange(revision: str, message: Message) -> list[Message]:
        headers = {"accept": "application/json, text/event-stream"}
        if revision not in ("2024-11-05", "2025-03-26"):  # the header came with 2025-06-18
            headers["mcp-protocol-version"] = revision
        if revision == MODERN:
            name = str(message["params"].get("name", ""))
            headers |= {"mcp-method": message["method"], "mcp-name": name}
        response = await client.post(url, json=message, headers=headers)
        assert response.is_success, response.text
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            events = [line[6:] for line in response.text.splitlines() if line[:7] == "data: {"]
            return [json.loads(event) for event in events]
        return [response.json()] if "id" in message else []

    return exchange


async def announced(process: anyio.abc.Process) -> str:
    assert process.stderr
    line = await BufferedByteReceiveStream(process.stderr).receive_until(b"\n", 1_000)
    return line.decode().strip()


@pytest.mark.parametrize("revision", [*HANDSHAKE, MODERN])
async def test_a_client_of_each_revision_runs_a_job_over_stdio(
    start: Start, sandbox: Sandbox, revision: str
) -> None:
    """Hosts of five revisions are in use (ours)."""
    async with start() as process:
        peer = Peer(revision, over_stdio(process))
        await peer.open()
        listed = await peer.ask("tools/list")
        answers = await run_a_job(peer, sandbox)

    assert {tool["name"] for tool in listed["tools"]} == TOOLS
    check(answers, peer.notes, sandbox)
    assert len(sandbox.charges) == 1


async def test_clients_of_all_revisions_run_jobs_over_one_http_server(
    start: Start, sandbox: Sandbox
) -> None:
    """The revision is a matter of each request, not of the server (ours)."""
    lists = []
    async with (
        start("http", "--port", "0") as process,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        url = await announced(process)
        for revision in [*HANDSHAKE, MODERN]:
            peer = Peer(revision, over_http(client, url))
            await peer.open()
            lists.append((await peer.ask("tools/list"))["tools"])
            answers = await run_a_job(peer, sandbox)

            check(answers, peer.notes, sandbox)

    assert len(sandbox.charges) == 5
    assert {tool["name"] for tool in lists[0]} == TOOLS
    assert lists == [lists[0]] * 5


WAYS = [("auto", MODERN), ("legacy", "2025-11-25")]


async def by_sdk(client: Client, sandbox: Sandbox) -> None:
    """The same job through the SDK's own client, which checks answers against the schemas."""
    before = len(sandbox.charges)
    media = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    listed = await client.list_tools()
    submitted = await client.call_tool("replace_character", {**media, "seed": len(sandbox.charges)})
    assert submitted.structured_content
    job = {"job_id": submitted.structured_content["job_id"]}
    waited = await client.call_tool("wait_for_job", {**job, "timeout_seconds": WAIT_SECONDS})
    looked = await client.call_tool("get_job_status", job)

    assert {tool.name for tool in listed.tools} == TOOLS
    assert waited.structured_content
    assert waited.structured_content["status"] == "completed"
    assert looked.structured_content == waited.structured_content
    assert [charge.job_id for charge in sandbox.charges[before:]] == [
        waited.structured_content["job_id"]
    ]


@pytest.mark.parametrize(("mode", "revision"), WAYS)
async def test_the_sdks_client_runs_a_job_over_stdio(
    environment: dict[str, str], sandbox: Sandbox, tmp_path: Path, mode: str, revision: str
) -> None:
    """In both of its ways to begin (ours)."""
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "wan_mcp"], env=environment, cwd=tmp_path
    )
    with anyio.fail_after(LIMIT_SECONDS):
        async with Client(command, mode=mode) as client:
            await by_sdk(client, sandbox)

            assert client.protocol_version == revision


async def test_the_sdks_client_runs_a_job_over_http(start: Start, sandbox: Sandbox) -> None:
    """In both of its ways to begin (ours)."""
    async with start("http", "--port", "0") as process:
        url = await announced(process)
        for mode, revision in WAYS:
            async with Client(url, mode=mode) as client:
                await by_sdk(client, sandbox)

                assert client.protocol_version == revision
