"""How a job or a failure is told, as data.

Half of the hosts show the model only the one, half only the other; `prose` has the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wan_mcp.models import Job, JobLine, JobList, JobResult, JobStatus
from wan_mcp.surface.answers.next_steps import next_of_list, next_step, of_joined
from wan_mcp.surface.answers.text import duration, summary, word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from wan_mcp.errors import WanError
    from wan_mcp.jobs import Submission
    from wan_mcp.ledger.status import JobView
    from wan_mcp.polling.waits import JobUpdate

STALE = 60.0
"""Seconds after which it is told how old the news is."""
QUIET = 15.0
"""Seconds after which a list tells how old the news of a running job is: waited for, it is asked
for as often."""
_REPORTED = "jobs have been reported to take 30 s to 6 min"
_NO_LINK = "PixelDojo gave no link to a film."
_GOING = {JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.UNKNOWN}
_FREE = {JobStatus.NOT_SENT, JobStatus.REFUSED}
_NOTES = {
    JobStatus.SUBMITTING: "the request is on its way",
    JobStatus.UNKNOWN: "not known whether a job was started; looking for it",
    JobStatus.NOT_SENT: "no job came of the request",
    JobStatus.REFUSED: "the request was turned down",
}


def submit_result(submitted: Submission, *, now: datetime) -> JobResult:
    """What replace_character answers about a job that it started or joined."""
    result = job_result(submitted.view, now=now, charged=not submitted.joined)
    if submitted.joined:
        about = of_joined(submitted.view.status, query_differs=submitted.query_differs)
        result.message = (
            "Nothing was bought by this call: an equal request stands already, and this is where "
            f"it is.{about} {result.message}"
        )
    elif submitted.view.status is JobStatus.SUBMITTING:
        result.charged = "unknown"
    if submitted.notes:
        result.message += f" About the inputs: {' '.join(submitted.notes)}"
    if submitted.view.record is None:
        result.message += " It could not be written down here: keep its job_id."
    return result


def job_result(
    view: JobView, *, now: datetime, charged: bool = False, elapsed: float | None = None
) -> JobResult:
    """What a tool answers about a request and its job.

    Args:
        now: the date, for the seconds that the film's link has left.
        charged: whether the call that answers has just bought this job.
        elapsed: seconds since the job began, when known; told only while it goes on.
    """
    status = view.status
    job = view.job or Job(job_id=view.id, status=status)
    # Before its end, and without a film, there is nothing that could expire.
    expires_at = job.expires_at if status is JobStatus.COMPLETED else None
    left = None if expires_at is None else int((expires_at - now).total_seconds())
    record = view.record
    return JobResult(
        message=_message(view, charged),
        job_id=view.id,
        status=status,
        vendor_status=job.vendor_status or None,
        video_url=job.video_url,
        expires_at=None if expires_at is None else expires_at.isoformat(timespec="seconds"),
        expires_in_seconds=left if left is None else max(left, 0),
        saved_path=None if record is None else record.saved_path,
        sha256=None if record is None else record.sha256,
        size=None if record is None else record.size,
        credit_cost=job.credit_cost,
        credit_estimate=_estimate(view, job),
        # Later it would be an old balance: only the answer to a submit has one.
        credits_remaining=job.credits_remaining if charged else None,
        seed=view.seed,
        elapsed_seconds=_elapsed(view, elapsed),
        error=job.error if status is JobStatus.FAILED else None,
        charged="yes" if charged else "no",
        next=next_step(view, left),
    )


def list_result(
    views: Sequence[JobView],
    *,
    now: datetime | None = None,
    status: JobStatus | None = None,
    limit: int | None = None,
) -> JobList:
    """What list_jobs answers.

    Args:
        standings: newest first; one ended job more than the limit shows that there are older ones.
        now: the date, for the age of what is known of running jobs.
        status: what was asked for.
        limit: how many ended jobs are shown; None for all.
    """
    ended = [each for each in views if each.status not in _GOING]
    older = [] if limit is None else ended[limit:]
    video_views = [each for each in views if each not in older]
    lines = [line for line in (_line(each, now) for each in video_views) if line]
    return JobList(
        message=summary(lines, status, older=bool(older)),
        jobs=lines,
        charged="no",
        next=next_of_list(lines, status),
    )


def failure_result(failure: WanError) -> JobResult:
    """What a tool answers when the call itself failed."""
    return JobResult(
        message=failure.what,
        job_id=failure.job_id,
        charged=failure.charged,
        retry_safe=failure.retry_safe,
        code=failure.code,
        next=failure.next_step,
    )


def update_result(update: JobUpdate, *, now: datetime, typical: float | None = None) -> JobResult:
    """What a look at a job, or a wait for it, answers.

    Args:
        typical: seconds that this account's jobs typically take.
    """
    view = update.known()
    result = job_result(view, now=now, elapsed=update.elapsed)
    if view.status is JobStatus.RUNNING:
        result.message += _as_of(view, now, update.last_error)
        if typical is not None:
            result.message += f" {_usual(typical).capitalize()}."
    return result


def _as_of(view: JobView, now: datetime, last_error: WanError | None) -> str:
    """What is wrong with the news, and how old it is when that matters."""
    what = "" if last_error is None else f" {last_error.what}"
    heard = view.record and view.record.last_reply_at
    ago = (now - heard).total_seconds() if heard else 0.0
    old = ago >= STALE or (last_error is not None and ago > 0)
    return what + (f" This is how it stood {duration(ago)} ago." if old else "")


def _usual(typical: float | None) -> str:
    if typical is None:
        return _REPORTED
    return f"half of this account's last jobs took less than {duration(typical)}"


def progress_note(update: JobUpdate, typical: float | None = None) -> str:
    """One line for a person who waits."""
    view = update.view
    known = update.elapsed is not None and not (view and _from_elsewhere(view))
    since = f"{duration(update.elapsed or 0)}: " if known else ""
    if update.last_error is not None:
        return f"{since}{update.last_error.what} Still waiting."
    if view is None:
        return f"{since}asking PixelDojo"
    if view.status in _NOTES:
        return f"{since}{_NOTES[view.status]}"
    usual = f"; {_usual(typical)}" if view.status is JobStatus.RUNNING else ""
    vendor_status = view.job.vendor_status if view.job else ""
    return f"{since}the job is {word(view.status, vendor_status)}{usual}"


def _estimate(view: JobView, job: Job) -> float | None:
    told = view.status in _FREE or view.estimate == job.credit_cost
    return None if told else view.estimate


def _elapsed(view: JobView, elapsed: float | None) -> int | None:
    going = view.status in _GOING and not _from_elsewhere(view)
    return int(elapsed) if going and elapsed is not None else None


def _from_elsewhere(view: JobView) -> bool:
    """Whether the job was submitted without our ledger: then nobody here knows when."""
    return view.record is not None and view.record.from_elsewhere


def _message(view: JobView, charged: bool) -> str:
    job = view.job
    if job is None:
        return _without_job(view)
    note = f" {job.note}" if job.note else ""
    match view.status:
        case JobStatus.COMPLETED:
            told = "The film is ready." if job.video_url else "The job is completed."
            note = note or ("" if job.video_url else f" {_NO_LINK}")
        case JobStatus.FAILED:
            told = "PixelDojo reports that the job failed."
        case JobStatus.LOST:
            told = (
                "The job was accepted, and now PixelDojo no longer knows it: asked several times "
                f"in a row, it said so each time. {view.why}".rstrip()
            )
        case _:
            told = "The job was accepted." if charged else "The job is still going."
    return f"{told}{note}{_difference(view, job)}"


def _difference(view: JobView, job: Job) -> str:
    if None in (view.estimate, job.credit_cost) or view.estimate == job.credit_cost:
        return ""
    return " Note the price: it is not the one that PixelDojo's model page names."


def _without_job(view: JobView) -> str:
    why = view.why
    match view.status:
        case JobStatus.SUBMITTING:
            return "The request is on its way; PixelDojo has not answered yet."
        case JobStatus.UNKNOWN:
            return (
                f"The outcome of this request is unknown: it may have been charged. {why}".rstrip()
            )
        case JobStatus.NOT_SENT:
            return f"No job came of this request, and nothing was charged. {why}".rstrip()
        case _:
            return f"{why or 'PixelDojo turned this request down.'} Nothing was charged."


def _line(view: JobView, now: datetime | None) -> JobLine | None:
    record = view.record
    if record is None:
        return None
    video = record.arguments.get("video")
    quiet = view.silence(now) if now else None
    return JobLine(
        job_id=view.id,
        status=view.status,
        heard_seconds_ago=int(quiet) if quiet and quiet > QUIET else None,
        made_at=record.created_at.isoformat(timespec="seconds"),
        source_video=str(video) if video else None,
        seed=record.seed,
        credit_cost=record.credit_cost,
    )
