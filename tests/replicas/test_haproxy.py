"""Two server processes behind HAProxy, as docs/deploy sets it up, on a PostgreSQL of their own."""

import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.postgres.fixtures import prepare
from tests.postgres.server import Server, private_server
from tests.replicas import processes
from tests.replicas.caller import Caller, Cut, data_of
from tests.replicas.processes import Balancer, Replica, balanced, free_address, haproxy
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

NAMES = processes.NAMES[:2]
A_WAIT = 50
RUN = "/api/v1/models/*/run"
DECLARE_DEAD = """
UPDATE owners SET alive_until = 0 WHERE name IN (SELECT owner FROM jobs WHERE state = 'sending')
"""
"""Lets the time of a dead replica's lease pass."""
ALIVE = "SELECT COUNT(*) FROM owners WHERE alive_until > EXTRACT(EPOCH FROM clock_timestamp())"
JOB_SECONDS = 900


class PixelDojoClock:
    """A clock that a test sets forward, so that jobs end."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def finish_jobs(self) -> None:
        """Let all jobs that have begun end now."""
        self._ahead += 10 * JOB_SECONDS


class Deployment:
    """What the tests of this module share. PixelDojo is in the process of the tests."""

    def __init__(
        self,
        database: Server,
        replicas: list[Replica],
        balancer: Balancer,
        sandbox: Sandbox,
        clock: PixelDojoClock,
    ) -> None:
        self.database = database
        self.replicas = dict(zip(NAMES, replicas, strict=True))
        self.balancer = balancer
        self.sandbox = sandbox
        self.clock = clock

    def job(self, seed: int) -> dict[str, Any]:
        """The arguments of a paid call."""
        links = {"video": self.sandbox.source_video_url, "character_image": self.sandbox.image_url}
        return {**links, "seed": seed}

    def charged(self, seed: int) -> int:
        """How often a job was charged."""
        return sum(charge.body["seed"] == seed for charge in self.sandbox.charges)

    async def until_said(self, pattern: str, since: int) -> None:
        """Wait until HAProxy says something, from a line on."""
        await anyio.to_thread.run_sync(self.balancer.output.wait_for, pattern, since)

    @property
    def lines(self) -> int:
        """How many lines HAProxy has said."""
        return len(self.balancer.output.lines)

    def ledger(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.execute(sql, database="ledger")

    async def start_again(self) -> None:
        """Start the replicas that are dead, and wait until HAProxy sends them calls."""
        for name, replica in self.replicas.items():
            if replica.is_running:
                continue
            since = self.lines
            # HAProxy has noticed the death when it has said so more often than the return.
            if self._count(f"replicas/{name} is DOWN") <= self._count(f"replicas/{name} is UP"):
                await self.until_said(f"replicas/{name} is DOWN", since)
            since = self.lines
            await anyio.to_thread.run_sync(replica.start)
            await self.until_said(f"replicas/{name} is UP", since)

    def _count(self, text: str) -> int:
        return sum(text in line for line in self.balancer.output.lines)


@pytest.fixture(scope="module")
def shared(
    shared_postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The database, the replicas and HAProxy."""
    haproxy()
    with ExitStack() as ending:
        database = ending.enter_context(private_server(shared_postgres))
        database.start()
        prepare(database)
        address = ending.enter_context(free_address())
        with free_address() as free:
            port = free.getsockname()[1]
        clock = PixelDojoClock()
        terms = Terms(credits=1e6, pending_seconds=0, processing_seconds=JOB_SECONDS)
        sandbox = Sandbox(terms, port=port, clock=clock)
        replicas = [
            Replica(settings(database, port, sandbox.key, address, tmp_path_factory.mktemp(name)))
            for name in NAMES
        ]
        for replica in replicas:
            ending.callback(replica.kill)
            replica.begin()
        for replica in replicas:
            replica.listen()
        balancer = ending.enter_context(balanced(address, [each.port for each in replicas]))
        yield Deployment(database, replicas, balancer, sandbox, clock)


def settings(
    database: Server, port: int, key: str, address: socket.socket, data: Path
) -> dict[str, str]:
    """The settings of a replica."""
    return {
        "PIXELDOJO_API_BASE": f"http://127.0.0.1:{port}/api/v1",
        "PIXELDOJO_API_KEY": key,
        "WAN_MCP_DATA_DIR": str(data),
        "WAN_MCP_LEDGER_URL": database.url("ledger"),
        "WAN_MCP_ALLOWED_HOSTS": f"127.0.0.1:{address.getsockname()[1]}",
        "WAN_MCP_MAX_CREDITS_PER_DAY": "1000000",
        "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "1000",
        "WAN_MCP_MAX_IN_FLIGHT": "1000",
        "WAN_MCP_DRAIN_SECONDS": "3",
    }


@pytest.fixture
async def team(shared: Deployment) -> AsyncIterator[Deployment]:
    """The same for one test; PixelDojo listens meanwhile."""
    async with shared.sandbox:
        await shared.start_again()
        yield shared


@pytest.fixture
async def caller(team: Deployment) -> AsyncIterator[Caller]:
    async with Caller(team.balancer.url) as caller:
        yield caller


