"""How a job or a failure is told: as data and as text, both with all the facts.

Half of the hosts show the model only the one, half only the other.
"""

from datetime import datetime

from wan_mcp.errors import WanError
from wan_mcp.models import Job, JobResult, JobStatus

_LIFE_UNKNOWN = " and PixelDojo does not say for how long (1 to 24 hours have been reported)"
_USUAL = "jobs have been reported to take 1 to 6 min"
_NO_LINK = "PixelDojo gave no link to a film."


def job_result(
    job: Job, *, now: datetime, charged: bool = False, elapsed: float | None = None
) -> JobResult:
    """What a tool answers about a job.

    Args:
        now: the date, for the seconds that the film's link has left.
        charged: whether the call that answers has just bought this job.
        elapsed: seconds since the job began, when known; told only while it goes on.
    """
    # Nothing of a failed job is left to expire.
    expires_at = None if job.status is JobStatus.FAILED else job.expires_at
    left = None if expires_at is None else int((expires_at - now).total_seconds())
    return JobResult(
        message=_message(job, charged),
        job_id=job.job_id,
        status=job.status,
        vendor_status=job.vendor_status or None,
        video_url=job.video_url,
        expires_at=None if expires_at is None else expires_at.isoformat(timespec="seconds"),
        expires_in_seconds=left if left is None else max(left, 0),
        credit_cost=job.credit_cost,
        credits_remaining=job.credits_remaining,
        elapsed_seconds=None if elapsed is None or job.ended else int(elapsed),
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
    if result.error:
        lines.append(f'PixelDojo\'s reason: "{result.error}"')
    lines += [_expiry(result), _standing(result), _money(result), _failure(result)]
    return "\n".join([*filter(None, lines), f"Next: {result.next}"])


def progress_note(job: Job | None, elapsed: float, trouble: WanError | None) -> str:
    """One line for a person who waits."""
    if trouble is not None:
        return f"{duration(elapsed)}: {trouble.what} Still waiting."
    if job is None:
        return f"{duration(elapsed)}: asking PixelDojo"
    usual = "" if job.ended else f"; {_USUAL}"
    return f"{duration(elapsed)}: the job is {_word(job.status, job.vendor_status)}{usual}"


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
        told = "The film is ready." if job.video_url else "The job is completed."
        return told + (note or ("" if job.video_url else f" {_NO_LINK}"))
    if job.status is JobStatus.FAILED:
        return f"PixelDojo reports that the job failed.{note}"
    return f"{'The job was accepted' if charged else 'The job is still going'}.{note}"


def _next(job: Job, left: int | None) -> str:
    call = f'wait_for_job with job_id "{job.job_id}"'
    if job.status is JobStatus.RUNNING:
        return f"Call {call}; a job takes minutes. Do not call replace_character again for it."
    if job.status is JobStatus.FAILED:
        reason = "Tell the user the reason" if job.error else "Tell the user; no reason was given"
        return (
            f"{reason}. A new replace_character call starts and charges a new job; whether "
            "PixelDojo refunds failed ones is not known."
        )
    if not job.video_url:
        return (
            f"Call {call} again in a minute. If there is still no link, ask the user to look at "
            "the job on pixeldojo.ai; a new replace_character call would be charged again."
        )
    if left is not None and left <= 0:
        return (
            "The link's time is over: try it, and if it is dead ask the user to look for the film "
            "on pixeldojo.ai; a new replace_character call would be charged again."
        )
    life = _LIFE_UNKNOWN if left is None else ""
    return f"Give the user the link now and say that the film must be saved: it is temporary{life}."


def _expiry(result: JobResult) -> str:
    if result.expires_at is None:
        return ""
    what = "The link" if result.video_url else "By PixelDojo's word the result"
    left = result.expires_in_seconds
    if not left:
        return f"{what} expired at {result.expires_at}."
    return f"{what} expires at {result.expires_at}, in {duration(left)}."


def _standing(result: JobResult) -> str:
    if not (result.job_id and result.status):
        return ""
    since = "" if result.elapsed_seconds is None else f", {duration(result.elapsed_seconds)} so far"
    return f"Job {result.job_id}: {_word(result.status, result.vendor_status)}{since}."


def _word(status: JobStatus, vendor_status: str | None) -> str:
    """Our word, and the vendor's own where it is another."""
    if not vendor_status or vendor_status == status:
        return status
    return f'{status} (PixelDojo: "{vendor_status}")'


def _money(result: JobResult) -> str:
    parts = [f"Charged by this call: {result.charged}"]
    if result.credit_cost is not None:
        parts.append(f"The job costs {number(result.credit_cost)} credits")
    elif result.charged == "yes":
        parts.append("PixelDojo did not say how much")
    if result.credits_remaining is not None:
        parts.append(f"Credits left: {number(result.credits_remaining)}")
    return f"{'. '.join(parts)}."


def _failure(result: JobResult) -> str:
    if result.code is None:
        return ""
    harm = "it could be paid twice" if result.charged == "unknown" else "it would be refused again"
    safe = "yes" if result.retry_safe else f"no, {harm}"
    return f"Safe to repeat: {safe}. Code: {result.code}."


def number(value: float) -> str:
    """Credits as JSON has them: every digit, and no .0 at the end of a whole number."""
    return f"{value:.15g}"
