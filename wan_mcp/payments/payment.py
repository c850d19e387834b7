"""The one place that decides to send, or to send again, a request that costs credits."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import NotSent, OutcomeUnknown, RateLimited, Refused, Rejected, WanError
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.fingerprint import has_links_only, without_queries
from wan_mcp.ledger.record import FREE_OF_CHARGE, WITHDRAWN, Record, State
from wan_mcp.ledger.status import (
    InputProgress,
    JobView,
    unknown,
    view_of_one_reading,
    view_of_record,
)
from wan_mcp.models import Job, Replacement
from wan_mcp.payments.acts import reason_of

if TYPE_CHECKING:
    from wan_mcp.payments.staging import Staged, StagingOf
    from wan_mcp.pixeldojo.client import PixelDojo

MAX_CONNECT_ATTEMPTS = 3
CONNECT_WINDOW_SECONDS = 10.0
"""How long a request of which no byte has left may be tried again."""
MAX_RATE_LIMIT_SECONDS = 10.0
"""The longest pause that PixelDojo may ask for (429) and that a submit waits out."""
MAX_SCHEMA_SECONDS = 2.0
"""How long a submit waits for PixelDojo's schema page."""

Write = Callable[[], Awaitable[Record]]

logger = logging.getLogger(__name__)


@dataclass
class PaymentContext:
    """The objects that the payments of one process share.

    Attributes:
        write_later: repeats a change of the ledger until it is on disk.
        staging: makes inputs available that are not links; None if all must be links.
        closing: whether the server is stopping; then no further request may leave.
    """

    vendor: "PixelDojo"
    ledger: Ledger
    clock: Clock
    write_later: Callable[[Write], None]
    staging: "StagingOf | None" = None
    closing: bool = False


class ServerStops(NotSent):
    """This server is stopping, so it sends nothing any more; another one may at once.

    It is not transient, because this server must not try again.
    """

    usual_wait = 5.0  # a balancer needs a moment to notice

    def __init__(self, what: str) -> None:
        step = "Call again: another server takes the call, or this one when it runs again."
        super().__init__(what, transient=False, next_step=step)
        self.retry_safe = True


