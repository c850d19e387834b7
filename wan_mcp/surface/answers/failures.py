"""The answers of tools whose calls failed."""

from __future__ import annotations

from wan_mcp.errors import Charged, Code, OutcomeUnknown, WanError
from wan_mcp.models import JobResult
from wan_mcp.surface.answers.team_user import TeamUser, step_for

DEFECT_PAUSE_SECONDS = 10
"""How long to wait before a free call that met a defect is repeated (ours)."""


def failure_result(failure: WanError, user: TeamUser | None = None) -> JobResult:
    """The answer of a tool whose call itself failed.

    Args:
        user: who reads it; None at a server without sign-in.
    """
    figures = failure.figures
    return JobResult(
        message=failure.what,
        job_id=failure.job_id,
        charged=failure.charged,
        job_charged=_job_charged_of(failure),
        retry_safe=failure.retry_safe,
        retry_after_seconds=failure.wait_seconds,
        limit=None if figures is None else figures.limit,
        limit_value=None if figures is None else figures.value,
        used=None if figures is None else figures.used,
        blocking_job_ids=list(figures.blocking_job_ids) or None if figures else None,
        upload_page=failure.upload_page,
        code=failure.code,
        next=step_for(user, failure),
    )


def defect_result(tool: str, *, paid: bool) -> JobResult:
    """The answer of a tool that met a defect of ours; the log has the exception.

    Args:
        paid: whether the tool buys: its request may have been sent.
    """
    careful = "Do not repeat it: call list_jobs first, to see whether a job was started."
    return JobResult(
        message=f"{tool} hit a defect of wan-mcp; the server's log has the details.",
        charged="unknown" if paid else "no",
        retry_safe=not paid,
        retry_after_seconds=None if paid else DEFECT_PAUSE_SECONDS,
        code=Code.INTERNAL_ERROR,
        next=careful if paid else "Call it once more; if that fails too, tell the user.",
    )


def _job_charged_of(failure: WanError) -> Charged | None:
    """Whether the request was charged that a failed call made, or an equal call before it."""
    if failure.job_id is None:
        return None
    return "unknown" if isinstance(failure, OutcomeUnknown) else "no"
