"""Where a request and its job stand: the ledger's row in the words that callers read."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from wan_mcp.errors import (
    CouldNotFindOut,
    NotAllowed,
    NotSent,
    OutcomeUnknown,
    OutOfCredits,
    RateLimited,
    Rejected,
    Unauthorized,
    WanError,
)
from wan_mcp.ledger.record import Row, State
from wan_mcp.models import Job, JobStatus

_STATUS = {
    State.INTENT: JobStatus.SUBMITTING,
    State.SENDING: JobStatus.SUBMITTING,
    State.ACCEPTED: JobStatus.RUNNING,
    State.COMPLETED: JobStatus.COMPLETED,
    State.FAILED: JobStatus.FAILED,
    State.LOST: JobStatus.LOST,
    State.REFUSED: JobStatus.REFUSED,
    State.NOT_SENT: JobStatus.NOT_SENT,
    State.UNKNOWN: JobStatus.UNKNOWN,
}
TROUBLE = (CouldNotFindOut, RateLimited)
"""What a look may meet without being over: a busy vendor means "wait on"."""
_REFUSALS: dict[str, type[WanError]] = {
    kind.code: kind for kind in (Unauthorized, OutOfCredits, NotAllowed, Rejected)
}


@dataclass(frozen=True)
class Standing:
    """All that is known of one request and its job.

    Attributes:
        id: PixelDojo's job id, or our handle while there is none.
        job: as PixelDojo last told of it; None before it has an id.
        row: the ledger's row; None when the ledger cannot be read.
    """

    id: str
    status: JobStatus
    job: Job | None = None
    row: Row | None = None

    @property
    def settled(self) -> bool:
        """Whether asking again could tell nothing new."""
        going = {JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.UNKNOWN}
        if self.status is JobStatus.COMPLETED:
            return self.job is not None and self.job.video_url is not None
        return self.status not in going

    @property
    def is_without_film(self) -> bool:
        """Whether the job is completed and no link to its film has come."""
        return self.status is JobStatus.COMPLETED and not self.settled

    @property
    def estimate(self) -> float | None:
        """Credits that the job was expected to cost."""
        return None if self.row is None else self.row.estimate

    @property
    def seed(self) -> int | None:
        """The seed that repeats this take, given or planted."""
        return None if self.row is None else self.row.seed

    @property
    def why(self) -> str:
        """How a request came to this, and what was looked at since; "" when nothing tells."""
        if self.row is None:
            return ""
        # What was found before the outcome was known is out of date once it is.
        looks = _looks(self.row) if self.status is JobStatus.UNKNOWN else ""
        return " ".join(filter(None, [self.row.error, looks]))

    def age(self, now: datetime) -> float | None:
        """Seconds the job took, or has taken so far; None when nothing tells."""
        if self.row is None:
            return None
        began = self.row.accepted_at or self.row.sent_at or self.row.created_at
        return max(((self.row.ended_at or now) - began).total_seconds(), 0.0)

    def silence(self, now: datetime) -> float | None:
        """Seconds since PixelDojo last told of a job that was running then; None for others."""
        if self.row is None or self.status is not JobStatus.RUNNING:
            return None
        heard = self.row.heard_at or self.row.accepted_at or self.row.created_at
        return (now - heard).total_seconds()


def of_row(row: Row) -> Standing:
    """The standing that a row of the ledger tells."""
    return Standing(row.public_id, _STATUS[row.state], row.job, row)


def of_job(job: Job) -> Standing:
    """The standing when only PixelDojo's own word is to be had."""
    return Standing(job.job_id, job.status, job)


def failure_of(row: Row) -> WanError | None:
    """Why the submit bought nothing, or may have; None when it did not end that way."""
    when = _when(row)
    why = of_row(row).why
    failure: WanError
    match row.state:
        case State.NOT_SENT:
            failure = NotSent(f"The equal request of {when} was not sent. {why}")
        case State.REFUSED:
            failure = Rejected(
                f"The equal request of {when} was turned down. {why}",
                next_step="See to the reason first, then call again.",
            )
        case State.UNKNOWN:
            failure = unknown_before(row, why)
        case _:
            return None
    failure.job_id = row.handle
    return failure


def passes(trouble: WanError) -> bool:
    """Whether asking again soon may help."""
    slow_down = isinstance(trouble, RateLimited)
    return slow_down or (isinstance(trouble, CouldNotFindOut) and trouble.passing)


def lasting_code(trouble: WanError | None) -> str | None:
    """How a row keeps what kind of trouble it is; None for one that passes."""
    return None if trouble is None or passes(trouble) else trouble.code


def trouble_of(row: Row) -> WanError | None:
    """What the last look met, whichever process made it; None when PixelDojo answered it."""
    if row.trouble is None:
        return None
    if kind := _REFUSALS.get(row.trouble_code or ""):
        return kind(row.trouble)
    return CouldNotFindOut(row.trouble, passing=row.trouble_code is None)


def _looks(row: Row) -> str:
    if not row.checks:
        return row.findings or "PixelDojo's job list has not been looked at yet."
    times = "once" if row.checks == 1 else f"{row.checks} times"
    return f"Looked for {times}; the last time: {row.findings}"


def unknown(handle: str, what: str) -> OutcomeUnknown:
    """A lost answer, with the one thing to do about it."""
    failure = OutcomeUnknown(
        what,
        next_step=f'Call get_job_status with job_id "{handle}" in a minute: it looks for the job '
        "in PixelDojo's list. Do not repeat replace_character for it. Another seed would be a new "
        "job, paid again.",
    )
    failure.job_id = handle
    return failure


def unknown_before(row: Row, why: str) -> OutcomeUnknown:
    """The lost answer of an equal request, as it is told to a call that sent nothing itself."""
    failure = unknown(
        row.handle,
        f"This call sent nothing: the outcome of the equal request of {_when(row)} is unknown, and "
        f"that earlier request may have been charged. {why}",
    )
    failure.charged = "no"
    return failure


def states_of(statuses: Collection[JobStatus]) -> frozenset[State]:
    """The ledger's states that are told as one of these."""
    return frozenset(state for state, told in _STATUS.items() if told in statuses)


def _when(row: Row) -> str:
    return f"{row.created_at:%H:%M} UTC"
