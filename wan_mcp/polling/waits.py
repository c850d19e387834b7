"""Looks at a job, and waits for it: from the ledger, which the poller keeps up to date."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import Busy, CouldNotFindOut, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import (
    TRANSIENT_ERRORS,
    JobView,
    is_transient,
    last_error_of,
    view_of_record,
)
from wan_mcp.models import JobStatus
from wan_mcp.polling.intervals import poll_delay
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.watchers import Watchers

CHECK_TRIES = 3
CHECK_SECONDS = 10.0
SAVE_SECONDS = 15.0
"""How long after its end a wait goes on until the film is saved; then the link has to do."""
MAX_LINK_READS = 3
"""How often a completed job without a link to its film is read once more."""


@dataclass(frozen=True)
class JobUpdate:
    """What one look at a job brought.

    Attributes:
        standing: what is known; None when nothing is.
        elapsed: seconds since the job was accepted; None when nothing tells.
        trouble: why the look failed, when it did; `view` is then what was known before.
    """

    view: JobView | None = None
    elapsed: float | None = None
    last_error: WanError | None = None

    def known(self) -> JobView:
        """The standing. Raises what kept us from learning of it."""
        if self.view is None:
            raise self.last_error or CouldNotFindOut("There was no time to ask PixelDojo.")
        return self.view


class Waits:
    """Looks and waits of this process's callers.

    Args:
        keeps: whether finished films are saved here, so that a wait lasts until one is.
    """

    def __init__(
        self, reader: JobReader, board: Watchers, clock: Clock, *, keeps: bool = False
    ) -> None:
        self._reader = reader
        self._watchers = board
        self._clock = clock
        self._keeps = keeps

    async def check(self, id: str) -> JobUpdate:
        """One job as it stands now; an ended one is told from the ledger.

        Raises:
            NotFound: PixelDojo does not know the id, or the account has no such handle.
            Refused, CouldNotFindOut: it could not be asked.
        """
        deadline = self._clock.monotonic() + CHECK_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._update(await self._reader.look(id, deadline - self._clock.monotonic()))
            except Busy as busy:
                return await self._as_known(id, busy)
            except TRANSIENT_ERRORS as last_error:
                pause = last_error.retry_after or retry_delay(attempt, self._clock.chance())
                late = self._clock.monotonic() + pause >= deadline
                if late or attempt >= CHECK_TRIES or not is_transient(last_error):
                    raise
                await self._clock.sleep(pause)

    async def watch(self, id: str, seconds: float) -> AsyncGenerator[JobUpdate, None]:
        """The job's news, one for each look at it, until it ended or the time is up.

        A look that fails is news too: a busy vendor means "wait on". Somebody may be told the
        same twice, so that no wait is silent for long.

        Raises:
            NotFound: PixelDojo does not know the id, or the account has no such handle.
            Busy: too many calls wait already.
            Refused, CouldNotFindOut: asking again would not help.
        """
        began = self._clock.monotonic()
        deadline = began + seconds
        update = self._update(await self._reader.known(id))
        age = update.elapsed or 0.0
        if seconds <= 0 or _needs_a_look(update):
            async with aclosing(self._looks(id, deadline, update)) as looks:
                async for update in looks:
                    yield update
        else:
            yield update
        while not (self._is_over(update) or self._is_late(deadline)):
            try:
                async with aclosing(self._hear(update, self._until(update, deadline))) as board:
                    async for update in board:
                        yield update
                if not self._is_being_saved(update):
                    return
            except LedgerUnavailable:  # until it can be followed again, this call looks itself
                update = await self._look(id, deadline, update)
                yield update
                if not self._is_over(update):
                    # Without its row nothing tells how old the job is by now.
                    elapsed = age + self._clock.monotonic() - began
                    await self._pause(replace(update, elapsed=elapsed), deadline)

    async def _hear(self, update: JobUpdate, deadline: float) -> AsyncGenerator[JobUpdate, None]:
        """What the poller learns of a job."""
        record = None if update.view is None else update.view.record
        if record is None:
            raise LedgerUnavailable("The ledger does not have the job.")
        without_film, before, saving = 0, record, self._is_being_saved(update)
        async with aclosing(self._watchers.watch(record, deadline)) as board:
            async for heard in board:
                update = self._heard(heard, before=record)
                yield update
                is_look = heard.last_polled_at != before.last_polled_at
                before = heard
                view = update.view
                without_film += is_look and view is not None and view.is_without_film
                if self._is_over(update) or without_film > MAX_LINK_READS:
                    return
                if self._is_being_saved(update) and not saving:
                    return  # there is less time for that

    async def _looks(
        self, id: str, deadline: float, update: JobUpdate
    ) -> AsyncGenerator[JobUpdate, None]:
        """Looks of this call's own, until the ledger has the job: from then on the poller looks."""
        while True:
            update = await self._look(id, deadline, update)
            yield update
            kept = update.view is not None and update.view.record is not None
            if kept or self._is_over(update) or self._is_late(deadline):
                return
            await self._pause(update, deadline)

    async def _as_known(self, id: str, busy: Busy) -> JobUpdate:
        """What the ledger has, when there is no room for a request. Raises `busy` if nothing."""
        view = await self._reader.known(id)
        if view is None:
            raise busy
        return self._update(view, busy)

    async def _look(self, id: str, deadline: float, before: JobUpdate) -> JobUpdate:
        try:
            left = deadline - self._clock.monotonic()
            return self._update(await self._reader.look(id, left))
        except TRANSIENT_ERRORS as last_error:
            if not is_transient(last_error):
                raise
            return self._update(before.view, last_error)
        except LedgerUnavailable:
            # Only the ledger knows what a handle stands for; PixelDojo knows its own id.
            known = None if before.view is None else before.view.job
            if known is None or known.job_id == id:
                raise
            return await self._look(known.job_id, deadline, before)

    def _heard(self, record: Record, before: Record) -> JobUpdate:
        """News from a row. Raises what makes waiting hopeless, if it is newer than `before`."""
        last_error = last_error_of(record)
        if (
            last_error
            and not is_transient(last_error)
            and record.last_polled_at != before.last_polled_at
        ):
            raise last_error
        return self._update(view_of_record(record), last_error)

    def _is_over(self, update: JobUpdate) -> bool:
        settled = update.view is not None and update.view.settled
        return settled and not self._is_being_saved(update)

    def _is_being_saved(self, update: JobUpdate) -> bool:
        return self._saving_left(update) > 0

    def _saving_left(self, update: JobUpdate) -> float:
        """Seconds for which the film may still be saved; 0 when there is nothing to wait for."""
        view = update.view
        if not self._keeps or view is None or view.status is not JobStatus.COMPLETED:
            return 0.0
        record = view.record
        if (
            record is None
            or record.ended_at is None
            or record.video_url is None
            or record.from_elsewhere
        ):
            return 0.0
        age = (self._clock.wall() - record.ended_at).total_seconds()
        return (
            SAVE_SECONDS - age if age >= 0 and not (record.saved_path or record.not_saved) else 0.0
        )

    def _until(self, update: JobUpdate, deadline: float) -> float:
        """When the next news is of no use any more."""
        left = self._saving_left(update)
        return min(deadline, self._clock.monotonic() + left) if left > 0 else deadline

    def _is_late(self, deadline: float) -> bool:
        return self._clock.monotonic() >= deadline

    def _update(self, view: JobView | None, last_error: WanError | None = None) -> JobUpdate:
        elapsed = None if view is None else view.age(self._clock.wall())
        return JobUpdate(view, elapsed, last_error)

    async def _pause(self, update: JobUpdate, deadline: float) -> None:
        delay = poll_delay(update.elapsed or 0.0, self._clock.chance())
        asked = (update.last_error and update.last_error.retry_after) or 0.0
        left = deadline - self._clock.monotonic()
        await self._clock.sleep(max(min(max(delay, asked), left), 0.0))


def _needs_a_look(update: JobUpdate) -> bool:
    """Whether no poller would look, or what it would meet is known to be hopeless."""
    view = update.view
    if view is None or view.record is None:
        return True
    last_error = last_error_of(view.record)
    asked_again = view.status in (JobStatus.UNKNOWN, JobStatus.LOST)
    hopeless = last_error is not None and not is_transient(last_error) and not view.settled
    return asked_again or view.is_without_film or hopeless
