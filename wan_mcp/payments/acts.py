"""The report about each request that has ended in this process."""

from collections.abc import Callable
from typing import NamedTuple

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView

ACCEPTED = "accepted"
"""The result of a paid request that PixelDojo answered with a job."""
STOPPED = "stopped"
"""The result of one whose server was stopped before the answer. Its outcome is looked up later."""

NoteAct = Callable[[Record], None]
"""Called with a request, as it was claimed, when it has ended here or its user has cancelled it.
What became of it is in the ledger by then, or soon after. It must not raise or wait."""


class Ended(NamedTuple):
    """How a payment has ended, as the metrics count it.

    Attributes:
        result: `accepted`, `stopped`, or the code of its failure.
        credits: the cost that PixelDojo named; None if it named none.
    """

    result: str
    credits: float | None = None


def reason_of(failure: WanError, *, alone: bool) -> str:
    """Why a request has ended, in sentences, as the ledger keeps it for later calls.

    Args:
        alone: whether one person has the wallet to themselves. Where people sign in, what to do may
            be for somebody else, so it is left out: a call that meets the same error again gets an
            answer that is made for its user.
    """
    if alone or failure.step_by is None:
        return f"{failure.what} {failure.next_step}"
    return failure.what


def ended(view: JobView | None, failure: Exception | None) -> Ended:
    """How a payment has ended.

    Args:
        view: what it bought; None if it bought nothing, or if that is not known.
        failure: why there is no view; None if the server was stopped before the answer.
    """
    if view is not None:
        return Ended(ACCEPTED, None if view.job is None else view.job.credit_cost)
    if failure is None:
        return Ended(STOPPED)
    return Ended(failure.code if isinstance(failure, WanError) else "internal_error")
