"""The text of an answer: the same facts as its data, in a few lines."""

from wan_mcp.errors import Charged
from wan_mcp.models import JobLine, JobList, JobResult, JobStatus
from wan_mcp.surface.answers.credits import CreditOverview, credits_text
from wan_mcp.surface.answers.several import IN_PROGRESS, JobOutcome, WaitResult
from wan_mcp.wording import counted, duration, is_or_are, number, plural

_WITHOUT_JOB = {
    *(JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.UNKNOWN),
    *(JobStatus.NOT_SENT, JobStatus.REFUSED),
}
_WITHOUT_VIDEO = {JobStatus.FAILED, JobStatus.LOST}

AnyResult = JobResult | JobList | CreditOverview
"""The data of an answer."""


def text(result: AnyResult) -> str:
    """Every fact of the data, one line for each subject."""
    if isinstance(result, CreditOverview):
        key = f"API key accepted: {result.key_accepted}."
        return _lines(result, *credits_text(result), f"{key} {_charged(result)}.", _failure(result))
    if isinstance(result, JobList):
        jobs = map(_job_line, result.jobs or [])
        charged = f"{_charged(result)}."
        return _lines(result, *jobs, _totals(result), charged, _failure(result))
    several = result.jobs or [] if isinstance(result, WaitResult) else []
    return _lines(
        result,
        *map(_outcome_line, several),
        f"Video: {result.video_url}" if result.video_url else "",
        _saved_file(result),
        f"Link to the saved video: {result.saved_url}" if result.saved_url else "",
        _inspection(result),
        f'PixelDojo\'s reason: "{result.error}"' if result.error else "",
        _expiry(result),
        _job(result),
        _place(result),
        _order(result),
        _money(result),
        f"Upload page: {result.upload_page}" if result.upload_page else "",
        _failure(result),
    )


def list_summary(jobs: list[JobLine], status: JobStatus | None, *, older: bool) -> str:
    """What a list holds, in a sentence.

    Args:
        jobs: those of that status, and all that are in progress or of unknown outcome.
        status: the filter of the call; None for all jobs that bought something.
        older: whether there are more jobs of that status than the list shows.
    """
    if not jobs and status is None:
        return "No jobs yet."
    matching = sum(status in (None, job.status) for job in jobs)
    what = "request" if status in _WITHOUT_JOB else "job"
    noun = plural(f"{status} {what}" if status else what, matching)
    sentence = f"{matching or 'No'} {noun}{', newest first' if matching > 1 else ''}"
    others = sum(job.status in IN_PROGRESS and status not in (None, job.status) for job in jobs)
    if others:
        link = "and" if matching else "but"
        sentence += f", {link} {others} that {is_or_are(others)} under way"
    sentence += "; there are older ones (limit may be up to 50)." if older else "."
    unknown = sum(job.status is JobStatus.UNKNOWN for job in jobs)
    charge = f" Of unknown outcome: {unknown}; that may have been charged." if unknown else ""
    waiting = sum(job.status is JobStatus.QUEUED for job in jobs)
    queue = f" Queued: {waiting}; nothing is charged for that yet." if waiting else ""
    return sentence + queue + charge


def both_statuses(status: JobStatus, vendor_status: str | None) -> str:
    """Our status, and PixelDojo's own word in quotes where it differs."""
    if not vendor_status or vendor_status == status:
        return status
    return f'{status} (PixelDojo: "{vendor_status}")'


def _lines(result: AnyResult, *lines: str) -> str:
    return "\n".join([result.message, *filter(None, lines), f"Next: {result.next}"])


def _saved_file(result: JobResult) -> str:
    if result.size is None:
        return ""
    where = f" at {result.saved_path}" if result.saved_path else ""
    return f"Saved{where} ({result.size:,} bytes, SHA-256 {result.sha256})."


def _inspection(result: JobResult) -> str:
    if result.inspection is None:
        return ""
    found = "; ".join(result.inspection) or "nothing differs from the order"
    return f"Inspection of the video: {found}."


def _expiry(result: JobResult) -> str:
    if result.expires_at is None:
        return ""
    whose = "PixelDojo's" if result.saved_url else "The"
    what = f"{whose} link" if result.video_url else "According to PixelDojo, the result"
    left = result.expires_in_seconds
    if not left:
        return f"{what} expired at {result.expires_at}."
    return f"{what} expires at {result.expires_at}, in {duration(left)}."


def _job(result: JobResult) -> str:
    if not (result.job_id and result.status):
        return ""
    what = "Request" if result.status in _WITHOUT_JOB else "Job"
    status = both_statuses(result.status, result.vendor_status)
    elapsed = result.elapsed_seconds
    so_far = "" if elapsed is None else f", {duration(elapsed)} so far"
    seed = "" if result.seed is None else f" Seed: {result.seed}."
    return f"{what} {result.job_id}: {status}{so_far}.{seed}"


def _place(result: JobResult) -> str:
    if result.queue_position is None:
        return ""
    place = f"Place in the queue: {result.queue_position}"
    starts = result.expected_start_in_seconds
    if starts is None:
        return f"{place}; when it starts is not known."
    return f"{place}; expected to start in {duration(starts)}, by an estimate."


