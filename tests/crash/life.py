"""One run of a server in a forked process: what it does, what it reports, and where it is killed.

Everything is imported before the fork, and nothing is open then.
"""

import asyncio
import itertools
import json
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio

from wan_mcp import jobs
from wan_mcp.clock import Clock
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.models import JobStatus, Replacement
from wan_mcp.payments import dispatcher
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter

if find_spec("sniffio") is None:
    # httpcore tries to import it at every lock, and searches the whole path if it is missing.
    sys.modules["sniffio"] = None  # type: ignore[assignment] # the way to say "not there"

NO_LIMITS = SpendingLimits(None, None, None, None)
MAX_RUN_SECONDS = 600
"""SIGALRM ends a server that hangs for so long, and the whole run fails. It is long because a busy
machine may be a hundred times slower than a quiet one."""
FOLLOWER_SECONDS = 0.05
"""How often a server looks whether the dispatcher is gone; every 5 s in a real one."""
ANSWER_SECONDS = 0.02
"""How long a submit waits here before it answers with its submission id; 4 s in a real server."""


@dataclass(frozen=True)
class Host:
    """One account and one ledger, on which the server is started again and again.

    Attributes:
        folder: that of the ledger; in PostgreSQL, the one beside which paid jobs are kept.
        database: the address of a ledger in PostgreSQL; None for a file in the folder.
    """

    api_base: str
    key: str
    folder: Path
    database: str | None = None


@dataclass
class Traces:
    """What a run of a server left behind.

    Attributes:
        killed: whether SIGKILL ended it.
        parsed: the job ids that it read from answers to submits.
        ids: the submission ids and job ids that its submits reported.
        records: submission id, job id and state of every record, as it listed them at the end.
        queued: the submission ids that its submits reported as queued.
        withdrawn: the submission ids that were reported as withdrawn.
    """

    killed: bool = False
    parsed: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    records: list[tuple[str, str | None, str]] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)


Report = Callable[[str, Iterable[Any]], None]
Work = Callable[[Host, Report], Coroutine[Any, Any, None]]


def run_killed(work: Work, host: Host, kill_at: int | None = None) -> Traces:
    """Do the work in a forked process, and kill it before the step `kill_at` if it gets there.

    Raises:
        RuntimeError: the process ended in any other way.
    """
    return _ended(*_started(work, host, kill_at), kill_at)


@contextmanager
def beside(work: Callable[[anyio.Event], Work], host: Host) -> Iterator[Traces]:
    """Another server in a forked process, which is not killed.

    Args:
        work: what it does. It gets an event that is set when the context ends.

    Yields:
        What it has left behind, once the context has ended.
    """
    traces = Traces()
    waiting, telling = os.pipe()

    async def until_is_over(host: Host, report: Report) -> None:
        is_over = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work(is_over), host, report)
            await anyio.wait_readable(waiting)
            is_over.set()

    started = _started(until_is_over, host, None)
    os.close(waiting)
    try:
        yield traces
    finally:
        os.write(telling, b"\0")
        os.close(telling)
        vars(traces).update(vars(_ended(*started, None)))


def _started(work: Work, host: Host, kill_at: int | None) -> tuple[int, int]:
    """A forked process that does the work: its number, and the pipe on which it reports."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(work, host, kill_at, writing)
    os.close(writing)
    return child, reading


def _ended(child: int, reading: int, kill_at: int | None) -> Traces:
    """What a process has reported. Waits for its end."""
    with open(reading) as lines:
        reported = [json.loads(line) for line in lines]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL) or (code and kill_at is None):
        raise RuntimeError(f"a server ended with {code} (killed at step {kill_at})")
    traces = Traces(killed=code != 0)
    for name, value in reported:
        getattr(traces, name).extend(value)
    return traces


def clean(work: Work, host: Host) -> Traces:
    """Do the work in this process, which is not killed."""
    traces = Traces()
    asyncio.run(work(host, lambda name, values: getattr(traces, name).extend(values)))
    return traces


async def submit(host: Host, report: Report) -> None:
    """What a server does for one submit, from the opening of the ledger to its closing."""
    async with serve(host) as (jobs, ledger):
        await call(jobs, ledger, report)
        await jobs.drain(MAX_RUN_SECONDS)


class ForwardClock:
    """The system's clock, and how far it was set forward."""

    def __init__(self) -> None:
        self.forward = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.forward


