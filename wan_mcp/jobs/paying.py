"""The one place that decides to send, or to send again, a request that costs credits."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from wan_mcp.errors import NotSent, OutcomeUnknown, RateLimited, Refused, Rejected, WanError
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.ledger import Fenced, Ledger, LedgerUnavailable
from wan_mcp.jobs.row import Row, State
from wan_mcp.jobs.schedule import retry_delay
from wan_mcp.jobs.standing import Standing, failure_of, of_job, of_row, unknown
from wan_mcp.models import Job, Replacement

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

MAX_CONNECTS = 3
CONNECT_WINDOW = 10.0
"""Seconds in which a request that never left may be tried again."""
MAX_RATE_LIMIT_WAIT = 10.0
SCHEMA_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Payment:
    """One paid request, from its `intent` in the ledger to its end.

    Three refusals allow one more POST, because each proves that the last one bought nothing:
    nothing left this machine; PixelDojo asked to slow down; PixelDojo disliked the type of
    `resolution`, which its documentation leaves open. Everything else is final.

    Args:
        row: the `intent` that this process has claimed.
        wanted: what is sent, with the seed that the row planted.
    """

    def __init__(
        self, vendor: "PixelDojo", ledger: Ledger, clock: Clock, row: Row, wanted: Replacement
    ) -> None:
        self._vendor = vendor
        self._ledger = ledger
        self._clock = clock
        self._handle = row.handle
        self._wanted = wanted
        self._committed = False
        self._connects = 0
        self._may_slow_down = True
        self._may_retype = wanted.resolution is not None
        self._as_number = False

    async def run(self) -> Standing:
        """Pay once; a standing without a row is a job that could not be written down.

        Raises:
            Refused, NotSent: nothing was charged.
            OutcomeUnknown: the request may have landed.
        """
        try:
            job = await self._post()
        except (NotSent, LedgerUnavailable) as nothing:
            await self._conclude(State.NOT_SENT, nothing)
            raise
        except OutcomeUnknown as lost:
            await self._conclude(State.UNKNOWN, lost)
            raise unknown(self._handle, lost.what) from lost
        except Refused as refusal:
            await self._conclude(State.REFUSED, refusal)
            raise
        return await self._accept(job)

    async def _post(self) -> Job:
        self._as_number = await self._resolution_is_number()
        started = self._clock.monotonic()
        while True:
            try:
                return await self._vendor.submit(
                    self._wanted,
                    resolution_as_number=self._as_number,
                    before_sending=self._before_sending,
                )
            except (NotSent, RateLimited, Rejected) as refusal:
                pause = self._pause(refusal, self._clock.monotonic() - started)
                if pause is None:
                    raise
                await self._clock.sleep(pause)

    async def _before_sending(self) -> None:
        """The commit point: on disk before the first byte leaves. A resend is committed already."""
        if not self._committed:
            await self._ledger.commit_sending(self._handle)
            self._committed = True

    async def _resolution_is_number(self) -> bool:
        if self._wanted.resolution is None:
            return False
        with anyio.move_on_after(SCHEMA_SECONDS):
            try:
                return await self._vendor.resolution_is_number()
            except WanError as exc:
                # The schema page is a courtesy; without it the string goes first.
                logger.info("the vendor's schema could not be read: %s", exc.what)
        return False

    def _pause(self, refusal: WanError, elapsed: float) -> float | None:
        """Seconds before the one more POST that this refusal allows; None when it allows none."""
        match refusal:
            case NotSent(passing=True):
                self._connects += 1
                pause = retry_delay(self._connects, self._clock.chance())
                within = elapsed + pause < CONNECT_WINDOW
                return pause if within and self._connects < MAX_CONNECTS else None
            case RateLimited(retry_after=float(wait)) if wait <= MAX_RATE_LIMIT_WAIT:
                allowed, self._may_slow_down = self._may_slow_down, False
                return wait if allowed else None
            case Rejected(field="resolution"):
                allowed, self._may_retype = self._may_retype, False
                self._as_number = not self._as_number
                return 0.0 if allowed else None
        return None

    async def _accept(self, job: Job) -> Standing:
        try:
            return of_row(await self._ledger.accept(self._handle, job))
        except (LedgerUnavailable, Fenced) as exc:
            # The job is paid: losing its id now would lose the film.
            logger.error("job %s was started but could not be kept: %s", job.job_id, exc.what)
            return of_job(job)

    async def _conclude(self, state: State, why: WanError) -> None:
        try:
            await self._ledger.conclude(self._handle, state, why.what)
        except (LedgerUnavailable, Fenced) as exc:
            # What is told to the caller stays true; the row is settled when this process ends.
            logger.error("submission %s could not be concluded: %s", self._handle, exc.what)


@dataclass(eq=False)
class Outcome:
    """How a payment ended, for whoever still waits for it.

    Attributes:
        standing: what the payment bought.
        failure: what the payment raised.
    """

    done: anyio.Event = field(default_factory=anyio.Event)
    standing: Standing | None = None
    failure: Exception | None = None


class Payments:
    """The payments under way in this process.

    They run in the server's own tasks, so that a cancelled call, a closed stdin or a dropped
    stream ends only the waiting for one.

    Args:
        on_lost: called when an answer was lost.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        tasks: TaskGroup,
        clock: Clock,
        on_lost: Callable[[], None],
    ) -> None:
        self._vendor = vendor
        self._ledger = ledger
        self._tasks = tasks
        self._clock = clock
        self._on_lost = on_lost
        self._open: dict[str, Outcome] = {}

    def start(self, row: Row, wanted: Replacement) -> None:
        """Pay for a claimed row, whatever becomes of the caller."""
        self._open[row.handle] = Outcome()
        payment = Payment(self._vendor, self._ledger, self._clock, row, wanted)
        self._tasks.start_soon(self._run, row.handle, payment)

    async def settled(self, handle: str, seconds: float) -> Standing | None:
        """How a submit ended, here or in another process; None when it has not by then.

        Raises:
            WanError: it bought nothing, or may have.
        """
        outcome = self._open.get(handle)
        if outcome is None:
            return _ended(await self._ledger.settled(handle, max(seconds, 0.0)))
        with anyio.move_on_after(max(seconds, 0.0)):
            await outcome.done.wait()
        if outcome.failure is not None:
            raise outcome.failure
        return outcome.standing

    async def drain(self, seconds: float) -> None:
        """Let running payments finish, at most so long."""
        with anyio.move_on_after(seconds):
            for outcome in list(self._open.values()):
                await outcome.done.wait()

    async def _run(self, handle: str, payment: Payment) -> None:
        outcome = self._open[handle]
        try:
            outcome.standing = await payment.run()
        except WanError as failure:
            logger.info("submission %s: %s", handle, failure.what)
            outcome.failure = failure
            if isinstance(failure, OutcomeUnknown):
                self._on_lost()
        except Exception as broken:
            logger.exception("submission %s broke", handle)
            outcome.failure = broken
        finally:
            outcome.done.set()
            del self._open[handle]


def _ended(row: Row) -> Standing:
    """What a row tells of a submit that somebody else made. Raises how it failed."""
    if failure := failure_of(row):
        raise failure
    return of_row(row)
