"""What is said about each paid act, for those who keep a record of who did what."""

from collections.abc import Callable
from dataclasses import dataclass

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView

ACCEPTED = "accepted"
"""How a paid request has ended that PixelDojo has answered with a job."""
STOPPED = "stopped"
"""How one has ended whose server was stopped before the answer. Its outcome is looked up."""


@dataclass(frozen=True)
class PaidAct:
    """A paid request that has ended, or a queued one that its user cancelled.

    Attributes:
        action: `job.buy` or `job.cancel`.
        record: the request, as it was claimed.
        id: of the job; of the request, where there is no job.
        result: `accepted`, `stopped`, or the code of its failure; for `job.cancel`, `done`.
        credits: what PixelDojo named as its cost; None if nothing.
    """

    action: str
    record: Record
    id: str
    result: str
    credits: float | None = None


NoteAct = Callable[[PaidAct], None]
"""Is called when the outcome is recorded. It must not raise or wait."""


def bought(record: Record, view: JobView | None, failure: Exception | None) -> PaidAct:
    """The act of a paid request that has ended.

    Args:
        view: what it bought; None if nothing, or that is not known.
        failure: why; None if the server was stopped meanwhile.
    """
    if view is None:
        return PaidAct("job.buy", record, record.submission_id, _code(failure))
    credits = None if view.job is None else view.job.credit_cost
    return PaidAct("job.buy", record, view.id or record.submission_id, ACCEPTED, credits)


def _code(failure: Exception | None) -> str:
    if failure is None:
        return STOPPED
    return failure.code if isinstance(failure, WanError) else "internal_error"


def cancelled(record: Record) -> PaidAct:
    """The act of a queued request that its user cancelled."""
    return PaidAct("job.cancel", record, record.submission_id, "done")
