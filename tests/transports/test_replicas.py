"""Several HTTP servers on one ledger, behind a balancer that knows nothing of MCP."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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

import wan_mcp
from wan_mcp.sandbox import Sandbox, Terms

pytestmark = pytest.mark.anyio

ROOT = Path(wan_mcp.__file__).parents[1]
REVISION = "2026-07-28"
HANG_SECONDS = 600.0
"""A test that takes longer hangs; a slow machine does not."""


@asynccontextmanager
async def replica(sandbox: Sandbox, data_folder: Path) -> AsyncIterator[int]:
    """A server process that asks the person before every job; its port."""
    settings = {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_DATA_DIR": str(data_folder),
        "WAN_MCP_CONFIRM_ABOVE": "0",
    }
    command = [sys.executable, "-m", "wan_mcp", "http", "--port", "0"]
    environment = {**os.environ, **settings}
    async with await anyio.open_process(command, cwd=ROOT, env=environment, stderr=PIPE) as server:
        try:
            assert server.stderr is not None
            log = BufferedByteReceiveStream(server.stderr)
            url = (await log.receive_until(b"\n", 4096)).decode().strip()
            yield urlsplit(url).port or 0
        finally:
            server.kill()


class Balancer:
    """A proxy that hands each connection to the next server in turn.

    Attributes:
        served: how many connections each server got, by its port.
    """

    def __init__(self, *ports: int) -> None:
        self.served: Counter[int] = Counter()
        self._turns = cycle(ports)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL at which clients reach the servers through it."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._forward)
            port = listener.extra(SocketAttribute.local_port)
            yield f"http://127.0.0.1:{port}/mcp"
            tasks.cancel_scope.cancel()

    async def _forward(self, client: SocketStream) -> None:
        port = next(self._turns)
        self.served[port] += 1
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", port) as server,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_copy, client, server)
            await _copy(server, client)
            tasks.cancel_scope.cancel()


async def _copy(source: ByteReceiveStream, target: ByteSendStream) -> None:
    try:
        async for part in source:
            await target.send(part)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the other side has hung up


async def post(url: str, arguments: dict[str, Any], **answer: Any) -> dict[str, Any]:
    """One request to start a job, on a connection of its own; the result.

    Args:
        answer: what a repeated request carries besides: the state, and what the person said.
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


async def test_each_question_is_answered_although_another_server_asked_it(tmp_path: Path) -> None:
    """Three of three are answered, with one charge each (ours)."""
    yes = {"action": "accept", "content": {"spend": True}}
    job_ids: list[str] = []

    with anyio.fail_after(HANG_SECONDS):
        async with AsyncExitStack() as running:
            sandbox = await running.enter_async_context(Sandbox(Terms(credits=100)))
            one = await running.enter_async_context(replica(sandbox, tmp_path))
            other = await running.enter_async_context(replica(sandbox, tmp_path))
            balancer = Balancer(one, other)
            url = await running.enter_async_context(balancer.listening())
            for seed in range(3):
                wanted = {
                    "video": sandbox.clip_url,
                    "character_image": sandbox.image_url,
                    "seed": seed,
                }
                asked = await post(url, wanted)
                charges_before_the_answer = len(sandbox.charges)
                answers = dict.fromkeys(asked["inputRequests"], yes)
                result = await post(
                    url, wanted, requestState=asked["requestState"], inputResponses=answers
                )
                assert charges_before_the_answer == seed
                job_ids.append(result["structuredContent"]["job_id"])

            assert [charge.job_id for charge in sandbox.charges] == job_ids
            assert [charge.body["seed"] for charge in sandbox.charges] == [0, 1, 2]
            assert balancer.served == {one: 3, other: 3}
