"""Asks a server for the answers that the front desk may give, in every revision of the protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCRequest, JSONRPCResponse
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from wan_mcp.front_desk.snapshot import TOOLS, TOOLS_FOR_PAGES

LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
_CLIENT = {"name": "front desk", "version": "1"}
_NO_REVISION = "0"
Capabilities = Mapping[str, Any]
_NONE: Capabilities = {}
_SHOWS_PAGES: Capabilities = {"extensions": {EXTENSION_ID: {"mimeTypes": [APP_MIME_TYPE]}}}

Ask = Callable[..., Awaitable[dict[str, Any] | None]]
"""Sends one request to a session. Returns the result; None for an error."""


async def record(low: Server[Any], state: object) -> dict[str, Any]:
    """A snapshot of the answers, without the versions to which it applies.

    Args:
        low: the server.
        state: what its lifespan provides to every request.
    """
    results: list[dict[str, Any]] = []
    revisions: dict[str, dict[str, int]] = {}

    async def note(revision: str, method: str, answer: Awaitable[dict[str, Any] | None]) -> None:
        result = await answer
        if result is None:
            return
        if result not in results:
            results.append(result)
        revisions.setdefault(revision, {})[method] = results.index(result)

    for revision in HANDSHAKE_PROTOCOL_VERSIONS:
        async with _session(low, state) as ask:
            await note(revision, "initialize", ask("initialize", **_hello(revision)))
            for method in ("ping", *LISTS):
                await note(revision, method, ask(method))
        async with _session(low, state) as ask:
            await ask("initialize", **_hello(revision, _SHOWS_PAGES))
            await note(revision, TOOLS_FOR_PAGES, ask(TOOLS))
    for revision in MODERN_PROTOCOL_VERSIONS:
        async with _session(low, state) as ask:
            for method in ("server/discover", *LISTS):
                await note(revision, method, ask(method, _meta=_envelope(revision)))
            shown = ask(TOOLS, _meta=_envelope(revision, _SHOWS_PAGES))
            await note(revision, TOOLS_FOR_PAGES, shown)
    async with _session(low, state) as ask:
        offered = await ask("initialize", **_hello(_NO_REVISION)) or {}
    return {
        "counter_offer": offered["protocolVersion"],
        "revisions": revisions,
        "results": results,
    }


def _hello(revision: str, capabilities: Capabilities = _NONE) -> dict[str, Any]:
    return {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": _CLIENT}


def _envelope(revision: str, capabilities: Capabilities = _NONE) -> dict[str, Any]:
    prefix = "io.modelcontextprotocol/"
    return {
        f"{prefix}protocolVersion": revision,
        f"{prefix}clientInfo": _CLIENT,
        f"{prefix}clientCapabilities": capabilities,
    }


@asynccontextmanager
async def _session(low: Server[Any], state: object) -> AsyncIterator[Ask]:
    """A session of its own with the server."""
    send, requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outbox, answers = anyio.create_memory_object_stream[SessionMessage](0)
    ids = count(1)

    async def ask(method: str, **params: Any) -> dict[str, Any] | None:
        request = JSONRPCRequest(jsonrpc="2.0", id=next(ids), method=method, params=params or None)
        await send.send(SessionMessage(request))
        message = (await answers.receive()).message
        return message.result if isinstance(message, JSONRPCResponse) else None

    async def serve() -> None:
        await serve_dual_era_loop(low, requests, outbox, lifespan_state=state)

    async with send, answers, anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield ask
        tasks.cancel_scope.cancel()
