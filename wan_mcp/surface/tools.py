"""The tools: describe, call Jobs, present. The one place where our errors become answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, Icon, InputRequiredResult, ToolAnnotations
from pydantic import BaseModel

from wan_mcp.errors import WanError
from wan_mcp.models import JobList, JobResult
from wan_mcp.surface import consent
from wan_mcp.surface.answers import results
from wan_mcp.surface.arguments import (
    Arguments,
    GetJobStatus,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
    read_arguments,
)
from wan_mcp.surface.calls import Call, OpenCall, answer_of
from wan_mcp.surface.schema import portable
from wan_mcp.surface.video_views import visible_to

if TYPE_CHECKING:
    from wan_mcp.polling.waits import JobUpdate

ICON = Icon(
    src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Cpath d='M4 0a2 2 0 10.01 0M0 8a4 4 0 018 0'/%3E%3C/svg%3E",
)
PLAYER = {"ui": {"resourceUri": "ui://wan-mcp/player.html"}}
"""The page on which a host may show an answer (MCP Apps); `app.page` has it."""

logger = logging.getLogger(__name__)


class WanTool(Tool):
    """A tool with arguments of ours: closed, forgiving, and refused in words of ours.

    The SDK's own reading drops unknown arguments without a word, so that a misspelt paid option
    runs with its default, and its refusals repeat the caller's data.
    """

    arguments: type[Arguments]
    open_call: OpenCall
    loopback: bool
    paid: bool

    async def run(
        self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False
    ) -> CallToolResult | InputRequiredResult:
        """Answer one call; a failure is an answer too, with the same fields."""
        try:
            given = read_arguments(self.arguments, arguments, loopback=self.loopback)
            call = self.open_call(context)
            call.jobs.require_key()  # without a key there is no account whose jobs to tell of
            result = await self.fn(given, call)
            return result if isinstance(result, InputRequiredResult) else await call.answer(result)
        except WanError as failure:
            return answer_of(results.failure_result(failure), failed=True)
        except Exception:
            logger.exception("%s broke", self.name)
            return answer_of(_broken(self.name, self.paid), failed=True)


async def replace_character(given: ReplaceCharacter, call: Call) -> JobResult | InputRequiredResult:
    """Start one paid job that puts a picture's person in the place of the person in a video.

    It costs PixelDojo credits, takes minutes, and returns a job_id at once: pass that to
    wait_for_job. Both inputs must be direct links that PixelDojo can fetch; best is one clearly
    visible person. An equal call soon after returns the same job at no cost; another seed makes
    another take. When an answer is lost or unclear, follow `next`.
    """
    await call.progress(0, "Preparing the job")
    wanted, estimate = given.replacement(), None
    if call.confirm_above is not None and not await call.jobs.joins(wanted):
        estimate = await call.jobs.estimate()
        question = consent.question(estimate, call.confirm_above)
        if question and (asking := await consent.ask(call.context, question)):
            return asking
    submitted = await call.jobs.submit(wanted, estimate)
    seen = replace(submitted, view=visible_to(submitted.view, local=call.local))
    return results.submit_result(seen, now=call.jobs.clock.wall())


async def get_job_status(given: GetJobStatus, call: Call) -> JobResult:
    """Look once how a job stands. Free. To wait for the film use wait_for_job, not a loop."""
    return await call.told(await call.jobs.check(given.job_id))


async def wait_for_job(given: WaitForJob, call: Call) -> JobResult:
    """Wait until a job has ended, at most timeout_seconds. Free.

    If it is still submitting or running, call again. The video_url of a completed job is a
    temporary link: have the film saved at once.
    """
    await call.progress(0, "Looking at the job")
    update: JobUpdate | None = None
    looks = 0
    async with aclosing(call.jobs.watch(given.job_id, given.timeout_seconds)) as watching:
        async for update in watching:
            looks += 1
            await call.progress(looks, results.progress_note(update, await call.jobs.typical()))
    assert update is not None  # what is known is told at least once
    return await call.told(update)


async def list_jobs(given: ListJobs, call: Call) -> JobList:
    """List this user's jobs, newest first, with those whose outcome is unknown. Free."""
    return await call.listed(given.status, given.limit)


def build_tools(open_call: OpenCall, *, loopback: bool) -> list[Tool]:
    """The tools of one server.

    Args:
        open_call: finds what a call works with.
        loopback: accept media addresses on this machine (only while the API is there too).
    """

    def tool(
        title: str,
        fn: Callable[[Any, Call], Awaitable[Any]],
        arguments: type[Arguments],
        answers: type[BaseModel],
        hints: ToolAnnotations,
    ) -> Tool:
        return WanTool(
            fn=fn,
            name=fn.__name__,
            title=title,
            description=" ".join((fn.__doc__ or "").split()),
            parameters=portable(arguments),
            fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=portable(answers)),
            is_async=True,
            context_kwarg=None,
            annotations=hints,
            icons=[ICON],
            meta=PLAYER if answers is JobResult else None,
            arguments=arguments,
            open_call=open_call,
            loopback=loopback,
            paid=not hints.read_only_hint,
        )

    reads, local, spends = _hints()
    return [
        tool("Replace a character", replace_character, ReplaceCharacter, JobResult, spends),
        tool("Look at a job", get_job_status, GetJobStatus, JobResult, reads),
        tool("Wait for a job", wait_for_job, WaitForJob, JobResult, reads),
        tool("List jobs", list_jobs, ListJobs, JobList, local),
    ]


def _hints() -> tuple[ToolAnnotations, ToolAnnotations, ToolAnnotations]:
    """What hosts are told: a read of PixelDojo, a read of our own ledger, a purchase."""
    reads = ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
    )
    spends = ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
    )
    return reads, reads.model_copy(update={"open_world_hint": False}), spends


def _broken(name: str, paid: bool) -> JobResult:
    careful = "Do not repeat it: call list_jobs first, to see whether a job was started."
    return JobResult(
        message=f"{name} hit a defect of wan-mcp; the server's log has the details.",
        charged="unknown" if paid else "no",
        retry_safe=not paid,
        code="internal_error",
        next=careful if paid else "Call it once more; if that fails too, tell the user.",
    )
