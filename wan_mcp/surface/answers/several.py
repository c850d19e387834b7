"""The answer of a wait for several jobs: a line for each, and all about the last that ended.

What a program needs for a loop are fields, and a model reads little: twenty lines, not twenty
results.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from wan_mcp.errors import Charged, Code, WanError
from wan_mcp.models import JobResult, JobStatus
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.wording import is_or_are

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wan_mcp.ledger.status import JobView, Reading

IN_PROGRESS = frozenset({JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.RUNNING})
"""The statuses with which waiting goes on."""
MAX_LINK_CHARACTERS = 2_048
"""A longer link to a video is left out of a line: half of it leads nowhere, and get_job_status
shows it whole."""
_WITHOUT_VIDEO = {JobStatus.FAILED, JobStatus.LOST}
_FREE = {JobStatus.NOT_SENT, JobStatus.REFUSED}


class JobOutcome(BaseModel):
    """One of several jobs that were waited for, under the names of a row of list_jobs.

    Attributes:
        job_id: as PixelDojo knows it; the id that was given if there is no other.
        status: left out if the job could not be looked up; `code` says why.
        job_charged: as in `JobResult`; left out if it could not be looked up.
        saved_path: where the video is on this machine, or in object storage.
        video_url: where it is if it is not saved here; left out when it is very long.
        expires_in_seconds: how long that link stays valid.
        reason: why there is no video; of a failed job it is PixelDojo's.
        code: why the job could not be looked up.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    job_id: str
    status: JobStatus | None = None
    credit_cost: float | None = None
    job_charged: Charged | None = None
    seed: int | None = None
    saved_path: str | None = None
    video_url: str | None = None
    expires_in_seconds: int | None = None
    reason: str | None = None
    code: Code | None = None


class WaitResult(JobResult):
    """The published result of wait_for_job.

    With one id it is that of get_job_status. With several, the fields of one job are about the last
    that ended, and left out while none has.

    Attributes:
        jobs: in the order in which they were given, each once.
        ended: how many of them need no waiting any more.
        pending: how many are still in progress: another call may wait for them. Jobs of unknown
            outcome count as neither.
    """

    # Of a row only that it is an object: each byte is in every conversation.
    jobs: Annotated[
        list[JobOutcome] | None, WithJsonSchema({"type": "array", "items": {"type": "object"}})
    ] = None
    ended: int | None = None
    pending: int | None = None


class Stage(Enum):
    """How far a job is, for somebody who waits for it."""

    PENDING = auto()
    UNKNOWN = auto()
    ENDED = auto()


@dataclass(frozen=True)
class Awaited:
    """One job of a wait.

    Attributes:
        id: the one that was given.
        result: what get_job_status would answer about it.
    """

    id: str
    reading: Reading
    result: JobResult


def stage(reading: Reading) -> Stage:
    """How far a job is. One that could not be looked up is pending if trying again may help."""
    if isinstance(reading, WanError):
        return Stage.PENDING if reading.retry_safe else Stage.ENDED
    if reading.status in IN_PROGRESS:
        return Stage.PENDING
    return Stage.UNKNOWN if reading.status is JobStatus.UNKNOWN else Stage.ENDED


def newest_ended(readings: Iterable[Reading]) -> JobView | None:
    """The view of the job that ended last; None while none has."""
    views = [each for each in readings if not isinstance(each, WanError)]
    ended = [view for view in views if stage(view) is Stage.ENDED]
    return max(ended, key=_ended_at, default=None)


def wait_result(jobs: Sequence[Awaited], newest: JobResult | None) -> WaitResult:
    """The answer about several jobs.

    Args:
        newest: all about the one that ended last; None while none has.
    """
    stages = Counter(stage(job.reading) for job in jobs)
    outcomes = [_outcome(job) for job in jobs]
    about = {} if newest is None else newest.model_dump()
    said: dict[str, Any] = {
        "message": _message(jobs, stages, newest),
        "charged": "no",
        "next": _next(outcomes, stages),
    }
    return WaitResult(
        **{**about, **said},
        jobs=outcomes,
        ended=stages[Stage.ENDED],
        pending=stages[Stage.PENDING],
    )


