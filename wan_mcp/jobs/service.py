"""Jobs of one account: submit, check, watch. Every rule of money and time is here or beside."""

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from wan_mcp.errors import (
    CouldNotFindOut,
    NotFound,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    WanError,
)
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.paying import Payment
from wan_mcp.jobs.schedule import NEW_JOB_GRACE, poll_delay, retry_delay
from wan_mcp.models import Job, Replacement

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

CHECK_TRIES = 3
CHECK_SECONDS = 10.0
READ_GRACE = 5.0
"""Seconds that the last read of a wait may overrun its end."""
MISSING_LIMIT = 3
REMEMBERED = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """What one look at a job brought.

    Attributes:
        elapsed: seconds since the job was accepted, or first seen by this process.
        trouble: why the look failed, when it did; `job` is then what was known before.
    """

    job: Job | None = None
    elapsed: float = 0.0
    trouble: WanError | None = None

    def known(self) -> Job:
        """The job. Raises what kept us from learning of it."""
        if self.job is None:
            raise self.trouble or CouldNotFindOut("There was no time to ask PixelDojo.")
        return self.job


@dataclass
class _Known:
    """What this process remembers of a job; gone with the process."""

    since: float
    told: float
    job: Job | None = None
    missing: int = 0


@dataclass(eq=False)
class _Outcome:
    """How a payment ended, for whoever still waits for it."""

    done: anyio.Event = field(default_factory=anyio.Event)
    job: Job | None = None
    failure: BaseException | None = None
    awaited: bool = True


class Jobs:
    """Jobs of one account.

    Args:
        vendor: the account's PixelDojo.
        tasks: the server's own tasks: a payment runs there, so that a cancelled call, a closed
            stdin or a dropped stream ends only the waiting for it.
        clock: time and chance.
    """

    def __init__(self, vendor: "PixelDojo", tasks: TaskGroup, clock: Clock | None = None) -> None:
        self._vendor = vendor
        self._tasks = tasks
        self.clock = clock or Clock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._paying: set[_Outcome] = set()

    async def submit(self, wanted: Replacement) -> Job:
        """Start one paid job; being cancelled leaves the payment to finish by itself.

        Raises:
            Refused, NotSent: nothing was charged.
            OutcomeUnknown: a charge is possible.
        """
        outcome = _Outcome()
        self._paying.add(outcome)
        self._tasks.start_soon(self._pay, wanted, outcome)
        try:
            await outcome.done.wait()
        finally:
            outcome.awaited = False
        if outcome.failure is not None:
            raise outcome.failure
        assert outcome.job is not None
        return outcome.job

    async def check(self, job_id: str) -> News:
        """One job as it stands now; an ended one is told from memory.

        Raises:
            NotFound: PixelDojo does not know the id.
            Refused, CouldNotFindOut: it could not be asked.
        """
        deadline = self.clock.monotonic() + CHECK_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._read(job_id, deadline)
                return self._news(job_id)
            except (CouldNotFindOut, RateLimited) as trouble:
                pause = trouble.retry_after or retry_delay(attempt, self.clock.chance())
                late = self.clock.monotonic() + pause >= deadline
                if late or attempt >= CHECK_TRIES or not _passing(trouble):
                    raise
                await self.clock.sleep(pause)

    async def watch(self, job_id: str, seconds: float) -> AsyncGenerator[News, None]:
        """The job's news, one for each look, until it ended or the time is up.

        A look that fails is news too: a busy vendor means "wait on".

        Raises:
            NotFound: PixelDojo does not know the id, or no longer.
            Refused, CouldNotFindOut: asking again would not help.
        """
        deadline = self.clock.monotonic() + seconds
        known = self._known.get(job_id)
        if known and known.job and self.clock.monotonic() - known.told < 1:
            yield self._news(job_id)  # just submitted: the first read comes after its delay
            await self._pause(job_id, deadline, None)
        while True:
            trouble = await self._look(job_id, deadline)
            news = self._news(job_id, trouble)
            yield news
            ended = news.job is not None and news.job.ended
            if ended or self.clock.monotonic() >= deadline:
                return
            await self._pause(job_id, deadline, trouble)

    async def drain(self, seconds: float) -> None:
        """Let running payments finish, at most so long."""
        with anyio.move_on_after(seconds):
            for outcome in list(self._paying):
                await outcome.done.wait()

    async def _pay(self, wanted: Replacement, outcome: _Outcome) -> None:
        payment = Payment(self._vendor, self.clock, wanted)
        try:
            outcome.job = self._remember(await payment.run())
        except Exception as exc:
            outcome.failure = exc
        except BaseException:
            outcome.failure = _torn(payment)
            outcome.awaited = False  # the server is stopping: the log must hear of it
            raise
        finally:
            outcome.done.set()
            self._paying.discard(outcome)
            if not outcome.awaited:
                self._tell_log(outcome)

    def _tell_log(self, outcome: _Outcome) -> None:
        """Nobody waits for this payment any more: the log is the last place to keep its id."""
        if outcome.job:
            logger.warning("a cancelled call's job was started: %s", outcome.job.job_id)
        elif not isinstance(outcome.failure, WanError):
            logger.error("a cancelled call's payment broke", exc_info=outcome.failure)
        else:
            logger.warning("a cancelled call's payment ended: %s", outcome.failure.what)

    async def _look(self, job_id: str, deadline: float) -> WanError | None:
        """Read the job once; the reason when that failed in a way that may pass."""
        first = job_id not in self._known
        try:
            await self._read(job_id, deadline)
        except (CouldNotFindOut, RateLimited) as trouble:
            if not _passing(trouble):
                raise
            return trouble
        except NotFound as missing:
            if first or self._is_gone(job_id):
                raise
            return missing
        return None

    async def _read(self, job_id: str, deadline: float) -> Job:
        known = self._known.get(job_id)
        if known and known.job and known.job.settled:
            return known.job
        remaining = max(deadline - self.clock.monotonic(), 0.0)
        with anyio.move_on_after(remaining + READ_GRACE):
            return self._remember(await self._vendor.job(job_id))
        raise CouldNotFindOut("PixelDojo did not answer in time.")

    def _remember(self, job: Job) -> Job:
        now = self.clock.monotonic()
        known = self._known.setdefault(job.job_id, _Known(since=now, told=now))
        self._known.move_to_end(job.job_id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        known.job, known.told, known.missing = job, now, 0
        return job

    def _is_gone(self, job_id: str) -> bool:
        known = self._known[job_id]
        known.missing += 1
        age = self.clock.monotonic() - known.since
        return age > NEW_JOB_GRACE and known.missing >= MISSING_LIMIT

    def _news(self, job_id: str, trouble: WanError | None = None) -> News:
        known = self._known.get(job_id)
        if known is None:
            return News(None, 0.0, trouble)
        return News(known.job, self.clock.monotonic() - known.since, trouble)

    async def _pause(self, job_id: str, deadline: float, trouble: WanError | None) -> None:
        delay = poll_delay(self._news(job_id).elapsed, self.clock.chance())
        asked = (trouble and trouble.retry_after) or 0.0
        remaining = deadline - self.clock.monotonic()
        await self.clock.sleep(max(min(max(delay, asked), remaining), 0.0))


def _passing(trouble: WanError) -> bool:
    return not isinstance(trouble, CouldNotFindOut) or trouble.passing


def _torn(payment: Payment) -> WanError:
    if payment.may_have_landed:
        return OutcomeUnknown("The server was stopped while the paid request was under way.")
    return NotSent("The server was stopped before the request was sent.")
