"""How a job or a failure is told: as data and as text, both with all the facts.

Half of the hosts show the model only the one, half only the other.
"""

from datetime import datetime

from wan_mcp.errors import WanError
from wan_mcp.models import Job, JobResult, JobStatus

_LIFE_UNKNOWN = "PixelDojo does not say how long (1 to 24 hours have been reported)"


def job_result(
    job: Job, *, now: datetime, charged: bool = False, elapsed: float | None = None
) -> JobResult:
    """What a tool answers about a job.

    Args:
        now: the date, for the seconds that the film's link has left.
        charged: whether the call that answers has just bought this job.
        elapsed: seconds since the job began, when known.
    """
    left = None if job.expires_at is None else int((job.expires_at - now).total_seconds())
    return JobResult(
        message=_message(job, charged),
        job_id=job.job_id,
        status=job.status,
        vendor_status=job.vendor_status or None,
        video_url=job.video_url,
        expires_at=None if job.expires_at is None else job.expires_at.isoformat(timespec="seconds"),
        expires_in_seconds=left if left is None else max(left, 0),
        credit_cost=job.credit_cost,
        credits_remaining=job.credits_remaining,
        elapsed_seconds=None if elapsed is None else int(elapsed),
        error=job.error if job.status is JobStatus.FAILED else None,
        charged="yes" if charged else "no",
        next=_next(job, left),
    )


def failure_result(failure: WanError) -> JobResult:
    """What a tool answers when the call itself failed."""
    return JobResult(
        message=failure.what,
        charged=failure.charged,
        retry_safe=failure.retry_safe,
        code=failure.code,
        next=failure.next_step,
    )


def text(result: JobResult) -> str:
    """The same facts in a few lines that a person likes to read."""
    lines = [result.message]
    if result.video_url:
        lines.append(f"Film: {result.video_url}")
    if result.expires_at:
        left = duration(result.expires_in_seconds or 0)
        lines.append(f"The link dies at {result.expires_at}, {left} from now.")
    if result.error:
        lines.append(f'PixelDojo\'s reason: "{result.error}"')
    lines += [line for line in (_money(result), _standing(result), _failure(result)) if line]
    return "\n".join([*lines, f"Next: {result.next}"])


def progress_note(job: Job | None, elapsed: float, trouble: WanError | None) -> str:
    """One line for a person who waits."""
    if trouble is not None:
        return f"{duration(elapsed)}: {trouble.what} Waiting on."
    word = (job and job.vendor_status) or "not started"
    return f"{duration(elapsed)}: PixelDojo says {word}"


def duration(seconds: float) -> str:
    """A span of time as a person says it: 45 s, 2 min 5 s, 3 h 10 min."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _message(job: Job, charged: bool) -> str:
    note = f" {job.note}" if job.note else ""
    if job.status is JobStatus.COMPLETED:
        return "The film is ready." if job.video_url else f"The job is completed.{note or _NO_LINK}"
    if job.status is JobStatus.FAILED:
        return f"PixelDojo reports that the job failed.{note}"
    return f"{'The job was accepted' if charged else 'The job is still going'}.{note}"


_NO_LINK = " PixelDojo gave no link to a film."


def _next(job: Job, left: int | None) -> str:
    call = f'wait_for_job with job_id "{job.job_id}"'
    if job.status is JobStatus.RUNNING:
        return f"Call {call}; a job takes minutes. Do not call replace_character again for it."
    if job.status is JobStatus.FAILED:
        return (
            "Tell the user the reason. A new replace_character call starts and charges a new job; "
            "whether PixelDojo refunds failed ones is not known."
        )
    if not job.video_url:
        return f"Call {call} again in a minute; the job is paid and is not lost."
    if left is not None and left <= 0:
        return "The link's time is over. Try it; if it is dead, the film must be made again."
    life = _LIFE_UNKNOWN if left is None else duration(left)
    return f"Give the user the link and tell them to save the film: the link is temporary, {life}."


def _money(result: JobResult) -> str:
    parts = []
    if result.credit_cost is not None:
        parts.append(f"The job costs {result.credit_cost:g} credits")
    elif result.charged == "yes":
        parts.append("Charged; PixelDojo did not say how much")
    if result.credits_remaining is not None:
        parts.append(f"{result.credits_remaining:g} credits are left")
    return f"{'; '.join(parts)}." if parts else ""


def _standing(result: JobResult) -> str:
    if not result.job_id:
        return ""
    word = f' (PixelDojo: "{result.vendor_status}")' if result.vendor_status else ""
    since = "" if result.elapsed_seconds is None else f", {duration(result.elapsed_seconds)} so far"
    return f"Job {result.job_id}: {result.status}{word}{since}."


def _failure(result: JobResult) -> str:
    if result.code is None:
        return ""
    safe = "yes" if result.retry_safe else "no"
    return f"Charged: {result.charged}. Safe to repeat: {safe}. Code: {result.code}."
