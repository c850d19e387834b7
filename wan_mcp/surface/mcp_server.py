"""The SDK's server with what this server needs and the SDK offers no hook for."""

from __future__ import annotations  # otherwise pydantic makes a model of each Context[...]

from collections.abc import Iterable
from typing import Any, TypeVar

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    CompleteRequestParams,
    GetPromptResult,
    InputRequiredResult,
    Resource,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)
from pydantic import AnyUrl

from wan_mcp.surface.calls import JOBS_URI, switched_off
from wan_mcp.surface.resources import JobResources
from wan_mcp.surface.subscriptions import Subscriptions
from wan_mcp.surface.tools import KEEP_VIDEO

L = TypeVar("L")


class WanServer(MCPServer[L]):
    """The SDK's server, extended by inheritance for three reasons.

    * A resource of the SDK has one MIME type that is fixed when it is registered. A saved video
      has the type of its file, so the jobs' resources are read here.
    * The SDK answers an unknown tool or prompt without the names that exist, and logs an unknown
      prompt as a defect of the server.
    * A completion handler of the SDK does not get the request's context, so it cannot know whose
      jobs to complete; and there is no hook for subscriptions. Both are registered on the SDK's
      low-level server, which only a subclass may reach.
    """

    _job_resources: JobResources
    _off: frozenset[str] = frozenset()

    def switch_off(self, tools: frozenset[str]) -> None:
        """Say of these tools, which are not registered, that the operator wants it so."""
        self._off = tools

    def add_jobs(self, resources: JobResources, subscriptions: Subscriptions) -> None:
        """Offer jobs as resources that can be listed, read, completed and subscribed to."""
        self._job_resources = resources
        low_level = self._lowlevel_server
        low_level.add_request_handler(
            "completion/complete", CompleteRequestParams, resources.complete
        )
        low_level.add_request_handler(
            "subscriptions/listen", SubscriptionsListenRequestParams, subscriptions.listen
        )
        low_level.add_request_handler(
            "resources/subscribe", SubscribeRequestParams, subscriptions.subscribe
        )
        low_level.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, subscriptions.unsubscribe
        )

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[L, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """A tool's answer. Raises ToolError with the existing names for an unknown one."""
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError:
            # Only for an error: the list is made each time, which would slow down every call.
            names = [tool.name for tool in await self.list_tools()]
            if name in names:
                raise
            if name in self._off:
                raise ToolError(f"{switched_off(name)} Tell the user.") from None
            # keep_video is for pages, and a model has read the rest.
            known = ", ".join(each for each in names if each != KEEP_VIDEO)
            raise ToolError(f"There is no tool {name!r}, only {known}.") from None

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[L, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """A prompt. Raises MCPError with the existing names for an unknown one."""
        names = [prompt.name for prompt in await self.list_prompts()]
        if name not in names:
            only = f", only {', '.join(names)}" if names else ""
            raise MCPError(INVALID_PARAMS, f"There is no such prompt{only}.")
        return await super().get_prompt(name, arguments, context)

    async def list_resources(self) -> list[Resource]:
        """The list of jobs, and the resources of extensions."""
        return [*self._job_resources.resources, *await super().list_resources()]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """The templates of one job and its videos, and those of extensions."""
        return [*self._job_resources.templates, *await super().list_resource_templates()]

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[L, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """A resource of the jobs, or of an extension. Raises MCPError."""
        if context is None or not str(uri).startswith(JOBS_URI):
            return await super().read_resource(uri, context)
        return [await self._job_resources.read(str(uri), context)]
