"""What is decided about every request before anything else sees it (middleware).

The SDK repeats an unknown name in its answers and its log, although it may be a secret that is
there by mistake. And it answers a list request with the first page, whatever its cursor, so that a
client which follows cursors never ends (observed).
"""

import re
from dataclasses import replace
from typing import Any

from mcp.server.apps import client_supports_apps
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS
from opentelemetry import trace

from wan_mcp.surface.calls import JOBS_URI, RequestContext
from wan_mcp.surface.tools import KEEP_VIDEO, SHOWN_IN_GALLERY

NOT_A_NAME = "(not a name)"
"""Stands in place of a text that a caller gave as a name, and that is none."""
MAX_URI_CHARACTERS = 256

_LISTS = {
    *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    "skills/list",
}
_NAME = r"[A-Za-z$_][A-Za-z_$./:-]{0,63}[0-9]{0,2}"
"""A name has at most two digits, at its end. A key has more."""
_URI = rf"(?a:[a-z][a-z+.-]*://[\w/.~-]{{0,{MAX_URI_CHARACTERS}}})"
_KEY = re.compile(r"(?i)(?<![a-z0-9])(pd|sk|pk)[_-]")


class PlainNames:
    """Middleware that lets only names through that may be repeated in an answer or a log.

    Args:
        secret: the API key; "" when there is none.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """The answer to the request, in which each text that is no name was replaced before."""
        params = dict(ctx.params or {})
        if isinstance(name := params.get("name"), str):
            params["name"] = self._name(name)
        if isinstance(uri := params.get("uri"), str) and not self._may_be_shown(uri, _URI):
            message = f"There is no such resource. Read {JOBS_URI} for all jobs."
            raise MCPError(INVALID_PARAMS, message)
        if params == dict(ctx.params or {}) and self._name(ctx.method) == ctx.method:
            return await call_next(ctx)
        return await call_next(replace(ctx, method=self._name(ctx.method), params=params))

    def _name(self, given: str) -> str:
        return given if self._may_be_shown(given, _NAME) else NOT_A_NAME

    def _may_be_shown(self, given: str, form: str) -> bool:
        has_secret = bool(self._secret) and self._secret in given
        return not has_secret and not _KEY.search(given) and bool(re.fullmatch(form, given))


class SpansIfRecorded:
    """Middleware: the SDK's own, which makes a span of each request, but only if they are recorded.

    If they are not, it would only keep objects in memory while a call is open: 4 MB for a thousand
    waits (measured).
    """

    def __init__(self, spans: ServerMiddleware[Any]) -> None:
        self._spans = spans

    @classmethod
    def among(cls, middleware: list[ServerMiddleware[Any]]) -> list[ServerMiddleware[Any]]:
        """The middleware of a server, with this one in the place of the SDK's."""
        name = "OpenTelemetryMiddleware"
        return [cls(each) if type(each).__name__ == name else each for each in middleware]

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """The answer to the request, with a span around it or without."""
        # Asked each time: another library may begin to record at any time.
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return await call_next(ctx)
        return await self._spans(ctx, call_next)


async def for_pages(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Middleware: only a host that shows pages (MCP Apps) learns what exists only for pages.

    That is the tool that pages call, and the address of the page that shows the list of jobs. Any
    other host would offer that tool to its model.
    """
    result = await call_next(ctx)
    if ctx.method != "tools/list" or not isinstance(result, dict) or client_supports_apps(ctx):
        return result
    tools = [tool for tool in result["tools"] if tool["name"] != KEEP_VIDEO]
    for tool in tools:
        if tool.get("_meta") == SHOWN_IN_GALLERY:
            del tool["_meta"]
    return {**result, "tools": tools}


async def refuse_cursors(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Middleware: refuses cursors (MCP specification: -32602), because every list is one page.

    An empty cursor is the same as none.
    """
    cursor: Any = (ctx.params or {}).get("cursor")
    if ctx.method in _LISTS and cursor not in (None, ""):
        message = "There is no such cursor: the whole list is on its first page."
        raise MCPError(INVALID_PARAMS, message)
    return await call_next(ctx)
