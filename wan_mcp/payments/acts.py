"""What is said about each request that has ended in this process."""

from collections.abc import Callable
from typing import NamedTuple

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import JobView

ACCEPTED = "accepted"
"""How a paid request has ended that PixelDojo has answered with a job."""
STOPPED = "stopped"
"""How one has ended whose server was stopped before the answer. Its outcome is looked up."""

NoteAct = Callable[[Record], None]
"""Is called with a request, as it was claimed, when it has ended here, or when its user has
cancelled it. What became of it is in the ledger, then or soon. It must not raise or wait."""


class Ended(NamedTuple):
    """How a payment has ended, for what is counted.

    Attributes:
        result: `accepted`, `stopped`, or the code of its failure.
        credits: what PixelDojo named as its cost; None if nothing.
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
        view: what it bought; None if nothing, or that is not known.
        failure: why; None if the server was stopped meanwhile.
    """
    if view is not None:
        return Ended(ACCEPTED, None if view.job is None else view.job.credit_cost)
    if failure is None:
        return Ended(STOPPED)
    return Ended(failure.code if isinstance(failure, WanError) else "internal_error")
