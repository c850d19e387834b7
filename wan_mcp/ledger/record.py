"""What the ledger stores about one paid request and its job, and the states of a record.

queued -> intent -> sending -> accepted -> completed | failed | lost
   |        |         |  `--> refused
   |        |         `-----> unknown -> accepted ... | not_sent
   `--------`---------------> not_sent

If the answer to a request arrives late, its record becomes `accepted` from any state. A request
that came from the queue goes back to it if it is proven unsent for a reason that will pass.
"""

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from wan_mcp.ledger.fingerprint import Fingerprint
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Difference, Job, JobStatus, Replacement, SourceClip


class State(StrEnum):
    """The state of a request, and after its acceptance the state of its job."""

    QUEUED = "queued"
    """The request waits for its turn, and costs nothing. It is stored as `not_sent` with a
    `queued_until`, so that a server of a version without a queue never takes it for paid."""
    INTENT = "intent"
    """The request is recorded, and no byte of it has been sent."""
    SENDING = "sending"
    """Committed before the first byte is sent. From here on, a charge is possible."""
    ACCEPTED = "accepted"
    """PixelDojo gave a job id; the job is running."""
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    """PixelDojo no longer knows the job. This is our conclusion, so it is replaced if PixelDojo
    later reports that the job is completed or failed."""
    REFUSED = "refused"
    """PixelDojo refused the request, so it was not charged."""
    NOT_SENT = "not_sent"
    """The request bought nothing, by proof: no byte was sent, or PixelDojo has no job for it."""
    UNKNOWN = "unknown"
    """The answer was lost. The request counts as spent, and it is never sent again."""


class ListReading(StrEnum):
    """How much a reading of PixelDojo's job list says about a request of unknown outcome."""

    FAILED = "failed"
    """The list could not be read."""
    INCONCLUSIVE = "inconclusive"
    """The list could be read, but it might not show the job even if there is one."""
    SHOWS_ABSENCE = "shows absence"
    """The list would have shown the job if there were one. Three such readings are a proof."""


LIVE = frozenset({State.INTENT, State.SENDING, State.ACCEPTED, State.UNKNOWN})
"""While an equal request is in one of these states, no second one may be sent."""
OPEN = LIVE | {State.QUEUED}
"""While an equal request is in one of these states, a new one joins it."""
UNSETTLED = frozenset({State.INTENT, State.SENDING})
"""In these states only the owner may change the record, or `recover` if the owner is dead."""
FREE_OF_CHARGE = frozenset({State.REFUSED, State.NOT_SENT})
"""A request in one of these states does not count as spending."""
WITHDRAWN = "It was withdrawn before it was sent."
"""The error of a request that its caller withdrew (ours)."""
ENDED = frozenset({State.COMPLETED, State.FAILED, State.LOST})

_STATUS = {State.COMPLETED: JobStatus.COMPLETED, State.FAILED: JobStatus.FAILED}


class SentInputs(NamedTuple):
    """How inputs that PixelDojo cannot fetch itself were sent.

    Attributes:
        links: the link that was sent in place of an input, by the input's name.
        notes: how what was sent differs from what was given, in sentences.
    """

    links: Mapping[str, str]
    notes: str = ""


