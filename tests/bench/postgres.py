"""What the ledger costs in PostgreSQL: a submit, claims on one account, and news between servers.

Run it by hand, on a quiet machine, from the root of the project::

    python -m tests.bench.postgres [address of an empty database]

Without an address it starts a PostgreSQL of its own, as the tests do, whose commits wait for the
disk. One submit is compared with three bare commits of four statements each in the same session, in
turn. If a target is missed, the exit code is 1. News is measured with two ledgers in one process.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from unittest.mock import patch

from psycopg import Connection

from tests.ledger.stores import ME, NO_LIMITS, claimed, reported, wanted
from tests.postgres import server as rig
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.postgres.connection import connect
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.postgres.migrations import migrate
from wan_mcp.models import JobStatus

ROUNDS = 200
CLAIMANTS = 4
MAX_RATIO, MIN_CLAIMS, MAX_NEWS_SECONDS = 2.5, 100.0, 0.1


async def main(url: str) -> int:
    """Measure and print. Returns 0 if the targets are met."""
    with connect(url) as plain:
        migrate(plain)
        plain.execute("CREATE TABLE bare_jobs (n BIGINT)")
        plain.execute("INSERT INTO bare_jobs VALUES (0)")
        submit, bare = await _submits(url, plain)
        plain.execute("DROP TABLE bare_jobs")
    claims = await _claims(url)
    news = await _news(url)
    late = quantiles(news, n=20)[-1]
    sys.stdout.write(
        f"one submit      {submit / bare:.2f} times three bare commits (at most {MAX_RATIO}): "
        f"{submit * 1e3:.2f} and {bare * 1e3:.2f} ms\n"
        f"one account     {claims:.0f} claims a second, each withdrawn, by {CLAIMANTS} servers "
        f"(at least {MIN_CLAIMS:.0f})\n"
        f"news            {median(news) * 1e3:.1f} ms, 95 % within {late * 1e3:.1f} ms "
        f"(at most {MAX_NEWS_SECONDS * 1e3:.0f})\n"
    )
    good = submit <= bare * MAX_RATIO and claims >= MIN_CLAIMS and late <= MAX_NEWS_SECONDS
    return 0 if good else 1


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
    await ledger.accept(record, reported(job_id=f"job-{number}"))


def _three_commits(plain: Connection[tuple[object, ...]]) -> None:
    for _ in range(3):
        with plain.transaction():
            for _ in range(4):
                plain.execute("UPDATE bare_jobs SET n = n + 1")


async def _claims(url: str) -> float:
    """How many requests a second several servers claim, and withdraw, for one account."""
    ledgers = [PostgresLedger(url, limits=NO_LIMITS) for _ in range(CLAIMANTS)]
    for ledger in ledgers:
        await ledger.recover()

    async def claim_some(ledger: Ledger, first: int) -> None:
        for number in range(first, first + ROUNDS // CLAIMANTS):
            claim = await ledger.claim("other", wanted(number), generated_seed=7, estimate=2.0)
            await ledger.withdraw(claim.record)

    began = time.perf_counter()
    await asyncio.gather(*(claim_some(each, 1000 * n) for n, each in enumerate(ledgers)))
    took = time.perf_counter() - began
    for ledger in ledgers:
        await ledger.aclose()
    return ROUNDS / took


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
