"""MCP Tasks: a host that declares the extension asks once, and need not wait for the video.

For such a host replace_character and wait_for_job are tasks. The id of a task is an id that every
tool takes: the submission id of a paid call, which never changes, and the id that a wait was given.
A wait for several jobs has an id of its own, which is made of theirs. The server keeps no tasks, so
any process on the ledger can answer for one, also after a restart.

What ends before PixelDojo has a request (wrong arguments, unusable inputs, a limit, a question to
the user and a no to it) is the answer of the call itself, as for every other host: no task exists
then, and a host shows it at once. The same holds for a refusal that PixelDojo sends within the time
of the call. Whatever comes later is the result of the task, a refusal too. The status `failed` is
never used: it is for errors of the protocol alone, and no tool answers with one. The messages are
those of the extension's revision 2026-07-28 (documented: ext-tasks); it has no `tasks/result`, so
the result is part of the task.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.types import CallToolRequestParams, CallToolResult, ClientCapabilities, RequestParams

from wan_mcp.errors import InvalidArguments, NotFound, WanError
from wan_mcp.models import JobResult, JobStatus
from wan_mcp.surface.answers.progress import submit_note
from wan_mcp.surface.answers.several_task import (
    CANCELLED_NOTE,
    all_over,
    ids_of,
    readings_for_task,
    several_task,
)
from wan_mcp.surface.answers.task_form import (
    TASKS,
    WITHDRAWN_NOTE,
    Task,
    is_over,
    task,
    view_for_task,
)
from wan_mcp.surface.argument_types import MAX_IDS
from wan_mcp.surface.arguments import WaitForJob, read_arguments
from wan_mcp.surface.calls import Call, Calls, RequestContext, switched_off

if TYPE_CHECKING:
    from wan_mcp.ledger.status import JobView

Created = dict[str, Any]
"""A new task, in the place of a tool's answer."""
REVISIONS = frozenset({"2026-07-28"})
MAKERS = ("replace_character", "wait_for_job")
"""The tools that can answer with a task."""
NO_CANCEL = "PixelDojo cannot cancel a job: it goes on, and its credits are spent."

logger = logging.getLogger(__name__)


class TaskParams(RequestParams):
    """Which task."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers to a task's questions. The tasks of this server never ask one."""

    input_responses: dict[str, Any]


