"""What servers do whose requests are queued, before a crash and after it.

A request waits for a minute to be over, by a clock that is set forward; or for a running job to
end, which takes no time there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import anyio

from tests.crash.life import MAX_RUN_SECONDS, ForwardClock, Host, Report, Work, call, serve
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.record import UNSETTLED, State
from wan_mcp.ledger.spending_limits import SpendingLimits

ONE_A_MINUTE = SpendingLimits(None, None, None, 1, queued=5)
TWO_AT_ONCE = SpendingLimits(None, None, 2, None, queued=5)
THREE_AT_ONCE = SpendingLimits(None, None, 3, None, queued=5)
"""Of a server after a crash: two killed servers may have left two requests of unknown outcome, and
each of them occupies a place for an hour."""
A_MINUTE = timedelta(seconds=61)
READS_A_MINUTE = 1_000
LOOK_SECONDS = 0.02
"""How long it is waited for a request before the running jobs are read again."""
WANTED = ("video", "second", "third")


async def submit_queued(host: Host, report: Report) -> None:
    """One submit, and a second one that is queued and sent when a minute is over."""
    clock = ForwardClock()
    async with _serving(host, ONE_A_MINUTE, clock) as (jobs, ledger):
        for name in WANTED[:2]:
            await call(jobs, ledger, report, name)
        await _minutes_pass(host, jobs, ledger, clock)


async def come_back_queued(host: Host, report: Report) -> None:
    """Start again after a crash of `submit_queued`: the queue is sent, and both calls repeated."""
    clock = ForwardClock()
    async with _serving(host, ONE_A_MINUTE, clock) as (jobs, ledger):
        await _minutes_pass(host, jobs, ledger, clock)
        for name in WANTED[:2]:
            clock.forward += A_MINUTE
            await call(jobs, ledger, report, name)
        await _minutes_pass(host, jobs, ledger, clock)
        await _report_records(jobs, report)


async def submit_three(host: Host, report: Report) -> None:
    """Three submits, of which two may run at once: the last is sent when one of them has ended."""
    async with _serving(host, TWO_AT_ONCE) as (jobs, ledger):
        for name in WANTED:
            await call(jobs, ledger, report, name)
        await _jobs_end(jobs, ledger)


async def come_back_three(host: Host, report: Report) -> None:
    """Start again after a crash of `submit_three`: the queue is sent, and the calls repeated."""
    async with _serving(host, THREE_AT_ONCE) as (jobs, ledger):
        await _jobs_end(jobs, ledger)
        for name in WANTED:
            await call(jobs, ledger, report, name)
        await _jobs_end(jobs, ledger)
        await _report_records(jobs, report)


def take_over(is_over: anyio.Event) -> Work:
    """Another server beside it, which sends the queue as soon as the other one is dead.

    Args:
        is_over: set when the other server has ended.
    """

    async def work(host: Host, report: Report) -> None:
        async with _serving(host, TWO_AT_ONCE) as (jobs, ledger), _dispatching(jobs):
            await is_over.wait()
            await _jobs_end(jobs, ledger)

    return work


async def submit_and_withdraw(host: Host, report: Report) -> None:
    """Two submits; the second is queued, and withdrawn at the moment at which it could be sent."""
    clock = ForwardClock()
    async with _serving(host, ONE_A_MINUTE, clock) as (jobs, ledger):
        await call(jobs, ledger, report)
        id = await call(jobs, ledger, report, "second")
        clock.forward += A_MINUTE
        async with _dispatching(jobs):
            if id is not None:
                await _withdraw(jobs, id, report)
        await _minutes_pass(host, jobs, ledger, clock)


async def come_back_to_withdraw(host: Host, report: Report) -> None:
    """Start again after a crash of `submit_and_withdraw`: what is still queued is withdrawn."""
    async with _serving(host, ONE_A_MINUTE) as (jobs, ledger):
        account = await ledger.account(host.api_base, host.key)
        await ledger.recover()
        for record in await ledger.queue.waiting(account):
            await _withdraw(jobs, record.submission_id, report)
        await _report_records(jobs, report)


@asynccontextmanager
async def _serving(
    host: Host, limits: SpendingLimits, now: ForwardClock | None = None
) -> AsyncIterator[tuple[Jobs, Ledger]]:
    """A server that may read jobs as often as it needs to: a new key has ten requests a minute."""
    async with serve(host, limits, now) as (jobs, ledger):
        account = await ledger.account(host.api_base, host.key)
        await ledger.coordination.adjust_limit(
            account, lambda limit: replace(limit, per_minute=READS_A_MINUTE)
        )
        yield jobs, ledger


@asynccontextmanager
async def _dispatching(jobs: Jobs) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jobs.work.dispatch)
        yield
        tasks.cancel_scope.cancel()


async def _minutes_pass(host: Host, jobs: Jobs, ledger: Ledger, clock: ForwardClock) -> None:
    """Let the dispatcher send everything that is queued, a minute after the other."""
    account = await ledger.account(host.api_base, host.key)
    async with _dispatching(jobs):
        while waiting := await ledger.queue.waiting(account):
            clock.forward += A_MINUTE
            await ledger.recover()  # a change, so that the dispatcher looks at once
            await ledger.settled(waiting[0].submission_id, MAX_RUN_SECONDS)


async def _jobs_end(jobs: Jobs, ledger: Ledger) -> None:
    """Let the dispatcher send everything that is queued, as soon as what runs has ended."""
    async with _dispatching(jobs):
        while True:
            records = [view.record for view in await jobs.recent(None, 50) if view.record]
            open_ones = [each for each in records if each.state in (*UNSETTLED, State.QUEUED)]
            if not open_ones:
                return
            for record in records:
                if record.state is State.ACCEPTED and record.job_id:
                    await jobs.check(record.job_id)
            await ledger.settled(open_ones[-1].submission_id, LOOK_SECONDS)


async def _withdraw(jobs: Jobs, id: str, report: Report) -> None:
    with suppress(WanError):  # it has bought nothing, or its answer is lost
        _, after = await jobs.cancel(id)
        if after.record and after.record.withdrawn:
            report("withdrawn", [after.record.submission_id])


async def _report_records(jobs: Jobs, report: Report) -> None:
    """Check what has no job id yet, as its user would, and list the jobs."""
    for view in await jobs.recent(None, 50):
        if view.record is not None and view.record.state is State.UNKNOWN:
            with suppress(WanError):  # still nothing is known of it
                await jobs.check(view.id)
    records = [view.record for view in await jobs.recent(None, 50) if view.record]
    report("records", [(each.submission_id, each.job_id, each.state) for each in records])
    report("withdrawn", [each.submission_id for each in records if each.withdrawn])
