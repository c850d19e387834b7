"""Jobs and their videos as resources, for hosts that read resources. The tools can do the same."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resources import TextResource
from mcp.types import (
    CompleteRequestParams,
    CompleteResult,
    Completion,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
)

from wan_mcp.errors import Code, NotFound
from wan_mcp.models import JOB_ID, JobList, JobResult
from wan_mcp.surface.calls import JOBS_URI, Call, Calls, RequestContext
from wan_mcp.surface.video_views import makes_contact_sheets
from wan_mcp.videos.in_storage.saved_link import SavedLink
from wan_mcp.videos.job_files import Blob

CODES_URI = "wan://codes"
MAX_ENDED_JOBS = 20
"""How many ended jobs the list shows; unfinished ones are always in it."""
LINK_TYPE = "text/uri-list"
"""The type of a link that stands for a video in object storage (RFC 2483)."""
MAX_COMPLETIONS = 100
"""Values in one completion (MCP specification)."""

_URI = re.compile(rf"{JOBS_URI}(?:/(?P<id>{JOB_ID})(?:/(?P<part>video|film|source|poster))?)?")


class JobResources:
    """The resources of one server.

    Args:
        with_videos: whether the videos of jobs are resources too.
    """

    def __init__(self, calls: Calls, *, with_videos: bool) -> None:
        self._calls = calls
        self._with_videos = with_videos

    @property
    def resources(self) -> list[Resource]:
        """The list of jobs, where a tool lists them too."""
        jobs = Resource(
            uri=JOBS_URI,
            name="jobs",
            title="Recent jobs",
            description="This user's jobs, newest first. Free.",
            mime_type="application/json",
        )
        return [jobs] if self._calls.offers("list_jobs") else []

    @property
    def templates(self) -> list[ResourceTemplate]:
        """One job, where a tool looks at it too, and what can be shown of its videos."""
        job = _template("job", "A job", "How a job stands. Free.", "application/json")
        return [
            *([job] if self._calls.offers("get_job_status") else []),
            *(_video_templates() if self._with_videos else []),
        ]

    async def read(self, uri: str, context: Context[Any, Any]) -> ReadResourceContents:
        """The content of one resource. Raises MCPError."""
        async with self._calls.as_mcp_errors(uri=uri):
            match = _URI.fullmatch(uri)
            if match is None or (match["part"] and not self._with_videos):
                next_step = f"Read {JOBS_URI} for all jobs."
                raise NotFound("There is no such resource.", next_step=next_step)
            if match["part"] is None:
                self._calls.require("get_job_status" if match["id"] else "list_jobs")
            call = await self._calls.open(context)
            if match["id"] is None:
                return _json(await call.job_list(None, MAX_ENDED_JOBS))
            if match["part"] is None:
                return _json(await call.job_result(await call.jobs.check(match["id"])))
            return await _video(call, match["id"], match["part"])

    async def complete(self, ctx: RequestContext, params: CompleteRequestParams) -> CompleteResult:
        """The ids of recent jobs, for the variable of the templates."""
        ref, argument = params.ref, params.argument
        is_ours = isinstance(ref, ResourceTemplateReference) and any(
            ref.uri == template.uri_template for template in self.templates
        )
        ids: list[str] = []
        if is_ours and argument.name == "job_id" and self._calls.offers("list_jobs"):
            async with self._calls.as_mcp_errors():
                jobs = (await self._calls.open(ctx)).jobs
                ids = [view.id for view in await jobs.recent(None, MAX_COMPLETIONS)]
        matching = [id for id in ids if id.startswith(argument.value)]
        has_more = len(matching) > MAX_COMPLETIONS
        return CompleteResult(
            completion=Completion(values=matching[:MAX_COMPLETIONS], has_more=has_more)
        )


def codes() -> TextResource:
    """What each `code` of an answer means: the schemas of the tools only list them."""
    explained = {code: code.explanation for code in Code}
    return TextResource(
        uri=CODES_URI,
        name="codes",
        title="Codes of answers",
        description="What each code of an answer means.",
        mime_type="application/json",
        text=json.dumps(explained, indent=1),
    )


async def _video(call: Call, id: str, part: str) -> ReadResourceContents:
    views = call.video_views
    readers: dict[str, Callable[[str], Awaitable[Blob | SavedLink]]] = {
        "video": views.saved_video,
        "film": views.saved_video,  # its name in earlier versions
        "source": views.source_video,
        "poster": views.contact_sheet,
    }
    shown = await readers[part](id)
    if isinstance(shown, SavedLink):
        return ReadResourceContents(f"{shown.url}\r\n", LINK_TYPE)
    return ReadResourceContents(shown.data, shown.mime_type)


def _json(result: JobResult | JobList) -> ReadResourceContents:
    return ReadResourceContents(result.model_dump_json(exclude_none=True), "application/json")


def _video_templates() -> list[ResourceTemplate]:
    frames = "A few frames of the saved video of a job."
    contact_sheet = _template("poster", "A poster", frames, "image/jpeg")
    return [
        _template("video", "A finished video", "The saved video of a job, when it is small."),
        _template("source", "A source clip", "The clip that a job was made from, when small."),
        *([contact_sheet] if makes_contact_sheets() else []),
    ]


def _template(
    name: str, title: str, description: str, mime_type: str | None = None
) -> ResourceTemplate:
    end = "" if name == "job" else f"/{name}"
    return ResourceTemplate(
        uri_template=f"{JOBS_URI}/{{job_id}}{end}",
        name=name,
        title=title,
        description=description,
        mime_type=mime_type,
    )
