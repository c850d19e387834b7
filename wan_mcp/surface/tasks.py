"""MCP Tasks (experimental): for hosts that declare the extension, a wait for a job is a task.

The id of a task is that of its job. The server keeps no tasks, so any process on the ledger can
answer for one. The messages are those of the extension's revision 2026-07-28 (documented:
ext-tasks). No known chat host declares the extension yet, so none has been seen to use them.
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
from wan_mcp.polling.intervals import SAVE_SECONDS
from wan_mcp.surface.answers import results
from wan_mcp.surface.arguments import WaitForJob, read_arguments
from wan_mcp.surface.calls import Call, Calls, RequestContext, as_mcp_errors

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import JobView

REVISIONS = frozenset({"2026-07-28"})
LOOK_SECONDS = 1.0
"""How long a host's question about a task waits for the job. As a waiter it makes the poller read
the job, so it costs no request of its own."""
POLL_MS = 5_000
"""How often a host should ask. The poller does not ask PixelDojo more often either."""
UNKNOWN_POLL_MS = 60_000
"""The same while the outcome of a request is unknown: each look then reads PixelDojo's job list."""
NO_CANCEL = "PixelDojo cannot cancel a job: it goes on, and its credits are spent."


class TaskParams(RequestParams):
    """Which task."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to a task's questions. The tasks of this server never ask one."""

    input_responses: dict[str, Any]


class Tasks(Extension):
    """The extension `io.modelcontextprotocol/tasks`, for wait_for_job alone."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of the extension."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get, REVISIONS),
            MethodBinding("tasks/update", UpdateParams, self._update, REVISIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, REVISIONS),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> HandlerResult:
        """A task instead of a wait that would take long; for everything else the tool itself."""
        id = _job_id_of_wait(params) if self._is_declared(ctx) else None
        if id is not None and (task := await self._new_task(id, ctx)):
            return task
        return await call_next(ctx)

    async def _new_task(self, id: str, ctx: RequestContext) -> dict[str, Any] | None:
        try:
            call = self._calls.open(ctx)
            view = await _look(call.jobs, id)
        except WanError:
            return None  # the tool meets the same error, and answers it
        return None if _is_over(view) else {"resultType": "task", **await _task(id, view, call)}

    def _is_declared(self, ctx: RequestContext) -> bool:
        if ctx.protocol_version not in REVISIONS:
            return False
        capability = ClientCapabilities(extensions={self.identifier: {}})
        return ctx.session.check_client_capability(capability)

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        with as_mcp_errors():
            call, id = await self._found(ctx, params)
            view = await _look(call.jobs, id)
            return {"resultType": "complete", **await _task(id, view, call)}

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        with as_mcp_errors():
            await self._found(ctx, params)
        return {"resultType": "complete"}  # answers without a question are ignored (documented)

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        with as_mcp_errors():
            await self._found(ctx, params)
        # Only an acknowledgement is required; the task may go on (documented).
        return {"resultType": "complete", "_meta": {"wan-mcp/note": NO_CANCEL}}

    async def _found(self, ctx: RequestContext, params: TaskParams) -> tuple[Call, str]:
        try:
            id = read_arguments(WaitForJob, {"job_id": params.task_id}, loopback=False).job_id
        except InvalidArguments:
            raise NotFound("There is no such task.", next_step="Its id is the job_id.") from None
        call = self._calls.open(ctx)
        if await call.jobs.known(id) is None:
            await call.jobs.check(id)
        return call, id


def _job_id_of_wait(params: CallToolRequestParams) -> str | None:
    """The job of a wait; None for other calls, single looks, and calls that the tool refuses."""
    if params.name != "wait_for_job":
        return None
    try:
        given = read_arguments(WaitForJob, params.arguments or {}, loopback=False)
    except InvalidArguments:
        return None
    return given.job_id if given.timeout_seconds else None


async def _look(jobs: Jobs, id: str) -> JobView:
    view = await _last_view(jobs, id, LOOK_SECONDS)
    # A completed job is worth a longer wait, until its video is saved or has a link.
    is_completed = view.status is JobStatus.COMPLETED
    return await _last_view(jobs, id, SAVE_SECONDS) if is_completed else view


async def _last_view(jobs: Jobs, id: str, seconds: float) -> JobView:
    async with aclosing(jobs.watch(id, seconds)) as looks:
        last = [look async for look in looks][-1]
    if isinstance(last, WanError):
        raise last
    return last


def _is_over(view: JobView) -> bool:
    record = view.record
    given_up = view.status is JobStatus.UNKNOWN and record is not None and not record.next_check_at
    return view.settled or view.status is JobStatus.COMPLETED or given_up


async def _task(id: str, view: JobView, call: Call) -> dict[str, Any]:
    """A task in the extension's form. A completed one contains the result of the tool."""
    now, record = call.jobs.clock.wall(), view.record
    created = record.created_at if record else now
    updated = (record.ended_at or record.last_polled_at or created) if record else now
    is_unknown = view.status is JobStatus.UNKNOWN
    task = {
        "taskId": id,
        "status": "working",
        "statusMessage": results.progress_note(view, await call.jobs.typical()),
        "createdAt": created.isoformat(timespec="seconds"),
        "lastUpdatedAt": updated.isoformat(timespec="seconds"),
        "ttlMs": None,
        "pollIntervalMs": UNKNOWN_POLL_MS if is_unknown else POLL_MS,
    }
    if not _is_over(view):
        return task
    result = await call.tool_result(await call.job_result(view))
    data = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {**task, "status": "completed", "result": data}