def _order(result: JobResult) -> str:
    order = _facts(
        (result.video_duration, "{} s"),
        (result.resolution, "{} lines"),
        (result.source_video, "from {}"),
        (result.character_image, "with {}"),
    )
    return f"Ordered: {', '.join(order)}." if order else ""


def _money(result: JobResult) -> str:
    left = result.credits_remaining
    balance = "" if left is None else f"Credits left: {number(left)}"
    known = _known(result.job_charged, result.status)
    job = "" if known is None else f"Charged for the job: {known}"
    return f"{'. '.join(filter(None, [_charged(result), job, _price(result), balance]))}."


def _price(result: JobResult) -> str:
    cost, estimate = result.credit_cost, result.credit_estimate
    if cost is not None:
        instead = "" if estimate is None else f" (expected {number(estimate)})"
        return f"The job costs {counted(cost, 'credit')}{instead}"
    expected = "" if estimate is None else counted(estimate, "credit")
    if result.charged == "yes":
        return "PixelDojo did not say how much" + (expected and f" (expected {expected})")
    if result.status in _WITHOUT_VIDEO:
        return "PixelDojo named no cost" + (expected and f" (expected {expected})")
    return expected and f"The job is expected to cost {expected}"


def _charged(result: AnyResult) -> str:
    status = result.status if isinstance(result, JobResult) else None
    return f"Charged by this call: {_known(result.charged, status)}"


def _known(charged: Charged | None, status: JobStatus | None) -> str | None:
    """Whether something was charged; not known yet of a request that is still on its way."""
    is_open = charged == "unknown" and status is JobStatus.SUBMITTING
    return "not known yet" if is_open else charged


def _failure(result: AnyResult) -> str:
    if result.code is None:
        return ""
    limit = _limit(result) if isinstance(result, JobResult) else ""
    return f"Safe to repeat: {_when_safe(result)}. {limit}Code: {result.code}."


def _when_safe(result: AnyResult) -> str:
    wait = result.retry_after_seconds
    after = "" if wait is None else duration(wait)
    if result.retry_safe:
        return f"yes, after {after}" if after else "yes"
    if result.charged == "unknown":
        return "no, it could be paid twice"
    if after:
        return f"no, not before {after} have passed"
    is_blocked = isinstance(result, JobResult) and result.blocking_job_ids
    return "no, not before a job has ended" if is_blocked else "no, the answer would be the same"


def _limit(result: JobResult) -> str:
    if result.limit is None or result.limit_value is None:
        return ""
    used = "" if result.used is None else f", used: {number(result.used)}"
    jobs = ", ".join(result.blocking_job_ids or [])
    blocked = f" Used by: {jobs}." if jobs else ""
    return f"Limit {result.limit}: {number(result.limit_value)}{used}.{blocked} "


def _job_line(job: JobLine) -> str:
    head = f"- {job.job_id}: {job.status}"
    if job.heard_seconds_ago is not None:
        head += f" when last reported, {duration(job.heard_seconds_ago)} ago"
    cost = None if job.credit_cost is None else counted(job.credit_cost, "credit")
    left = job.expires_in_seconds
    take = None if job.order is None else f"take {job.take} of {job.takes} of order {job.order}"
    facts = _facts(
        (job.made_at, "made {}"),
        (job.video_duration, "{} s"),
        (job.resolution, "{} lines"),
        (cost, "{}"),
        (_known(job.job_charged, job.status), "charged: {}"),
        (job.seed, "seed {}"),
        (job.queue_position, "place {} in the queue"),
        (take, "{}"),
        (job.source_video, "from {}"),
        (job.character_image, "with {}"),
        (job.saved_path, "saved at {}"),
        ("kept" if job.kept else None, "{}"),
        (job.video_url, "video: {}"),
        (duration(left) if left else None, "its link expires in {}"),
    )
    expired = ["its link has expired"] if left == 0 else []
    return ", ".join([head, *facts, *expired])


def _outcome_line(job: JobOutcome) -> str:
    left = job.expires_in_seconds
    is_theirs = job.status is JobStatus.FAILED  # PixelDojo's words stand in quotes
    facts = _facts(
        (job.status, "{}"),
        (job.code, "{}"),
        (None if job.credit_cost is None else counted(job.credit_cost, "credit"), "{}"),
        (_known(job.job_charged, job.status), "charged: {}"),
        (job.seed, "seed {}"),
        (job.saved_path, "saved at {}"),
        (job.video_url, "video: {}"),
        (duration(left) if left else None, "its link expires in {}"),
        (job.reason, '"{}"' if is_theirs else "{}"),
    )
    expired = ["its link has expired"] if left == 0 else []
    return f"- {job.job_id}: {', '.join([*facts, *expired])}"


def _facts(*facts: tuple[object, str]) -> list[str]:
    """Those facts that are known, each in its form."""
    return [form.format(fact) for fact, form in facts if fact is not None]


def _totals(listed: JobList) -> str:
    if listed.total_jobs is None:
        return ""
    day, ever = listed.credits_spent_24h or 0, listed.credits_spent or 0
    without = listed.jobs_without_cost
    rest = f", without {counted(without, 'job')} whose cost is not known" if without else ""
    return (
        f"In all: {counted(listed.total_jobs, 'job')}. Spent: {counted(day, 'credit')} in the last "
        f"24 hours, {number(ever)} in all{rest}."
    )