async def come_back(host: Host, report: Report) -> None:
    """What a user does after a crash: repeat the call, check its id, and list the jobs."""
    async with serve(host) as (jobs, ledger):
        id = await call(jobs, ledger, report)
        await jobs.drain(MAX_RUN_SECONDS)
        if id is not None:
            await jobs.check(id)
        records = [found.record for found in await jobs.recent(None, 50)]
        report(
            "records",
            [(record.submission_id, record.job_id, record.state) for record in records if record],
        )


@asynccontextmanager
async def serve(
    host: Host, limits: SpendingLimits = NO_LIMITS, now: "ForwardClock | None" = None
) -> AsyncIterator[tuple[Jobs, Ledger]]:
    """The jobs, built as the server builds them. MCP is left out: it doubles the time of a fork."""
    ledger = opened(host, limits, now or ForwardClock())
    account = partial(ledger.account, host.api_base, host.key)
    limiter = SharedRateLimiter(ledger.coordination, account, Clock())
    vendor = PixelDojo(host.api_base, host.key, limiter=limiter)
    async with anyio.create_task_group() as tasks:
        jobs = Jobs(vendor, ledger, account, limiter, tasks, Clock())
        # Without the poller: it pays nothing, and its steps would outnumber those of the payment.
        tasks.start_soon(jobs.work.reconcile)
        yield jobs, ledger
        tasks.cancel_scope.cancel()
    await vendor.aclose()
    await ledger.aclose()


def opened(host: Host, limits: SpendingLimits, now: ForwardClock) -> ThreadedLedger:
    """A process on the ledger."""
    if host.database is None:
        return SQLiteLedger(host.folder, limits=limits, now=now)
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    return PostgresLedger(host.database, limits=limits, now=now, folder=host.folder)


async def call(jobs: Jobs, ledger: Ledger, report: Report, name: str = "video") -> str | None:
    """What a user calls: the id of the answer, if it has one."""
    media = "https://media.example/"
    wanted = Replacement(video=f"{media}{name}.mp4", character_image=f"{media}face.png")
    is_queued = False
    try:
        view = await jobs.submit(wanted)
        id: str | None = view.id
        is_queued = view.status is JobStatus.QUEUED
    except WanError as failure:
        id = failure.job_id
    report("ids", [id] if id else [])
    report("queued", [id] if is_queued else [])
    if id and id.startswith("sub_") and not is_queued:
        await ledger.settled(id, MAX_RUN_SECONDS)  # a server that stops sends nothing more
    return id


def _child(work: Work, host: Host, kill_at: int | None, pipe: int) -> None:
    def report(name: str, values: Iterable[Any]) -> None:
        os.write(pipe, json.dumps((name, list(values))).encode() + b"\n")

    signal.alarm(MAX_RUN_SECONDS)
    jobs.ANSWER_SECONDS = ANSWER_SECONDS
    dispatcher.DEBOUNCE_SECONDS = 0.0
    dispatcher.FOLLOWER_SECONDS = FOLLOWER_SECONDS
    _report_parsed(report)
    _count_steps(kill_at, database=host.database is not None)
    try:
        asyncio.run(work(host, report))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _report_parsed(report: Report) -> None:
    read = wire.accepted

    def accepted(*args: Any, **named: Any) -> Any:
        job = read(*args, **named)
        report("parsed", [job.job_id])
        return job

    wire.accepted = accepted


def _count_steps(kill_at: int | None, *, database: bool) -> None:
    """Count every step of the event loop and every SQL statement, in all threads.

    In PostgreSQL a message with statements counts three times: before it is sent, when it was sent,
    and when its answer is there.
    """
    steps = itertools.count(1)
    run, connect = asyncio.Handle._run, sqlite3.connect

    def step(_: object = None) -> None:
        if next(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(handle: asyncio.Handle) -> None:
        step()
        run(handle)

    def traced(*args: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **named)
        connection.set_trace_callback(step)
        return connection

    if database:
        _count_messages(step)
    setattr(asyncio.Handle, "_run", counted)  # noqa: B010 - mypy forbids the plain assignment
    setattr(sqlite3, "connect", traced)  # noqa: B010 - as above


def _count_messages(step: Callable[[], None]) -> None:
    from wan_mcp.ledger.postgres.connection import Link

    wait = Link.wait

    def stepping(answer: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        ready, is_sent = None, False
        while True:
            try:
                wanted = answer.send(ready)
            except StopIteration as end:
                return end.value
            if not is_sent:
                is_sent = True
                step()
            ready = yield wanted

    def counted(link: Link, answer: Any, *args: Any, **named: Any) -> Any:
        step()
        answered = wait(link, stepping(answer), *args, **named)
        step()
        return answered

    setattr(Link, "wait", counted)  # noqa: B010 - mypy forbids the plain assignment
