"""The answer of cancel_job: what was withdrawn, or why nothing can be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wan_mcp.models import JobResult, JobStatus
from wan_mcp.surface.answers.results import job_result

if TYPE_CHECKING:
    from wan_mcp.ledger.status import JobView
    from wan_mcp.surface.answers.team_user import TeamUser

_NO_TIME = datetime.fromtimestamp(0, UTC)
"""The answer says nothing that depends on the time."""


def cancel_result(before: JobView, after: JobView, user: TeamUser | None = None) -> JobResult:
    """The answer of cancel_job.

    Args:
        before: what was known when the call came.
        after: what is known now.
        user: who reads it; None at a server without sign-in.
    """
    result = job_result(after, now=_NO_TIME, user=user)
    is_withdrawn = after.record is not None and after.record.withdrawn
    if is_withdrawn:
        already = "had already been" if before.status is after.status else "was"
        message = f"The request {already} cancelled before it was sent. Nothing was charged."
    else:
        message = f"Nothing was cancelled. {_why_not_cancelled(after)}"
    return JobResult(
        message=message,
        job_id=after.id,
        status=after.status,
        credit_cost=result.credit_cost,
        charged="no",
        job_charged=result.job_charged,
        next=_next(after, result),
    )


def _next(view: JobView, result: JobResult) -> str:
    if view.record is not None and view.record.withdrawn:
        return "Call replace_character again only if the job is wanted after all."
    if view.job is not None and view.settled:
        return f'Call get_job_status with job_id "{view.id}" for all about that job.'
    return result.next


def _why_not_cancelled(view: JobView) -> str:
    match view.status:
        case JobStatus.RUNNING | JobStatus.SUBMITTING:
            what = "The job is running" if view.job else "The request is being sent"
            return f"{what}, and PixelDojo cannot cancel a job: it goes on, and it costs credits."
        case JobStatus.UNKNOWN:
            return "The request was sent, and its outcome is unknown: it may have been charged."
        case JobStatus.QUEUED:
            return "The request was returned to the queue just now: call once more."
        case JobStatus.NOT_SENT | JobStatus.REFUSED:
            return "The request had ended already, and nothing was charged for it."
    return "The job had ended already."
