"""Our own words, used everywhere between the vendor's JSON and the tools."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from wan_mcp.errors import Charged

Resolution = Literal["480", "720"]

JOB_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
"""What a job id may look like (ours): anything else could climb to another endpoint by `..`."""


class JobStatus(StrEnum):
    """Where a request and its job stand.

    PixelDojo's own words only ever become running, completed or failed.
    """

    SUBMITTING = "submitting"
    """The request is on its way; there is no answer yet."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """The answer to the request was lost: a job may have been started and charged."""
    NOT_SENT = "not_sent"
    """The request never left, or no job came of it: nothing was charged."""
    REFUSED = "refused"
    """PixelDojo turned the request down: nothing was charged."""
    LOST = "lost"
    """PixelDojo no longer knows the job."""


class Replacement(BaseModel):
    """One character replacement as the caller wants it; unset means the vendor's default.

    Attributes:
        video: address of the source clip, which PixelDojo fetches.
        character_image: address of the picture with the new face and body.
        seconds: length of the result, 1 to 15, and not longer than the clip (documented).
        resolution: lines of the result (documented).
        references: how many reference frames, 1 to 10 (documented).
        frames_per_second: 8 to 30 (documented).
        go_fast: trade quality for speed (documented).
        merge_audio: keep the clip's sound (documented).
        seed: repeats a take (documented); no limits are documented.
    """

    model_config = ConfigDict(frozen=True)

    video: str
    character_image: str
    seconds: int = 5
    resolution: Resolution | None = None
    references: int | None = None
    frames_per_second: int | None = None
    go_fast: bool | None = None
    merge_audio: bool | None = None
    seed: int | None = None


class Job(BaseModel):
    """One job as PixelDojo tells of it.

    Attributes:
        job_id: PixelDojo's id.
        status: in our words.
        vendor_status: the vendor's own word, cleaned, as it was sent.
        video_url: where the film lies until `expires_at`; only ever an https address.
        expires_at: when PixelDojo says the result dies; it does not say what else that means.
        credit_cost: what PixelDojo says the job costs, possibly a fraction.
        credits_remaining: the account's balance; only the answer to a submit has it.
        error: the vendor's reason for a failed job, cleaned.
        note: what we left out of the vendor's answer, and why.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    status: JobStatus
    vendor_status: str = ""
    video_url: str | None = None
    expires_at: datetime | None = None
    credit_cost: float | None = None
    credits_remaining: float | None = None
    error: str | None = None
    note: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self.status is not JobStatus.RUNNING


class JobResult(BaseModel):
    """What every tool answers, whether the job is done, going on, failed, or the call went wrong.

    One flat model, because some hosts show the model only this and others only the text. Only
    the fields whose names could mislead are described: each word is in every conversation, once
    for each tool.

    Attributes:
        message: what happened, in a sentence.
        status: in our words; the vendor's own word is `vendor_status`.
        expires_at: when PixelDojo says the result of a completed job dies, in ISO 8601.
        saved_path: where the film lies on this machine, with its sha256 and its size in bytes.
        credit_cost: what the job costs, whichever call bought it.
        credit_estimate: what it was expected to cost, where that differs.
        seed: repeats this take; planted by us when the caller gave none.
        elapsed_seconds: how long a job that has not ended has been going on.
        error: PixelDojo's reason for a failed job.
        charged: whether this very call cost credits.
        retry_safe: whether the same call may succeed, and repeating it cannot pay twice; only when
            it failed.
        code: set when the call itself failed, never for a failed job.
        next: what to do now.
    """

    model_config = ConfigDict(extra="forbid")

    message: str
    job_id: str | None = None
    status: JobStatus | None = None
    vendor_status: str | None = None
    video_url: str | None = None
    expires_at: str | None = None
    expires_in_seconds: int | None = None
    saved_path: str | None = None
    sha256: str | None = None
    size: int | None = None
    credit_cost: float | None = None
    credit_estimate: float | None = None
    credits_remaining: float | None = None
    seed: int | None = None
    elapsed_seconds: int | None = None
    error: str | None = None
    charged: Annotated[Charged, Field(description="By this call?")]
    retry_safe: bool | None = None
    code: str | None = None
    next: str


class JobLine(BaseModel):
    """One job in a list: enough to recognise it and to ask for more.

    Attributes:
        heard_seconds_ago: how old the news of a running job is, where that matters.
        made_at: when the request was made, or its job first seen, in ISO 8601.
        source_video: the clip that was given, without its query.
        seed: repeats this take.
    """

    model_config = ConfigDict(extra="forbid")

    job_id: str
    # The words stand in the tool's own filter already; each byte is in every conversation.
    status: Annotated[JobStatus, WithJsonSchema({"type": "string"})]
    heard_seconds_ago: int | None = None
    made_at: str
    source_video: str | None = None
    seed: int | None = None
    credit_cost: float | None = None


class JobList(BaseModel):
    """What list_jobs answers.

    Attributes:
        jobs: newest first; those in flight or of unknown outcome are always among them, those
            that bought nothing only where they are asked for.
    """

    model_config = ConfigDict(extra="forbid")

    message: str
    jobs: list[JobLine] | None = None
    charged: Charged
    retry_safe: bool | None = None
    code: str | None = None
    next: str
