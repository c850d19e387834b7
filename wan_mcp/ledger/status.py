"""The state of a request and its job, made from the ledger's record for callers to read."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

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
from wan_mcp.ledger.coordination import POLLED_FOR
from wan_mcp.ledger.fingerprint import SENT
from wan_mcp.ledger.queueing.contract import Place
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job, JobStatus
from wan_mcp.wording import megabytes

_STATUS = {
    State.QUEUED: JobStatus.QUEUED,
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
TRANSIENT_ERRORS = (CouldNotFindOut, RateLimited)
"""Errors after which a status call or a wait may go on: a busy vendor only means "wait longer"."""
_REFUSALS: dict[str, type[WanError]] = {
    kind.code: kind for kind in (Unauthorized, OutOfCredits, NotAllowed, Rejected)
}


WORTH_COUNTING = 2 * 10**6
"""From this many bytes on, the progress of an upload is given in megabytes (ours)."""


class Phase(StrEnum):
    """What is being done with the inputs of a request that PixelDojo cannot fetch itself."""

    PREPARING = "preparing"
    UPLOADING = "uploading"
    LENDING = "lending"
    """They are copied, and PixelDojo fetches the copies through an address of the user's."""
    ELSEWHERE = "elsewhere"
    """Another process on this ledger handles the request, and only that one knows the progress."""


@dataclass(frozen=True)
class InputProgress:
    """The progress of the inputs of a request that is not sent yet, so that nothing is charged yet.

    Attributes:
        sent: how many bytes are uploaded; while preparing, the percentage of an input, 0 to 100.
        size: how many bytes there are in total.
    """

    phase: Phase
    sent: int = 0
    size: int = 0

    def __str__(self) -> str:
        """The progress as a part of a sentence."""
        match self.phase:
            case Phase.UPLOADING if self.size < WORTH_COUNTING:
                doing = "uploading the inputs"
            case Phase.UPLOADING:
                doing = f"uploading, {self.sent // 10**6} of {megabytes(self.size)}"
            case Phase.PREPARING:
                doing = f"preparing the inputs, {self.sent} %"
            case Phase.LENDING:
                doing = "making the inputs available through your own address"
            case Phase.ELSEWHERE:
                doing = "another server of yours is making the inputs available"
        return f"{doing}, nothing charged yet"


@dataclass(frozen=True)
class JobView:
    """Everything that is known about one request and its job.

    Attributes:
        id: PixelDojo's job id, or our submission id while there is none.
        job: the job as PixelDojo last reported it; None before it has an id.
        record: the ledger's record; None when the ledger cannot be read.
        elapsed_seconds: the age of the job when this view was made, or how long the
            job took; None when that is not known, and in the answer to a submit.
        last_error: why the reading that made this view failed; the rest is then what was
            known before. None when it did not fail.
        joined: only after a submit: an equal request existed already, and nothing was bought.
        query_differs: only when joined: the requests are equal except for the query of a link.
        notes: only after a submit: what the preflight found and did not refuse.
        end_is_unconfirmed: whether PixelDojo has reported once that the job ended without a video,
            and a second reading has to confirm it. The job counts as running until then.
        progress: how far the inputs of an unsent request are; None if they are links, or if the
            request was sent.
        place: where a queued request stands; None if it is not queued, or not looked up.
    """

    id: str
    status: JobStatus
    job: Job | None = None
    record: Record | None = None
    elapsed_seconds: float | None = None
    last_error: WanError | None = None
    joined: bool = False
    query_differs: bool = False
    notes: tuple[str, ...] = ()
    end_is_unconfirmed: bool = False
    progress: InputProgress | None = None
    place: Place | None = None

    @property
    def settled(self) -> bool:
        """Whether asking PixelDojo again could bring nothing new."""
        if self.is_forgotten:
            return True
        going = {JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.UNKNOWN}
        if self.status is JobStatus.COMPLETED:
            return self.job is not None and self.job.video_url is not None
        return self.status not in going

    @property
    def is_forgotten(self) -> bool:
        """Whether the user had its links, inputs and video removed."""
        return self.record is not None and self.record.is_forgotten

    @property
    def is_given_up(self) -> bool:
        """Whether its outcome is unknown, and is not looked up any more unless somebody asks."""
        if self.record is None or self.status is not JobStatus.UNKNOWN:
            return False
        return self.record.next_check_at is None

    @property
    def lacks_video_url(self) -> bool:
        """Whether the job is completed and PixelDojo has not sent a link to its video."""
        return self.status is JobStatus.COMPLETED and not self.settled

    @property
    def estimate(self) -> float | None:
        """Credits that the job was expected to cost."""
        return None if self.record is None else self.record.estimate

    @property
    def seed(self) -> int | None:
        """The seed that repeats this take, given by the caller or generated."""
        return None if self.record is None else self.record.seed

    @property
    def changes(self) -> str:
        """How the inputs that were sent differ from those that were given, in sentences, or ""."""
        return "" if self.record is None else str(self.record.arguments.get(f"{SENT}notes", ""))

    @property
    def why(self) -> str:
        """Why the request is in this state, and what was found since; "" when that is not known."""
        if self.record is None:
            return ""
        if self.status is JobStatus.QUEUED:
            return ""  # what ended an earlier turn does not end the request
        # What was found before the outcome was known is out of date once it is.
        found = _findings(self.record) if self.status is JobStatus.UNKNOWN else ""
        return " ".join(filter(None, [self.record.error, found]))

    def age(self, now: datetime) -> float | None:
        """Seconds that the job took, or has taken so far; None when that is not known."""
        if self.record is None:
            return None
        record = self.record
        began = record.accepted_at or record.sent_at or record.asked_at
        return max(((self.record.ended_at or now) - began).total_seconds(), 0.0)

    def seconds_left_to_save(self, now: datetime) -> float:
        """How long servers will still try to save the video, after an attempt that failed."""
        record = self.record
        if record is None or record.ended_at is None or record.last_save_error is None:
            return 0.0
        ends = record.ended_at + POLLED_FOR
        return max((min(ends, record.expires_at or ends) - now).total_seconds(), 0.0)

    def seconds_since_reply(self, now: datetime) -> float | None:
        """Seconds since PixelDojo last reported a running job; None for other jobs."""
        if self.record is None or self.status is not JobStatus.RUNNING:
            return None
        heard = self.record.last_reply_at or self.record.accepted_at or self.record.created_at
        return (now - heard).total_seconds()