async def ended(caller: Caller, job_id: str) -> dict[str, Any]:
    """Wait for a job as a host does: again and again."""
    while True:
        seen = await caller.call("wait_for_job", job_id=job_id, timeout_seconds=A_WAIT)
        if seen["status"] not in ("queued", "running", "submitting", "unknown"):
            return seen


async def answered(caller: Caller, job: dict[str, Any]) -> dict[str, Any]:
    """The answer to a paid call, made again if it was cut off, as a host does."""
    while True:
        with suppress(Cut):
            return await caller.call("replace_character", **job)


async def test_what_a_killed_replica_was_doing_is_continued_by_calling_again(
    team: Deployment, caller: Caller
) -> None:
    """A wait and a payment: another replica gives the same answers, each for one charge (ours)."""
    gate = anyio.Event()
    job_id = (await caller.call("replace_character", **team.job(1)))["job_id"]
    team.sandbox.fault("POST", RUN, faults.held(faults.honest(), after=gate))
    async with caller.calling("replace_character", **team.job(2)) as paid:
        await team.sandbox.until(lambda: team.charged(2) == 1)
        killed = team.replicas[paid.replica]
        async with (
            Caller(killed.url) as direct,
            direct.calling("wait_for_job", job_id=job_id, timeout_seconds=A_WAIT) as wait,
        ):
            first = await wait.message()
            killed.kill()
            for exchange in (paid, wait):
                with pytest.raises(Cut):
                    await exchange.answer()
    gate.set()
    team.ledger(DECLARE_DEAD)
    again = await caller.call("replace_character", **team.job(2))
    team.clock.finish_jobs()
    ends = [await ended(caller, id) for id in (job_id, again["job_id"])]
    same = [await caller.call("replace_character", **team.job(seed)) for seed in (1, 2)]

    assert first["method"] == "notifications/progress"
    assert [end["status"] for end in ends] == ["completed"] * 2
    assert [end["job_id"] for end in ends] == [each["job_id"] for each in same]
    assert [each["charged"] for each in same] == ["no"] * 2
    assert [team.charged(seed) for seed in (1, 2)] == [1] * 2


async def test_while_the_database_is_away_every_call_is_answered_in_words(
    team: Deployment, caller: Caller
) -> None:
    """No replica is ready, so any that is alive says what holds; then all goes on (ours)."""
    job_id = (await caller.call("replace_character", **team.job(8)))["job_id"]
    since = team.lines
    await anyio.to_thread.run_sync(team.database.stop)
    for name in NAMES:
        await team.until_said(f"replicas/{name} is DOWN", since)
    refused = await caller.call("replace_character", **team.job(9))
    looked = await caller.call("get_job_status", job_id=job_id)
    since = team.lines
    await anyio.to_thread.run_sync(team.database.start)
    for name in NAMES:
        await team.until_said(f"replicas/{name} is UP", since)
    bought = await caller.call("replace_character", **team.job(9))

    assert (refused["code"], refused["charged"]) == ("ledger_unavailable", "no")
    assert refused["retry_safe"]
    assert (looked["status"], looked["job_id"]) == ("running", job_id)
    assert (bought["charged"], team.charged(9)) == ("yes", 1)


async def test_replica_that_is_stopped_ends_what_it_does_and_nobody_is_harmed(
    team: Deployment, caller: Caller
) -> None:
    """Its payment ends, its waits answer, the balancer takes it out, and others go on (ours)."""
    gate = anyio.Event()
    job_id = (await caller.call("replace_character", **team.job(3)))["job_id"]
    async with caller.calling("wait_for_job", job_id=job_id, timeout_seconds=A_WAIT) as wait:
        await wait.message()
        stopped, since = team.replicas[wait.replica], team.lines
        team.sandbox.fault("POST", RUN, faults.held(faults.honest(), after=gate))
        async with (
            Caller(stopped.url) as direct,
            direct.calling("replace_character", **team.job(4)) as paid,
        ):
            await team.sandbox.until(lambda: team.charged(4) == 1)
            stopped.ask_to_end()
            gate.set()
            waited = data_of(await wait.answer())
            id = data_of(await paid.answer())["job_id"]
    during = [await answered(caller, team.job(seed)) for seed in (6, 7)]
    await team.until_said(f"replicas/{wait.replica} is DOWN", since)
    after = [await caller.call("replace_character", **team.job(seed)) for seed in (4, 6, 7)]
    looked = await caller.call("get_job_status", job_id=id)
    code = await anyio.to_thread.run_sync(stopped.ended)

    assert (waited["status"], waited["job_id"]) == ("running", job_id)
    assert "wait_for_job" in waited["next"]
    assert all("code" not in answer or answer["retry_safe"] for answer in during)
    assert [answer.get("code") for answer in after] == [None] * 3
    assert (looked["status"], after[0]["charged"]) == ("running", "no")
    assert [team.charged(seed) for seed in (3, 4, 6, 7)] == [1] * 4
    assert code == 0
    assert team.ledger(ALIVE) == [(len(NAMES) - 1,)]
