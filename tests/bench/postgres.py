"""What the ledger costs in PostgreSQL: a submit, claims on one account, and news between servers.

Run it by hand, on a quiet machine, from the root of the project::

    python -m tests.bench.postgres [address of an empty database]

Without an address it starts a PostgreSQL of its own, as the tests do, whose commits wait for the
disk. Two figures are compared with a floor, in turn in the same run, because a time alone says more
about the machine. One submit has three transactions: its floor is three bare commits of four
statements each in one session, one way to the server for each statement. A claim on one account
that is withdrawn has two, each of which holds the account's lock from its first statement to the
end of its commit: its floor is as many sessions that in each of two transactions lock one row,
change it, and commit. The count of 100 claims a second is a target where the floor allows it:
where it is below 250 a second, the commits alone take so long. If a target is missed, the exit code
is 1. News is measured with two ledgers in one process.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from unittest.mock import patch

from psycopg import Connection

from tests.crash.vendor import FORK
from tests.ledger.stores import ME, NO_LIMITS, claimed, reported, wanted
from tests.postgres import server as rig
from tests.postgres.round_trips import round_trips
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.postgres.migrations import migrate
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.models import JobStatus

ROUNDS = 200
CLAIMANTS = 4
TURNS = 10
MAX_RATIO, MIN_CLAIMS, MAX_NEWS_SECONDS = 2.5, 100.0, 0.1


async def main(url: str) -> int:
    """Measure and print. Returns 0 if the targets are met."""
    with connect(url) as plain:
        migrate(plain)
        plain.execute("CREATE TABLE bare_jobs (n BIGINT)")
        plain.execute("INSERT INTO bare_jobs VALUES (0)")
        submit, bare = await _submits(url, plain)
        claims, locks = _claims(url)
        plain.execute("DROP TABLE bare_jobs")
    ways = await _ways(url)
    news = await _news(url)
    late = quantiles(news, n=20)[-1]
    sys.stdout.write(
        f"one submit      {submit / bare:.2f} times three bare commits (at most {MAX_RATIO}): "
        f"{submit * 1e3:.2f} and {bare * 1e3:.2f} ms\n"
        f"on the way      {', '.join(f'{name} {count}' for name, count in ways.items())} "
        "round trips\n"
        f"one account     {claims:.0f} claims a second, each withdrawn, by {CLAIMANTS} servers "
        f"(at least {MIN_CLAIMS:.0f}); {locks / claims:.2f} times two locked commits "
        f"(at most {MAX_RATIO}): {locks:.0f} a second\n"
        f"news            {median(news) * 1e3:.1f} ms, 95 % within {late * 1e3:.1f} ms "
        f"(at most {MAX_NEWS_SECONDS * 1e3:.0f})\n"
    )
    good = submit <= bare * MAX_RATIO and locks <= claims * MAX_RATIO and late <= MAX_NEWS_SECONDS
    is_slow = claims < MIN_CLAIMS <= locks / MAX_RATIO
    return 0 if good and not is_slow else 1


async def _submits(url: str, plain: Connection[tuple[object, ...]]) -> tuple[float, float]:
    ledger = PostgresLedger(url, limits=NO_LIMITS)
    ours, bare = [], []
    for number in range(ROUNDS):
        ours.append(await _timed(partial(_submit, ledger, number)))
        bare.append(await _timed(partial(asyncio.to_thread, _three_commits, plain)))
        job = reported(JobStatus.COMPLETED, job_id=f"job-{number}", video_url="https://a.example/")
        await ledger.record_update(ME, job)
    await ledger.aclose()
    return median(ours), median(bare)


async def _submit(ledger: Ledger, number: int) -> None:
    record = await claimed(ledger, wanted(number))
    await ledger.commit_sending(record)
    await ledger.accept(record, reported(job_id=f"job-{number}", credit_cost=2.0))


def _three_commits(plain: Connection[tuple[object, ...]]) -> None:
    for _ in range(3):
        with plain.transaction():
            for _ in range(4):
                plain.execute("UPDATE bare_jobs SET n = n + 1")


def _claims(url: str) -> tuple[float, float]:
    """How many requests a second several servers claim and withdraw for one account; the floor.

    Each server is a process, as in life: in one process they would wait for each other's Python.
    """
    each = ROUNDS // CLAIMANTS // TURNS
    ours, floor = [], []
    with ExitStack() as opened:
        servers = [opened.enter_context(ProcessPoolExecutor(1, FORK)) for _ in range(CLAIMANTS)]
        _together(servers, [partial(_Claimant.open, url)] * CLAIMANTS)
        for turn in range(TURNS):
            firsts = [1000 * n + each * turn for n in range(CLAIMANTS)]
            work = [partial(_Claimant.claim_some, range(first, first + each)) for first in firsts]
            ours.append(_together(servers, work))
            floor.append(_together(servers, [partial(_Claimant.commit, each)] * CLAIMANTS))
        _together(servers, [_Claimant.close] * CLAIMANTS)
    return each * CLAIMANTS / median(ours), each * CLAIMANTS / median(floor)


def _together(
    servers: Sequence[ProcessPoolExecutor], work: Sequence[Callable[[], object]]
) -> float:
    """The seconds until each server has done its work."""
    began = time.perf_counter()
    for done in [server.submit(each) for server, each in zip(servers, work, strict=True)]:
        done.result()
    return time.perf_counter() - began


class _Claimant:
    """One server, which is the only one of its process."""

    loop: asyncio.Runner
    ledger: PostgresLedger
    plain: Connection[tuple[object, ...]]

    @classmethod
    def open(cls, url: str) -> None:
        cls.loop, cls.plain = asyncio.Runner(), connect(url)
        cls.ledger = PostgresLedger(url, limits=NO_LIMITS)
        cls.loop.run(cls.ledger.recover())

    @classmethod
    def claim_some(cls, numbers: Iterable[int]) -> None:
        cls.loop.run(cls._claim_some(numbers))

    @classmethod
    async def _claim_some(cls, numbers: Iterable[int]) -> None:
        for number in numbers:
            claim = await cls.ledger.claim("other", wanted(number), generated_seed=7, estimate=2.0)
            await cls.ledger.withdraw(claim.record)

    @classmethod
    def commit(cls, pairs: int) -> None:
        """What is the least that claims and withdrawals cost."""
        for _ in range(2 * pairs):
            with cls.plain.transaction():
                cls.plain.execute("SELECT n FROM bare_jobs FOR UPDATE")
                cls.plain.execute("UPDATE bare_jobs SET n = n + 1")

    @classmethod
    def close(cls) -> None:
        cls.loop.run(cls.ledger.aclose())
        cls.loop.close()
        cls.plain.close()


async def _ways(url: str) -> dict[str, int]:
    """How often each step of a submit waits for an answer of the server."""
    ledger = PostgresLedger(url, limits=SpendingLimits())
    counts: list[int] = []
    for number in range(2):  # the first one makes the row of the account
        with round_trips(ledger) as trips:
            claim = await ledger.claim("new", wanted(number), generated_seed=7, estimate=2.0)
            counts.append(len(trips))
            await ledger.commit_sending(claim.record)
            counts.append(len(trips))
            await ledger.accept(claim.record, reported(job_id=f"new-{number}", credit_cost=2.0))
            counts.append(len(trips))
    await ledger.aclose()
    claimed, sent, accepted = counts[-3:]
    return {"claim": claimed, "commit point": sent - claimed, "accept": accepted - sent}


async def _news(url: str) -> list[float]:
    """Seconds from the end of a change by one server until another one has woken."""
    one, other = PostgresLedger(url, limits=NO_LIMITS), PostgresLedger(url, limits=NO_LIMITS)
    await one.recover()
    took = []
    for number in range(ROUNDS):
        since = one.coordination.own_changes
        waiting = asyncio.create_task(one.coordination.next_change(since))
        await claimed(other, wanted(9000 + number))
        took.append(await _timed(lambda waiting=waiting: waiting))  # type: ignore[misc]
    await one.aclose()
    await other.aclose()
    return took


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


if __name__ == "__main__":
    with ExitStack() as opened:
        if not sys.argv[1:]:
            durable = {**rig.SETTINGS, "fsync": "on", "full_page_writes": "on"}
            opened.enter_context(patch.object(rig, "SETTINGS", durable))
            folder = Path(tempfile.mkdtemp(prefix="wan-mcp-bench-"))
            rig.give_to_server(folder)
            server = rig.Server(rig.installation(), folder)
            server.make()
            server.start(removes=True)
            opened.callback(server.stop)
        sys.exit(asyncio.run(main(sys.argv[1] if sys.argv[1:] else server.url())))
