"""The one place that decides to send, or to send again, a request that costs credits."""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import anyio

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import NotSent, OutcomeUnknown, RateLimited, Refused, Rejected, WanError
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.fingerprint import without_queries
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import JobView, unknown, view_of_job, view_of_record
from wan_mcp.models import Job, Replacement

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

MAX_CONNECTS = 3
CONNECT_WINDOW = 10.0
"""Seconds in which a request that never left may be tried again."""
MAX_RATE_LIMIT_WAIT = 10.0
SCHEMA_SECONDS = 2.0

Write = Callable[[], Awaitable[Record]]

logger = logging.getLogger(__name__)


class PaymentContext(Protocol):
    """What the payments of one process share.

    Attributes:
        closing: the server is stopping, so nothing more may leave.
    """

    vendor: "PixelDojo"
    ledger: Ledger
    clock: Clock
    closing: bool

    def write_later(self, write: Write) -> None:
        """Try a change of the ledger again until it is on disk."""


class Payment:
    """One paid request, from its `intent` in the ledger to its end.

    Three refusals allow one more POST, because each proves that the last one bought nothing:
    nothing left this machine; PixelDojo asked to slow down; PixelDojo disliked the type of
    `resolution`, which its documentation leaves open. Everything else is final.

    Args:
        desk: what all payments of this process share.
        handle: of the `intent` that this process has claimed.
        wanted: what is sent, with the seed that the row planted.
    """

    def __init__(self, context: PaymentContext, record: Record, wanted: Replacement) -> None:
        self._context = context
        self._vendor = context.vendor
        self._ledger = context.ledger
        self._clock = context.clock
        self._record = record
        self._wanted = wanted
        self._committed = False
        self._post_started = False
        self._connects = 0
        self._may_slow_down = True
        self._may_retype = wanted.resolution is not None
        self._as_number = False

    async def run(self) -> JobView:
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
            raise unknown(self._record.submission_id, lost.what) from lost
        except Refused as refusal:
            await self._conclude(State.REFUSED, refusal)
            raise
        except Fenced:
            raise  # the row is another's by now: nothing was sent, nothing is to be written
        except BaseException:  # the server stops, or a defect: the row must not stay as it is
            with anyio.CancelScope(shield=True):
                await self._settle_on_cancel()
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
                    submission_id=self._record.submission_id,
                )
            except (NotSent, RateLimited, Rejected) as refusal:
                self._post_started = False
                pause = self._pause(refusal, self._clock.monotonic() - started)
                if pause is None:
                    raise
                await self._clock.sleep(pause)

    async def _before_sending(self) -> None:
        """The commit point: on disk before the first byte leaves. A resend is committed already."""
        if self._context.closing:
            raise NotSent("The server is stopping, so the request was not sent.", transient=False)
        if not self._committed:
            await self._ledger.commit_sending(self._record)
            self._committed = True
        self._post_started = True

    async def _resolution_is_number(self) -> bool:
        if self._wanted.resolution is None:
            return False
        with anyio.move_on_after(SCHEMA_SECONDS):
            try:
                return await self._vendor.resolution_is_number()
            except WanError as exc:
                # The schema page is a courtesy; without it the string goes first.
                logger.info("the vendor's schema could not be read: %s", without_queries(exc.what))
        return False

    def _pause(self, refusal: WanError, elapsed: float) -> float | None:
        """Seconds before the one more POST that this refusal allows; None when it allows none."""
        match refusal:
            case NotSent(transient=True):
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

    async def _accept(self, job: Job) -> JobView:
        what = f"job {job.job_id} of request {self._record.submission_id}"
        record = await self._written(lambda: self._ledger.accept(self._record, job), what)
        return view_of_job(job) if record is None else view_of_record(record)

    async def _conclude(self, state: State, why: WanError) -> None:
        # Whoever asks later is told this; where to buy credits is in the advice.
        told = f"{why.what} {why.next_step}" if state is State.REFUSED else why.what
        what = f"the end of request {self._record.submission_id} ({state})"
        await self._written(lambda: self._ledger.conclude(self._record, state, told), what)

    async def _settle_on_cancel(self) -> None:
        if self._post_started:
            lost = OutcomeUnknown("The server was stopped while the request was under way.")
            await self._conclude(State.UNKNOWN, lost)
        else:
            unsent = NotSent("The server was stopped before the request was sent.")
            await self._conclude(State.NOT_SENT, unsent)

    async def _written(self, write: Write, what: str) -> Record | None:
        """The row after a change; None when it could not be written at once."""
        try:
            return await write()
        except Fenced as exc:
            logger.error("%s: %s", what, without_queries(exc.what))
        except Exception as exc:
            # Also what no engine should raise: the job is paid, its id must not be lost for it.
            logger.error("%s could not be written down yet: %s", what, type(exc).__name__)
            self._context.write_later(write)
        return None