class Tasks(Extension):
    """The extension `io.modelcontextprotocol/tasks`, for replace_character and wait_for_job."""

    identifier = TASKS

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
        """A task for a call that would take long; for everything else the tool's own answer."""
        if not self._is_declared(ctx):
            return await call_next(ctx)
        ids = _ids_of_wait(params) if self._calls.offers("wait_for_job") else ()
        if ids and (created := await self._of_wait(ids, ctx)):
            return created
        answer = await call_next(ctx)
        if params.name != "replace_character" or not isinstance(answer, CallToolResult):
            return answer  # a question to the user is no result yet
        try:
            return await self._of_submit(answer, ctx) or answer
        except Exception:
            # The job is paid for, so its id must reach the host in one form or the other.
            logger.exception("a paid call could not become a task")
            return answer

    async def _of_wait(self, ids: Sequence[str], ctx: RequestContext) -> Created | None:
        try:
            call = await self._calls.open(ctx)
            await call.keep(ids)
            if len(ids) > 1:
                readings = await readings_for_task(call.jobs, ids)
                made = None if all_over(readings) else await several_task(ids, readings, call)
            else:
                view = await view_for_task(call.jobs, ids[0])
                made = None if is_over(view) else await task(ids[0], view, call)
        except WanError:
            return None  # the tool meets the same error, and answers it
        return made and {"resultType": "task", **made}

    async def _of_submit(self, answer: CallToolResult, ctx: RequestContext) -> Created | None:
        """A task in place of the tool's answer; None if that answer says everything."""
        result = JobResult.model_validate(answer.structured_content)
        if result.job_id is None:
            return None
        try:
            call = await self._calls.open(ctx)
            view = await call.jobs.known(result.job_id)
        except WanError:
            return None  # a host must be able to find its task (documented)
        if view is None or view.record is None or is_over(view):
            return None
        created = await task(view.record.submission_id, view, call)
        is_lost = result.code is not None and result.charged == "unknown"
        message = (await call.job_result(view)).message if is_lost else _first_message(result)
        return {"resultType": "task", **created, "statusMessage": message}

    def _is_declared(self, ctx: RequestContext) -> bool:
        if ctx.protocol_version not in REVISIONS:
            return False
        capability = ClientCapabilities(extensions={self.identifier: {}})
        return ctx.session.check_client_capability(capability)

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        async with self._calls.as_mcp_errors():
            call, ids = await self._found(ctx, params)
            return {"resultType": "complete", **await _now(ids, call)}

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        require_client_extension(ctx, self.identifier)
        async with self._calls.as_mcp_errors():
            await self._found(ctx, params)
        return {"resultType": "complete"}  # answers without a question are ignored (documented)

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        """Stop waiting. Only an acknowledgement is required; the task may go on (documented)."""
        require_client_extension(ctx, self.identifier)
        async with self._calls.as_mcp_errors():
            call, ids = await self._found(ctx, params)
            note = CANCELLED_NOTE
            if not self._calls.offers("cancel_job"):
                note = f"Only the waiting is over. {switched_off('cancel_job')}"
            elif len(ids) == 1:
                note = _note_on_cancel(await call.jobs.withdraw(ids[0]))
            return {"resultType": "complete", "_meta": {"wan-mcp/note": note}}

    async def _found(self, ctx: RequestContext, params: TaskParams) -> tuple[Call, Sequence[str]]:
        ids = ids_of(params.task_id.strip(" "))
        if not 1 <= len(ids) <= MAX_IDS:
            raise _no_such_task()
        if not any(map(self._calls.offers, (*MAKERS, "get_job_status"))):
            self._calls.require("get_job_status")
        call = await self._calls.open(ctx)
        if len(ids) > 1:
            if not await _is_any_known(ids, call):
                raise _no_such_task()
        elif await call.jobs.known(ids[0]) is None:
            await call.jobs.check(ids[0])
        return call, ids


async def _now(ids: Sequence[str], call: Call) -> Task:
    """The task as it is now."""
    if len(ids) > 1:
        return await several_task(ids, await readings_for_task(call.jobs, ids), call)
    return await task(ids[0], await view_for_task(call.jobs, ids[0]), call)


async def _is_any_known(ids: Sequence[str], call: Call) -> bool:
    for id in ids:
        with suppress(NotFound):
            if await call.jobs.known(id) is not None:
                return True
    return False


def _no_such_task() -> NotFound:
    return NotFound("There is no such task.", next_step="Its id is the job_id.")


def _ids_of_wait(params: CallToolRequestParams) -> tuple[str, ...]:
    """The jobs of a wait; none of other calls, single checks, and calls that the tool refuses."""
    if params.name != "wait_for_job":
        return ()
    try:
        given = read_arguments(WaitForJob, params.arguments or {}, loopback=False)
    except InvalidArguments:
        return ()
    return given.job_id if given.timeout_seconds else ()


def _first_message(result: JobResult) -> str:
    note = submit_note(result)
    return note if note == result.message else f"{note}. {result.message}"


def _note_on_cancel(view: JobView) -> str:
    match view.status:
        case JobStatus.RUNNING:
            return f"{NO_CANCEL} Its id is {view.id}."
        case JobStatus.UNKNOWN:
            return f"Request {view.id} was sent. Its outcome is unknown, and it is looked up."
        case JobStatus.SUBMITTING | JobStatus.QUEUED:
            return f"Request {view.id} goes on: it was sent, or another call waits for it."
    if view.record is not None and view.record.withdrawn:
        return WITHDRAWN_NOTE
    return f"{view.id} had ended already."
