"""The data that all rooms share, between PixelDojo's JSON and the results of the tools."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from wan_mcp.errors import Charged, Code

Resolution = Literal["480", "720"]

JOB_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
"""What a job id may look like (ours). One with `/..` in it could reach another endpoint."""
UPLOADS = "wan://uploads/"
"""How an input begins that its user uploaded to the server; its id follows."""


class JobStatus(StrEnum):
    """The state of a request and its job.

    PixelDojo's own words only ever become running, completed or failed.
    """

    QUEUED = "queued"
    """The request waits here until the limits have room for it: nothing is charged."""
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
        video: the source clip: a link that PixelDojo fetches; a file of this computer, as
            `file:///path#t=12,17`, or uploaded, as `wan://uploads/ID`; or the video of an earlier
            job, as `wan://jobs/ID/video#t=12`.
        character_image: the image with the new face and body: a link or a file.
        video_sha256: hash of the clip's bytes, 64 hex digits, if it is a file.
        character_image_sha256: that of the image.
        seconds: length of the result, 1 to 15, and not longer than the clip (documented).
        resolution: lines of the result (documented).
        references: how many reference frames, 1 to 10 (documented).
        frames_per_second: 8 to 30 (documented).
        go_fast: trade quality for speed (documented).
        merge_audio: keep the audio of the clip (documented).
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
    video_sha256: str | None = None
    character_image_sha256: str | None = None


class SourceClip(BaseModel):
    """What the preflight showed of the source clip; None for what is not known.

    Attributes:
        seconds: the length of its pictures.
        frames_per_second: how many it has.
        has_sound: whether there is sound in the part that was ordered.
    """

    model_config = ConfigDict(frozen=True)

    seconds: float | None = None
    frames_per_second: float | None = None
    has_sound: bool | None = None


@dataclass(frozen=True)
class InputReport:
    """What the preflight of both inputs found.

    Attributes:
        notes: what the caller should know, as sentences; empty when all is well.
        source: the clip, to which the finished video is compared.
    """

    notes: tuple[str, ...] = ()
    source: SourceClip = field(default_factory=SourceClip)


class Difference(BaseModel):
    """One point in which a saved video is not what was ordered.

    Attributes:
        what: pictures, decodable, seconds, lines, frames_per_second or sound; or `inspection`,
            which says that the video, or a part of it, could not be inspected.
        expected: what was ordered.
        seen: what is in the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    expected: str
    seen: str

    def __str__(self) -> str:
        """As it stands in an answer; flat, because nested fields are lost by some hosts."""
        if self.what == "inspection":
            return self.seen
        return f"{self.what}: expected {self.expected}, seen {self.seen}"


class PriceType(StrEnum):
    """What the price on PixelDojo's model page depends on.

    Only `fixed` is documented; that there are other types is, but not their form.
    """

    FIXED = "fixed"
    PER_SECOND = "per_second"
    PER_RESOLUTION = "per_resolution"
    TABLE = "table"
    UNKNOWN = "unknown"
    """The page could not be read, or its price has a form that is not known."""


@dataclass(frozen=True)
class PriceRow:
    """One price on the model page.

    Attributes:
        credits: for a job, or for each second of it.
        seconds: the only length of a job that has this price; None for every length.
        resolution: the only lines of a job that have this price; None for all.
    """

    credits: float
    seconds: int | None = None
    resolution: str | None = None


@dataclass(frozen=True)
class PublishedPrice:
    """What PixelDojo's model page says a job costs.

    Attributes:
        rows: the prices on it; none if the type is `unknown`.
        why: why the type is `unknown`, in a sentence.
    """

    type: PriceType
    rows: tuple[PriceRow, ...] = ()
    why: str = ""

    def credits(self, seconds: int, resolution: str | None) -> float | None:
        """Credits of one job; None if the page names none. Of several that fit, the highest."""
        job = {seconds, None}, {resolution or "480", None}
        fitting = [r.credits for r in self.rows if r.seconds in job[0] and r.resolution in job[1]]
        times = seconds if self.type is PriceType.PER_SECOND else 1
        return round(max(fitting) * times, 6) if fitting else None

    @property
    def of_every_job(self) -> float | None:
        """Credits that every job costs; None if that depends on the job, or is not known."""
        return self.credits(1, None) if self.type is PriceType.FIXED else None


