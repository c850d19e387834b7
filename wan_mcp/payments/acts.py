"""What is said about each paid act, for those who keep a record of who did what."""

from collections.abc import Callable
from dataclasses import dataclass

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView

ACCEPTED = "accepted"
"""How a paid request has ended that PixelDojo has answered with a job."""


@dataclass(frozen=True)
class PaidAct:
    """A paid request that has ended, or a queued one that its user cancelled.

    Attributes:
        action: `job.buy` or `job.cancel`.
        record: the request, as it was claimed.
        id: of the job; of the request, where there is no job.
        result: `accepted`, or the code of its failure; for `job.cancel`, `done`.
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
        failure: why.
    """
    if view is None:
        code = failure.code if isinstance(failure, WanError) else "internal_error"
        return PaidAct("job.buy", record, record.submission_id, code)
    credits = None if view.job is None else view.job.credit_cost
    return PaidAct("job.buy", record, view.id or record.submission_id, ACCEPTED, credits)


def cancelled(record: Record) -> PaidAct:
    """The act of a queued request that its user cancelled."""
    return PaidAct("job.cancel", record, record.submission_id, "done")