def several_note(readings: Iterable[Reading], typical: str) -> str:
    """One line for a person who waits for several jobs.

    Args:
        typical: how long such a job usually takes, in words.
    """
    stages = Counter(map(stage, readings))
    note = f"{stages[Stage.ENDED]} of {stages.total()} done"
    if unknown := stages[Stage.UNKNOWN]:
        note += f", {unknown} of unknown outcome"
    return f"{note}; {typical}" if stages[Stage.PENDING] else note


def _ended_at(view: JobView) -> float:
    ended_at = view.record and view.record.ended_at
    return ended_at.timestamp() if ended_at else 0.0


def _outcome(job: Awaited) -> JobOutcome:
    result = job.result
    link = result.video_url if result.saved_path is None else None
    is_short = link is not None and len(link) <= MAX_LINK_CHARACTERS
    return JobOutcome(
        job_id=result.job_id or job.id,
        status=result.status,
        credit_cost=result.credit_cost,
        job_charged=result.job_charged,
        seed=result.seed,
        saved_path=result.saved_path,
        video_url=link if is_short else None,
        expires_in_seconds=result.expires_in_seconds if is_short else None,
        reason=_reason(result),
        code=result.code,
    )


def _reason(result: JobResult) -> str | None:
    if result.status is JobStatus.FAILED:
        return result.error
    has_video = result.video_url or result.saved_path
    return None if has_video or result.status in IN_PROGRESS else result.message


def _message(jobs: Sequence[Awaited], stages: Counter[Stage], newest: JobResult | None) -> str:
    ended, pending, total = stages[Stage.ENDED], stages[Stage.PENDING], len(jobs)
    words = Counter(_word(job) for job in jobs if stage(job.reading) is Stage.ENDED)
    counts = ", ".join(f"{count} {word}" for word, count in words.items())
    share = f"All {total}" if ended == total else f"{ended} of {total}"
    said = f"{share} jobs have ended{f': {counts}' if counts else ''}."
    if pending:
        said += f" {pending} {is_or_are(pending)} still in progress."
    if unknown := stages[Stage.UNKNOWN]:
        said += f" Of unknown outcome: {unknown}; that may have been charged."
    last = "" if newest is None else f" The last to end was {newest.job_id}: {newest.message}"
    return said + last


def _word(job: Awaited) -> str:
    """A status or a code as words."""
    return str(job.result.status or job.result.code or "").replace("_", " ")


def _next(outcomes: Sequence[JobOutcome], stages: Counter[Stage]) -> str:
    pending = stages[Stage.PENDING]
    statuses = {each.status for each in outcomes}
    places = [each.saved_path for each in outcomes if each.saved_path]
    steps = {
        "Call wait_for_job again with the same ids, for the one still in progress. Do not call "
        "replace_character again for any of them.": pending == 1,
        f"Call wait_for_job again with the same ids, for the {pending} still in progress. Do not "
        "call replace_character again for any of them.": pending > 1,
        "Give the user each video_url now and say that the videos must be saved: the links are "
        "temporary.": any(each.video_url for each in outcomes),
        "Tell the user where the saved videos are.": bool(places),
        "get_job_status makes a link to one in the user's storage.": any(
            map(is_storage_url, places)
        ),
        "Call get_job_status for each job of unknown outcome in a few minutes: it looks again. Do "
        "not repeat replace_character for it.": JobStatus.UNKNOWN in statuses,
        "Tell the user why a job brought no video. A new replace_character call is a new job, "
        "charged on its own: ask the user first.": bool(statuses & _WITHOUT_VIDEO),
        "A request that was refused or not sent may be repeated once its reason is removed.": bool(
            statuses & _FREE
        ),
        "list_jobs shows the ids of this user's jobs.": None in statuses,
    }
    said = " ".join(sentence for sentence, is_due in steps.items() if is_due)
    return said or "get_job_status shows more about one job."
