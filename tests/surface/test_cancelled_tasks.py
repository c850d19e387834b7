"""A paid call or its task is cancelled, or its server is killed, at each moment of the call."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

import wan_mcp
from tests.connected import Host, connected
from tests.tasks_client import TasksClient, ask, created_by
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.surface.answers.task_form import WITHDRAWN_NOTE
from wan_mcp.surface.calls import Call

time, anyio_backend = in_virtual_time(0.0, sockets=True)

UNLIMITED = {"WAN_MCP_MAX_IN_FLIGHT": "100", "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "100"}
BEFORE_ITS_ID = {
    "it begins": (Call, "report_progress", False),
    "the price is asked": (Jobs, "_price_of", False),
    "it is about to be claimed": (ThreadedLedger, "claim", False),
    "it is claimed": (ThreadedLedger, "claim", True),
}
BEFORE_THE_COMMIT = {
    "it is about to be sent": (PixelDojo, "submit", False),
    "it is about to be committed": (ThreadedLedger, "commit_sending", False),
}
AFTER_THE_COMMIT = {
    "it is committed": (ThreadedLedger, "commit_sending", True),
    "it is answered": (ThreadedLedger, "accept", False),
    "its answer is recorded": (ThreadedLedger, "accept", True),
}
HANG_SECONDS = 600.0
"""Real seconds after which something counts as never happening."""
ROOT = Path(wan_mcp.__file__).parents[1]
MODERN = "2026-07-28"


@pytest.fixture
async def host(time: VirtualTime, tmp_path: Path) -> AsyncIterator[Host]:
    async with connected(time, tmp_path, extensions=(TasksClient(),), settings=UNLIMITED) as host:
        yield host


class Moment:
    """A moment of a paid call, which lasts until the test lets the call go on.

    Args:
        after: whether the moment is after the step, or before it.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: type, step: str, after: bool
    ) -> None:
        self.come, self._over = anyio.Event(), anyio.Event()
        whole = getattr(owner, step)

        async def held(*args: Any, **named: Any) -> Any:
            done = await whole(*args, **named) if after else None
            self.come.set()
            await self._over.wait()
            return done if after else await whole(*args, **named)

        monkeypatch.setattr(owner, step, held)

    def end(self) -> None:
        self._over.set()


def charged(host: Host, seed: int) -> list[str]:
    """The ids of the jobs with that seed that were charged."""
    return [charge.job_id for charge in host.sandbox.charges if charge.body["seed"] == seed]


async def cancelled_at(
    host: Host, seed: int, owner: type, step: str, after: bool
) -> tuple[str, str]:
    """Cancel a task at that moment of its paid call; returns the task's id and the note."""
    with pytest.MonkeyPatch.context() as patch:
        moment = Moment(patch, owner, step, after)
        created = await created_by(host, seed=seed)
        assert moment.come.is_set()
        assert created["status"] == "working"
        note = await note_on_cancel(host, created["taskId"])
        moment.end()
    return created["taskId"], note


async def note_on_cancel(host: Host, id: str) -> str:
    answer = await ask(host, "tasks/cancel", id)
    return str(answer["_meta"]["wan-mcp/note"])


@pytest.mark.anyio
async def test_a_call_cancelled_at_any_moment_is_paid_at_most_once_and_found(host: Host) -> None:
    """The same call again becomes the task of the one request (promises 4, 8)."""
    moments = BEFORE_ITS_ID | BEFORE_THE_COMMIT | AFTER_THE_COMMIT
    for seed, (owner, step, after) in enumerate(moments.values()):
        with pytest.MonkeyPatch.context() as patch:
            moment = Moment(patch, owner, step, after)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(created_by, host, seed=seed))
                await moment.come.wait()
                tasks.cancel_scope.cancel()
                moment.end()  # a claim that was begun is finished first
        again = await created_by(host, seed=seed)
        job = await host.call("get_job_status", job_id=again["taskId"])

        assert again["resultType"] == "task"
        assert charged(host, seed) == [job["job_id"]], step


@pytest.mark.anyio
async def test_a_task_cancelled_before_its_commit_is_never_paid(host: Host) -> None:
    """And it says so; the same call again is a new request (promises 2)."""
    for seed, (owner, step, after) in enumerate(BEFORE_THE_COMMIT.values()):
        id, note = await cancelled_at(host, seed, owner, step, after)
        await anyio.sleep(60)
        task = await ask(host, "tasks/get", id)

        assert (task["status"], note) == ("cancelled", WITHDRAWN_NOTE)
        assert charged(host, seed) == [], step
        assert (await created_by(host, seed=seed))["taskId"] != id
        assert len(charged(host, seed)) == 1, step


