"""A job in the form of a task of the extension's revision 2026-07-28 (documented: ext-tasks).

A task is made from the job's record alone, so any process on the ledger shows the same one.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from wan_mcp.errors import WanError
from wan_mcp.ledger.status import require_view
from wan_mcp.models import JobStatus
from wan_mcp.polling.intervals import SAVE_SECONDS
from wan_mcp.surface.answers.progress import progress_note
from wan_mcp.surface.answers.team_user import step_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import JobView
    from wan_mcp.surface.calls import Call

Task = dict[str, Any]

TASKS = "io.modelcontextprotocol/tasks"
"""The name of the extension."""
QUESTION_SECONDS = 1.0
"""How long a host's question about a task waits for the job. As a waiter it makes the poller read
the job, so it costs no request of its own."""
FOLLOW_SECONDS = 86_400.0
"""How long notices about a task are sent. The poller reads a running job no longer than that."""
POLL_MS = 5_000
"""How often a host should ask. The poller does not ask PixelDojo more often either."""
UNKNOWN_POLL_MS = 60_000
"""The same while the outcome of a request is unknown: each answer then reads the job list."""
WITHDRAWN_NOTE = "The request was withdrawn before it was sent. Nothing was charged."


async def view_for_task(jobs: Jobs, id: str) -> JobView:
    """The state of a job for a host that asks about its task.

    Raises:
        NotFound, Refused, CouldNotFindOut: PixelDojo could not be asked.
    """
    view = await _last_view(jobs, id, QUESTION_SECONDS)
    # A completed job is worth a longer wait, until its video is saved or has a link.
    is_completed = view.status is JobStatus.COMPLETED
    return await _last_view(jobs, id, SAVE_SECONDS) if is_completed else view


async def task(id: str, view: JobView, call: Call) -> Task:
    """A job as a task. A completed one contains the result of wait_for_job.

    Args:
        id: the id of the task.
    """
    working = _working(id, view, call, progress_note(view, await call.jobs.typical()))
    if not is_over(view):
        return working
    if view.record is not None and view.record.withdrawn:
        return {**working, "status": "cancelled", "statusMessage": WITHDRAWN_NOTE}
    result = await call.tool_result(await call.job_result(view))
    data = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {**working, "status": "completed", "result": data}


async def tasks(id: str, call: Call) -> AsyncGenerator[Task, None]:
    """The task at each update, until it is over or cannot be followed any longer.

    Raises:
        NotFound, LedgerUnavailable: there is no such task, or the ledger cannot be read.
    """
    try:
        view: JobView | None = None
        async with aclosing(call.jobs.watch(id, FOLLOW_SECONDS)) as readings:
            async for reading in readings:
                view = view if isinstance(reading, WanError) else reading
                if view is None or view.status is JobStatus.COMPLETED:
                    continue  # a completed one is over when its video is saved
                yield await task(id, view, call)
                if is_over(view):
                    return
        if view is not None:
            yield await task(id, view, call)
    except WanError as failure:
        known = await call.jobs.known(id)
        if known is not None:  # the job goes on: only following it has ended
            yield _working(id, known, call, f"{failure.what} {step_for(call.user, failure)}")


def is_over(view: JobView) -> bool:
    """Whether a task about this job has ended, so that it contains a result."""
    return view.settled or view.status is JobStatus.COMPLETED or view.is_given_up


def _working(id: str, view: JobView, call: Call, message: str) -> Task:
    now, record = call.jobs.clock.wall(), view.record
    created = record.asked_at if record else now
    updated = (record.ended_at or record.last_polled_at or created) if record else now
    is_unknown = view.status is JobStatus.UNKNOWN
    return {
        "taskId": id,
        "status": "working",
        "statusMessage": message,
        "createdAt": created.isoformat(timespec="seconds"),
        "lastUpdatedAt": updated.isoformat(timespec="seconds"),
        "ttlMs": None,
        "pollIntervalMs": UNKNOWN_POLL_MS if is_unknown else POLL_MS,
    }


async def _last_view(jobs: Jobs, id: str, seconds: float) -> JobView:
    async with aclosing(jobs.watch(id, seconds)) as readings:
        return require_view([reading async for reading in readings][-1])
