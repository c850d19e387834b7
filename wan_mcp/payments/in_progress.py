"""The payments under way in this process, and what is still to be written down of them."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock, retry_delay
from wan_mcp.errors import OutcomeUnknown, WanError
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.fingerprint import without_queries
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView, failure_of, view_of_record
from wan_mcp.models import Replacement
from wan_mcp.payments.payment import Payment, Write

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

MIN_WRITE_PAUSE = 0.5

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Outcome:
    """How a payment ended, for whoever still waits for it.

    Attributes:
        standing: what the payment bought.
        failure: what the payment raised.
    """

    done: anyio.Event = field(default_factory=anyio.Event)
    view: JobView | None = None
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
        self.vendor = vendor
        self.ledger = ledger
        self.clock = clock
        self.closing = False
        self._tasks = tasks
        self._on_lost = on_lost
        self._open: dict[str, Outcome] = {}

    def start(self, record: Record, wanted: Replacement) -> None:
        """Pay for a claimed row, whatever becomes of the caller."""
        self._open[record.submission_id] = Outcome()
        self._tasks.start_soon(self._run, record.submission_id, Payment(self, record, wanted))

    def write_later(self, write: Write) -> None:
        """Try a change of the ledger again until it is on disk."""
        self._tasks.start_soon(self._until_written, write)

    async def settled(self, submission_id: str, seconds: float) -> JobView | None:
        """How a submit ended, here or in another process; None when it has not by then.

        Raises:
            WanError: it bought nothing, or may have.
        """
        outcome = self._open.get(submission_id)
        if outcome is None:
            return _ended(await self.ledger.settled(submission_id, max(seconds, 0.0)))
        with anyio.move_on_after(max(seconds, 0.0)):
            await outcome.done.wait()
        if outcome.failure is not None:
            raise outcome.failure
        return outcome.view

    async def drain(self, seconds: float) -> None:
        """Let running payments finish, at most so long; what has not left yet stays."""
        self.closing = True
        if self._open:
            words = "paid requests under way: %d. Waiting up to %g s; a second signal cuts them"
            logger.warning(words, len(self._open), seconds)
        with anyio.move_on_after(seconds):
            for outcome in list(self._open.values()):
                await outcome.done.wait()
        for submission_id in self._open:
            logger.warning(
                "request %s is cut: the next start looks up what became of it", submission_id
            )

    async def _run(self, submission_id: str, payment: Payment) -> None:
        outcome = self._open[submission_id]
        try:
            outcome.view = view = await payment.run()
            logger.info("request %s: %s, job %s", submission_id, view.status.value, view.id)
        except WanError as failure:
            logger.info("request %s: %s", submission_id, without_queries(failure.what))
            outcome.failure = failure
            if isinstance(failure, OutcomeUnknown):
                self._on_lost()
        except Exception as broken:
            logger.exception("request %s broke", submission_id)
            outcome.failure = broken
        finally:
            outcome.done.set()
            del self._open[submission_id]

    async def _until_written(self, write: Write) -> None:
        attempt = 0
        try:
            while True:
                attempt += 1
                pause = retry_delay(attempt, self.clock.chance())
                await self.clock.sleep(max(pause, MIN_WRITE_PAUSE))
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
            logger.exception("a change of the ledger cannot be written")


def _ended(record: Record) -> JobView:
    """What a row tells of a submit that somebody else made. Raises how it failed."""
    if failure := failure_of(record):
        raise failure
    return view_of_record(record)
