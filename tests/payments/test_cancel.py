"""A caller that stops waiting for a submit does not stop it: the submit belongs to the server."""

import asyncio
import itertools
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import httpx
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp.client import Client

import wan_mcp
from wan_mcp.clock import Clock
from wan_mcp.errors import OutcomeUnknown
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.record import UNSETTLED
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.ledger.status import JobView
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Fault, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/*/run"
ROOT = Path(wan_mcp.__file__).parents[1]
HANG_SECONDS = 600.0
"""A test that takes longer hangs; a slow machine does not."""
T = TypeVar("T")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(Terms(credits=100_000)) as sandbox:
        yield sandbox


@asynccontextmanager
async def serving(sandbox: Sandbox, folder: Path) -> AsyncIterator[Jobs]:
    """The jobs of one server, without spending limits."""
    vendor = PixelDojo(sandbox.api_base, sandbox.key)
    ledger = SQLiteLedger(folder, limits=SpendingLimits(None, None, None, None))
    account = partial(ledger.account, sandbox.api_base, sandbox.key)
    try:
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(HANG_SECONDS):
                yield Jobs(
                    vendor,
                    ledger,
                    account,
                    SharedRateLimiter(ledger.coordination, account, Clock()),
                    tasks,
                    Clock(),
                )
            tasks.cancel_scope.cancel()
    finally:
        await vendor.aclose()
        await ledger.aclose()


def arguments_with(sandbox: Sandbox, seed: int) -> dict[str, Any]:
    """The arguments of a call that starts a job."""
    return {"video": sandbox.source_video_url, "character_image": sandbox.image_url, "seed": seed}


def charged(sandbox: Sandbox, seed: int) -> list[str]:
    """The ids of the jobs with that seed that were charged."""
    return [charge.job_id for charge in sandbox.charges if charge.body["seed"] == seed]


def states(folder: Path) -> list[str]:
    """The state of each record in the ledger."""
    (path,) = folder.rglob(FILE)
    with closing(sqlite3.connect(path)) as file:
        return [state for (state,) in file.execute("SELECT state FROM jobs")]


def unsettled(folder: Path) -> list[str]:
    """The states of the records whose submit has not ended."""
    return [state for state in states(folder) if state in UNSETTLED]


def running_tasks() -> set[str]:
    """The names of the tasks that run, without those of the sandbox and of this test."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    names = {getattr(task.get_coro(), "__qualname__", "") for task in others}
    return {name for name in names if not name.startswith(("Listener.", "TestRunner."))}


class Interrupted(Awaitable[T], Generic[T]):
    """An awaitable that is interrupted when it waits for the n-th time.

    Args:
        call: what is awaited.
        at: the number of the wait, from 1.
        interrupt: called at that wait.

    Attributes:
        reached: whether it waited that often.
    """

    def __init__(self, call: Awaitable[T], at: int, interrupt: Callable[[], object]) -> None:
        self._call = call
        self._at = at
        self._interrupt = interrupt
        self.reached = False

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._call.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        for count in itertools.count(1):
            try:
                awaited = resume()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return] # what a generator returns
            if count == self._at:
                self.reached = True
                self._interrupt()
            try:
                yield awaited
                resume = partial(next, steps)
            except BaseException as thrown:  # passed on: a cancellation that the loop throws in
                resume = partial(steps.throw, thrown)
        raise AssertionError("unreachable: the count has no end")


async def in_scope(call: Awaitable[object], at: int) -> bool:
    """Cancel the call at its n-th wait as the SDK does; whether it waited that often."""
    with anyio.CancelScope() as scope, suppress(OutcomeUnknown):
        interrupted = Interrupted(call, at, scope.cancel)
        await interrupted
    return interrupted.reached


async def as_task(call: Awaitable[object], at: int) -> bool:
    """The same as asyncio cancels a task, which no scope of anyio shields from."""

    async def run() -> None:
        with suppress(OutcomeUnknown):
            await interrupted

    task = asyncio.ensure_future(run())
    interrupted = Interrupted(call, at, task.cancel)
    await asyncio.wait([task])
    return interrupted.reached


async def same_call(jobs: Jobs, wanted: Replacement) -> str:
    """The id of the job that an equal call returns."""
    try:
        return (await jobs.submit(wanted)).id
    except OutcomeUnknown as unknown:
        return (await jobs.check(unknown.job_id or "")).id


@pytest.mark.parametrize("cancelled", [in_scope, as_task])
@pytest.mark.parametrize(
    "vendor", [faults.honest(), faults.dropped(work=True)], ids=["answered", "answer lost"]
)
async def test_a_submit_cancelled_at_any_await_is_paid_once(
    sandbox: Sandbox,
    tmp_path: Path,
    vendor: Fault,
    cancelled: Callable[[Awaitable[object], int], Awaitable[bool]],
) -> None:
    """A second call returns the same job, and no task is left (promises 4)."""
    sandbox.fault("POST", RUN, vendor, times=None)
    async with serving(sandbox, tmp_path) as first:
        await same_call(first, Replacement(**arguments_with(sandbox, 0)))

    for at in itertools.count(1):
        wanted = Replacement(**arguments_with(sandbox, at))
        async with serving(sandbox, tmp_path) as jobs:
            reached = await cancelled(jobs.submit(wanted), at)
            while unsettled(tmp_path):
                await anyio.lowlevel.checkpoint()
            job_id = await same_call(jobs, wanted)

        assert charged(sandbox, at) == [job_id], f"cancelled at await {at}"
        assert running_tasks() == set(), f"cancelled at await {at}"
        if not reached:
            break

    assert at > 3


async def test_a_tool_call_cancelled_at_any_await_is_paid_once(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client cancels, and the SDK stops the handler (promises 4)."""
    submit = Jobs.submit
    interrupted: list[Interrupted[JobView]] = []
    settings = Settings.read(
        {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path),
            "WAN_MCP_MAX_CREDITS_PER_DAY": "100000",
            "WAN_MCP_MAX_IN_FLIGHT": "1000",
            "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "1000",
        },
        tmp_path,
    )

    async with Client(build_server(settings)) as client:
        for at in itertools.count(1):
            given = arguments_with(sandbox, at)
            with anyio.fail_after(HANG_SECONDS), anyio.CancelScope() as call:

                async def submit_interrupted(
                    jobs: Jobs, *wanted: Any, at: int = at, call: anyio.CancelScope = call
                ) -> JobView:
                    interrupted.append(Interrupted(submit(jobs, *wanted), at, call.cancel))
                    return await interrupted[-1]

                monkeypatch.setattr(Jobs, "submit", submit_interrupted)
                await client.call_tool("replace_character", given)
            monkeypatch.setattr(Jobs, "submit", submit)
            again = (await client.call_tool("replace_character", given)).structured_content or {}

            assert charged(sandbox, at) == [again["job_id"]], f"cancelled at await {at}"
            if not interrupted[-1].reached:
                break

    assert at > 2  # the price is known by then
    assert unsettled(tmp_path) == []
    assert running_tasks() == set()


def environment(sandbox: Sandbox, folder: Path) -> dict[str, str]:
    """The environment that a host gives to its server."""
    settings = {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": sandbox.key,
        "WAN_MCP_DATA_DIR": str(folder),
    }
    return {**os.environ, **settings}


@asynccontextmanager
async def process(sandbox: Sandbox, folder: Path, *arguments: str) -> AsyncIterator[Process]:
    """Run a server; it is killed at the end if it still runs."""
    command = [sys.executable, "-m", "wan_mcp", *arguments]
    given = environment(sandbox, folder)
    async with await anyio.open_process(command, cwd=ROOT, env=given, stderr=PIPE) as server:
        try:
            yield server
        finally:
            if server.returncode is None:
                server.kill()


async def call_by_stdio(server: Process, arguments: dict[str, Any]) -> BufferedByteReceiveStream:
    """Send one call over stdin; its answer will be the next line of what is returned."""
    assert server.stdin is not None
    assert server.stdout is not None
    lines = BufferedByteReceiveStream(server.stdout)
    about = {"protocolVersion": "2025-06-18", "capabilities": {}}
    hello = {**about, "clientInfo": {"name": "test", "version": "1"}}
    await server.stdin.send(line("initialize", hello, id=1))
    await lines.receive_until(b"\n", 1 << 20)
    call = {"name": "replace_character", "arguments": arguments}
    await server.stdin.send(line("notifications/initialized", {}) + line("tools/call", call, id=2))
    return lines


def line(method: str, params: dict[str, Any], **id: int) -> bytes:
    """One JSON-RPC message."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **id}).encode() + b"\n"


async def answer_by_stdio(sandbox: Sandbox, folder: Path, arguments: dict[str, Any]) -> Any:
    """The answer of a new server to the call."""
    async with process(sandbox, folder) as server:
        lines = await call_by_stdio(server, arguments)
        answer = json.loads(await lines.receive_until(b"\n", 1 << 20))
    return answer["result"]["structuredContent"]


async def test_the_end_of_stdin_lets_a_submit_finish(sandbox: Sandbox, tmp_path: Path) -> None:
    """An answer that comes while the server stops is recorded (promises 4)."""
    stdin_closed = anyio.Event()
    sandbox.fault("POST", RUN, faults.held(faults.honest(), after=stdin_closed))

    with anyio.fail_after(HANG_SECONDS):
        async with process(sandbox, tmp_path) as server:
            await call_by_stdio(server, arguments_with(sandbox, 1))
            await sandbox.until(lambda: len(sandbox.charges) == 1)
            assert server.stdin is not None
            await server.stdin.aclose()
            stdin_closed.set()
            code = await server.wait()
        unsettled_at_the_end = unsettled(tmp_path)
        again = await answer_by_stdio(sandbox, tmp_path, arguments_with(sandbox, 1))

    assert code == 0
    assert unsettled_at_the_end == []
    assert charged(sandbox, 1) == [again["job_id"]]
    assert (again["status"], again["charged"]) == ("running", "no")


async def test_a_submit_that_outlasts_its_server_is_not_sent_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The outcome is unknown, and the job is found later (promises 7)."""
    sandbox.fault("POST", RUN, faults.hung(work=True))

    with anyio.fail_after(HANG_SECONDS):
        async with process(sandbox, tmp_path) as server:
            await call_by_stdio(server, arguments_with(sandbox, 1))
            await sandbox.until(lambda: len(sandbox.charges) == 1)
            assert server.stdin is not None
            await server.stdin.aclose()
            code = await server.wait()
        again = await answer_by_stdio(sandbox, tmp_path, arguments_with(sandbox, 1))
        async with serving(sandbox, tmp_path / "ledger") as jobs:
            job_id = (await jobs.check(again["job_id"])).id

    assert code == 0
    assert charged(sandbox, 1) == [job_id]
    assert unsettled(tmp_path) == []


def call_by_http(arguments: dict[str, Any]) -> dict[str, Any]:
    """The HTTP request of one call."""
    call = {"name": "replace_character", "arguments": arguments}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        "headers": {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2025-06-18",
        },
    }


async def announced(server: Process) -> tuple[str, BufferedByteReceiveStream]:
    """The URL at which it listens, and the rest of its log."""
    assert server.stderr is not None
    log = BufferedByteReceiveStream(server.stderr)
    return (await log.receive_until(b"\n", 4096)).decode(), log


async def test_a_dropped_http_stream_leaves_its_submit_running(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """An equal call returns the same job (promises 4)."""
    client_gone = anyio.Event()
    sandbox.fault("POST", RUN, faults.held(faults.honest(), before=client_gone))
    request = call_by_http(arguments_with(sandbox, 1))

    with anyio.fail_after(HANG_SECONDS):
        async with process(sandbox, tmp_path, "http", "--port", "0") as server:
            url, _ = await announced(server)
            async with (
                httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS) as leaving,
                anyio.create_task_group() as calls,
            ):
                calls.start_soon(partial(leaving.post, url, **request))
                await sandbox.until(lambda: len(sandbox.seen("POST", RUN)) == 1)
                calls.cancel_scope.cancel()
            client_gone.set()
            async with httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS) as client:
                answer = await client.post(url, **request)
        *_, data = (line[6:] for line in answer.text.splitlines() if line.startswith("data: {"))
        again = json.loads(data)["result"]["structuredContent"]

    assert charged(sandbox, 1) == [again["job_id"]]
    assert again["charged"] == "no"
    assert unsettled(tmp_path) == []


@pytest.mark.parametrize(
    ("seconds", "state", "logged"),
    [(2, "accepted", "Waiting up to 8 s"), (60, "unknown", "did not finish")],
)
async def test_an_http_server_that_is_stopped_waits_for_its_payments(
    sandbox: Sandbox, tmp_path: Path, seconds: float, state: str, logged: str
) -> None:
    """It waits up to 8 s, and logs a request that did not finish even then (ours)."""
    sandbox.fault("POST", RUN, faults.held(faults.honest(), after=seconds))

    with anyio.fail_after(HANG_SECONDS):
        async with process(sandbox, tmp_path, "http", "--port", "0") as server:
            url, log = await announced(server)
            async with (
                httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS) as client,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(
                    partial(client.post, url, **call_by_http(arguments_with(sandbox, 1)))
                )
                await sandbox.until(lambda: len(sandbox.charges) == 1)
                server.terminate()
                code = await server.wait()
            rest_of_log = b"".join([part async for part in log]).decode()

    assert code == 0
    assert logged in rest_of_log
    assert states(tmp_path) == [state]
