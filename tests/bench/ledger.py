"""What the ledger costs one submit, compared with the bare commits that any ledger would need.

Run it by hand, on a quiet machine, from the root of the project::

    python tests/bench/ledger.py [older jobs, such as 100000]

The ledger records a submit three times: the claim, with every spending limit checked; `sending`;
and `accepted`. It waits for the disk each time. The jobs are those of a busy agent: one every four
minutes, and each has ended before the next one begins. The comparison is three commits of one row
with plain `sqlite3`, with the same durability, on the same disk, in turn with the ledger's. Each
figure is the mean of the better half of the rounds: whatever else runs on the machine can only make
a round longer. If the two differ by more than a factor of 2.5, the exit code is 1. The list of jobs
is measured, too,
after all submits: one before each submit would empty the processor's caches for the ledger, and not
for the bare commits, which follow directly.

The target is a ratio, not a time, because the comparison shows how fast the machine is. The same
code has taken 1.6 ms beside bare commits of 0.75 ms in the morning, and 6.0 ms beside 2.6 ms in the
evening. The processor time is shown as well: other programs that write to the disk change it least.
"""

import asyncio
import hashlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import mean

from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rows import stored
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.connection import connect, transaction
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.ledger.statements.records import insert_job
from wan_mcp.models import Job, JobStatus, Replacement

ROUNDS = 300
MAX_RATIO = 2.5


async def main() -> int:
    """Measure and print. Returns 0 if the target is met."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        day = _Day()
        limits = SpendingLimits(credits_per_job=1, credits_per_day=ROUNDS)
        ledger = SQLiteLedger(folder / "ledger", limits=limits, now=lambda: day.now)
        account = await ledger.account("https://api.example/v1", "key")
        fill(folder / "ledger" / FILE, account, day.now, int(sys.argv[1]) if sys.argv[1:] else 0)
        with closing(_plain(folder / "plain.db")) as plain:
            ours, bare_commits = [], []
            for number in range(ROUNDS):
                submit = partial(_submit, ledger, account, number)
                if number % 2:  # each is the first in every second round
                    ours.append(await _timed(submit))
                bare_commits.append(await _timed(partial(_three_commits, plain)))
                if not number % 2:
                    ours.append(await _timed(submit))
                await ledger.record_update(
                    account, Job(job_id=f"job{number}", status=JobStatus.COMPLETED)
                )
                day.now += timedelta(minutes=4)
            lists = [await _timed(partial(_listed, ledger, account)) for _ in range(ROUNDS)]
        await ledger.aclose()
    (taken, submit_cpu), (bare, bare_cpu) = _better_half(ours), _better_half(bare_commits)
    verdict = "" if taken <= bare * MAX_RATIO else ", MISSED"
    sys.stdout.write(
        f"ledger, one submit   {taken / bare:.2f} times three bare commits "
        f"(at most {MAX_RATIO:g}{verdict}): {taken:.2f} and {bare:.2f} ms, "
        f"processor {submit_cpu:.2f} and {bare_cpu:.2f} ms\n"
        f"list of jobs         {_better_half(lists)[0]:.2f} ms\n"
    )
    return 1 if verdict else 0


class _Day:
    now = datetime(2026, 1, 1, tzinfo=UTC)


async def _timed(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """How long it takes, and how long all threads of this process compute, both in seconds."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - begin, time.process_time() - begin_cpu


def _better_half(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the shorter half of each, in milliseconds."""
    taken, computed = (sorted(each)[: len(times) // 2] for each in zip(*times, strict=True))
    return mean(taken) * 1000, mean(computed) * 1000


async def _submit(ledger: SQLiteLedger, account: str, number: int) -> None:
    wanted = Replacement(video=f"https://a.example/{number}.mp4", character_image="https://a.ex/p")
    claim = await ledger.claim(account, wanted, generated_seed=number, estimate=1)
    await ledger.commit_sending(claim.record)
    job = Job(job_id=f"job{number}", status=JobStatus.RUNNING, credit_cost=1)
    await ledger.accept(claim.record, job)


async def _listed(ledger: SQLiteLedger, account: str) -> None:
    await ledger.page(account, None, 51, None)


def fill(file: Path, account: str, now: datetime, jobs: int) -> None:
    """Add older jobs, one every four minutes, which ended well and whose videos are saved."""
    record = Record(
        submission_id="",
        account=account,
        state=State.COMPLETED,
        arguments={"video": "https://a.example/v.mp4", "character_image": "https://a.ex/p"},
        credit_cost=1,
        video_url="https://temp.example/video.mp4",
        saved_path="/videos/video.mp4",
        inspection=(),
        created_at=now,
        owner="",
    )
    with closing(connect(file)) as connection, transaction(connection):
        for number in range(jobs):
            key = hashlib.sha256(str(number).encode()).hexdigest()
            changes: dict[str, object] = {
                "submission_id": f"sub_{number}",
                "job_id": f"old{number}",
                "dedupe_key": key,
                "exact_key": key,
                "created_at": (at := now - timedelta(days=2, minutes=4 * number)),
                "accepted_at": at,
                "ended_at": at + timedelta(minutes=2),
            }
            row = stored({**dict(record), **changes})
            connection.execute(insert_job(tuple(row)).sqlite, row)


async def _three_commits(plain: sqlite3.Connection) -> None:
    for _ in range(3):
        plain.execute("INSERT INTO rows VALUES ('a text of about the same length as a record')")


def _plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (text TEXT)")
    return connection


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