class Job(BaseModel):
    """One job as PixelDojo reports it.

    Attributes:
        job_id: PixelDojo's id.
        status: in our words.
        vendor_status: the vendor's own word, cleaned, as it was sent.
        video_url: where the video is until `expires_at`; always an https address.
        expires_at: when PixelDojo says the result expires; what that includes is not documented.
        credit_cost: credits that the job costs according to PixelDojo, possibly a fraction.
        credits_remaining: the account's balance in credits; only the answer to a submit has it.
        error: PixelDojo's reason for a failed job, cleaned.
        note: what was left out of PixelDojo's answer, and why.
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
        """Whether the job is over."""
        return self.status is not JobStatus.RUNNING


class JobResult(BaseModel):
    """The published result of every tool about one job, and of every call that failed.

    It is one flat model, because some hosts show a model only this data and others only the text.
    Its schema describes only the fields whose names could mislead: each word is in every
    conversation, once for each tool.

    Attributes:
        status: in our words; PixelDojo's own word is `vendor_status`.
        expires_at: when PixelDojo says the result of a completed job expires, in ISO 8601.
        saved_path: where the video is on this machine, with its sha256 and its size in bytes. A
            path that is not UTF-8 is a `file:` URI, see `videos.paths`. In object storage it is the
            URL of the object, as `s3://bucket/job_1.mp4`.
        saved_url: a link to that object, signed for this answer; `next` says how long it works.
            The paid call leaves it out: its job has only begun.
        inspection: how the saved video differs from its order, each a `Difference` as text;
            empty if every frame was inspected and nothing differs, left out without inspection.
        credit_cost: credits that the job costs, whichever call bought it.
        credit_estimate: credits that it was expected to cost, where that differs.
        seed: repeats this take; generated by us when the caller gave none.
        queue_position: where a queued request stands, 1 for the next one.
        expected_start_in_seconds: an estimate of when it is sent.
        source_video: what the job was made from, with `character_image`, `video_duration` and
            `resolution`: as in `JobLine`. The paid call leaves them out: its caller gave them.
        elapsed_seconds: how long a job that has not ended has been running.
        error: PixelDojo's reason for a failed job.
        charged: whether this very call cost credits.
        job_charged: whether the job cost credits, whichever call bought it. A job that failed, or
            that PixelDojo no longer knows, was charged what PixelDojo named, because refunds are
            not documented; if it named nothing, this is "unknown". Left out where there is no job.
        retry_safe: whether repeating the same call within two minutes makes sense, and cannot pay
            twice; only set when the call failed.
        retry_after_seconds: how long to wait before that. It is also set where the wait is longer
            than two minutes and its length is known.
        limit: the setting that stands against the call, with its `limit_value`, how much of it is
            `used`, and the jobs that use it up (a few of them when they are many).
        upload_page: where the user can upload the files that the call needs, if it lacks any.
        code: set when the call itself failed, never for a failed job.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)  # not for a first list of jobs

    message: str
    job_id: str | None = None
    status: JobStatus | None = None
    vendor_status: str | None = None
    video_url: str | None = None
    expires_at: str | None = None
    expires_in_seconds: int | None = None
    saved_path: str | None = None
    saved_url: str | None = None
    sha256: str | None = None
    size: int | None = None
    inspection: list[str] | None = None
    credit_cost: float | None = None
    credit_estimate: float | None = None
    credits_remaining: float | None = None
    source_video: str | None = None
    character_image: str | None = None
    video_duration: int | None = None
    resolution: str | None = None
    seed: int | None = None
    queue_position: int | None = None
    expected_start_in_seconds: int | None = None
    elapsed_seconds: int | None = None
    error: str | None = None
    charged: Annotated[Charged, Field(description="By this call?")]
    # The field above lists the words already, and each byte is in every conversation.
    job_charged: Annotated[Charged | None, WithJsonSchema({"type": "string"})] = None
    retry_safe: bool | None = None
    retry_after_seconds: int | None = None
    limit: str | None = None
    limit_value: float | None = None
    used: float | None = None
    blocking_job_ids: list[str] | None = None
    upload_page: str | None = None
    code: Code | None = None
    next: str


