"""The payments in progress in this process, and the changes that the ledger has yet to record."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import OutcomeUnknown, WanError
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.fingerprint import INPUTS, is_link, without_queries
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import (
    InputProgress,
    JobView,
    Phase,
    failure_of,
    view_of_record,
)
from wan_mcp.logs import facts
from wan_mcp.logs.context import lines_about
from wan_mcp.models import Replacement
from wan_mcp.payments.acts import NoteAct, ended
from wan_mcp.payments.payment import Payment, PaymentContext, Write

if TYPE_CHECKING:
    from wan_mcp.payments.staging import StagingOf
    from wan_mcp.pixeldojo.client import PixelDojo

MIN_RETRY_SECONDS = 0.5
"""The shortest pause before a failed change of the ledger is repeated."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Outcome:
    """The end of a payment, for the calls that still wait for it.

    Attributes:
        payment: the payment itself.
        done: set when the payment has ended, or was withdrawn.
        view: what the payment bought.
        failure: what the payment raised.
        waiting: how many calls of this process wait for it in `Payments.settled`.
    """

    payment: Payment
    done: anyio.Event = field(default_factory=anyio.Event)
    view: JobView | None = None
    failure: Exception | None = None
    waiting: int = 0

    async def wait(self, seconds: float) -> JobView | None:
        """What the payment bought; None if the time is up first. Raises the payment's failure."""
        self.waiting += 1
        try:
            with anyio.move_on_after(max(seconds, 0.0)):
                await self.done.wait()
        finally:
            self.waiting -= 1
        if self.failure is not None:
            raise self.failure
        return self.view


