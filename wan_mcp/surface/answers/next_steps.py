"""What a model is told to do next, for each way in which a job can stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wan_mcp.models import Job, JobLine, JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wan_mcp.ledger.status import JobView

_LIFE_UNKNOWN = " and PixelDojo does not say for how long (1 to 24 hours have been reported)"


def of_joined(status: JobStatus, *, query_differs: bool) -> str:
    """What a call is told of the request that it joined.

    Nothing of another seed while it is open what the first one costs, or after it went wrong: that
    would be a second payment.

    Args:
        resigned: the two differ in the query of a link.
    """
    if status is JobStatus.SUBMITTING:
        return " It is the request that was already made; it is paid at most once."
    if status not in (JobStatus.RUNNING, JobStatus.COMPLETED):
        return ""
    other = (
        " Only what follows the ? of a link differs: if that means another clip or picture, call "
        "again with a seed."
    )
    return f"{other if query_differs else ''} For another take call again with another seed."


def next_step(view: JobView, left: int | None) -> str:
    """The next call, or what to tell the user.

    Args:
        left: seconds that the link to the film lives; None when nothing tells.
    """
    call = f'wait_for_job with job_id "{view.id}"'
    match view.status:
        case JobStatus.SUBMITTING:
            return f"Call {call}. Do not call replace_character again for it."
        case JobStatus.RUNNING:
            return f"Call {call}; a job takes minutes. Do not call replace_character again for it."
        case JobStatus.UNKNOWN:
            return (
                f'Call get_job_status with job_id "{view.id}" again in a few minutes: it looks '
                "again. If it stays unknown, ask the user to look for the job on pixeldojo.ai; by "
                "its id get_job_status tells more. Do not repeat replace_character for it; "
                "another seed would be a new job, paid again."
            )
        case JobStatus.NOT_SENT:
            return "Calling replace_character again is safe."
        case JobStatus.REFUSED:
            return "See to the reason, then calling replace_character again is safe."
        case JobStatus.LOST:
            return (
                "Tell the user: the job was paid, and only PixelDojo's support can say what became "
                "of it. A new replace_character call would be charged again."
            )
        case JobStatus.FAILED:
            return _next_after_failure(view.job)
    return _next_with_film(view, left, call)


def next_of_list(jobs: Sequence[JobLine], status: JobStatus | None) -> str:
    """What to do about the jobs of a list.

    Args:
        status: what was asked for; None for all.
    """
    steps = []
    if under_way := _first(jobs, JobStatus.RUNNING, JobStatus.SUBMITTING):
        steps.append(f'Call wait_for_job with job_id "{under_way}" for its film.')
    if unknown := _first(jobs, JobStatus.UNKNOWN):
        steps.append(f'Call get_job_status with job_id "{unknown}": it looks for the job.')
    if jobs:
        return " ".join(steps) or "Call get_job_status with a job_id for all about that job."
    if status is not None:
        return "Nothing is under way. Leave status out to see the other jobs."
    return "Nothing is under way: replace_character starts a job."


def _first(jobs: Sequence[JobLine], *statuses: JobStatus) -> str | None:
    return next((job.job_id for job in jobs if job.status in statuses), None)


def _next_after_failure(job: Job | None) -> str:
    reason = (
        "Tell the user the reason" if job and job.error else "Tell the user; no reason was given"
    )
    return (
        f"{reason}. The same inputs may fail again, and a new replace_character call starts and "
        "charges a new job: change the inputs first, or ask the user. Whether PixelDojo refunds "
        "failed jobs is not known."
    )


def _next_with_film(view: JobView, left: int | None, call: str) -> str:
    if not (view.job and view.job.video_url):
        return (
            f"Call {call} again in a minute. If there is still no link, ask the user to look at "
            "the job on pixeldojo.ai; a new replace_character call would be charged again."
        )
    record = view.record
    if record is not None and record.saved_path:
        return "Tell the user where the film is; the link is temporary, the saved file stays."
    if left is not None and left <= 0:
        return (
            "The link's time is over: try it, and if it is dead ask the user to look for the film "
            "on pixeldojo.ai; a new replace_character call would be charged again."
        )
    if record is not None and record.not_saved:
        return (
            f"The film could not be saved here: {record.not_saved} Give the user the link and say "
            "that the film must be saved at once."
        )
    life = _LIFE_UNKNOWN if left is None else ""
    return f"Give the user the link now and say that the film must be saved: it is temporary{life}."
