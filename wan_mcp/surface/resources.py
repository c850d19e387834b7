"""Jobs and films as resources: an extra for hosts that read them; the tools stay the contract."""

import re
from collections.abc import Callable
from typing import Any, Protocol

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.types import (
    CompleteRequestParams,
    CompleteResult,
    Completion,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
)

from wan_mcp.errors import NotFound
from wan_mcp.models import JOB_ID, JobList, JobResult
from wan_mcp.surface.calls import JOBS, Asked, Call, OpenCall, as_mcp_errors, opened
from wan_mcp.surface.video_views import makes_contact_sheets
from wan_mcp.videos.job_files import Blob

RECENT = 20
"""How many ended jobs the list has, besides all that go on."""
MOST_COMPLETED = 100
"""Ids in one completion (MCP specification)."""

_URI = re.compile(rf"{JOBS}(?:/(?P<id>{JOB_ID})(?:/(?P<part>film|source|poster))?)?")


class Media(Protocol):
    """What can be shown of a job; raises NotFound, with the reason, for what cannot."""

    async def film(self, id: str) -> Blob: ...
    async def source(self, id: str) -> Blob: ...
    async def contact_sheet(self, id: str) -> Blob: ...


OpenMedia = Callable[[Context[Any, Any]], Media]


class JobResources:
    """The resources of one server.

    Args:
        open_call: finds what a request works with.
        open_media: finds the films; left out, the server has none to show.
    """

    def __init__(self, open_call: OpenCall, open_media: OpenMedia | None = None) -> None:
        self._open_call = open_call
        self._open_media = open_media
        self.listed = [
            Resource(
                uri=JOBS,
                name="jobs",
                title="Recent jobs",
                description="This user's jobs, newest first. Free.",
                mime_type="application/json",
            )
        ]

    @property
    def templates(self) -> list[ResourceTemplate]:
        """One job, and what can be shown of it."""
        job = _template("job", "A job", "How a job stands. Free.", "application/json")
        return [job, *(_films() if self._open_media else [])]

    async def read(self, uri: str, context: Context[Any, Any]) -> ReadResourceContents:
        """One resource. Raises MCPError."""
        with as_mcp_errors(uri=uri):
            found = _URI.fullmatch(uri)
            if found is None or (found["part"] and self._open_media is None):
                raise NotFound("There is no such resource.", next_step=f"Read {JOBS} for all jobs.")
            call = opened(self._open_call, context.request_context)
            if found["id"] is None:
                return _json(await call.listed(None, RECENT))
            if found["part"] is None:
                return _json(await _job(call, found["id"]))
            return await self._film(found["id"], found["part"], context)

    async def complete(self, asked: Asked, params: CompleteRequestParams) -> CompleteResult:
        """The ids of recent jobs, for the templates."""
        ref, about = params.ref, params.argument
        ours = isinstance(ref, ResourceTemplateReference) and any(
            ref.uri == template.uri_template for template in self.templates
        )
        ids: list[str] = []
        if ours and about.name == "job_id":
            with as_mcp_errors():
                jobs = opened(self._open_call, asked).jobs
                ids = [known.id for known in await jobs.recent(None, MOST_COMPLETED)]
        fit = [id for id in ids if id.startswith(about.value)]
        more = len(fit) > MOST_COMPLETED
        return CompleteResult(completion=Completion(values=fit[:MOST_COMPLETED], has_more=more))

    async def _film(self, id: str, part: str, context: Context[Any, Any]) -> ReadResourceContents:
        assert self._open_media is not None
        media = self._open_media(context)
        ways = {"film": media.film, "source": media.source, "poster": media.contact_sheet}
        blob = await ways[part](id)
        return ReadResourceContents(blob.data, blob.mime_type)


async def _job(call: Call, id: str) -> JobResult:
    return await call.told(await call.jobs.check(id))


def _json(result: JobResult | JobList) -> ReadResourceContents:
    return ReadResourceContents(result.model_dump_json(exclude_none=True), "application/json")


def _films() -> list[ResourceTemplate]:
    about = "A few frames of the saved film of a job."
    contact_sheet = _template("poster", "A poster", about, "image/jpeg")
    return [
        _template("film", "A film", "The saved film of a job, when it is small."),
        _template("source", "A source clip", "The clip that a job was made from, when small."),
        *([contact_sheet] if makes_contact_sheets() else []),
    ]


def _template(
    name: str, title: str, description: str, mime_type: str | None = None
) -> ResourceTemplate:
    end = "" if name == "job" else f"/{name}"
    return ResourceTemplate(
        uri_template=f"{JOBS}/{{job_id}}{end}",
        name=name,
        title=title,
        description=description,
        mime_type=mime_type,
    )