class Payments:
    """The payments that are in progress in this process.

    They run in the server's own tasks, so a cancelled call, a closed stdin or a dropped stream ends
    only the waiting, never the payment.

    Args:
        on_lost: called when the answer to a paid request was lost.
        staging: makes inputs available that are not links; None if all must be links.
        note: called with each request that has ended here; None where no audit is kept.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        tasks: TaskGroup,
        clock: Clock,
        on_lost: Callable[[], None],
        staging: "StagingOf | None" = None,
        note: NoteAct | None = None,
    ) -> None:
        self._context = PaymentContext(vendor, ledger, clock, self._write_later, staging)
        self._ledger = ledger
        self._clock = clock
        self._tasks = tasks
        self._on_lost = on_lost
        self._note = note
        self._open: dict[str, Outcome] = {}

    @property
    def count(self) -> int:
        """How many are in progress."""
        return len(self._open)

    @property
    def closing(self) -> bool:
        """Whether the server is stopping; then no further request is sent."""
        return self._context.closing

    def start(self, record: Record, wanted: Replacement) -> Outcome:
        """Pay for a claimed record. The payment goes on when the caller is cancelled.

        Args:
            wanted: what is sent, with the seed of the record.

        Returns:
            The outcome, for callers that wait for the end.
        """
        submission_id = record.submission_id
        payment = Payment(self._context, record, wanted.model_copy(update={"seed": record.seed}))
        self._open[submission_id] = outcome = Outcome(payment)
        _tell_change(+1)
        self._tasks.start_soon(self._run, submission_id)
        return outcome

    async def withdraw(self, submission_id: str) -> None:
        """Withdraw a request, if this process pays it, has not sent it, and no other call waits.

        Otherwise nothing changes, and the request is paid for.
        """
        outcome = self._open.get(submission_id)
        if outcome is None or outcome.waiting:
            return
        with suppress(Fenced, LedgerUnavailable):
            outcome.failure = failure_of(await outcome.payment.withdraw())
            outcome.done.set()
            logger.info("request %s: withdrawn before it was sent", submission_id)

    def with_progress(self, view: JobView) -> JobView:
        """The view; while its request is not sent, with the progress of its inputs."""
        record = view.record
        if record is None or record.state is not State.INTENT:
            return view
        if all(is_link(record.arguments.get(name, "")) for name in INPUTS):
            return view
        outcome = self._open.get(record.submission_id)
        elsewhere = InputProgress(Phase.ELSEWHERE)
        return replace(view, progress=elsewhere if outcome is None else outcome.payment.progress)

    def is_staging(self, submission_id: str) -> bool:
        """Whether this process is making inputs of a request available."""
        outcome = self._open.get(submission_id)
        return outcome is not None and not outcome.payment.staged.is_set()

    async def staged(self, submission_id: str, seconds: float) -> None:
        """Wait until this process has made all inputs of a request available, or the time is up."""
        if outcome := self._open.get(submission_id):
            await self._clock.wait(outcome.payment.staged.wait, seconds)

    async def settled(self, submission_id: str, seconds: float) -> JobView | None:
        """How a submit ended, here or in another process; None if the time is up first.

        Args:
            seconds: how long to wait for the end.

        Raises:
            Refused, NotSent: the submit bought nothing.
            OutcomeUnknown: the submit may have bought a job.
            LedgerUnavailable: another process pays, and the ledger cannot be read.
        """
        outcome = self._open.get(submission_id)
        if outcome is None:
            return _ended(await self._ledger.settled(submission_id, max(seconds, 0.0)))
        return await outcome.wait(seconds)

    def stop(self) -> None:
        """Send no further request, because the server stops."""
        self._context.closing = True
        for outcome in self._open.values():
            outcome.payment.stop_staging()

    async def drain(self, seconds: float) -> None:
        """Wait at most this many seconds for payments to finish; no further request is sent.

        Uploads are not waited for: their requests end as not sent.
        """
        self.stop()
        if self._open:
            logger.warning(
                "paid requests in progress: %d. Waiting up to %g s; a second signal ends this now",
                len(self._open),
                seconds,
            )
        with anyio.move_on_after(seconds):
            for outcome in list(self._open.values()):
                await outcome.done.wait()
        for submission_id in self._open:
            logger.warning(
                "request %s did not finish: the next start looks up its outcome", submission_id
            )

    async def _run(self, submission_id: str) -> None:
        with lines_about(submission_id=submission_id):
            await self._pay(submission_id)

    async def _pay(self, submission_id: str) -> None:
        outcome = self._open[submission_id]
        try:
            outcome.view = view = await outcome.payment.run()
            logger.info("request %s: %s, job %s", submission_id, view.status.value, view.id)
        except WanError as failure:
            logger.info("request %s: %s", submission_id, without_queries(failure.what))
            outcome.failure = outcome.failure or failure
            if isinstance(failure, OutcomeUnknown):
                self._on_lost()
        except Exception as defect:
            logger.exception("request %s ended with a defect", submission_id)
            outcome.failure = defect
        finally:
            outcome.done.set()
            del self._open[submission_id]
            _tell_change(-1)
            self._tell_end(outcome)

    def _tell_end(self, outcome: Outcome) -> None:
        result, credits = ended(outcome.view, outcome.failure)
        for listener in facts.listeners:
            listener.submitted(result, credits)
        self.note(outcome.payment.record)

    def note(self, record: Record) -> None:
        """Report that a request has ended, for the audit."""
        if self._note is not None:
            self._note(record)

    def _write_later(self, write: Write) -> None:
        self._tasks.start_soon(self._until_written, write)

    async def _until_written(self, write: Write) -> None:
        attempt = 0
        try:
            while True:
                attempt += 1
                pause = retry_delay(attempt, self._clock.chance())
                await self._clock.sleep(max(pause, MIN_RETRY_SECONDS))
                with suppress(LedgerUnavailable):
                    await write()
                    return
        except Fenced:
            return  # settled in the meantime
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True), suppress(LedgerUnavailable, Fenced):
                await write()  # the last chance before the process ends
            raise
        except Exception:
            logger.exception("a change could not be written to the ledger and is given up")


def _ended(record: Record) -> JobView:
    """How a submit of another process ended. Raises the failure if it bought nothing."""
    if failure := failure_of(record):
        raise failure
    return view_of_record(record)


def _tell_change(difference: int) -> None:
    for listener in facts.listeners:
        listener.paying(difference)
