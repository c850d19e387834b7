"""MCP Tasks (experimental): for hosts that declare them, a wait for a job is a task.

A task's id is the job's: nothing is kept here, and any process on the ledger answers. The shapes
are those of the extension's revision 2026-07-28 (documented: ext-tasks); no known chat host
declares it yet, so none has been seen to use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.types import CallToolRequestParams, ClientCapabilities, RequestParams

from wan_mcp.errors import InvalidArguments, NotFound, WanError
from wan_mcp.models import JobStatus
from wan_mcp.surface.answers import results
from wan_mcp.surface.arguments import WaitForJob, read_arguments
from wan_mcp.surface.calls import Asked, Call, OpenCall, as_mcp_errors, opened

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.polling.waits import JobUpdate

REVISIONS = frozenset({"2026-07-28"})
LOOK = 1.0
"""Seconds that a look lasts. It is a short wait, so that the poller sees to the job and no look
costs a request of its own."""
SAVING = 15.0
"""Seconds that the look at a completed job may last, until its film is saved or has a link."""
POLL_MS = 5_000
"""PixelDojo is not asked more often by the poller."""
RARE_POLL_MS = 60_000
"""While the outcome of a request is unknown: each look at it reads PixelDojo's job list."""
NO_CANCEL = "PixelDojo cannot cancel a job: it goes on, and its credits are spent."


class TaskParams(RequestParams):
    """Which task."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to questions; no task of ours ever asks one."""

    input_responses: dict[str, Any]


class Tasks(Extension):
    """The extension `io.modelcontextprotocol/tasks`, for wait_for_job alone: it is free."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, open_call: OpenCall) -> None:
        self._open_call = open_call

    def methods(self) -> Sequence[MethodBinding]:
        """What a host may ask of a task."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get, REVISIONS),
            MethodBinding("tasks/update", UpdateParams, self._update, REVISIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, REVISIONS),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Asked, call_next: CallNext
    ) -> HandlerResult:
        """A task in the place of a wait that would last; the tool itself for all else."""
        id = _waits_for(params) if self._may_be_task(ctx) else None
        if id is not None and (task := await self._begun(id, ctx)):
            return task
        return await call_next(ctx)

    async def _begun(self, id: str, asked: Asked) -> dict[str, Any] | None:
        try:
            call = opened(self._open_call, asked)
            update = await _look(call.jobs, id)
        except WanError:
            return None  # the tool tells of it
        return None if _is_over(update) else {"resultType": "task", **await _task(id, update, call)}

    def _may_be_task(self, asked: Asked) -> bool:
        declared = ClientCapabilities(extensions={self.identifier: {}})
        session = asked.session
        return asked.protocol_version in REVISIONS and session.check_client_capability(declared)

    async def _get(self, asked: Asked, params: TaskParams) -> HandlerResult:
        require_client_extension(asked, self.identifier)
        with as_mcp_errors():
            call, id = await self._found(asked, params)
            update = await _look(call.jobs, id)
            return {"resultType": "complete", **await _task(id, update, call)}

    async def _update(self, asked: Asked, params: UpdateParams) -> HandlerResult:
        require_client_extension(asked, self.identifier)
        with as_mcp_errors():
            await self._found(asked, params)
        return {"resultType": "complete"}  # answers to what was not asked are ignored (documented)

    async def _cancel(self, asked: Asked, params: TaskParams) -> HandlerResult:
        require_client_extension(asked, self.identifier)
        with as_mcp_errors():
            await self._found(asked, params)
        # An acknowledgement is all that is owed; the task goes on (documented).
        return {"resultType": "complete", "_meta": {"wan-mcp/note": NO_CANCEL}}

    async def _found(self, asked: Asked, params: TaskParams) -> tuple[Call, str]:
        try:
            id = read_arguments(WaitForJob, {"job_id": params.task_id}, loopback=False).job_id
        except InvalidArguments:
            raise NotFound("There is no such task.", next_step="Its id is the job_id.") from None
        call = opened(self._open_call, asked)
        if await call.jobs.known(id) is None:
            await call.jobs.check(id)
        return call, id


def _waits_for(params: CallToolRequestParams) -> str | None:
    """The job of a wait; None when it is no wait, or the tool is to refuse it."""
    if params.name != "wait_for_job":
        return None
    try:
        given = read_arguments(WaitForJob, params.arguments or {}, loopback=False)
    except InvalidArguments:
        return None
    return given.job_id if given.timeout_seconds else None


async def _look(jobs: Jobs, id: str) -> JobUpdate:
    update = await _last(jobs, id, LOOK)
    completed = update.known().status is JobStatus.COMPLETED
    return await _last(jobs, id, SAVING) if completed else update


async def _last(jobs: Jobs, id: str, seconds: float) -> JobUpdate:
    async with aclosing(jobs.watch(id, seconds)) as watching:
        return [update async for update in watching][-1]


def _is_over(update: JobUpdate) -> bool:
    view = update.known()
    record = view.record
    given_up = view.status is JobStatus.UNKNOWN and record is not None and not record.next_check_at
    return view.settled or view.status is JobStatus.COMPLETED or given_up


async def _task(id: str, update: JobUpdate, call: Call) -> dict[str, Any]:
    """A task as hosts read it; one that is over holds the tool's own result."""
    view, record = update.known(), update.known().record
    now, typical = call.jobs.clock.wall(), await call.jobs.typical()
    made = record.created_at if record else now
    changed = (record.ended_at or record.last_polled_at or made) if record else now
    rare = view.status is JobStatus.UNKNOWN
    task = {
        "taskId": id,
        "status": "working",
        "statusMessage": results.progress_note(update, typical),
        "createdAt": made.isoformat(timespec="seconds"),
        "lastUpdatedAt": changed.isoformat(timespec="seconds"),
        "ttlMs": None,
        "pollIntervalMs": RARE_POLL_MS if rare else POLL_MS,
    }
    if not _is_over(update):
        return task
    result = await call.answer(await call.told(update))
    told = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {**task, "status": "completed", "result": told}
