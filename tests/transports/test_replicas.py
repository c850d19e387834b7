"""A question that one server asks and another one on the same ledger gets the answer to."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

import wan_mcp
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

ROOT = Path(wan_mcp.__file__).parents[1]
REVISION = "2026-07-28"
HANG_SECONDS = 600.0
"""A test that takes longer hangs; a slow machine does not."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(Terms(credits=100)) as sandbox:
        yield sandbox


def settings(sandbox: Sandbox, data_folder: Path, key: str) -> dict[str, str]:
    """The settings of a server that asks the person before every job."""
    return {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": key,
        "WAN_MCP_DATA_DIR": str(data_folder),
        "WAN_MCP_CONFIRM_ABOVE": "0",
    }


def job(sandbox: Sandbox, seed: int) -> dict[str, Any]:
    """The arguments of a call that starts a job."""
    return {"video": sandbox.source_video_url, "character_image": sandbox.image_url, "seed": seed}


# Processes behind a balancer


@asynccontextmanager
async def replica(sandbox: Sandbox, data_folder: Path) -> AsyncIterator[int]:
    """Run a server process; yields its port."""
    command = [sys.executable, "-m", "wan_mcp", "http", "--port", "0"]
    environment = {**os.environ, **settings(sandbox, data_folder, sandbox.key)}
    async with await anyio.open_process(command, cwd=ROOT, env=environment, stderr=PIPE) as server:
        try:
            assert server.stderr is not None
            log = BufferedByteReceiveStream(server.stderr)
            url = (await log.receive_until(b"\n", 4096)).decode().strip()
            yield urlsplit(url).port or 0
        finally:
            server.kill()


@asynccontextmanager
async def balancer(*ports: int) -> AsyncIterator[tuple[str, Counter[int]]]:
    """Run a proxy that hands each connection to the next server in turn.

    Yields the URL at which clients reach the servers, and the number of connections that each
    server got, by its port.
    """
    turns, served = cycle(ports), Counter[int]()

    async def forward(client: SocketStream) -> None:
        port = next(turns)
        served[port] += 1
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", port) as server,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(copy, client, server)
            await copy(server, client)
            tasks.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, forward)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/mcp", served
        tasks.cancel_scope.cancel()


async def copy(source: ByteReceiveStream, target: ByteSendStream) -> None:
    try:
        async for part in source:
            await target.send(part)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the other side has hung up


async def post(url: str, arguments: dict[str, Any], **answer: Any) -> dict[str, Any]:
    """Make one request to start a job, on a connection of its own, and return its result.

    Args:
        answer: `requestState` and `inputResponses`, when the request answers a question.
    """
    about: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
    }
    params = {"name": "replace_character", "arguments": arguments, "_meta": about, **answer}
    headers = {
        "accept": "application/json, text/event-stream",
        "host": "127.0.0.1",  # the servers refuse requests to the port of the balancer
        "mcp-protocol-version": REVISION,
        "mcp-method": "tools/call",
        "mcp-name": "replace_character",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS) as client:
        response = await client.post(url, json=body, headers=headers)
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        *_, text = (line[6:] for line in text.splitlines() if line.startswith("data: {"))
    reply = httpx.Response(200, text=text).json()
    assert "result" in reply, reply
    result: dict[str, Any] = reply["result"]
    return result