Reading = JobView | WanError
"""The result of reading a job once: a view, or the error because of which there is none yet."""


def require_view(reading: Reading) -> JobView:
    """The view of a reading. Raises the error of one that brought no view."""
    if isinstance(reading, WanError):
        raise reading
    return reading


def view_of_record(record: Record) -> JobView:
    """The view of a record of the ledger."""
    return JobView(
        record.public_id,
        _STATUS[record.state],
        record.job,
        record,
        end_is_unconfirmed=record.end_is_unconfirmed,
    )


def view_of_job(job: Job) -> JobView:
    """The view of a job of which only PixelDojo's answer is known."""
    return JobView(job.job_id, job.status, job)


def view_of_one_reading(job: Job) -> JobView:
    """The view of a job of which nothing but one reading is known: it does not prove a failure."""
    if job.status is not JobStatus.FAILED:
        return view_of_job(job)
    running = view_of_job(job.model_copy(update={"status": JobStatus.RUNNING}))
    return replace(running, end_is_unconfirmed=True)


def failure_of(record: Record) -> WanError | None:
    """Why the submit bought nothing, or why that is not known; None if neither is so."""
    when = _when(record)
    why = view_of_record(record).why
    failure: WanError
    match record.state:
        case State.NOT_SENT:
            failure = NotSent(f"The equal request of {when} was not sent. {why}")
        case State.REFUSED:
            failure = Rejected(
                f"The equal request of {when} was turned down. {why}",
                next_step="Remove the reason first, then call again.",
            )
        case State.UNKNOWN:
            failure = unknown_before(record, why)
        case _:
            return None
    failure.job_id = record.submission_id
    return failure


def is_transient(last_error: WanError) -> bool:
    """Whether asking again soon may help."""
    slow_down = isinstance(last_error, RateLimited)
    return slow_down or (isinstance(last_error, CouldNotFindOut) and last_error.transient)


def permanent_error_code(last_error: WanError | None) -> str | None:
    """The code under which a record keeps a permanent error; None for a transient one."""
    return None if last_error is None or is_transient(last_error) else last_error.code


def last_error_of(record: Record) -> WanError | None:
    """The error of the last reading, by whichever process; None when PixelDojo answered it."""
    if record.last_error is None:
        return None
    if kind := _REFUSALS.get(record.last_error_code or ""):
        return kind(record.last_error)
    return CouldNotFindOut(record.last_error, transient=record.last_error_code is None)


def _findings(record: Record) -> str:
    if not record.checks:
        return record.findings or "PixelDojo's job list has not been looked at yet."
    times = "once" if record.checks == 1 else f"{record.checks} times"
    return f"Looked for {times}; the last time: {record.findings}"


def unknown(submission_id: str, what: str) -> OutcomeUnknown:
    """The error of a lost answer, with the one thing to do about it."""
    failure = OutcomeUnknown(
        what,
        next_step=f'Call get_job_status with job_id "{submission_id}" in a minute: it looks for '
        "the job in PixelDojo's list. Do not repeat replace_character for it. Another seed would "
        "be a new job, paid again.",
    )
    failure.job_id = submission_id
    return failure


def unknown_before(record: Record, why: str) -> OutcomeUnknown:
    """The lost answer of an equal request, as an error for a call that sent nothing itself."""
    failure = unknown(
        record.submission_id,
        f"This call sent nothing: the outcome of the equal request of {_when(record)} is unknown, "
        f"and that earlier request may have been charged. {why}",
    )
    failure.charged = "no"
    return failure


def states_of(statuses: Collection[JobStatus]) -> frozenset[State]:
    """The states of records whose status is one of these."""
    return frozenset(state for state, status in _STATUS.items() if status in statuses)


def _when(record: Record) -> str:
    return f"{record.created_at:%H:%M} UTC"
