"""What the ledger keeps of one submit and its job, and the states it goes through.

intent -> sending -> accepted -> completed | failed | lost
   |         |  `--> refused
   |         `-----> unknown -> accepted ... | not_sent
   `---------------> not_sent
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

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
    """PixelDojo no longer knows the job. This is our conclusion, so PixelDojo's own later verdict
    replaces it."""
    REFUSED = "refused"
    """PixelDojo refused the request, so it was not charged."""
    NOT_SENT = "not_sent"
    """The request is proven to have bought nothing: no byte left, or PixelDojo has no job of it."""
    UNKNOWN = "unknown"
    """The answer was lost. The request counts as spent, and it is never sent again."""


LIVE = frozenset({State.INTENT, State.SENDING, State.ACCEPTED, State.UNKNOWN})
"""While an equal request is in one of these states, no second one may be sent."""
UNSETTLED = frozenset({State.INTENT, State.SENDING})
"""Only the process that owns the record may move it on from these states."""
FREE_OF_CHARGE = frozenset({State.REFUSED, State.NOT_SENT})
ENDED = frozenset({State.COMPLETED, State.FAILED, State.LOST})

_STATUS = {State.COMPLETED: JobStatus.COMPLETED, State.FAILED: JobStatus.FAILED}


class Record(BaseModel):
    """One submit and its job, as the ledger keeps it. Times are UTC, by the ledger's clock.

    Attributes:
        submission_id: our own id, `sub_` and random. It never changes.
        job_id: PixelDojo's id, once it is known.
        dedupe_key: equal for requests that differ at most in the query of a URL. None for a job
            that was submitted without this ledger.
        exact_key: equal only for requests whose URLs have equal queries too.
        arguments: what was asked for, with our parameter names and without the queries of URLs;
            empty for a job that was submitted without this ledger.
        seed: the seed that was sent.
        seed_generated: whether we chose the seed because the caller gave none.
        estimate: credits expected before sending; None when the price could not be read.
        credit_cost: credits that PixelDojo says the job costs.
        video_url: the finished video. It keeps its query, which is the signature of the link.
        error: why the job failed, or why the submit was refused, not sent or left unknown.
        owner: the process that made the record.
        checks: how often the job list was read for this record.
        next_check_at: when the list is to be read again; None for not by itself.
        findings: what the last of these readings found, in a sentence.
        checked_at: when the job list was last read for this record, or reading it was tried.
        proof_readings: readings that count as proof, see `rules.counts_as_proof`.
        proof_at: when the last of these took place.
        last_polled_at: when PixelDojo was last asked for the job.
        last_error: what that met; None when PixelDojo answered.
        last_error_code: the code of that error; None for one that is transient.
        last_reply_at: when PixelDojo last answered.
        watched_until: a caller waits for the job at least until then.
        video_folder: the folder in which the submitter wants the video saved; "" when it does not
            want that; None when the submitter was a version that did not say.
        video_limit_gb: how many 10^9 bytes of videos that folder may hold; None for no limit.
        saved_path: where the saved video lies, with its `sha256` and its `size` in bytes.
        not_saved: why the video cannot be saved any more.
    """

    model_config = ConfigDict(frozen=True)

    submission_id: str
    account: str
    state: State
    job_id: str | None = None
    dedupe_key: str | None = None
    exact_key: str | None = None
    arguments: dict[str, str | int | bool] = {}
    seed: int | None = None
    seed_generated: bool = False
    estimate: float | None = None
    credit_cost: float | None = None
    credits_remaining: float | None = None
    vendor_status: str = ""
    video_url: str | None = None
    expires_at: datetime | None = None
    error: str | None = None
    note: str | None = None
    created_at: datetime
    sent_at: datetime | None = None
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    owner: str
    checks: int = 0
    next_check_at: datetime | None = None
    findings: str | None = None
    checked_at: datetime | None = None
    proof_readings: int = 0
    proof_at: datetime | None = None
    last_polled_at: datetime | None = None
    last_reply_at: datetime | None = None
    watched_until: datetime | None = None
    last_error: str | None = None
    last_error_code: str | None = None
    video_folder: str | None = None
    video_limit_gb: float | None = None
    saved_path: str | None = None
    sha256: str | None = None
    size: int | None = None
    not_saved: str | None = None

    @property
    def public_id(self) -> str:
        """The one id for a caller: PixelDojo's, and our submission id until that is known."""
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
    def began_at(self) -> datetime:
        """When the request was sent, or written down if it has not been sent."""
        return self.sent_at or self.created_at

    @property
    def job(self) -> Job | None:
        """The job as PixelDojo last described it; None before it has an id."""
        if self.job_id is None:
            return None
        fields = {name: getattr(self, name) for name in Job.model_fields if name != "status"}
        return Job(status=_STATUS.get(self.state, JobStatus.RUNNING), **fields)
