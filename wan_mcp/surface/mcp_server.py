"""The SDK's server, extended where the SDK has no public way."""

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

from wan_mcp.surface.calls import JOBS
from wan_mcp.surface.resources import JobResources
from wan_mcp.surface.subscriptions import Subscriptions

L = TypeVar("L")


class WanServer(MCPServer[L]):
    """The SDK's server, with resources that are told who reads them and have a type each."""

    _resources: JobResources

    def serve(self, shelf: JobResources, subscriptions: Subscriptions) -> None:
        """Have these resources listed, read, completed and subscribed to."""
        self._resources = shelf
        # No public way: `completion` is not told who asks, and nobody may subscribe.
        low = self._lowlevel_server
        low.add_request_handler("completion/complete", CompleteRequestParams, shelf.complete)
        low.add_request_handler(
            "subscriptions/listen", SubscriptionsListenRequestParams, subscriptions.listen
        )
        low.add_request_handler(
            "resources/subscribe", SubscribeRequestParams, subscriptions.subscribe
        )
        low.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, subscriptions.unsubscribe
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
        return [*self._resources.listed, *await super().list_resources()]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """One job, and its films."""
        return [*self._resources.templates, *await super().list_resource_templates()]

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
        return [await self._resources.read(str(uri), context)]