class Payment:
    """One paid request, from its `intent` in the ledger to its end.

    Three refusals allow one more POST, because each proves that the last one bought nothing: no
    byte left this machine; PixelDojo asked to slow down; PixelDojo refused the type of
    `resolution`, which is not documented. Every other end is final.

    Args:
        context: what all payments of this process share.
        record: the `intent` that this process has claimed.
        wanted: what is sent, with the seed that was generated if the caller gave none. Inputs that
            are not links are made available first, and links take their place.

    Attributes:
        progress: how far staging is; None before it begins and after it ends.
        staged: set when staging has ended, or there was nothing to stage.
    """

    def __init__(self, context: PaymentContext, record: Record, wanted: Replacement) -> None:
        self._context = context
        self._vendor = context.vendor
        self._ledger = context.ledger
        self._clock = context.clock
        self._claimed = record
        self._wanted = wanted
        self.progress: InputProgress | None = None
        self.staged = anyio.Event()
        self._staging = anyio.CancelScope()
        self._inputs: Staged | None = None
        self._gives_up_inputs = False
        self._committed = False
        self._withdrawn = False
        self._post_started = False
        self._connect_attempts = 0
        self._may_slow_down = True
        self._may_retype = wanted.resolution is not None
        self._as_number = False

    async def run(self) -> JobView:
        """Send the request and record how it ended.

        The view has no record if the job is paid for but could not be recorded at once.

        Raises:
            Refused, NotSent: nothing was charged.
            OutcomeUnknown: the request may have landed.
        """
        try:
            return await self._pay()
        finally:
            self._end_staging()
            await self._release_inputs()

    async def _pay(self) -> JobView:
        try:
            await self._stage()
            job = await self._post()
        except (NotSent, LedgerUnavailable) as unsent:
            await self._conclude(State.NOT_SENT, unsent)
            raise
        except OutcomeUnknown as lost:
            self._gives_up_inputs = False
            await self._conclude(State.UNKNOWN, lost)
            raise unknown(self._claimed.submission_id, lost.what) from lost
        except Refused as refusal:
            await self._conclude(State.REFUSED, refusal)
            raise
        except Fenced:
            raise  # the record belongs to another process now: nothing was sent, nothing to record
        except BaseException:  # the server stops, or this is a defect: the record must be settled
            with anyio.CancelScope(shield=True):
                await self._settle_on_cancel()
            raise
        self._gives_up_inputs = False
        return await self._accept(job)

    @property
    def record(self) -> Record:
        """The request, as it was claimed."""
        return self._claimed

    async def withdraw(self) -> Record:
        """End the request before its commit point. Whatever still runs here sends nothing.

        Returns:
            The record, which is `not_sent`.

        Raises:
            Fenced, LedgerUnavailable: the request goes on, see `Ledger.withdraw`.
        """
        record = await self._ledger.withdraw(self._claimed)
        self._withdrawn = True
        self.stop_staging()
        return record

    def stop_staging(self) -> None:
        """Stop making inputs available: the request will not be sent. No effect after staging."""
        self._staging.cancel()

    async def _stage(self) -> None:
        """Make the inputs available that are not links. Raises NotSent."""
        if has_links_only(self._wanted):
            self._end_staging()
            return
        self._require_wanted()
        if self._context.staging is None:
            raise NotSent(
                "This server takes only links as inputs.",
                transient=False,
                next_step="Give direct public https links instead.",
            )
        staging = self._context.staging(self._claimed.workspace.itself)
        self._gives_up_inputs = True
        with self._staging:
            self._inputs = await staging.stage(self._claimed, self._wanted, self._report)
        self._end_staging()
        self._require_wanted()

    def _report(self, progress: InputProgress) -> None:
        self.progress = progress

    def _end_staging(self) -> None:
        self.progress = None
        self.staged.set()

    async def _release_inputs(self) -> None:
        """Give up the inputs of a request that bought nothing. A failure here costs nothing."""
        if self._inputs is not None:
            self._inputs.discard()
        if self._context.staging is None or not self._gives_up_inputs:
            return
        try:
            with anyio.CancelScope(shield=True):
                staging = self._context.staging(self._claimed.workspace.itself)
                await staging.release(self._claimed.submission_id)
        except Exception:
            logger.exception("the inputs of an ended request could not be given up")

    async def _sent(self) -> Replacement:
        """What is sent now: only links, freshly made. Raises NotSent."""
        sent = self._wanted if self._inputs is None else await self._inputs.sent()
        if not has_links_only(sent):
            raise NotSent("An input was not made available, so nothing was sent.")
        return sent

    async def _post(self) -> Job:
        self._as_number = await self._resolution_is_number()
        started = self._clock.monotonic()
        while True:
            try:
                return await self._vendor.submit(
                    await self._sent(),
                    resolution_as_number=self._as_number,
                    before_sending=self._before_sending,
                    submission_id=self._claimed.submission_id,
                )
            except (NotSent, RateLimited, Rejected) as refusal:
                self._post_started = False
                pause = self._pause(refusal, self._clock.monotonic() - started)
                if pause is None:
                    raise
                await self._clock.sleep(pause)

    async def _before_sending(self) -> None:
        """The commit point: `sending` is on disk before the first byte leaves, once per request."""
        self._require_wanted()
        if not self._committed:
            sent = None if self._inputs is None else self._inputs.inputs
            await self._ledger.commit_sending(self._claimed, sent)
            self._committed = True
        self._post_started = True

    def _require_wanted(self) -> None:
        """Raises NotSent if the server is stopping, or the request was withdrawn."""
        if self._context.closing:
            raise ServerStops("The server is stopping, so the request was not sent.")
        if self._withdrawn:  # the ledger would refuse it too: this saves asking it
            raise NotSent(
                WITHDRAWN,
                transient=False,
                next_step="Call again only if the job is wanted after all.",
            )

    async def _resolution_is_number(self) -> bool:
        if self._wanted.resolution is None:
            return False
        with anyio.move_on_after(MAX_SCHEMA_SECONDS):
            try:
                return await self._vendor.resolution_is_number()
            except WanError as exc:
                # A submit works without the schema page: then a string is sent first.
                logger.info("PixelDojo's schema could not be read: %s", without_queries(exc.what))
        return False

    def _pause(self, refusal: WanError, elapsed: float) -> float | None:
        """Seconds until the next POST, if this refusal allows one more; None if it does not."""
        match refusal:
            case NotSent(transient=True):
                self._connect_attempts += 1
                pause = retry_delay(self._connect_attempts, self._clock.chance())
                in_time = elapsed + pause < CONNECT_WINDOW_SECONDS
                again = in_time and self._connect_attempts < MAX_CONNECT_ATTEMPTS
                return pause if again else None
            case RateLimited(retry_after=float(pause)) if pause <= MAX_RATE_LIMIT_SECONDS:
                allowed, self._may_slow_down = self._may_slow_down, False
                return pause if allowed else None
            case Rejected(field="resolution"):
                allowed, self._may_retype = self._may_retype, False
                self._as_number = not self._as_number
                return 0.0 if allowed else None
        return None

    async def _accept(self, job: Job) -> JobView:
        what = f"job {job.job_id} of request {self._claimed.submission_id}"
        record = await self._record(lambda: self._ledger.accept(self._claimed, job), what)
        return view_of_one_reading(job) if record is None else view_of_record(record)

    async def _conclude(self, state: State, why: WanError) -> None:
        if self._withdrawn:
            return  # the withdrawal is its end, and is recorded already
        if self._returns_to_queue(state, why):
            what = f"the return of request {self._claimed.submission_id} to the queue"
            await self._record(lambda: self._ledger.queue.put_back(self._claimed), what)
            return
        # A later call gets this as the reason. The next step of a refusal says where to buy
        # credits; that of inputs that were not made available, what the user has to correct.
        alone = self._claimed.workspace.is_alone
        has_remedy = state is State.REFUSED or not self.staged.is_set()
        reason = reason_of(why, alone=alone) if has_remedy else why.what
        what = f"the end of request {self._claimed.submission_id} ({state})"
        await self._record(lambda: self._ledger.conclude(self._claimed, state, reason), what)

    def _returns_to_queue(self, state: State, why: WanError) -> bool:
        """Whether a request that came from the queue bought nothing, for a reason that will pass.

        A problem with its own inputs may last, and would hold up the requests behind it.
        """
        if self._claimed.queued_until is None or state not in FREE_OF_CHARGE:
            return False
        if isinstance(why, ServerStops | LedgerUnavailable | RateLimited):
            return True
        return isinstance(why, NotSent) and why.transient and self.staged.is_set()

    async def _settle_on_cancel(self) -> None:
        if self._post_started:
            self._gives_up_inputs = False
            lost = OutcomeUnknown("The server was stopped while the request was under way.")
            await self._conclude(State.UNKNOWN, lost)
        else:
            unsent = ServerStops("The server was stopped before the request was sent.")
            await self._conclude(State.NOT_SENT, unsent)

    async def _record(self, write: Write, what: str) -> Record | None:
        """Make a change in the ledger. Returns the record after it; None if it failed for now."""
        try:
            return await write()
        except Fenced as exc:
            logger.error("%s: %s", what, without_queries(exc.what))
        except Exception as exc:
            # Any exception: the job is paid for, so a defect of an engine must not lose its id.
            logger.error("%s could not be recorded yet: %s", what, type(exc).__name__)
            self._context.write_later(write)
        return None
