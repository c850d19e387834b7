"""Checks and waits: what the calls of this process ask about a job.

A wait follows the job's record, which the poller updates. It asks PixelDojo itself only while the
ledger does not have the job.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import Busy, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import (
    TRANSIENT_ERRORS,
    JobView,
    Reading,
    is_transient,
    last_error_of,
    view_of_record,
)
from wan_mcp.models import JobStatus
from wan_mcp.polling.intervals import SAVE_SECONDS, poll_delay
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.watchers import Watchers

MAX_CHECK_TRIES = 3
CHECK_SECONDS = 10.0
"""A check tries again until this time is over."""
MAX_LINK_READS = 3
"""How many more times a completed job without a link to its video is read."""


class Waits:
    """The checks and waits of this process's callers.

    Args:
        saves_videos: whether a video is saved if its record does not say what the submitter wants.
            A wait also lasts until a video that is to be saved has been saved.
    """

    def __init__(
        self, reader: JobReader, watchers: Watchers, clock: Clock, *, saves_videos: bool = False
    ) -> None:
        self._reader = reader
        self._watchers = watchers
        self._clock = clock
        self._saves_videos = saves_videos
        self._closing = watchers.closing

    def close(self) -> None:
        """Let every wait end with what is known now, as if its time were up: the server stops."""
        self._watchers.close()

    async def check(self, id: str) -> JobView:
        """The present state of a job. If it has ended, the ledger answers.

        Raises:
            NotFound: PixelDojo does not know the id, or the account has no such submission id.
            Refused, CouldNotFindOut: PixelDojo could not be asked.
        """
        deadline = self._clock.monotonic() + CHECK_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._dated(await self._reader.read(id, deadline - self._clock.monotonic()))
            except Busy as busy:
                return await self._as_known(id, busy)
            except TRANSIENT_ERRORS as last_error:
                pause = last_error.retry_after or retry_delay(attempt, self._clock.chance())
                late = self._clock.monotonic() + pause >= deadline
                if late or attempt >= MAX_CHECK_TRIES or not is_transient(last_error):
                    raise
                await self._clock.sleep(pause)

    async def watch(self, id: str, seconds: float) -> AsyncGenerator[Reading, None]:
        """Yield views of a job until it has ended or `seconds` are over; at least one.

        An error that asking again may overcome is yielded as well, because it only means "wait
        longer". The same facts may be yielded twice, so that no wait is silent for long.

        Raises:
            NotFound: PixelDojo does not know the id, or the account has no such submission id.
            Busy: too many calls wait already.
            Refused, CouldNotFindOut: asking again would not help.
        """
        began = self._clock.monotonic()
        deadline = began + seconds
        view = await self._known(id)
        age = (view and view.elapsed_seconds) or 0.0
        update: Reading | None = view
        if view is None or seconds <= 0 or self._needs_a_read(view):
            async with aclosing(self._readings(id, deadline, view)) as readings:
                async for update in readings:
                    yield update
        else:
            yield view
        while not (self._is_over(update) or self._is_late(deadline)):
            try:
                async with aclosing(self._follow(update, self._until(update, deadline))) as views:
                    async for update in views:
                        yield update
                if not self._is_being_saved(update):
                    return
            except LedgerUnavailable:  # until it can be watched again, this call asks PixelDojo
                update = await self._read(id, deadline, view_of(update))
                yield update
                if not self._is_over(update):
                    # Without the record, only this call's own clock shows how old the job is now.
                    await self._pause(update, deadline, age + self._clock.monotonic() - began)

    async def _follow(
        self, update: Reading | None, deadline: float
    ) -> AsyncGenerator[JobView, None]:
        """A view for each change that the poller records."""
        record = record_of(update)
        if record is None:
            raise LedgerUnavailable("The ledger does not have the job.")
        reads_without_link, before, saving = 0, record, self._is_being_saved(update)
        async with aclosing(self._watchers.watch([record], deadline)) as changes:
            async for records in changes:
                if not records:
                    raise LedgerUnavailable("The job has another record now.")
                (changed,) = records
                view = self._view_of_change(changed, before=record)
                yield view
                if self._reader.is_stuck(changed):
                    await self._reader.settle_abandoned()
                is_read = changed.last_polled_at != before.last_polled_at
                before = changed
                reads_without_link += is_read and view.lacks_video_url
                if self._is_over(view) or reads_without_link > MAX_LINK_READS:
                    return
                if self._is_being_saved(view) and not saving:
                    return  # saving has a deadline of its own, which is earlier

    async def _readings(
        self, id: str, deadline: float, view: JobView | None
    ) -> AsyncGenerator[Reading, None]:
        """Readings by this call itself, until the ledger has the job and the poller reads it."""
        while True:
            update = await self._read(id, deadline, view)
            yield update
            if record_of(update) is not None or self._is_over(update) or self._is_late(deadline):
                return
            view = view_of(update)
            await self._pause(update, deadline)

    async def _known(self, id: str) -> JobView | None:
        """What the ledger knows, with the record that all waiters for this job share."""
        view = await self._reader.known(id)
        if view is None or view.record is None:
            return view
        return self._dated(replace(view, record=self._watchers.shared(view.record)))

    async def _as_known(self, id: str, busy: Busy) -> JobView:
        """What the ledger knows, while PixelDojo cannot be asked.

        Raises:
            Busy: the ledger knows nothing.
        """
        view = await self._reader.known(id)
        if view is None:
            raise busy
        return self._dated(view, busy)

    async def _read(self, id: str, deadline: float, before: JobView | None) -> Reading:
        try:
            left = deadline - self._clock.monotonic()
            return self._dated(await self._reader.read(id, left))
        except TRANSIENT_ERRORS as last_error:
            if not is_transient(last_error):
                raise
            return last_error if before is None else self._dated(before, last_error)
        except LedgerUnavailable:
            # Only the ledger knows the job of a submission id; PixelDojo knows its own job id.
            known = None if before is None else before.job
            if known is None or known.job_id == id:
                raise
            return await self._read(known.job_id, deadline, before)

    def _view_of_change(self, record: Record, before: Record) -> JobView:
        """A view of a changed record. Raises a permanent error that is newer than `before`."""
        last_error = last_error_of(record)
        if (
            last_error
            and not is_transient(last_error)
            and record.last_polled_at != before.last_polled_at
        ):
            raise last_error
        return self._dated(view_of_record(record), last_error)

    def _needs_a_read(self, view: JobView) -> bool:
        """Whether the poller would not read the job, or its last error was a permanent one."""
        if view.record is None:
            return True
        last_error = last_error_of(view.record)
        is_unpolled = view.status in (JobStatus.UNKNOWN, JobStatus.LOST)
        is_unpolled = is_unpolled or self._reader.is_stuck(view.record)
        has_failed = last_error is not None and not is_transient(last_error) and not view.settled
        may_revive = self._reader.may_revive(view)
        return is_unpolled or view.lacks_video_url or has_failed or may_revive

    def _is_over(self, update: Reading | None) -> bool:
        view = view_of(update)
        return view is not None and view.settled and not self._is_being_saved(view)

    def _is_being_saved(self, update: Reading | None) -> bool:
        return self._seconds_left_to_save(update) > 0

    def _seconds_left_to_save(self, update: Reading | None) -> float:
        """How long a wait may still last for the video; 0 if there is nothing to wait for."""
        view, record = view_of(update), record_of(update)
        if record is None or view is None or view.status is not JobStatus.COMPLETED:
            return 0.0
        if record.ended_at is None or record.video_url is None or not self._will_be_saved(record):
            return 0.0
        age = (self._clock.wall() - record.ended_at).total_seconds()
        return SAVE_SECONDS - age if age >= 0 else 0.0

    def _will_be_saved(self, record: Record) -> bool:
        """Whether the submitter wants the video saved, and that has neither happened nor failed.

        After a failure the next attempt comes too late for a wait.
        """
        folder = record.video_folder
        wanted = self._saves_videos if folder is None else bool(folder)
        done = record.saved_path or record.not_saved or record.last_save_error
        return wanted and not done and not record.from_elsewhere

    def _until(self, update: Reading | None, deadline: float) -> float:
        """When to stop watching: at the deadline, or when the time to save the video is over."""
        left = self._seconds_left_to_save(update)
        return min(deadline, self._clock.monotonic() + left) if left > 0 else deadline

    def _is_late(self, deadline: float) -> bool:
        return self._closing.is_set() or self._clock.monotonic() >= deadline

    def _dated(self, view: JobView, last_error: WanError | None = None) -> JobView:
        """The view with the present age of the job, and with the error of this reading."""
        elapsed = view.age(self._clock.wall())
        return replace(view, elapsed_seconds=elapsed, last_error=last_error)

    async def _pause(self, update: Reading, deadline: float, elapsed: float | None = None) -> None:
        view = view_of(update)
        if elapsed is None:
            elapsed = (view and view.elapsed_seconds) or 0.0
        delay = poll_delay(elapsed, self._clock.chance())
        last_error = update if isinstance(update, WanError) else update.last_error
        retry_after = (last_error and last_error.retry_after) or 0.0
        left = deadline - self._clock.monotonic()
        pause = max(min(max(delay, retry_after), left), 0.0)
        await self._clock.wait(self._closing.wait, pause)


def view_of(update: Reading | None) -> JobView | None:
    """The view that an update brings; None for an error, and before there is one."""
    return None if isinstance(update, WanError) else update


def record_of(update: Reading | None) -> Record | None:
    """The ledger's record that an update is about; None if there is none."""
    view = view_of(update)
    return None if view is None else view.record
