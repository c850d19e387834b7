"""A factory of stores for each ledger engine, with a manual clock, and records in any state."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from wan_mcp.ledger import rules
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.queueing.order import Order
from wan_mcp.ledger.queueing.rules import queued
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rows import seconds
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite import connection
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.statements.dialects import both
from wan_mcp.ledger.threaded.store import Opened
from wan_mcp.models import Job, JobStatus, Replacement

ME = "my-account"
NO_LIMITS = SpendingLimits(None, None, None, None)
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
WANTED = Replacement(
    video="https://media.example/clip.mp4?sig=a", character_image="https://media.example/face.png"
)
VIDEO_URL = "https://temp.example/film.mp4?signature=s"
HANG_SECONDS = 600.0
"""Real seconds after which something that a test waits for counts as never happening."""


class Store(ABC):
    """A store with a manual clock. Each ledger on it is a process of its own to the others.

    Attributes:
        on_time: called whenever a process reads the clock.
    """

    def __init__(self) -> None:
        self.now = START
        self.opened: list[Ledger] = []
        self.on_time: Callable[[], object] = bool

    def __call__(self) -> datetime:
        now = self.now
        self.on_time()
        return now

    def later(self, seconds: float) -> None:
        """Let this many seconds pass, or set the clock back."""
        self.now += timedelta(seconds=seconds)

    @abstractmethod
    def ledger(self, limits: SpendingLimits = NO_LIMITS, *, poll_seconds: float = 60) -> Ledger:
        """Another process on the store."""

    @abstractmethod
    async def end(self, ledger: Ledger, *, killed: bool = False) -> None:
        """End a process, as by a signal or as by kill -9."""

    @abstractmethod
    def forget(self, submission_id: str) -> None:
        """Lose the last commits of a record, as a database may that fails over."""

    @abstractmethod
    def requests_made_elsewhere(self, at: datetime) -> Callable[[], object]:
        """A function by which another process counts one request as soon as the store is free."""


async def change(ledger: Any, sql: str, **values: object) -> None:
    """Change a ledger's records by a statement that both engines understand."""

    def work(opened: Opened) -> None:
        with opened.session.transaction(ME):
            opened.session.execute(both(sql), values)

    await ledger._store.write(work)


async def rows_of(ledger: Any, sql: str, **values: object) -> list[tuple[Any, ...]]:
    """What such a statement finds."""
    found = await ledger._store.read(lambda opened: opened.session.query(both(sql), values))
    return [tuple(row) for row in found]