async def answered(url: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Start a job and say yes to the question about it; the result of the call."""
    yes = {"action": "accept", "content": {"spend": True}}
    result = await post(url, arguments)
    assert "inputRequests" in result
    while "inputRequests" in result:  # more than once when a price could not be read in time
        result = await post(
            url,
            arguments,
            requestState=result["requestState"],
            inputResponses=dict.fromkeys(result["inputRequests"], yes),
        )
    return result


async def test_each_question_is_answered_although_another_server_asked_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Three of three are answered, with one charge each (ours)."""
    with anyio.fail_after(HANG_SECONDS):
        async with (
            replica(sandbox, tmp_path) as one,
            replica(sandbox, tmp_path) as other,
            balancer(one, other) as (url, served),
        ):
            results = [await answered(url, job(sandbox, seed)) for seed in range(3)]
            await sandbox.until(lambda: len(sandbox.charges) >= 3)

    assert not any(result["isError"] for result in results)
    assert sorted(charge.body["seed"] for charge in sandbox.charges) == [0, 1, 2]
    assert min(served[one], served[other]) >= 3


# Servers in this process


YES = ElicitResult(action="accept", content={"spend": True})


async def say_yes(context: object, params: object) -> ElicitResult:
    return YES


@asynccontextmanager
async def connected(
    sandbox: Sandbox, data_folder: Path, key: str | None = None
) -> AsyncIterator[Client]:
    """A client of a server in this process, whose person says yes to each question."""
    given = settings(sandbox, data_folder, key or sandbox.key)
    server = build_server(Settings.read(given, data_folder))
    with anyio.fail_after(HANG_SECONDS):
        async with Client(server, elicitation_callback=say_yes) as client:
            yield client


async def ask(client: Client, wanted: dict[str, Any]) -> InputRequiredResult:
    """The question that a call is answered with."""
    question = await client.session.call_tool(
        "replace_character", wanted, allow_input_required=True
    )
    assert isinstance(question, InputRequiredResult)
    return question


async def answer(
    client: Client, wanted: dict[str, Any], question: InputRequiredResult
) -> CallToolResult:
    """The same call again, with the person's yes to that question."""
    return await client.call_tool(
        "replace_character",
        wanted,
        request_state=question.request_state,
        input_responses=dict.fromkeys(question.input_requests or (), YES),
    )


async def test_an_answer_is_accepted_after_a_restart(sandbox: Sandbox, tmp_path: Path) -> None:
    """The key is in the ledger, not in the process (ours)."""
    async with connected(sandbox, tmp_path) as first:
        question = await ask(first, job(sandbox, 1))
    async with connected(sandbox, tmp_path) as second:
        result = await answer(second, job(sandbox, 1), question)
        await sandbox.until(lambda: bool(sandbox.charges))

    assert not result.is_error
    assert len(sandbox.charges) == 1


async def test_a_question_of_one_account_is_not_answered_for_another(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Two accounts on one ledger trust each other with nothing (ours)."""
    async with (
        connected(sandbox, tmp_path) as mine,
        connected(sandbox, tmp_path, sandbox.open_account()) as theirs,
    ):
        question = await ask(mine, job(sandbox, 1))
        with pytest.raises(MCPError, match="requestState"):
            await answer(theirs, job(sandbox, 1), question)

    assert sandbox.charges == []


async def test_a_question_asked_without_the_shared_key_can_be_answered_here(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A key of this process takes its place, and stays valid once the ledger is back (ours)."""

    async def secret(*_: object) -> bytes:
        raise LedgerUnavailable("The ledger is away.")

    async with connected(sandbox, tmp_path) as client:
        with monkeypatch.context() as away:
            away.setattr(SQLiteLedger, "secret", secret)
            questions = [await ask(client, job(sandbox, seed)) for seed in (1, 2)]
            results = [await answer(client, job(sandbox, 1), questions[0])]
        results.append(await answer(client, job(sandbox, 2), questions[1]))
        await sandbox.until(lambda: len(sandbox.charges) >= 2)

    assert [result.is_error for result in results] == [False, False]
    assert len(sandbox.charges) == 2
    assert "The ledger is away." in caplog.text


async def test_a_server_that_cannot_open_its_ledger_goes_on_after_a_foreign_answer(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """That answer is refused; reads are answered, and a paid call is refused in words (ours)."""
    (tmp_path / "ledger").write_text("This is a file where the ledger needs a folder.")
    async with connected(sandbox, tmp_path) as client:
        foreign = InputRequiredResult(request_state="v1.of-another-server")
        with pytest.raises(MCPError, match="requestState"):
            await answer(client, job(sandbox, 1), foreign)
        read = await client.call_tool("get_job_status", {"job_id": "job_unknown"})
        paid = await client.call_tool("replace_character", job(sandbox, 1))

    assert (read.structured_content or {})["code"] == "not_found"
    assert (paid.structured_content or {})["code"] == "ledger_unavailable"
    assert sandbox.charges == []
