"""A thousand calls of ten users wait at one server of a team: its memory, and its connections.

Run it by hand, on a quiet machine, from the root of the project (about a minute and a half)::

    python -m tests.bench.team_crowd

The server is `wan-mcp http` in a process of its own, with sign-in and the ledger in a PostgreSQL
that is started for this. The calls come over HTTP, each with its user's token. PixelDojo is the
sandbox, whose jobs never end. Meanwhile each user looks at a job of theirs now and then, as people
do, so that all connections are used that the server opens. The same looks before anybody waits are
the floor of their time. The floor of the memory is what the same calls need at the smallest server
that the SDK permits, in the same run. If a target is missed, the exit code is 1.
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic

import httpx

from tests.bench.crowd import SETTLE_SECONDS, TERMS, p99
from tests.bench.database import count_connections, own_server
from tests.bench.servers import NO_LIMITS, add_running_jobs
from tests.bench.waiting import Report
from tests.memory import most_memory
from tests.postgres.server import Server
from tests.replicas.caller import Caller, Exchange
from tests.replicas.processes import Replica
from tests.storm.people import Person
from tests.storm.team import add_people, write_key_ring
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.postgres.migrations import migrate
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.sandbox import KEY, Sandbox
from wan_mcp.tenants.seat import workspace_of

USERS, WAITS, JOBS = 10, 100, 10
"""Of each user: so many calls wait, for so many jobs."""
LOOKS, LOOK_SECONDS = 30, 1.0
"""How often each user looks at a job, and how long they rest then."""
MAX_MEMORY_RATIO, MAX_CONNECTIONS = 1.5, 8
"""The memory is compared with the SDK's own, which alone takes more than 130 MB."""


class Users:
    """Everybody, and how long their calls took."""

    def __init__(self, url: str, people: Sequence[Person], ids: Sequence[Sequence[str]]) -> None:
        self._url = url
        self._people = people
        self._ids = ids

    async def wait(self, stack: AsyncExitStack) -> list[asyncio.Task[object]]:
        """Let all calls wait. Returns them as soon as each has begun to be answered."""
        headers = [person.headers for person in self._people]
        exchanges = await let_wait(stack, self._url, headers, self._ids)
        return [asyncio.create_task(each.answer()) for each in exchanges]

    async def look(self, took: list[float]) -> None:
        """Let everybody look at their jobs."""
        async with asyncio.TaskGroup() as looks:
            for person, ids in zip(self._people, self._ids, strict=True):
                looks.create_task(self._look(person, ids, took))

    async def _look(self, person: Person, ids: Sequence[str], took: list[float]) -> None:
        async with self._caller(person) as caller:
            await asyncio.sleep(LOOK_SECONDS * person.number / USERS)
            for number in range(LOOKS):
                began = monotonic()
                seen = await caller.call("get_job_status", job_id=ids[number % JOBS])
                took.append(monotonic() - began)
                assert seen["status"] == "running", seen
                await asyncio.sleep(LOOK_SECONDS)

    def _caller(self, person: Person) -> Caller:
        return Caller(self._url, headers=person.headers)