@pytest.mark.anyio
async def test_a_task_cancelled_after_its_commit_is_paid_once_and_kept(host: Host) -> None:
    """PixelDojo may have it, so it goes on, and its id leads to the job (promises 1, 3)."""
    for seed, (owner, step, after) in enumerate(AFTER_THE_COMMIT.values()):
        id, note = await cancelled_at(host, seed, owner, step, after)
        again = await created_by(host, seed=seed)
        job = await host.call("get_job_status", job_id=id)

        assert charged(host, seed) == [job["job_id"]], step
        assert again["taskId"] == id
        assert id in note or job["job_id"] in note


@pytest.mark.anyio
async def test_a_task_is_not_withdrawn_while_its_own_call_waits_for_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds its id in the list cannot take it from its caller (ours)."""
    moment = Moment(monkeypatch, PixelDojo, "submit", after=False)
    answers: list[dict[str, Any]] = []

    async def call() -> None:
        answers.append(await created_by(host, seed=1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await moment.come.wait()
        listed = await host.call("list_jobs")
        note = await note_on_cancel(host, listed["jobs"][0]["job_id"])
        moment.end()

    assert "another call waits for it" in note
    assert len(charged(host, 1)) == 1
    assert answers[0]["taskId"] == listed["jobs"][0]["job_id"]


# Killed


class HostProcess:
    """A host that declares tasks, with a server in a process of its own."""

    def __init__(self, server: Process) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self._server, self._stdin = server, server.stdin
        self._lines = BufferedByteReceiveStream(server.stdout)

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request."""
        prefix = "io.modelcontextprotocol/"
        meta = {
            f"{prefix}protocolVersion": MODERN,
            f"{prefix}clientInfo": {"name": "test", "version": "1"},
            f"{prefix}clientCapabilities": {"extensions": {f"{prefix}tasks": {}}},
        }
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        await self._stdin.send(json.dumps(request).encode() + b"\n")
        while "id" not in (message := json.loads(await self._lines.receive_until(b"\n", 1 << 20))):
            continue
        result: dict[str, Any] = message["result"]
        return result

    async def kill(self) -> None:
        self._server.kill()
        await self._server.wait()


@asynccontextmanager
async def process(sandbox: Sandbox, data: Path) -> AsyncIterator[HostProcess]:
    """A host whose server has just started; the server is killed at the end."""
    settings = {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_DATA_DIR": str(data),
        "WAN_MCP_PREFLIGHT": "off",
        "WAN_MCP_ARCHIVE": "off",
    }
    command = [sys.executable, "-m", "wan_mcp"]
    environment = {**os.environ, **settings}
    async with await anyio.open_process(
        command, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    ) as server:
        host = HostProcess(server)
        try:
            yield host
        finally:
            await host.kill()


async def _kill_and_come_back(data: Path) -> None:
    async with Sandbox(Terms(pending_seconds=0, processing_seconds=1)) as sandbox:
        links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
        async with process(sandbox, data) as host:
            call = {"name": "replace_character", "arguments": links}
            created = await host.ask("tools/call", **call)
        async with process(sandbox, data) as host:
            task = await host.ask("tasks/get", taskId=created["taskId"])
            while task["status"] == "working":
                task = await host.ask("tasks/get", taskId=created["taskId"])
            wait = {"name": "wait_for_job", "arguments": {"job_id": created["taskId"]}}
            by_wait = await host.ask("tools/call", **wait)
        charges = [charge.job_id for charge in sandbox.charges]

    result = task["result"]["structuredContent"]
    assert (created["resultType"], task["status"]) == ("task", "completed")
    assert (result["status"], [result["job_id"]]) == ("completed", charges)
    assert without_age(result) == without_age(by_wait["structuredContent"])


def without_age(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "expires_in_seconds"}


def test_a_host_killed_and_started_again_finds_its_task_by_its_id(tmp_path: Path) -> None:
    """One call, one charge, and the result of wait_for_job (ours)."""

    async def in_time() -> None:
        with anyio.fail_after(HANG_SECONDS):
            await _kill_and_come_back(tmp_path)

    anyio.run(in_time)
