"""One call: what a tool works with besides its arguments, and how hosts are given its answer."""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    ContentBlock,
    ImageContent,
    TextContent,
)

from wan_mcp.errors import NotFound, WanError
from wan_mcp.models import JobList, JobResult, JobStatus
from wan_mcp.surface.answers import results
from wan_mcp.surface.answers.text import duration, text
from wan_mcp.surface.video_views import visible_to
from wan_mcp.videos.job_files import Blob

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.polling.waits import JobUpdate

Asked = ServerRequestContext[Any, Any]

JOBS = "wan://jobs"
"""The jobs as a resource; under it, each by its id."""

Progress = Callable[[float, str], Awaitable[None]]
Result = JobResult | JobList

BOUGHT = frozenset(JobStatus) - {JobStatus.REFUSED, JobStatus.NOT_SENT}
"""What a list shows unasked: a few refusals would push every film out of it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """What a tool works with besides its arguments.

    Attributes:
        jobs: the caller's jobs.
        progress: tells a waiting person how far it is; the number only has to grow.
        confirm_above: credits above which a person has to say yes; None never asks.
        context: the SDK's own, through which the host is asked.
        local: whether paths of this machine mean something to the caller.
        poster: a few frames of a job's saved film; None where none are to be shown.
    """

    jobs: Jobs
    progress: Progress
    confirm_above: float | None
    context: Context[Any, Any]
    local: bool = False
    contact_sheet: Callable[[str], Awaitable[Blob | None]] | None = None

    async def told(self, update: JobUpdate) -> JobResult:
        """News of a job, as this caller can use it. Raises what kept us from learning of it."""
        now, typical = self.jobs.clock.wall(), await self.jobs.typical()
        seen = replace(update, view=visible_to(update.known(), local=self.local))
        return results.update_result(seen, now=now, typical=typical)

    async def listed(self, status: JobStatus | None, limit: int) -> JobList:
        """The caller's jobs: all that go on, and the newest ended ones of a status."""
        views = await self.jobs.recent(BOUGHT if status is None else {status}, limit + 1)
        now = self.jobs.clock.wall()
        return results.list_result(views, now=now, status=status, limit=limit)

    async def answer(self, result: Result) -> CallToolResult:
        """A result as hosts are given it."""
        if isinstance(result, JobList):
            return answer_of(result)
        is_film = result.status is JobStatus.COMPLETED and result.size is not None
        video_views = (
            self.contact_sheet and is_film and await self.contact_sheet(result.job_id or "")
        )
        typical = await self.jobs.typical()
        for_player = None if typical is None else {"typically": duration(typical)}
        return answer_of(result, picture=video_views or None, meta=for_player)


OpenCall = Callable[[Context[Any, Any]], Call]


def answer_of(
    result: Result,
    *,
    failed: bool = False,
    picture: Blob | None = None,
    meta: dict[str, Any] | None = None,
) -> CallToolResult:
    """A result as data and as text: some hosts show a model only one of the two."""
    caption = "\nPicture: frames of the film." if picture else ""
    content: list[ContentBlock] = [TextContent(type="text", text=text(result) + caption)]
    if picture is not None:
        data = base64.b64encode(picture.data).decode()
        content.append(ImageContent(type="image", data=data, mime_type=picture.mime_type))
    return CallToolResult(
        content=content,
        structured_content=result.model_dump(mode="json", exclude_none=True),
        is_error=failed,
        _meta=meta,
    )


@contextmanager
def as_mcp_errors(**data: str) -> Iterator[None]:
    """Turns what goes wrong within it into an error that says what to do.

    An unexpected exception is logged and not told: to a host of a handshake revision the SDK
    would send its text (observed).

    Args:
        data: what the error names besides, as `uri`.
    """
    try:
        yield
    except MCPError:
        raise
    except WanError as failure:
        code = INVALID_PARAMS if isinstance(failure, NotFound) else INTERNAL_ERROR
        words = f"{failure.what} {failure.next_step}"
        raise MCPError(code, words, data or None) from failure
    except Exception as broken:
        logger.exception("an answer broke")
        words = "This hit a defect of wan-mcp; the server's log has the details."
        raise MCPError(INTERNAL_ERROR, words, data or None) from broken


def opened(open_call: OpenCall, asked: Asked) -> Call:
    """What the caller of a request works with. Raises NoKey."""
    call = open_call(Context(request_context=asked))
    call.jobs.require_key()  # without a key there is no account whose jobs to tell of
    return call
