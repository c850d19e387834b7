"""The text of an answer: the same facts as its data, in a few lines a person likes to read."""

from wan_mcp.models import JobLine, JobList, JobResult, JobStatus

_WITHOUT_JOB = {
    *(JobStatus.SUBMITTING, JobStatus.UNKNOWN),
    *(JobStatus.NOT_SENT, JobStatus.REFUSED),
}
_UNDER_WAY = {JobStatus.SUBMITTING, JobStatus.RUNNING}


def text(result: JobResult | JobList) -> str:
    """All that the data says."""
    if isinstance(result, JobList):
        jobs = map(_list_line, result.jobs or [])
        lines = [result.message, *jobs, f"{_charged(result)}.", _failure(result)]
        return _ended(lines, result)
    lines = [result.message]
    if result.video_url:
        lines.append(f"Film: {result.video_url}")
    lines.append(_saved(result))
    if result.error:
        lines.append(f'PixelDojo\'s reason: "{result.error}"')
    lines += [_expiry(result), _standing(result), _money(result), _failure(result)]
    return _ended(lines, result)


def summary(jobs: list[JobLine], status: JobStatus | None, *, older: bool) -> str:
    """What a list holds, in a sentence.

    Args:
        jobs: those of that status, and all that are under way or of unknown outcome.
        status: what was asked for; None for all that bought something.
        older: there are more of them than were asked for.
    """
    if not jobs and status is None:
        return "No jobs yet."
    asked = sum(status in (None, job.status) for job in jobs)
    what = "request" if status in _WITHOUT_JOB else "job"
    kind = f"{status} {what}" if status else what
    told = f"{asked or 'No'} {kind}{'' if asked == 1 else 's'}"
    told += ", newest first" if asked > 1 else ""
    also = sum(job.status in _UNDER_WAY and status not in (None, job.status) for job in jobs)
    if also:
        are = "is" if also == 1 else "are"
        told += f", {'and' if asked else 'but'} {also} that {are} under way"
    told += "; there are older ones (limit may be up to 50)." if older else "."
    unknown = sum(job.status is JobStatus.UNKNOWN for job in jobs)
    return f"{told} Of unknown outcome: {unknown}; that may have been charged." if unknown else told


def duration(seconds: float) -> str:
    """A span of time as a person says it: 45 s, 2 min 5 s, 3 h 10 min."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _ended(lines: list[str], result: JobResult | JobList) -> str:
    return "\n".join([*filter(None, lines), f"Next: {result.next}"])


def _saved(result: JobResult) -> str:
    if result.size is None:
        return ""
    where = f" at {result.saved_path}" if result.saved_path else ""
    return f"Saved{where} ({result.size:,} bytes, SHA-256 {result.sha256})."


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
    what = "Request" if result.status in _WITHOUT_JOB else "Job"
    seed = "" if result.seed is None else f" Seed: {result.seed}."
    return f"{what} {result.job_id}: {word(result.status, result.vendor_status)}{since}.{seed}"


def word(status: JobStatus, vendor_status: str | None) -> str:
    """Our word, and the vendor's own where it is another."""
    if not vendor_status or vendor_status == status:
        return status
    return f'{status} (PixelDojo: "{vendor_status}")'


def _money(result: JobResult) -> str:
    left = result.credits_remaining
    balance = "" if left is None else f"Credits left: {number(left)}"
    return f"{'. '.join(filter(None, [_charged(result), _price(result), balance]))}."


def _price(result: JobResult) -> str:
    expected = "" if result.credit_estimate is None else number(result.credit_estimate)
    if result.credit_cost is not None:
        instead = expected and f" (expected {expected})"
        return f"The job costs {number(result.credit_cost)} credits{instead}"
    if result.charged == "yes":
        return "PixelDojo did not say how much" + (expected and f" (expected {expected} credits)")
    return expected and f"The job is expected to cost {expected} credits"


def _charged(result: JobResult | JobList) -> str:
    return f"Charged by this call: {result.charged}"


def _failure(result: JobResult | JobList) -> str:
    if result.code is None:
        return ""
    safe = "yes" if result.retry_safe else f"no, {_harm(result)}"
    return f"Safe to repeat: {safe}. Code: {result.code}."


def _harm(result: JobResult | JobList) -> str:
    return (
        "it could be paid twice" if result.charged == "unknown" else "the answer would be the same"
    )


def number(value: float) -> str:
    """Credits as JSON has them: every digit, and no .0 at the end of a whole number."""
    return f"{value:.15g}"


def _list_line(job: JobLine) -> str:
    parts = [f"- {job.job_id}: {job.status}", f"made {job.made_at}"]
    if job.heard_seconds_ago is not None:
        parts[0] += f" when last heard of, {duration(job.heard_seconds_ago)} ago"
    if job.credit_cost is not None:
        parts.append(f"{number(job.credit_cost)} credits")
    if job.seed is not None:
        parts.append(f"seed {job.seed}")
    if job.source_video:
        parts.append(f"from {job.source_video}")
    return ", ".join(parts)