async def let_wait(
    stack: AsyncExitStack,
    url: str,
    headers: Sequence[Mapping[str, str]],
    ids: Sequence[Sequence[str]],
) -> list[Exchange]:
    """Let everybody's calls wait at a server. Returns them as soon as each has been informed.

    Args:
        headers: of each user.
        ids: of the jobs of each.
    """
    begun: list[Awaitable[Exchange]] = []
    for own_headers, own_ids in zip(headers, ids, strict=True):
        for number in range(WAITS):
            # A client has at most a hundred connections.
            if number % (WAITS // 2) == 0:
                caller = await stack.enter_async_context(Caller(url, headers=own_headers))
            calling = caller.calling(
                "wait_for_job", job_id=own_ids[number % JOBS], timeout_seconds=900
            )
            begun.append(asyncio.ensure_future(stack.enter_async_context(calling)))
    exchanges = await asyncio.gather(*begun)
    firsts = await asyncio.gather(*(each.message() for each in exchanges))
    assert {message.get("method") for message in firsts} == {"notifications/progress"}, firsts
    return exchanges


@contextmanager
def smallest_server() -> Iterator[tuple[str, int]]:
    """The address and the process id of the smallest server that the SDK permits."""
    command = [sys.executable, "-m", "tests.bench.bare_http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server.pid
        finally:
            server.kill()


async def floor() -> tuple[float, float]:
    """The memory of the smallest server, in MB: while nobody waits, and while all calls do."""
    async with AsyncExitStack() as stack:
        url, pid = stack.enter_context(smallest_server())
        async with httpx.AsyncClient() as client:
            await client.get(httpx.URL(url).join("/"))  # answered as soon as it has begun
        alone = most_memory(pid) / 1e6
        await let_wait(stack, url, [{}] * USERS, [["job"] * JOBS] * USERS)
        await asyncio.sleep(SETTLE_SECONDS)
        return alone, most_memory(pid) / 1e6


async def running_jobs(database: Server, sandbox: Sandbox) -> list[list[str]]:
    """The ids of new jobs of each user, in the order of their names."""
    [(wallet,)] = database.execute("SELECT account FROM wallet_keys")
    users = database.execute("SELECT id FROM users ORDER BY name")
    ledger = PostgresLedger(database.url(), limits=NO_LIMITS)
    ids = []
    for (user,) in users:
        own = Workspace(workspace_of(user, wallet), wallet)
        ids.append(await add_running_jobs(sandbox, ledger, own, JOBS))
    await ledger.aclose()
    return ids


@contextmanager
def serving(
    database: Server, settings: Mapping[str, str], folder: Path
) -> Iterator[tuple[Replica, list[Person]]]:
    """A server for a new team in that database, and its people.

    Args:
        settings: besides those of the database and of the sign-in.
    """
    with connect(database.url()) as plain:
        migrate(plain)
    ring = write_key_ring(folder / "key-ring")
    base = settings["PIXELDOJO_API_BASE"]
    people = add_people(database.url(), ring, base, [KEY], USERS, in_flight=1000)
    given = {
        "WAN_MCP_LEDGER_URL": database.url(),
        "WAN_MCP_SIGN_IN": "tokens",
        "WAN_MCP_KEY_RING_FILE": str(folder / "key-ring"),
        "WAN_MCP_DATA_DIR": str(folder / "data"),
        # No video is downloaded or decoded here.
        "WAN_MCP_ARCHIVE": "off",
        "WAN_MCP_POSTER": "off",
    }
    server = Replica({**given, **settings})
    try:
        server.start()
        yield server, people
    finally:
        server.kill()


async def crowd(report: Report, database: Server, folder: Path) -> None:
    """Measure with a server of a new team."""
    quiet, busy, connections = list[float](), list[float](), list[int]()
    async with Sandbox(TERMS) as sandbox, AsyncExitStack() as stack:
        settings = {"PIXELDOJO_API_BASE": sandbox.api_base}
        server, people = stack.enter_context(serving(database, settings, folder))
        users = Users(server.url, people, await running_jobs(database, sandbox))
        await users.look(quiet)
        alone = server.peak_memory()
        waits = await users.wait(stack)
        await asyncio.sleep(SETTLE_SECONDS)
        counting = asyncio.create_task(count_connections(database, connections))
        await users.look(busy)
        counting.cancel()
        peak = server.peak_memory()
        assert not any(wait.done() for wait in waits), "a call did not wait"
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    bare_alone, bare = await floor()
    who = f"{len(waits):,} waiters"
    report.line("the smallest server, nobody waits: memory at its peak [MB]", bare_alone)
    report.line(f"the smallest server, {who}: memory at its peak [MB]", bare)
    report.line("nobody waits: memory at its peak [MB]", alone)
    report.line(f"{who}: memory at its peak [MB]", peak)
    report.line(f"{who}: memory, times the smallest server's", peak / bare, MAX_MEMORY_RATIO)
    report.line("connections to the database, at most", max(connections), MAX_CONNECTIONS)
    for when, took in (("before", quiet), ("meanwhile", busy)):
        report.line(f"a look at a job {when}, median [ms]", median(took) * 1e3)
        report.line(f"a look at a job {when}, p99 [ms]", p99(took) * 1e3)


def main() -> int:
    """Measure and print. Returns 0 if every target is met."""
    report = Report()
    with ExitStack() as opened:
        database = opened.enter_context(own_server())
        folder = Path(opened.enter_context(TemporaryDirectory()))
        asyncio.run(crowd(report, database, folder))
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