class SQLiteStore(Store):
    """One ledger file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def ledger(self, limits: SpendingLimits = NO_LIMITS, *, poll_seconds: float = 60) -> Ledger:
        ledger = SQLiteLedger(self._folder, limits=limits, now=self, poll_seconds=poll_seconds)
        self.opened.append(ledger)
        return ledger

    async def end(self, ledger: Ledger, *, killed: bool = False) -> None:
        self.opened.remove(ledger)
        with patch.object(
            ProcessLock, "release", ProcessLock.drop_inherited if killed else ProcessLock.release
        ):
            await ledger.aclose()

    def forget(self, submission_id: str) -> None:
        with closing(connection.connect(self._folder / FILE)) as file:
            file.execute("DELETE FROM jobs WHERE handle = ?", (submission_id,))

    def requests_made_elsewhere(self, at: datetime) -> Callable[[], object]:
        left = [at]

        def try_once() -> None:
            other = connection.connect(self._folder / FILE, busy_seconds=0)
            with suppress(sqlite3.OperationalError):  # held by the process under test
                while left:
                    other.execute("INSERT INTO requests VALUES (?, ?)", (ME, seconds(left[0])))
                    left.pop()
            other.close()

        return try_once


class PostgresStore(Store):
    """The same in a database of PostgreSQL.

    Args:
        url: the address of a ledger without any record.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def ledger(self, limits: SpendingLimits = NO_LIMITS, *, poll_seconds: float = 60) -> Ledger:
        from wan_mcp.ledger.postgres.engine import PostgresLedger

        ledger = PostgresLedger(self.url, limits=limits, now=self, poll_seconds=poll_seconds)
        self.opened.append(ledger)
        return ledger

    async def end(self, ledger: Ledger, *, killed: bool = False) -> None:
        self.opened.remove(ledger)
        if killed:
            self.kill(ledger)
        await ledger.aclose()

    def kill(self, ledger: Any) -> None:
        """Let a process stop renewing its lease, and the time of its lease pass."""
        stop_renewing(ledger)
        self.declare_dead(ledger.engine._lease.name)

    def declare_dead(self, name: str) -> None:
        """Let the time of a process's lease pass."""
        self.execute("UPDATE owners SET alive_until = 0 WHERE name = %s", name)

    def forget(self, submission_id: str) -> None:
        self.execute("DELETE FROM jobs WHERE handle = %s", submission_id)

    def requests_made_elsewhere(self, at: datetime) -> Callable[[], object]:
        from psycopg.errors import LockNotAvailable

        left = [seconds(at)]

        def try_once() -> None:
            with suppress(LockNotAvailable):  # held by the process under test
                while left:
                    self.execute(_REQUEST, ME, left[0])
                    left.pop()

        return try_once

    def execute(self, sql: str, *values: object) -> None:
        """Change the database from outside."""
        import psycopg

        with psycopg.connect(self.url, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(sql.encode(), values)


def stop_renewing(ledger: Any) -> None:
    """Let a process in PostgreSQL renew its lease no more, and not give it back either."""
    from wan_mcp.ledger.postgres.liveness import Lease

    attendant = ledger.engine._attendant
    with patch.object(Lease, "end"):
        if attendant is not None:
            attendant.stop()
            attendant._thread.join(HANG_SECONDS)


_REQUEST = """
SET lock_timeout = '10ms';
INSERT INTO wallets VALUES ('') ON CONFLICT DO NOTHING;
SELECT 1 FROM wallets WHERE account = '' FOR UPDATE;
INSERT INTO requests VALUES (%s, %s)
"""


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each engine."""
    if request.param == "postgres":
        made: Store = PostgresStore(request.getfixturevalue("database"))
    else:
        made = SQLiteStore(tmp_path / "ledger")
    yield made
    for ledger in made.opened:
        await ledger.aclose()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """A process on the store."""
    return store.ledger()


async def opened(*ledgers: Ledger) -> None:
    """Open these ledgers, so that what follows happens at the same moment."""
    for ledger in ledgers:
        await ledger.recover()


def wanted(number: int) -> Replacement:
    return WANTED.model_copy(update={"seed": number})


def reported(status: JobStatus = JobStatus.RUNNING, **fields: object) -> Job:
    return Job.model_validate({"job_id": "job-1", "status": status} | fields)


async def claimed(
    ledger: Ledger, request: Replacement = WANTED, estimate: float | None = 2.0
) -> Record:
    claim = await ledger.claim(ME, request, generated_seed=7, estimate=estimate)
    assert claim.created
    return claim.record


async def sent(ledger: Ledger, record: Record) -> Record:
    """The record after its commit point."""
    await ledger.commit_sending(record)
    found = await ledger.find(record.account, record.submission_id)
    assert found
    return found


async def confirmed(ledger: Ledger, job: Job) -> Record:
    """The record after two readings of its job, with the time between them that an end needs."""
    await ledger.record_update(ME, job)
    with patch.object(rules, "CONFIRM_SECONDS", 0.0):
        return (await ledger.record_update(ME, job)).record


async def record_in(
    ledger: Ledger, state: State, request: Replacement = WANTED, video_url: str | None = None
) -> Record:
    """A new record, taken to a state in the fewest steps."""
    record = await claimed(ledger, request)
    if state is State.QUEUED:
        return await ledger.queue.put_back(queued(record, Order(wanted=request)))
    if state in (State.INTENT, State.NOT_SENT):
        return record if state is State.INTENT else await ledger.conclude(record, state, "no net")
    record = await sent(ledger, record)
    if state in (State.SENDING, State.REFUSED, State.UNKNOWN):
        return record if state is State.SENDING else await ledger.conclude(record, state, "why")
    record = await ledger.accept(record, reported(job_id=f"job-{record.submission_id}"))
    if state is State.LOST:
        return await ledger.conclude(record, state, "404 three times")
    if state is not State.ACCEPTED:
        ended = reported(JobStatus(state), job_id=record.job_id, video_url=video_url)
        return await confirmed(ledger, ended)
    return record
