"""One life of a server, in a forked process: what it does, what it tells, and where it is killed.

Everything is imported before the fork; nothing is open then.
"""

import asyncio
import itertools
import json
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter

if find_spec("sniffio") is None:
    # httpcore looks for it at every lock, along the whole path when it is not installed.
    sys.modules["sniffio"] = None  # type: ignore[assignment] # the way to say "not there"

NO_LIMITS = SpendingLimits(None, None, None, None)
LONGEST = 600
"""Seconds after which a life that hangs is ended by SIGALRM: a failure of the run. Generous:
a busy machine may be a hundred times slower than a quiet one."""
PATIENCE = 0.02
"""Seconds that a submit waits here before it answers with our handle; 4 in a real server."""


@dataclass(frozen=True)
class Host:
    """What starts the server again and again: one account, one ledger."""

    api_base: str
    key: str
    folder: Path


@dataclass
class Traces:
    """What a life left behind.

    Attributes:
        killed: it ended by SIGKILL.
        parsed: job ids that it read from answers to submits.
        ids: the ids that its submits reported.
        rows: handle, job id and state of every row, as its list showed them at the end.
    """

    killed: bool = False
    parsed: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    records: list[tuple[str, str | None, str]] = field(default_factory=list)


Say = Callable[[str, Iterable[Any]], None]
Work = Callable[[Host, Say], Coroutine[Any, Any, None]]


def live(work: Work, host: Host, kill_at: int | None = None) -> Traces:
    """Fork, do the work, and be killed before the step of that number, if it comes so far.

    Raises:
        RuntimeError: it ended in any other way.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(work, host, kill_at, writing)
    os.close(writing)
    with open(reading) as lines:
        said = [json.loads(line) for line in lines]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL) or (code and kill_at is None):
        raise RuntimeError(f"a server ended with {code} (killed at step {kill_at})")
    traces = Traces(killed=code != 0)
    for name, value in said:
        getattr(traces, name).extend(value)
    return traces


def clean(work: Work, host: Host) -> Traces:
    """Do the work in this process, which nobody kills."""
    traces = Traces()
    asyncio.run(work(host, lambda name, values: getattr(traces, name).extend(values)))
    return traces


async def submit(host: Host, say: Say) -> None:
    """What a server does for one call, from the first use of the ledger to its orderly end."""
    async with serve(host) as (jobs, ledger):
        await _call(jobs, ledger, say)
        await jobs.drain(LONGEST)


async def come_back(host: Host, say: Say) -> None:
    """What a user does after a crash: repeat the call, ask about the ids it got, list the jobs."""
    async with serve(host) as (jobs, ledger):
        id = await _call(jobs, ledger, say)
        await jobs.drain(LONGEST)
        if id is not None:
            await jobs.check(id)
        records = [found.record for found in await jobs.recent(None, 50)]
        say(
            "records",
            [(record.submission_id, record.job_id, record.state) for record in records if record],
        )


@asynccontextmanager
async def serve(host: Host) -> AsyncIterator[tuple[Jobs, Ledger]]:
    """The rooms as the server wires them; without the protocol, whose modules double a fork."""
    ledger = SQLiteLedger(host.folder, limits=NO_LIMITS)
    account = partial(ledger.account, host.api_base, host.key)
    limiter = SharedRateLimiter(ledger.coordination, account, Clock())
    vendor = PixelDojo(host.api_base, host.key, limiter=limiter)
    async with anyio.create_task_group() as tasks:
        jobs = Jobs(vendor, ledger, account, limiter, tasks, Clock())
        # Without the poller, which pays nothing: its steps would hide those of the payment.
        tasks.start_soon(jobs.reconcile)
        yield jobs, ledger
        tasks.cancel_scope.cancel()
    await vendor.aclose()
    await ledger.aclose()


async def _call(jobs: Jobs, ledger: Ledger, say: Say) -> str | None:
    media = "https://media.example/"
    wanted = Replacement(video=f"{media}clip.mp4", character_image=f"{media}face.png")
    try:
        id: str | None = (await jobs.submit(wanted)).id
    except WanError as failure:
        id = failure.job_id
    say("ids", [id] if id else [])
    if id and id.startswith("sub_"):
        await ledger.settled(id, LONGEST)  # a server that is asked to end sends nothing more
    return id


def _child(work: Work, host: Host, kill_at: int | None, pipe: int) -> None:
    def say(name: str, values: Iterable[Any]) -> None:
        os.write(pipe, json.dumps((name, list(values))).encode() + b"\n")

    signal.alarm(LONGEST)
    jobs.ANSWER_SECONDS = PATIENCE
    _tell_parsed(say)
    _count_steps(kill_at)
    try:
        asyncio.run(work(host, say))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _tell_parsed(say: Say) -> None:
    read = wire.accepted

    def accepted(*args: Any, **named: Any) -> Any:
        job = read(*args, **named)
        say("parsed", [job.job_id])
        return job

    wire.accepted = accepted


def _count_steps(kill_at: int | None) -> None:
    """Count every step of the event loop and every SQL statement, in whichever thread."""
    steps = itertools.count(1)
    run, connect = asyncio.Handle._run, sqlite3.connect

    def step(_: object = None) -> None:
        if next(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(submission_id: asyncio.Handle) -> None:
        step()
        run(submission_id)

    def traced(*args: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **named)
        connection.set_trace_callback(step)
        return connection

    setattr(asyncio.Handle, "_run", counted)  # noqa: B010 - mypy forbids the plain assignment
    setattr(sqlite3, "connect", traced)  # noqa: B010 - as above
