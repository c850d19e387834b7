"""Answers as data, made from what is known about a job or from an error.

Half of the hosts show the model only the data, half only the text of `answers.text`, so both say
the same (observed elsewhere).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wan_mcp.errors import Charged
from wan_mcp.models import Cursor, Job, JobLine, JobList, JobResult, JobStatus
from wan_mcp.surface.answers.inputs import ascii_link, inputs_of
from wan_mcp.surface.answers.next_steps import (
    about_joined,
    forgotten_job,
    next_of_job,
    next_of_list,
)
from wan_mcp.surface.answers.progress import is_from_elsewhere, typical_duration
from wan_mcp.surface.answers.several import MAX_LINK_CHARACTERS
from wan_mcp.surface.answers.takes import takes_of
from wan_mcp.surface.answers.text import list_summary
from wan_mcp.wording import duration, is_or_are, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from wan_mcp.ledger.expected_price import Totals
    from wan_mcp.ledger.status import JobView
    from wan_mcp.surface.answers.takes import Take
    from wan_mcp.surface.answers.team_user import TeamUser
    from wan_mcp.videos.in_storage.saved_link import SavedLink

STALE_SECONDS = 60.0
"""An answer says how old the facts about a running job are when they are older than this."""
LIST_STALE_SECONDS = 15.0
"""The same for a list. A job that somebody waits for is read at least this often."""
_NO_LINK = "PixelDojo gave no link to a video."
QUEUED = (
    "The request is queued: the limits of this server have no room for it yet. Nothing is charged "
    "before it is sent, which happens by itself within an hour, or not at all, while any of the "
    "user's servers runs."
)
_UNCONFIRMED = (
    " PixelDojo has reported once that it ended without a video. That may be one odd answer, so it "
    "counts only when a second reading, a few seconds later, says the same."
)
_UNFINISHED = {
    *(JobStatus.QUEUED, JobStatus.SUBMITTING),
    *(JobStatus.RUNNING, JobStatus.UNKNOWN),
}
_ENDED_FREE = {JobStatus.NOT_SENT, JobStatus.REFUSED}
_FREE = _ENDED_FREE | {JobStatus.QUEUED}
_WITHOUT_VIDEO = {JobStatus.FAILED, JobStatus.LOST}
_OPEN = {JobStatus.SUBMITTING, JobStatus.UNKNOWN}
MAX_LINES = 50
"""Jobs in one list (ours): a thousand requests of unknown outcome would fill a conversation."""


def submit_result(view: JobView, *, now: datetime, user: TeamUser | None = None) -> JobResult:
    """The answer of replace_character about a job that it started or joined."""
    result = job_result(view, now=now, bought=not view.joined, user=user)
    if view.joined:
        about = about_joined(view.status, query_differs=view.query_differs)
        result.message = (
            "Nothing was bought by this call: an equal request exists already, and this is its "
            f"state.{about} {result.message}"
        )
    if about := " ".join(filter(None, [*view.notes, view.changes])):
        result.message += f" About the inputs: {about}"
    if view.record is None:
        result.message += " It could not be written down here: keep its job_id."
    return result


def status_result(
    view: JobView,
    *,
    now: datetime,
    typical: float | None = None,
    saved: SavedLink | None = None,
    user: TeamUser | None = None,
) -> JobResult:
    """The answer of a status call or of a wait.

    Args:
        typical: seconds that this account's jobs typically take; None when that is not known.
        saved, user: as for `job_result`.
    """
    inputs = {} if view.record is None else inputs_of(view.record)
    result = job_result(view, now=now, saved=saved, user=user).model_copy(update=inputs)
    if view.status is JobStatus.RUNNING:
        result.message += _error_and_age(view, now)
        if typical is not None:
            result.message += f" {typical_duration(typical).capitalize()}."
    elif view.job is not None and view.changes:
        result.message += f" About the inputs: {view.changes}"
    return result


def job_result(
    view: JobView,
    *,
    now: datetime,
    bought: bool = False,
    saved: SavedLink | None = None,
    user: TeamUser | None = None,
) -> JobResult:
    """What is known about a request and its job.

    Args:
        now: the date, to work out how long the link to the video stays valid.
        bought: whether the call that answers has just made this request.
        saved: a link to the video in object storage; None if it is not there, or was not asked for.
        user: who reads it; None at a server without sign-in.
    """
    status, record = view.status, view.record
    job = view.job or Job(job_id=view.id, status=status)
    job_charged = _job_charged(view, job)
    expires_at = _expires_at(view)
    left = _seconds_left(view, now)
    return JobResult(
        message=_message(view, bought),
        job_id=view.id,
        status=status,
        vendor_status=job.vendor_status or None,
        video_url=ascii_link(job.video_url),
        expires_at=None if expires_at is None else expires_at.isoformat(timespec="seconds"),
        expires_in_seconds=left,
        saved_path=None if record is None else record.saved_path,
        saved_url=None if saved is None else saved.url,
        sha256=None if record is None else record.sha256,
        size=None if record is None else record.size,
        inspection=_inspection(view),
        credit_cost=job.credit_cost,
        credit_estimate=_estimate(view, job),
        # The ledger keeps the balance of the submit, which is out of date in a later answer.
        credits_remaining=job.credits_remaining if bought else None,
        seed=view.seed,
        queue_position=None if view.place is None else view.place.position,
        expected_start_in_seconds=_starts_in(view),
        elapsed_seconds=_elapsed(view),
        error=job.error if status is JobStatus.FAILED else None,
        charged=job_charged if bought else "no",
        job_charged=job_charged,
        next=next_of_job(view, left, view.seconds_left_to_save(now), saved, user),
    )


def list_result(
    views: Sequence[JobView],
    totals: Totals | None = None,
    *,
    now: datetime | None = None,
    status: JobStatus | None = None,
    limit: int | None = None,
) -> JobList:
    """The answer of list_jobs.

    Args:
        views: newest first. One ended job more than `limit` shows that there are older ones.
        totals: those of all jobs.
        now: the date, for the age of what is known of running jobs and for the time that links
            stay valid; left out, neither is given.
        status: the filter of the call.
        limit: how many ended jobs are shown; None for all.
    """
    unfinished = [view for view in views if view.status in _UNFINISHED]
    ended = [view for view in views if view.status not in _UNFINISHED]
    room = max(MAX_LINES - len(unfinished), 0)
    shown = [*unfinished[:MAX_LINES], *ended[: room if limit is None else min(limit, room)]]
    ids = {id(view) for view in shown}
    rows = [view for view in views if id(view) in ids]
    both = zip(rows, takes_of(rows), strict=True)
    lines = [line for view, take in both if (line := _line(view, take, now))]
    left_out = len(unfinished) - len(unfinished[:MAX_LINES])
    cursor = str(_cursor(shown[-1])) if len(views) > len(shown) else None
    return JobList(
        message=list_summary(lines, status, older=len(views) - left_out > len(shown))
        + _left_out(left_out),
        jobs=lines,
        next_cursor=cursor,
        **({} if totals is None else _sums(totals)),
        charged="no",
        next=next_of_list(lines, status, cursor),
    )


def keep_result(view: JobView, *, kept: bool) -> JobResult:
    """The answer of keep_video."""
    return JobResult(
        message="The size limit does not delete this video."
        if kept
        else "It is not kept any more.",
        job_id=view.id,
        status=view.status,
        charged="no",
        next="Nothing: list_jobs shows which videos are kept.",
    )


def _expires_at(view: JobView) -> datetime | None:
    """When the link to a video expires; without a video there is nothing that could expire."""
    return view.job.expires_at if view.job and view.status is JobStatus.COMPLETED else None


def _seconds_left(view: JobView, now: datetime) -> int | None:
    expires_at = _expires_at(view)
    return None if expires_at is None else max(int((expires_at - now).total_seconds()), 0)


def _error_and_age(view: JobView, now: datetime) -> str:
    """Why the reading failed, and how old the facts are where that matters."""
    what = "" if view.last_error is None else f" {view.last_error.what}"
    reported = view.record and view.record.last_reply_at
    age = (now - reported).total_seconds() if reported else 0.0
    is_old = age >= STALE_SECONDS or (view.last_error is not None and age > 0)
    return what + (f" This was its state {duration(age)} ago." if is_old else "")


def _job_charged(view: JobView, job: Job) -> Charged:
    """Whether the job cost credits, as far as PixelDojo's answers tell.

    An accepted job is charged (documented), unless PixelDojo says that it costs nothing. Of a job
    that brought no video only a cost that PixelDojo named is known: what becomes of the charge
    when a job fails is not documented.
    """
    if view.status in _OPEN:
        return "unknown"
    if view.status in _FREE or job.credit_cost == 0:
        return "no"
    without_video = view.status in _WITHOUT_VIDEO or view.end_is_unconfirmed
    return "unknown" if without_video and job.credit_cost is None else "yes"


def _left_out(count: int) -> str:
    if not count:
        return ""
    return (
        f" {count} older {plural('request', count)} under way or of unknown outcome "
        f"{is_or_are(count)} not shown: an answer has at most {MAX_LINES} rows."
    )


def _inspection(view: JobView) -> list[str] | None:
    found = view.record and view.record.inspection
    return None if found is None else [str(each) for each in found]


def _estimate(view: JobView, job: Job) -> float | None:
    is_needless = view.status in _ENDED_FREE or view.estimate == job.credit_cost
    return None if is_needless else view.estimate


def _starts_in(view: JobView) -> int | None:
    seconds = None if view.place is None else view.place.starts_in
    return None if seconds is None else int(seconds)


def _elapsed(view: JobView) -> int | None:
    if view.elapsed_seconds is None or view.status not in _UNFINISHED or is_from_elsewhere(view):
        return None
    if view.status is JobStatus.QUEUED:
        return None  # no job has begun
    return int(view.elapsed_seconds)


def _message(view: JobView, bought: bool) -> str:
    if view.is_forgotten:
        return forgotten_job(view)
    job = view.job
    if job is None:
        return _message_without_job(view)
    note = f" {job.note}" if job.note else ""
    match view.status:
        case JobStatus.COMPLETED:
            sentence = "The video is ready." if job.video_url else "The job is completed."
            note = note or ("" if job.video_url else f" {_NO_LINK}")
        case JobStatus.FAILED:
            sentence = "PixelDojo reports that the job failed."
        case JobStatus.LOST:
            sentence = (
                "The job was accepted, and now PixelDojo no longer knows it: asked several times "
                f"in a row, it said so each time. {view.why}".rstrip()
            )
        case _:
            sentence = "The job was accepted." if bought else "The job is still going."
            sentence += _UNCONFIRMED if view.end_is_unconfirmed else ""
    return f"{sentence}{note}{_price_warning(view, job)}"


def _price_warning(view: JobView, job: Job) -> str:
    if None in (view.estimate, job.credit_cost) or view.estimate == job.credit_cost:
        return ""
    return " Note the price: it is not the one that was expected."


def _message_without_job(view: JobView) -> str:
    why = view.why
    match view.status:
        case JobStatus.QUEUED:
            return QUEUED
        case JobStatus.SUBMITTING:
            if view.progress is not None:
                return f"The request is not sent yet: {view.progress}."
            return "The request is on its way; PixelDojo has not answered yet."
        case JobStatus.UNKNOWN:
            return (
                f"The outcome of this request is unknown: it may have been charged. {why}".rstrip()
            )
        case JobStatus.NOT_SENT:
            return f"No job came of this request, and nothing was charged. {why}".rstrip()
        case _:
            return f"{why or 'PixelDojo turned this request down.'} Nothing was charged."


def _line(view: JobView, take: Take | None, now: datetime | None) -> JobLine | None:
    record = view.record
    if record is None:
        return None
    age = view.seconds_since_reply(now) if now else None
    link = ascii_link(view.job.video_url) if view.job and record.saved_path is None else None
    return JobLine(
        job_id=view.id,
        status=view.status,
        heard_seconds_ago=int(age) if age and age > LIST_STALE_SECONDS else None,
        made_at=record.asked_at.isoformat(timespec="seconds"),
        **inputs_of(record),
        **({} if take is None else take._asdict()),
        kept=record.kept or None,
        seed=record.seed,
        queue_position=None if view.place is None else view.place.position,
        credit_cost=record.credit_cost,
        job_charged=_job_charged(view, view.job or Job(job_id=view.id, status=view.status)),
        saved_path=record.saved_path,
        video_url=link if link and len(link) <= MAX_LINK_CHARACTERS else None,
        expires_in_seconds=_seconds_left(view, now) if now and link else None,
    )


def _sums(totals: Totals) -> dict[str, Any]:
    return {
        "total_jobs": totals.jobs,
        "credits_spent_24h": totals.day_credits,
        "credits_spent": totals.credits,
        "jobs_without_cost": totals.without_cost or None,
    }


def _cursor(last: JobView) -> Cursor:
    """Where the next page begins, after the last row of this one.

    Args:
        last: the last ended row, or the last unfinished one if no ended one is shown.
    """
    submission_id = "" if last.record is None else last.record.submission_id
    return Cursor(submission_id, is_ended=last.status not in _UNFINISHED)
