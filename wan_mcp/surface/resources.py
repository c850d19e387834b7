"""Jobs and films as resources: an extra for hosts that read them; the tools stay the contract."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from mcp.server.apps import Apps, ResourceCsp
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resources import FunctionResource
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptResult,
    InputRequiredResult,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)
from pydantic import AnyUrl

from wan_mcp.errors import NotFound
from wan_mcp.models import JOB_ID, JobList, JobResult
from wan_mcp.surface.boundary import JOBS, Asked, in_words, opened
from wan_mcp.surface.calls import Call, OpenCall
from wan_mcp.surface.subscriptions import Notices
from wan_mcp.videos.gallery import Blob, makes_posters

RECENT = 20
"""How many ended jobs the list has, besides all that go on."""
MOST_COMPLETED = 100
"""Ids in one completion (MCP specification)."""

_URI = re.compile(rf"{JOBS}(?:/(?P<id>{JOB_ID})(?:/(?P<part>film|source|poster))?)?")

L = TypeVar("L")


class Media(Protocol):
    """What can be shown of a job; raises NotFound, with the reason, for what cannot."""

    async def film(self, id: str) -> Blob: ...
    async def source(self, id: str) -> Blob: ...
    async def poster(self, id: str) -> Blob: ...


OpenMedia = Callable[[Context[Any, Any]], Media]


class Shelf:
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
        with in_words(uri=uri):
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
            with in_words():
                jobs = opened(self._open_call, asked).jobs
                ids = [known.id for known in await jobs.recent(None, MOST_COMPLETED)]
        fit = [id for id in ids if id.startswith(about.value)]
        more = len(fit) > MOST_COMPLETED
        return CompleteResult(completion=Completion(values=fit[:MOST_COMPLETED], has_more=more))

    async def _film(self, id: str, part: str, context: Context[Any, Any]) -> ReadResourceContents:
        assert self._open_media is not None
        media = self._open_media(context)
        ways = {"film": media.film, "source": media.source, "poster": media.poster}
        blob = await ways[part](id)
        return ReadResourceContents(blob.data, blob.mime_type)


class WanServer(MCPServer[L]):
    """The SDK's server, with resources that are told who reads them and have a type each."""

    _shelf: Shelf

    def serve(self, shelf: Shelf, notices: Notices) -> None:
        """Have these resources listed, read, completed and subscribed to."""
        self._shelf = shelf
        # No public way: `completion` is not told who asks, and nobody may subscribe.
        low = self._lowlevel_server
        low.add_request_handler("completion/complete", CompleteRequestParams, shelf.complete)
        low.add_request_handler(
            "subscriptions/listen", SubscriptionsListenRequestParams, notices.listen
        )
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, notices.subscribe)
        low.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, notices.unsubscribe
        )

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[L, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """A tool's answer. Raises ToolError, with the names that there are, for an unknown one."""
        names = [tool.name for tool in await self.list_tools()]
        if name not in names:
            raise ToolError(f"There is no tool {name[:80]!r}, only {', '.join(names)}.")
        return await super().call_tool(name, arguments, context)

    async def list_resources(self) -> list[Resource]:
        """The jobs, and what extensions brought."""
        return [*self._shelf.listed, *await super().list_resources()]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """One job, and its films."""
        return [*self._shelf.templates, *await super().list_resource_templates()]

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[L, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """A prompt. Raises MCPError for one that there is not, which the SDK takes for a defect."""
        names = [prompt.name for prompt in await self.list_prompts()]
        if name not in names:
            raise MCPError(INVALID_PARAMS, f"There is no such prompt, only {', '.join(names)}.")
        return await super().get_prompt(name, arguments, context)

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[L, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """One of ours, or an extension's."""
        if context is None or not str(uri).startswith(JOBS):
            return await super().read_resource(uri, context)
        return [await self._shelf.read(str(uri), context)]


def player(api_base: str) -> Apps:
    """The player page for hosts that show pages (MCP Apps); the tools name it in their `_meta`.

    Args:
        api_base: where the API is; films may lie beside it.
    """
    from wan_mcp.surface import player

    csp = ResourceCsp(resource_domains=player.media_origins(api_base))
    ui = {"csp": csp.model_dump(by_alias=True, exclude_none=True), "prefersBorder": True}
    apps = Apps()
    apps.add_resource(
        FunctionResource(
            uri=player.URI,
            name="player",
            title="Player",
            mime_type=player.MIME_TYPE,
            meta={"ui": ui},
            fn=lambda: player.player(api_base),
        )
    )
    return apps


async def _job(call: Call, id: str) -> JobResult:
    return await call.told(await call.jobs.check(id))


def _json(result: JobResult | JobList) -> ReadResourceContents:
    return ReadResourceContents(result.model_dump_json(exclude_none=True), "application/json")


def _films() -> list[ResourceTemplate]:
    about = "A few frames of the saved film of a job."
    poster = _template("poster", "A poster", about, "image/jpeg")
    return [
        _template("film", "A film", "The saved film of a job, when it is small."),
        _template("source", "A source clip", "The clip that a job was made from, when small."),
        *([poster] if makes_posters() else []),
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