class Record(BaseModel):
    """One paid request and its job, as stored. Dates are UTC, by the ledger's own clock.

    Attributes:
        submission_id: our own id, `sub_` and random. It never changes.
        account: the name of the workspace that the request belongs to.
        job_id: PixelDojo's id, once it is known.
        dedupe_key: equal for requests that differ at most in the query of a URL. None for a job
            that was submitted without this ledger.
        exact_key: equal only for requests whose URLs have equal queries too.
        arguments: what was asked for, with our parameter names and without the queries of URLs;
            empty for a job that was submitted without this ledger. For a file they hold its URI
            and, as `video_sha256` or `character_image_sha256`, its hash. From the commit point on
            `sent_video` and `sent_character_image` say under which link such an input was sent,
            and `sent_notes` what was changed in it, see `SentInputs`.
        seed: the seed that was sent.
        seed_generated: whether we chose the seed because the caller gave none.
        estimate: credits expected before sending; None when the price could not be read.
        credit_cost: credits that PixelDojo says the job costs.
        video_url: the finished video. It keeps its query, which is the signature of the link.
        error: why the job failed, or why the submit was refused, not sent or left unknown.
        end_reported_at: when PixelDojo first reported an end without a video that no second reading
            has confirmed; see `rules.CONFIRM_SECONDS`. A confirmed end keeps the date.
        owner: the process that created the record, see `Session.me`.
        checks: how often the job list was read for this record.
        next_check_at: when the list is to be read again; None for only on demand.
        findings: what the last of these readings showed, in a sentence.
        checked_at: when the job list was last read for this record, or could not be read.
        proof_readings: how many readings count as proof, see `rules.counts_as_proof`.
        proof_at: when the last of them took place.
        last_polled_at: when PixelDojo was last asked about the job.
        last_error: why that reading failed; None if PixelDojo answered.
        last_error_code: the code of that error; None for a transient one.
        last_reply_at: when PixelDojo last answered.
        watched_until: until when a waiter has announced that it waits.
        video_folder: where the video is to be saved; "" for nowhere; None if that was not decided
            when the request was made, as in older versions.
        video_limit_gb: how many 10^9 bytes of videos that folder may contain; None for no limit.
        saved_path: the file of the saved video, with its `sha256` and its `size` in bytes. This
            and `video_folder` are paths as `videos.paths` writes them, or URLs in object storage.
        not_saved: why the video cannot be saved any more.
        last_save_error: why the last attempt to save it failed, if there will be another.
        source_seconds: what the preflight showed of the source clip, see
            `models.SourceClip`; with `source_frames_per_second` and `source_has_sound`.
        inspection: how the saved video differs from its order; None if it was not inspected.
        forgotten_at: when the user had links, inputs and video removed, see `history.forgetting`.
        spelling_key: what finds an equal request in another spelling once the links are removed,
            see `fingerprint.spelling_key`; None before that.
        queued_at: when the request was put in the queue; None if it never was in it.
        queued_until: when it ends if it has not been sent by then. It is kept until the commit
            point: if the process that was to send it dies before that, it is in the queue again,
            whichever version of the program notices.
        queued_request: the order with its whole links, kept for as long, see `queueing.order`.
        kept: whether the user keeps the video: the size limit does not delete it.
        wallet: the wallet that pays, if it has several workspaces; None if it has the name of the
            account, see `workspace`.
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
    end_reported_at: datetime | None = None
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
    last_save_error: str | None = None
    source_seconds: float | None = None
    source_frames_per_second: float | None = None
    source_has_sound: bool | None = None
    inspection: tuple[Difference, ...] | None = None
    forgotten_at: datetime | None = None
    spelling_key: str | None = None
    queued_at: datetime | None = None
    queued_until: datetime | None = None
    queued_request: str | None = None
    kept: bool = False
    wallet: str | None = None

    @property
    def workspace(self) -> Workspace:
        """The workspace of the request, with the wallet that pays."""
        return Workspace(self.account, self.wallet or self.account)

    @property
    def public_id(self) -> str:
        """The one id for a caller: PixelDojo's, and our submission id until that is known."""
        return self.job_id or self.submission_id

    @property
    def from_elsewhere(self) -> bool:
        """Whether the job was submitted without this ledger, which then counts no spending."""
        return self.dedupe_key is None

    @property
    def is_forgotten(self) -> bool:
        """Whether the user had its links, inputs and video removed. No reading brings them back."""
        return self.forgotten_at is not None

    @property
    def end_is_unconfirmed(self) -> bool:
        """Whether PixelDojo has reported an end without a video, and only once."""
        return self.end_reported_at is not None and self.state not in ENDED

    @property
    def source(self) -> SourceClip:
        """The known facts about the source clip."""
        return SourceClip(
            seconds=self.source_seconds,
            frames_per_second=self.source_frames_per_second,
            has_sound=self.source_has_sound,
        )

    @property
    def settled(self) -> bool:
        """Whether the submit itself is over: no byte of it is on the way, or will be."""
        return self.state not in UNSETTLED and self.state is not State.QUEUED

    @property
    def withdrawn(self) -> bool:
        """Whether the caller of the request withdrew it before it was sent."""
        return self.state is State.NOT_SENT and self.error == WITHDRAWN

    @property
    def asked_at(self) -> datetime:
        """When the request was made. `created_at` moves when a queued one is to be sent."""
        return self.queued_at or self.created_at

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
        fields["video_url"] = self.video_url or None  # "" in a forgotten record
        return Job(status=_STATUS.get(self.state, JobStatus.RUNNING), **fields)


def intent(
    workspace: Workspace,
    wanted: Replacement,
    fingerprint: Fingerprint,
    seed: int,
    estimate: float | None,
    source: SourceClip,
    now: datetime,
    me: str,
) -> Record:
    """A new record, before anything is sent.

    Args:
        seed: what is sent if the caller gave none.
    """
    return Record(
        submission_id=new_submission_id(),
        account=workspace.name,
        wallet=None if workspace.is_alone else workspace.wallet,
        state=State.INTENT,
        dedupe_key=fingerprint.dedupe_key,
        exact_key=fingerprint.exact_key,
        arguments=fingerprint.arguments,
        seed=seed if wanted.seed is None else wanted.seed,
        seed_generated=wanted.seed is None,
        estimate=estimate,
        created_at=now,
        owner=me,
        **{f"source_{name}": value for name, value in vars(source).items()},
    )


def new_submission_id() -> str:
    """An id of our own for a new request: 80 random bits."""
    return f"sub_{base64.b32encode(secrets.token_bytes(10)).decode().lower()}"
