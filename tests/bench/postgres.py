"""What the ledger costs in PostgreSQL: a submit, claims on one account, and news between servers.

Run it by hand, on a quiet machine, from the root of the project::

    python -m tests.bench.postgres [address of an empty database [the same through PgBouncer]]

Without an address it starts a PostgreSQL of its own, as the tests do, whose commits wait for the
disk, and a PgBouncer. Two figures are compared with a floor, in turn in the same run, because a
time alone says more about the machine. One submit has three transactions: its floor is three bare
commits of four statements each in one session, one way to the server for each statement. A claim on
one account that is withdrawn has two, each of which holds the account's lock from its first
statement to the end of its commit: its floor is as many sessions that in each of two transactions
lock one row, change it, and commit. The count of 100 claims a second is a target where the floor
allows it: where it is below 250 a second, the commits alone take so long.

Both are measured for one account without limits, and for a user of a team: with the limits of the
user, the team, the wallet and the settings, on a wallet that ten users share, with hundreds of jobs
of the day before. News is what a waiter learns of another server's change, with LISTEN and through
PgBouncer, where no notice arrives and the ledger is read twice a second. If a target is missed, the
exit code is 1.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from statistics import median, quantiles

from psycopg import Connection

from tests.bench import team_claims
from tests.bench.database import own_server
from tests.bench.news import delays
from tests.bench.team_claims import PacedClock
from tests.crash.vendor import FORK
from tests.ledger.stores import ME, NO_LIMITS, claimed, reported, wanted
from tests.postgres.bouncer import bouncer_to
from tests.postgres.round_trips import round_trips
from wan_mcp.ledger.contract import Claim, Ledger
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.postgres.migrations import migrate
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.models import JobStatus

ROUNDS = 200
CLAIMANTS = 4
TURNS = 10
CHANGES = 60
"""How many are waited for."""
KINDS = ("one account", "a team")
MAX_RATIO, MIN_CLAIMS = 2.5, 100.0
MAX_NEWS_SECONDS, MAX_POLLED_SECONDS = 0.1, 0.6

MakeClaim = Callable[[Ledger, int], Awaitable[Claim]]
"""Claims the request of that number."""


async def main(url: str, pooled: str | None) -> int:
    """Measure and print. Returns 0 if the targets are met.

    Args:
        pooled: the address of the same database through PgBouncer, if there is one.
    """
    with connect(url) as plain:
        migrate(plain)
        plain.execute("CREATE TABLE bare_jobs (n BIGINT)")
        plain.execute("INSERT INTO bare_jobs VALUES (0)")
        await team_claims.add_older_jobs(url, 100_000)
        *submits, bare = await _submits(url, plain)
        *claims, locks = _claims(url)
        plain.execute("DROP TABLE bare_jobs")
    ways = [await _ways(url, kind) for kind in KINDS]
    good = True
    for kind, submit, claimed_, way in zip(KINDS, submits, claims, ways, strict=True):
        is_slow = claimed_ < MIN_CLAIMS <= locks / MAX_RATIO
        good &= submit <= bare * MAX_RATIO and not is_slow
        sys.stdout.write(
            f"{kind}\n"
            f"  one submit    {submit / bare:.2f} times three bare commits (at most {MAX_RATIO}): "
            f"{submit * 1e3:.2f} and {bare * 1e3:.2f} ms\n"
            f"  on the way    {', '.join(f'{name} {count}' for name, count in way.items())} "
            "round trips\n"
            f"  claims        {claimed_:.0f} a second, each withdrawn, by {CLAIMANTS} servers (at "
            f"least {MIN_CLAIMS:.0f}); {locks / claimed_:.2f} times two locked commits: "
            f"{locks:.0f} a second\n"
        )
    is_near = locks <= claims[0] * MAX_RATIO  # the floor has no limits either
    good &= is_near
    if not is_near:
        sys.stdout.write(f"MISSED: claims of one account, at most {MAX_RATIO} times that floor\n")
    good &= await _news("with LISTEN", url, url, MAX_NEWS_SECONDS)
    if pooled is None:
        sys.stdout.write("news through PgBouncer: not measured, no address of it is given\n")
    else:
        good &= await _news("through PgBouncer", pooled, url, MAX_POLLED_SECONDS)
    return 0 if good else 1


async def _submits(url: str, plain: Connection[tuple[object, ...]]) -> tuple[float, float, float]:
    """The seconds of one submit, of one of a team, and of the floor."""
    clock = PacedClock(datetime.now(UTC))
    ledger, teams = PostgresLedger(url, limits=NO_LIMITS), PostgresLedger(url, now=clock)
    ours, of_team, bare = list[float](), list[float](), list[float]()
    for number in range(ROUNDS):
        ours.append(await _timed(partial(_submit, ledger, number)))
        of_team.append(await _timed(partial(team_claims.submit, teams, number)))
        bare.append(await _timed(partial(asyncio.to_thread, _three_commits, plain)))
        job = reported(JobStatus.COMPLETED, job_id=f"job-{number}", video_url="https://a.example/")
        await ledger.record_update(ME, job)
        await team_claims.end(teams, number)
        clock.step()
    await ledger.aclose()
    await teams.aclose()
    return median(ours), median(of_team), median(bare)


async def _submit(ledger: Ledger, number: int) -> None:
    record = await claimed(ledger, wanted(number))
    await ledger.commit_sending(record)
    await ledger.accept(record, reported(job_id=f"job-{number}", credit_cost=2.0))


def _three_commits(plain: Connection[tuple[object, ...]]) -> None:
    for _ in range(3):
        with plain.transaction():
            for _ in range(4):
                plain.execute("UPDATE bare_jobs SET n = n + 1")


def _claims(url: str) -> tuple[float, float, float]:
    """How many requests a second several servers claim and withdraw on one wallet; the floor.

    Each server is a process, as in life: in one process they would wait for each other's Python.
    """
    each = ROUNDS // CLAIMANTS // TURNS
    ours, of_team, floor = list[float](), list[float](), list[float]()
    with ExitStack() as opened:
        servers = [opened.enter_context(ProcessPoolExecutor(1, FORK)) for _ in range(CLAIMANTS)]
        _together(servers, [partial(_Claimant.open, url)] * CLAIMANTS)
        for turn in range(TURNS):
            firsts = [1000 * (n + 1) + each * turn for n in range(CLAIMANTS)]
            for took, claim in ((ours, _claim), (of_team, team_claims.claim)):
                work = [partial(_Claimant.claim_some, claim, n, each) for n in firsts]
                took.append(_together(servers, work))
            floor.append(_together(servers, [partial(_Claimant.commit, each)] * CLAIMANTS))
        _together(servers, [_Claimant.close] * CLAIMANTS)
    count = each * CLAIMANTS
    return count / median(ours), count / median(of_team), count / median(floor)


def _together(
    servers: Sequence[ProcessPoolExecutor], work: Sequence[Callable[[], object]]
) -> float:
    """The seconds until each server has done its work."""
    began = time.perf_counter()
    for done in [server.submit(each) for server, each in zip(servers, work, strict=True)]:
        done.result()
    return time.perf_counter() - began


async def _claim(ledger: Ledger, number: int) -> Claim:
    return await ledger.claim("other", wanted(number), generated_seed=7, estimate=2.0)


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
    def claim_some(cls, claim: MakeClaim, first: int, count: int) -> None:
        cls.loop.run(cls._claim_some(claim, range(first, first + count)))

    @classmethod
    async def _claim_some(cls, claim: MakeClaim, numbers: Iterable[int]) -> None:
        for number in numbers:
            await cls.ledger.withdraw((await claim(cls.ledger, number)).record)

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


async def _ways(url: str, kind: str) -> dict[str, int]:
    """How often each step of a submit waits for an answer of the server."""
    ledger = PostgresLedger(url, limits=SpendingLimits())
    counts: list[int] = []
    for number in (20_000, 20_000 + team_claims.USERS):  # the first one makes the account's row
        with round_trips(ledger) as trips:
            claim = await (_claim if kind == KINDS[0] else team_claims.claim)(ledger, number)
            counts.append(len(trips))
            await ledger.commit_sending(claim.record)
            counts.append(len(trips))
            job = reported(job_id=f"new-{kind}-{number}", credit_cost=2.0)
            await ledger.accept(claim.record, job)
            counts.append(len(trips))
    await ledger.aclose()
    claimed, sent, accepted = counts[-3:]
    return {"claim": claimed, "commit point": sent - claimed, "accept": accepted - sent}


async def _news(how: str, url: str, changed_at: str, most: float) -> bool:
    """Measure and print. Returns whether the target is met."""
    late = await delays(url, changed_at, 30_000 + len(how), CHANGES)
    percentile = quantiles(late, n=20)[-1]
    sys.stdout.write(
        f"news {how}: {median(late) * 1e3:.0f} ms, 95 % within {percentile * 1e3:.0f} ms "
        f"(at most {most * 1e3:.0f})\n"
    )
    return percentile <= most


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


if __name__ == "__main__":
    with ExitStack() as opened:
        given = sys.argv[1:]
        if not given:
            server = opened.enter_context(own_server())
            given = [server.url(), server.url(folder=opened.enter_context(bouncer_to(server)))]
        sys.exit(asyncio.run(main(given[0], given[1] if given[1:] else None)))
