"""The tools: each reads its arguments, calls the jobs, and answers. Errors become answers here."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, Icon, InputRequiredResult, ToolAnnotations

from wan_mcp.errors import WanError
from wan_mcp.logs import facts
from wan_mcp.models import JobList, JobResult
from wan_mcp.surface import consent
from wan_mcp.surface.answers import progress
from wan_mcp.surface.answers.cancelling import cancel_result
from wan_mcp.surface.answers.credits import CreditOverview
from wan_mcp.surface.answers.failures import defect_result, failure_result
from wan_mcp.surface.answers.several import WaitResult, several_note
from wan_mcp.surface.arguments import (
    Arguments,
    CheckCredits,
    GetJobStatus,
    KeepVideo,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
    read_arguments,
)
from wan_mcp.surface.calls import Call, Calls, tool_result
from wan_mcp.surface.own_key.question import page_for_key
from wan_mcp.surface.player import GALLERY_URI, PLAYER_URI

if TYPE_CHECKING:
    from wan_mcp.ledger.status import JobView, Reading

ICON = Icon(
    # A URI has no spaces: SVG takes a comma in their place, and %20 is needed only between names.
    src="data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20viewBox='0,0,8,8'%3E"
    "%3Cpath%20d='M4,0a2,2,0,10.01,0M0,8a4,4,0,018,0'/%3E%3C/svg%3E",
)
SHOWN_IN_PLAYER = {"ui": {"resourceUri": PLAYER_URI}}
"""A tool's `_meta`: the page on which a host may show its answer (MCP Apps)."""
SHOWN_IN_GALLERY = {"ui": {"resourceUri": GALLERY_URI}}
FOR_PAGES = {"ui": {"visibility": ["app"]}}
"""The `_meta` of a tool that a host offers to the pages, and not to the model (MCP Apps)."""
KEEP_VIDEO = "keep_video"
SCHEMAS = Path(__file__).with_name("schemas.json")
"""The schemas of every tool, as hosts get them. They are made from the models by a command, and a
test compares them: making them takes 20 ms, for which every start would wait."""

logger = logging.getLogger(__name__)


class WanTool(Tool):
    """A tool that reads its arguments with `read_arguments` and answers every error itself.

    The SDK's own reading ignores an unknown argument, so that a misspelt option of a paid job
    would run with its default, and its refusals repeat the caller's data (observed).
    """

    arguments: type[Arguments]
    calls: Calls
    loopback: bool
    paid: bool

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> CallToolResult | InputRequiredResult:
        """Answer one call; a failure is an answer too, with the same fields."""
        outcome = "ok"
        try:
            given = read_arguments(
                self.arguments,
                arguments,
                loopback=self.loopback,
                local=self.calls.local,
                home=self.calls.home,
                uploads=self.calls.uploads,
            )
            call = await self.calls.open(context, needs_key=self.arguments.needs_key)
            result = await self.fn(given, call)
            if isinstance(result, InputRequiredResult):
                return result
            return await call.tool_result(result)
        except WanError as failure:
            outcome = failure.code
            if question := page_for_key(context, failure):
                return question
            user = await self.calls.who_reads()
            return tool_result(failure_result(failure, user), failed=True)
        except Exception:
            outcome = "internal_error"
            logger.exception("%s broke", self.name)
            return tool_result(defect_result(self.name, paid=self.paid), failed=True)
        finally:
            for listener in facts.listeners:
                listener.called(self.name, outcome)


async def replace_character(given: ReplaceCharacter, call: Call) -> JobResult | InputRequiredResult:
    """Start one paid job that puts a picture's person in the place of the person in a video.

    It costs PixelDojo credits, takes minutes, and returns a job_id at once: pass that to
    wait_for_job. Beyond this server's limits it is queued. Best is one clearly visible person. An
    equal call soon after returns the same job at no cost; another seed makes another take. When an
    answer is lost or unclear, follow `next`.
    """
    began = progress.INSPECTING if call.jobs.inspects else progress.PREPARING
    await call.report_progress(0, began)
    start: float | None = call.jobs.clock.monotonic()
    wanted = await call.located(given.replacement())
    estimate = agreed = None
    if call.confirm_above is not None:
        # Not a submit: if the equal request ended by then, it would buy without having asked.
        if joined := await call.jobs.join(wanted):
            return await _submitted(call, joined)
        price = await call.jobs.price(wanted)
        estimate = price.credits
        question = consent.question_for(estimate, call.confirm_above, price.why)
        if question:
            purchase = consent.Purchase(wanted, question, estimate, price.why)
            if input_required := await call.ask(purchase):
                return input_required
        agreed = None if estimate is None else max(estimate, call.confirm_above)
        start = None  # a person may have thought for long
    return await _submitted(call, await call.jobs.submit(wanted, estimate, agreed, start))


async def _submitted(call: Call, view: JobView) -> JobResult:
    result = call.submit_result(view)
    await call.report_progress(1, progress.submit_note(result))
    return result


