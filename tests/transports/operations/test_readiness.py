"""Health checks and the order in which an HTTP server ends."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from mcp.server.mcpserver import MCPServer

from wan_mcp.logs.facts import Figures
from wan_mcp.transports import http
from wan_mcp.transports.operations import shared_look
from wan_mcp.transports.operations.operators import Operators
from wan_mcp.transports.operations.readiness import Missing, Readiness
from wan_mcp.transports.operations.shared_look import FRESH_SECONDS
from wan_mcp.transports.shutdown import HTTP, Deadlines, lingering

pytestmark = pytest.mark.anyio
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
SLOW_MACHINE_SECONDS = 600.0
SECRET = "pd_canary_7f3a"


class Service:
    """A server as an operator sees it, which a test controls.

    Attributes:
        lacks: what it lacks.
        looks: how often it was asked.
        may_answer: what a look waits for.
        draining: set when it is to drain.
        may_end: what that waits for.
    """

    def __init__(self) -> None:
        self.lacks: dict[str, str] = {}
        self.looks = 0
        self.may_answer = anyio.Event()
        self.draining = anyio.Event()
        self.may_end = anyio.Event()

    async def missing(self) -> Missing:
        self.looks += 1
        await self.may_answer.wait()
        if "defect" in self.lacks:
            raise ValueError(SECRET)
        return self.lacks

    async def figures(self) -> Figures:
        return Figures()

    async def drain(self) -> None:
        self.draining.set()
        await self.may_end.wait()


class Checked:
    """Health checks of a service, in this process."""

    def __init__(self) -> None:
        self.service = Service()
        self.service.may_answer.set()
        self.draining = False
        self.now = 0.0
        checks = Readiness(self.service, lambda: self.draining, lambda: self.now)
        server = MCPServer("stand-in", version="1", log_level="WARNING")
        app = http.http_app(server, host="127.0.0.1", port=8765, readiness=checks)
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://10.0.0.7:8765")

    async def ask(self, path: str) -> tuple[int, object]:
        answer = await self.client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code, answer.json()

    def pass_time(self) -> None:
        self.now += FRESH_SECONDS


@pytest.fixture
async def checked() -> AsyncIterator[Checked]:
    checked = Checked()
    async with checked.client:
        yield checked


async def test_server_that_lacks_nothing_is_ready(checked: Checked) -> None:
    """A balancer may send it calls; checks come by address, not by the name of a host (ours)."""
    assert await checked.ask("/readyz") == (200, {"status": "ready"})
    assert await checked.ask("/livez") == (200, {"status": "ok"})
    assert await checked.ask("/healthz") == (200, {"status": "ok"})


async def test_server_that_lacks_something_is_alive_but_not_ready_and_says_why(
    checked: Checked,
) -> None:
    """A restart would not mend it; an operator learns what would (ours)."""
    checked.service.lacks = {"ledger": "The ledger cannot be used."}
    status, body = await checked.ask("/readyz")

    assert (status, body) == (503, {"status": "not ready", "missing": checked.service.lacks})
    assert await checked.ask("/livez") == (200, {"status": "ok"})


async def test_server_is_ready_again_as_soon_as_it_lacks_nothing(checked: Checked) -> None:
    """A balancer takes it back without anybody's help (ours)."""
    checked.service.lacks = {"ledger": "The ledger cannot be used."}
    await checked.ask("/readyz")
    checked.service.lacks = {}
    checked.pass_time()

    assert (await checked.ask("/readyz"))[0] == 200


async def test_server_that_is_about_to_end_is_not_ready_at_once(checked: Checked) -> None:
    """Whatever it found a moment ago (ours)."""
    await checked.ask("/readyz")
    checked.draining = True

    assert await checked.ask("/readyz") == (
        503,
        {"status": "not ready", "missing": {"server": "It is about to end."}},
    )
    assert (await checked.ask("/livez"))[0] == 200


async def test_hundred_checks_at_once_look_once(checked: Checked) -> None:
    """Many balancers may ask, and each look takes the thread of the ledger (ours)."""
    checked.service.may_answer = anyio.Event()
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await checked.ask("/readyz"))[0])

    async with anyio.create_task_group() as callers:
        for _ in range(100):
            callers.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        checked.service.may_answer.set()
    await ask()

    assert (answers, checked.service.looks) == ([200] * 101, 1)


async def test_look_that_hangs_is_answered_and_not_begun_again(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that waits for ever would keep a broken server in the balancer (ours)."""
    monkeypatch.setattr(shared_look, "LOOK_SECONDS", 0)
    checked.service.may_answer = anyio.Event()
    first, second = await checked.ask("/readyz"), await checked.ask("/readyz")
    looks = checked.service.looks
    checked.service.may_answer.set()
    await anyio.wait_all_tasks_blocked()

    missing = {"ledger": "It does not answer in time."}
    assert first == second == (503, {"status": "not ready", "missing": missing})
    assert looks == 1
    assert (await checked.ask("/readyz"))[0] == 200


async def test_look_that_breaks_is_logged_and_shows_nothing(
    checked: Checked, caplog: pytest.LogCaptureFixture
) -> None:
    """The text of a defect may contain anything (ours)."""
    checked.service.lacks = {"defect": ""}
    status, body = await checked.ask("/readyz")

    assert status == 503
    assert SECRET not in str(body)
    assert "a look at the server broke" in caplog.text


# The end


def test_lingering_server_has_as_much_time_for_payments_as_any_other() -> None:
    """The time for balancers comes on top of it (ours)."""
    longer = lingering(30)

    assert longer.grace_seconds - HTTP.grace_seconds == longer.linger_seconds == 30
    assert lingering(0) == HTTP


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[tuple[httpx.AsyncClient, anyio.Event]]:
    """A client of a real server of this process, and an event: the server has ended."""
    server = MCPServer[None]("stand-in", version="1", log_level="WARNING")
    ended, urls = anyio.Event(), list[str]()
    listening = anyio.Event()

    def announce(url: str) -> None:
        urls.append(url)
        listening.set()

    patient = Deadlines(
        grace_seconds=SLOW_MACHINE_SECONDS, exit_seconds=SLOW_MACHINE_SECONDS, answer_seconds=0
    )

    async def serve() -> None:
        await http.serve_http(
            server, port=0, announce=announce, deadlines=patient, operators=Operators(service)
        )
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await listening.wait()
        base = urls[0].removesuffix("/mcp")
        async with httpx.AsyncClient(base_url=base, timeout=600, trust_env=False) as client:
            yield client, ended
        service.may_end.set()
        await ended.wait()


LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@posix_only
async def test_server_that_ends_is_first_not_ready_then_drains_and_then_closes() -> None:
    """Nothing is sent to it any more by the time it stops to answer (ours)."""
    service = Service()
    service.may_answer.set()
    async with served(service) as (client, ended):
        before = (await client.get("/readyz")).status_code
        os.kill(os.getpid(), signal.SIGTERM)
        await service.draining.wait()
        during = [(await client.get(path)).status_code for path in ("/readyz", "/livez")]
        free = (await client.post("/mcp", json=LIST, headers=ACCEPT)).status_code
        was_open = not ended.is_set()
        service.may_end.set()
        await ended.wait()
        with pytest.raises(httpx.TransportError):
            await client.get("/livez")

    assert (before, during, free, was_open) == (200, [503, 200], 200, True)
