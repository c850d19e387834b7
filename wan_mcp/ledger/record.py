"""What is kept of one submit and its job, and the states it goes through.

intent -> sending -> accepted -> completed | failed | lost
   |         |  `--> refused
   |         `-----> unknown -> accepted ... | not_sent
   `---------------> not_sent
"""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Json

from wan_mcp.models import Job, JobStatus


class State(StrEnum):
    """How far a submit, and then its job, has come."""

    INTENT = "intent"
    """Written down; no byte has left."""
    SENDING = "sending"
    """Committed before the first byte: from here on a charge is possible."""
    ACCEPTED = "accepted"
    """PixelDojo gave a job id; the job is running."""
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    """PixelDojo no longer knows the job: our conclusion, so its own later verdict beats it."""
    REFUSED = "refused"
    """Turned down by PixelDojo, so not charged."""
    NOT_SENT = "not_sent"
    """Proven to have bought nothing: no byte left, or a reconciliation found no job."""
    UNKNOWN = "unknown"
    """The answer was lost: counted as spent, and never sent again."""


LIVE = frozenset({State.INTENT, State.SENDING, State.ACCEPTED, State.UNKNOWN})
"""While an equal request is in one of these, no second one may be sent."""
UNSETTLED = frozenset({State.INTENT, State.SENDING})
"""Only the process that owns the row may move it on from these."""
FREE_OF_CHARGE = frozenset({State.REFUSED, State.NOT_SENT})

BEFORE: dict[State, frozenset[State]] = {
    State.SENDING: frozenset({State.INTENT}),
    State.ACCEPTED: frozenset({State.SENDING, State.UNKNOWN}),
    State.REFUSED: frozenset({State.SENDING}),
    State.NOT_SENT: frozenset({State.INTENT, State.SENDING, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.SENDING}),
    State.LOST: frozenset({State.ACCEPTED}),
}
"""The states each state may be entered from; `record_update` alone enters
completed and failed later."""

REPEAT_WINDOW = timedelta(minutes=15)
"""How long after its end a completed or lost job still answers an equal call."""

_TOLD = {State.COMPLETED: JobStatus.COMPLETED, State.FAILED: JobStatus.FAILED}


class Record(BaseModel):
    """One submit and its job, as the ledger keeps it. Times are UTC wall time.

    Attributes:
        handle: our own id, `sub_` and random; it never changes.
        job_id: PixelDojo's id, once known.
        digest: what an equal request has too, whatever its URL queries; None for a job that was
            submitted elsewhere.
        exact: the same with the URL queries.
        arguments: what was asked for, in our words, URLs without query; {} for jobs from elsewhere.
        seed: the seed that was sent, given or planted.
        seed_planted: whether the seed is ours rather than the caller's.
        estimate: credits expected before sending; None when the price could not be had.
        credit_cost: credits PixelDojo says the job costs.
        video_url: the film, with its query: without the signature in it nobody could fetch it.
        error: why the job failed or the submit was refused, not sent or left unknown.
        owner: the process that made the row.
        checks: how often a reconciliation looked; next_check_at: when it is due, None for never.
        findings: what the last look found, in a sentence.
        looked_at: when PixelDojo was last asked for the job; `last_error` is what that met, None
            when it answered; `last_error_code` its kind, None when it passes.
        heard_at: when it last answered.
        watched_until: somebody waits for the job at least until then.
        saved_path: where the film lies on this machine, with its `sha256` and `size` in bytes.
        not_saved: why the film cannot be saved any more.
    """

    model_config = ConfigDict(frozen=True)

    submission_id: str
    account: str
    state: State
    job_id: str | None
    dedupe_key: str | None
    exact_key: str | None
    arguments: Json[dict[str, str | int | bool]]
    seed: int | None
    seed_generated: bool
    estimate: float | None
    credit_cost: float | None
    credits_remaining: float | None
    vendor_status: str
    video_url: str | None
    expires_at: datetime | None
    error: str | None
    note: str | None
    created_at: datetime
    sent_at: datetime | None
    accepted_at: datetime | None
    ended_at: datetime | None
    owner: str
    checks: int
    next_check_at: datetime | None
    findings: str | None
    last_polled_at: datetime | None
    last_reply_at: datetime | None
    watched_until: datetime | None
    last_error: str | None
    last_error_code: str | None
    saved_path: str | None
    sha256: str | None
    size: int | None
    not_saved: str | None

    @property
    def public_id(self) -> str:
        """The one id to tell a caller: PixelDojo's, and our handle while there is none."""
        return self.job_id or self.submission_id

    @property
    def from_elsewhere(self) -> bool:
        """Whether the job was submitted without this ledger, which then counts no spending."""
        return self.dedupe_key is None

    @property
    def settled(self) -> bool:
        """Whether the submit itself is over: no byte of it is on the way any more."""
        return self.state not in UNSETTLED

    @property
    def job(self) -> Job | None:
        """The job as PixelDojo last told of it; None before it has an id."""
        if self.job_id is None:
            return None
        told = {name: getattr(self, name) for name in Job.model_fields if name != "status"}
        return Job(status=_TOLD.get(self.state, JobStatus.RUNNING), **told)