async def get_job_status(given: GetJobStatus, call: Call) -> JobResult:
    """Look once how a job stands. Free. To wait for the video use wait_for_job, not a loop."""
    return await call.job_result(await call.jobs.check(given.job_id))


async def wait_for_job(given: WaitForJob, call: Call) -> JobResult:
    """Wait until a job, or each of several, has ended, at most timeout_seconds. Free.

    If one is still queued, submitting or running, call again. The video_url of a completed job is a
    temporary link: have the video saved at once.
    """
    if len(given.job_id) > 1:
        return await _wait_for_several(given, call)
    (id,) = given.job_id
    await call.report_progress(0, progress.LOOKING)
    await call.jobs.keep(id)
    reading: Reading | None = None
    step = 0
    async with aclosing(call.jobs.watch(id, given.timeout_seconds)) as readings:
        async for reading in readings:
            step += 1
            note = progress.progress_note(reading, await call.jobs.typical())
            await call.report_progress(step, note)
    assert reading is not None  # there is always at least one
    return await call.job_result(reading)


async def _wait_for_several(given: WaitForJob, call: Call) -> WaitResult:
    await call.report_progress(0, progress.LOOKING_AT_SEVERAL)
    await call.keep(given.job_id)
    last: dict[str, Reading] = {}
    step = 0
    async with aclosing(call.jobs.watch_several(given.job_id, given.timeout_seconds)) as updates:
        async for last in updates:
            step += 1
            usual = progress.typical_duration(await call.jobs.typical())
            await call.report_progress(step, several_note(last.values(), usual))
    return await call.wait_result(last)


async def list_jobs(given: ListJobs, call: Call) -> JobList:
    """List this user's jobs, newest first, with those whose outcome is unknown. Free."""
    return await call.job_list(given.status, given.limit, given.cursor)


async def cancel_job(given: GetJobStatus, call: Call) -> JobResult:
    """Withdraw a queued request; nothing is charged. A job that was sent goes on and costs."""
    return cancel_result(*await call.jobs.cancel(given.job_id), call.user)


async def check_credits(given: CheckCredits, call: Call) -> CreditOverview:
    """Say what such a job costs now, the last known balance, what was spent, and each limit. Free.

    It also shows whether the API key is accepted.
    """
    return await call.credits(given.replacement())


async def keep_video(given: KeepVideo, call: Call) -> JobResult:
    """Keep a video when the size limit of its folder deletes others, or do so no longer. Free."""
    return await call.keep_video(given.job_id, given.kept)


def build_tools(calls: Calls, *, loopback: bool) -> list[Tool]:
    """The tools of one server. What is for pages alone is hidden by `door.for_pages`.

    Args:
        loopback: whether links to this machine are accepted (only while the API is there too).
    """
    tool = partial(_tool, calls, json.loads(_schemas()), loopback)
    asks_pixeldojo, reads_ledger, spends, withdraws, marks = _hints()
    return [
        tool(
            "Replace a character", replace_character, ReplaceCharacter, spends, meta=SHOWN_IN_PLAYER
        ),
        tool("Look at a job", get_job_status, GetJobStatus, asks_pixeldojo, meta=SHOWN_IN_PLAYER),
        tool("Wait for a job", wait_for_job, WaitForJob, asks_pixeldojo, meta=SHOWN_IN_PLAYER),
        tool("List jobs", list_jobs, ListJobs, reads_ledger, meta=SHOWN_IN_GALLERY),
        tool("Check credits", check_credits, CheckCredits, asks_pixeldojo),
        tool("Cancel a job", cancel_job, GetJobStatus, withdraws),
        tool("Keep a video", keep_video, KeepVideo, marks, meta=FOR_PAGES),
    ]


def _tool(
    calls: Calls,
    schemas: dict[str, dict[str, Any]],
    loopback: bool,
    title: str,
    fn: Callable[[Any, Call], Awaitable[Any]],
    arguments: type[Arguments],
    hints: ToolAnnotations,
    *,
    meta: dict[str, Any] | None = None,
) -> Tool:
    schema = schemas[fn.__name__]
    return WanTool(
        fn=fn,
        name=fn.__name__,
        title=title,
        description=" ".join((fn.__doc__ or "").split()),
        parameters=schema["input"],
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=schema["output"]),
        is_async=True,
        context_kwarg=None,
        annotations=hints,
        icons=[ICON] if schema["output"] else None,
        meta=meta,
        arguments=arguments,
        calls=calls,
        loopback=loopback,
        paid=fn is replace_character,
    )


@cache
def _schemas() -> str:
    return SCHEMAS.read_text("utf-8")


def _hints() -> Iterator[ToolAnnotations]:
    """The annotations of a tool that asks PixelDojo, reads, spends, withdraws, or marks."""
    asks_pixeldojo = ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
    )
    spends = ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
    )
    reads_ledger = asks_pixeldojo.model_copy(update={"open_world_hint": False})
    withdraws = reads_ledger.model_copy(update={"read_only_hint": False, "destructive_hint": True})
    marks = withdraws.model_copy(update={"destructive_hint": False})
    yield from (asks_pixeldojo, reads_ledger, spends, withdraws, marks)
