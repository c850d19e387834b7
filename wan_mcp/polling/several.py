"""One wait for several jobs: one waiter, whatever their number, and no requests of its own.

Only jobs that the poller does not read are read here: those that the ledger does not have, and
those whose last state calls for one more reading (see `Waits`).
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import anyio

from wan_mcp.errors import NotFound, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView, Reading
from wan_mcp.polling.intervals import poll_delay
from wan_mcp.polling.waits import MAX_LINK_READS, Waits, record_of, view_of

LEAST_SECONDS = 1.0
"""How long a wait for several jobs lasts at least (ours). In this time the poller learns of the
waiter and reads the jobs, so that a look at many costs no requests of its own."""
READ_SECONDS = 5.0
"""How long one reading by a wait for several jobs may take (ours): one slow answer must not delay
what is known of the others."""


@dataclass(eq=False)
class _Awaited:
    """One of the jobs of a wait for several.

    Attributes:
        reading: the last one; None until there is one.
        is_final: whether waiting longer would bring nothing, although the job may not have ended.
        reads_without_link: readings of the completed job that showed no link to its video.
    """

    id: str
    reading: Reading | None = None
    is_final: bool = False
    reads_without_link: int = 0

    def fail(self, failure: WanError) -> None:
        """Take an error as the last reading: asking again would not help."""
        self.reading, self.is_final = failure, True


class SeveralWaits(Waits):
    """The checks and waits of `Waits`, and waits for several jobs at once."""

    async def watch_several(
        self, ids: Sequence[str], seconds: float
    ) -> AsyncGenerator[dict[str, Reading], None]:
        """Yield a reading of each job, by its id, until all have ended or the time is up.

        The poller reads the jobs, as for `watch`, and the call is one waiter. An error about one
        job is its reading, and the others go on. A job that is given by two ids is yielded once.
        A lost answer is awaited until it is no longer looked up. There is at least one yield.

        Args:
            seconds: how long to wait, at least LEAST_SECONDS.

        Raises:
            Busy: too many calls wait already.
        """
        began = self._clock.monotonic()
        deadline = began + max(seconds, LEAST_SECONDS)
        jobs = await self._looked_up(ids)
        await self._read_each(filter(self._needs_own_reading, jobs), deadline)
        yield _readings(jobs)
        read_at = self._next_own_reading(jobs, began)
        while (open := self._open(jobs)) and not self._is_late(deadline):
            strangers = [job for job in open if record_of(job.reading) is None]
            stop = min(deadline, read_at) if strangers else deadline
            try:
                followed = [job for job in open if job not in strangers]
                async with aclosing(self._follow_several(followed, stop)) as changes:
                    async for _ in changes:
                        yield _readings(jobs)
            except LedgerUnavailable:  # until they can be watched again, this call asks PixelDojo
                strangers = open
                await self._sleep_until(min(deadline, read_at))
            if strangers and self._is_late(read_at):
                await self._read_each(strangers, deadline)
                yield _readings(jobs)
                read_at = self._next_own_reading(strangers, began)

    async def _follow_several(
        self, jobs: Sequence[_Awaited], deadline: float
    ) -> AsyncGenerator[None, None]:
        """Take each change that the poller records, until one of the jobs needs no more waiting.

        Raises:
            LedgerUnavailable: the jobs cannot be watched.
        """
        if not jobs:
            await self._sleep_until(deadline)
            return
        before = [record for job in jobs if (record := record_of(job.reading)) is not None]
        saving = self._being_saved(jobs)
        until = min(self._until(job.reading, deadline) for job in jobs)
        async with aclosing(self._watchers.watch(before, until)) as changes:
            async for records in changes:
                if not records:
                    await self._look_up(jobs)
                    return
                for job, record, last in zip(jobs, records, before, strict=True):
                    self._take(job, record, last)
                yield
                before = records
                if self._being_saved(jobs) != saving or len(self._open(jobs)) < len(jobs):
                    return

    def _take(self, job: _Awaited, record: Record, before: Record) -> None:
        try:
            job.reading = view = self._view_of_change(record, before)
        except WanError as failure:
            job.fail(failure)
            return
        is_read = record.last_polled_at != before.last_polled_at
        job.reads_without_link += is_read and view.lacks_video_url
        job.is_final = job.reads_without_link > MAX_LINK_READS

    async def _looked_up(self, ids: Sequence[str]) -> list[_Awaited]:
        """What the ledger knows of the jobs, each of them once."""
        jobs = [_Awaited(id) for id in ids]
        await self._look_up(jobs)
        once: dict[str, _Awaited] = {}
        for job in jobs:
            record = record_of(job.reading)
            once.setdefault(job.id if record is None else record.submission_id, job)
        return list(once.values())

    async def _look_up(self, jobs: Iterable[_Awaited]) -> None:
        for job in jobs:
            try:
                known = await self._known(job.id)
            except (NotFound, LedgerUnavailable) as failure:
                job.fail(failure)
            else:
                job.reading = job.reading if known is None else known

    async def _read_each(self, jobs: Iterable[_Awaited], deadline: float) -> None:
        """Read the jobs by this call itself, all at the same time."""
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(self._read_one, job, deadline)

    async def _read_one(self, job: _Awaited, deadline: float) -> None:
        until = min(deadline, self._clock.monotonic() + READ_SECONDS)
        try:
            job.reading = await self._read(job.id, until, view_of(job.reading))
        except WanError as failure:
            job.fail(failure)

    def _needs_own_reading(self, job: _Awaited) -> bool:
        view = view_of(job.reading)
        return not job.is_final and (view is None or self._needs_a_read(view))

    def _next_own_reading(self, jobs: Iterable[_Awaited], began: float) -> float:
        """When jobs that cannot be watched are read again, on the monotonic clock."""
        now = self._clock.monotonic()
        errors = [job.reading for job in jobs if isinstance(job.reading, WanError)]
        asked_for = max((error.retry_after or 0.0 for error in errors), default=0.0)
        return now + max(poll_delay(now - began, self._clock.chance()), asked_for)

    def _open(self, jobs: Iterable[_Awaited]) -> list[_Awaited]:
        """Those that are worth waiting for."""
        return [job for job in jobs if not (job.is_final or self._is_closed(view_of(job.reading)))]

    def _is_closed(self, view: JobView | None) -> bool:
        return view is not None and (self._is_over(view) or view.is_given_up)

    def _being_saved(self, jobs: Iterable[_Awaited]) -> list[bool]:
        return [self._is_being_saved(job.reading) for job in jobs]

    async def _sleep_until(self, time: float) -> None:
        await self._clock.wait(self._closing.wait, max(time - self._clock.monotonic(), 0.0))


def _readings(jobs: Iterable[_Awaited]) -> dict[str, Reading]:
    return {job.id: job.reading for job in jobs if job.reading is not None}