class JobLine(BaseModel):
    """One job in a list: enough to recognise it and to ask for more.

    Attributes:
        heard_seconds_ago: how long ago PixelDojo last reported a running job, where that matters.
        made_at: when the request was made, or its job first seen, in ISO 8601.
        source_video: the clip that was given, without its query; a long link is cut.
        character_image: the picture that was given, likewise.
        video_duration: seconds that were ordered.
        resolution: lines that were ordered.
        order: names what jobs that differ in nothing but their seed have in common. Left out
            where this list has only one of them.
        take: which of the `takes` of its order in this list it is; the oldest is 1.
        kept: whether its user keeps it: the size limit does not delete its video.
        credit_cost: credits that PixelDojo says the job costs.
        job_charged: whether the job cost credits, as in `JobResult`.
        saved_path: where the video is on this machine, or in object storage.
        video_url: where it is if it is not saved here; left out when it is very long.
        expires_in_seconds: how long that link stays valid according to PixelDojo; 0 when its time
            is over.
    """

    model_config = ConfigDict(extra="forbid")

    job_id: str
    # The tool's filter already lists the statuses, and each byte is in every conversation.
    status: Annotated[JobStatus, WithJsonSchema({"type": "string"})]
    heard_seconds_ago: int | None = None
    made_at: str
    source_video: str | None = None
    character_image: str | None = None
    video_duration: int | None = None
    resolution: str | None = None
    seed: int | None = None
    queue_position: int | None = None
    order: str | None = None
    take: int | None = None
    takes: int | None = None
    kept: bool | None = None
    credit_cost: float | None = None
    # JobResult lists the words, and each byte is in every conversation.
    job_charged: Annotated[Charged | None, WithJsonSchema({"type": "string"})] = None
    saved_path: str | None = None
    video_url: str | None = None
    expires_in_seconds: int | None = None


@dataclass(frozen=True)
class Cursor:
    """Where a page of the list of jobs begins: after the record of one request.

    It stays valid while new jobs arrive, because a record never changes its place. As text it is
    opaque to callers: what the record was when the page before was made, and its submission id.

    Attributes:
        submission_id: of the last request that the page before showed.
        is_ended: whether that request had ended. Until the last unfinished request is shown, no
            page is filled with ended ones alone.
    """

    submission_id: str
    is_ended: bool

    def __str__(self) -> str:
        return f"{'ended' if self.is_ended else 'open'}.{self.submission_id}"


def cursor(text: str) -> Cursor | None:
    """The cursor with that text; None if it is the text of none."""
    parts = re.fullmatch(rf"(open|ended)\.({JOB_ID})", text)
    return None if parts is None else Cursor(parts[2], parts[1] == "ended")


class JobList(BaseModel):
    """The published result of list_jobs.

    Attributes:
        jobs: newest first. Those in flight or of unknown outcome are always included, those that
            bought nothing only when the call asks for their status. At most 50.
        next_cursor: the argument `cursor` of the call that shows the jobs after these; left out
            when there are no more.
        total_jobs: how many requests were or may have been paid for with this ledger, whatever the
            filter of the call.
        credits_spent_24h: what PixelDojo said that those of the last 24 hours cost.
        credits_spent: what it said that all of them cost.
        jobs_without_cost: of how many it has not said that; they are in neither sum.
    """

    model_config = ConfigDict(extra="forbid")

    message: str
    jobs: list[JobLine] | None = None
    next_cursor: str | None = None
    total_jobs: int | None = None
    credits_spent_24h: float | None = None
    credits_spent: float | None = None
    jobs_without_cost: int | None = None
    # JobResult lists the words of these two, and each byte is in every conversation.
    charged: Annotated[Charged, WithJsonSchema({"type": "string"})]
    retry_safe: bool | None = None
    retry_after_seconds: int | None = None
    code: Annotated[Code | None, WithJsonSchema({"type": "string"})] = None
    next: str
