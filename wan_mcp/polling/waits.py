"""Looks at a job, and waits for it: from the ledger, which the poller keeps up to date."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import Busy, CouldNotFindOut, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import Row
from wan_mcp.ledger.status import TROUBLE, Standing, of_row, passes, trouble_of
from wan_mcp.models import JobStatus
from wan_mcp.polling.intervals import poll_delay
from wan_mcp.polling.job_reader import Reader
from wan_mcp.polling.watchers import Board

CHECK_TRIES = 3
CHECK_SECONDS = 10.0
SAVE_SECONDS = 15.0
"""How long after its end a wait goes on until the film is saved; then the link has to do."""
FILM_LOOKS = 3
"""How often a completed job without a link to its film is read once more."""


@dataclass(frozen=True)
class News:
    """What one look at a job brought.

    Attributes:
        standing: what is known; None when nothing is.
        elapsed: seconds since the job was accepted; None when nothing tells.
        trouble: why the look failed, when it did; `standing` is then what was known before.
    """

    standing: Standing | None = None
    elapsed: float | None = None
    trouble: WanError | None = None

    def known(self) -> Standing:
        """The standing. Raises what kept us from learning of it."""
        if self.standing is None:
            raise self.trouble or CouldNotFindOut("There was no time to ask PixelDojo.")
        return self.standing


class Waits:
    """Looks and waits of this process's callers.

    Args:
        keeps: whether finished films are saved here, so that a wait lasts until one is.
    """

    def __init__(self, reader: Reader, board: Board, clock: Clock, *, keeps: bool = False) -> None:
        self._reader = reader
        self._board = board
        self._clock = clock
        self._keeps = keeps

    async def check(self, id: str) -> News:
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
                return self._news(await self._reader.look(id, deadline - self._clock.monotonic()))
            except Busy as busy:
                return await self._as_known(id, busy)
            except TROUBLE as trouble:
                pause = trouble.retry_after or retry_delay(attempt, self._clock.chance())
                late = self._clock.monotonic() + pause >= deadline
                if late or attempt >= CHECK_TRIES or not passes(trouble):
                    raise
                await self._clock.sleep(pause)

    async def watch(self, id: str, seconds: float) -> AsyncGenerator[News, None]:
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
        news = self._news(await self._reader.known(id))
        age = news.elapsed or 0.0
        if seconds <= 0 or _needs_a_look(news):
            async with aclosing(self._looks(id, deadline, news)) as looks:
                async for news in looks:
                    yield news
        else:
            yield news
        while not (self._is_over(news) or self._is_late(deadline)):
            try:
                async with aclosing(self._hear(news, self._until(news, deadline))) as board:
                    async for news in board:
                        yield news
                if not self._is_being_saved(news):
                    return
            except LedgerUnavailable:  # until it can be followed again, this call looks itself
                news = await self._look(id, deadline, news)
                yield news
                if not self._is_over(news):
                    # Without its row nothing tells how old the job is by now.
                    elapsed = age + self._clock.monotonic() - began
                    await self._pause(replace(news, elapsed=elapsed), deadline)

    async def _hear(self, news: News, deadline: float) -> AsyncGenerator[News, None]:
        """What the poller learns of a job."""
        row = None if news.standing is None else news.standing.row
        if row is None:
            raise LedgerUnavailable("The ledger does not have the job.")
        without_film, before, saving = 0, row, self._is_being_saved(news)
        async with aclosing(self._board.watch(row, deadline)) as board:
            async for heard in board:
                news = self._heard(heard, before=row)
                yield news
                is_look = heard.looked_at != before.looked_at
                before = heard
                standing = news.standing
                without_film += is_look and standing is not None and standing.is_without_film
                if self._is_over(news) or without_film > FILM_LOOKS:
                    return
                if self._is_being_saved(news) and not saving:
                    return  # there is less time for that

    async def _looks(self, id: str, deadline: float, news: News) -> AsyncGenerator[News, None]:
        """Looks of this call's own, until the ledger has the job: from then on the poller looks."""
        while True:
            news = await self._look(id, deadline, news)
            yield news
            kept = news.standing is not None and news.standing.row is not None
            if kept or self._is_over(news) or self._is_late(deadline):
                return
            await self._pause(news, deadline)

    async def _as_known(self, id: str, busy: Busy) -> News:
        """What the ledger has, when there is no room for a request. Raises `busy` if nothing."""
        standing = await self._reader.known(id)
        if standing is None:
            raise busy
        return self._news(standing, busy)

    async def _look(self, id: str, deadline: float, before: News) -> News:
        try:
            left = deadline - self._clock.monotonic()
            return self._news(await self._reader.look(id, left))
        except TROUBLE as trouble:
            if not passes(trouble):
                raise
            return self._news(before.standing, trouble)
        except LedgerUnavailable:
            # Only the ledger knows what a handle stands for; PixelDojo knows its own id.
            known = None if before.standing is None else before.standing.job
            if known is None or known.job_id == id:
                raise
            return await self._look(known.job_id, deadline, before)

    def _heard(self, row: Row, before: Row) -> News:
        """News from a row. Raises what makes waiting hopeless, if it is newer than `before`."""
        trouble = trouble_of(row)
        if trouble and not passes(trouble) and row.looked_at != before.looked_at:
            raise trouble
        return self._news(of_row(row), trouble)

    def _is_over(self, news: News) -> bool:
        settled = news.standing is not None and news.standing.settled
        return settled and not self._is_being_saved(news)

    def _is_being_saved(self, news: News) -> bool:
        return self._saving_left(news) > 0

    def _saving_left(self, news: News) -> float:
        """Seconds for which the film may still be saved; 0 when there is nothing to wait for."""
        standing = news.standing
        if not self._keeps or standing is None or standing.status is not JobStatus.COMPLETED:
            return 0.0
        row = standing.row
        if row is None or row.ended_at is None or row.video_url is None or row.from_elsewhere:
            return 0.0
        age = (self._clock.wall() - row.ended_at).total_seconds()
        return SAVE_SECONDS - age if age >= 0 and not (row.saved_path or row.not_saved) else 0.0

    def _until(self, news: News, deadline: float) -> float:
        """When the next news is of no use any more."""
        left = self._saving_left(news)
        return min(deadline, self._clock.monotonic() + left) if left > 0 else deadline

    def _is_late(self, deadline: float) -> bool:
        return self._clock.monotonic() >= deadline

    def _news(self, standing: Standing | None, trouble: WanError | None = None) -> News:
        elapsed = None if standing is None else standing.age(self._clock.wall())
        return News(standing, elapsed, trouble)

    async def _pause(self, news: News, deadline: float) -> None:
        delay = poll_delay(news.elapsed or 0.0, self._clock.chance())
        asked = (news.trouble and news.trouble.retry_after) or 0.0
        left = deadline - self._clock.monotonic()
        await self._clock.sleep(max(min(max(delay, asked), left), 0.0))


def _needs_a_look(news: News) -> bool:
    """Whether no poller would look, or what it would meet is known to be hopeless."""
    standing = news.standing
    if standing is None or standing.row is None:
        return True
    trouble = trouble_of(standing.row)
    asked_again = standing.status in (JobStatus.UNKNOWN, JobStatus.LOST)
    hopeless = trouble is not None and not passes(trouble) and not standing.settled
    return asked_again or standing.is_without_film or hopeless
