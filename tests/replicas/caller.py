"""A host of MCP over HTTP in its plainest form: one request, and what comes back for it."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from tests.ledger.stores import HANG_SECONDS

REVISION = "2026-07-28"
NAMED_BY = {"tools/call": "name", "resources/read": "uri"}
"""The methods whose request says in a header what it is about, and the parameter that says it."""


class Cut(Exception):
    """No answer came: the connection ended before, or what came is not an answer of MCP."""


class Exchange:
    """One request whose answer has begun.

    Attributes:
        replica: which one answers, as HAProxy names it; empty without HAProxy.
        status: that of HTTP.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.replica = response.headers.get("x-replica", "")
        self._messages = _messages(response)

    async def message(self) -> dict[str, Any]:
        """The next message: what the server notifies of, and the answer in the end. Raises Cut."""
        try:
            return await anext(self._messages)
        except httpx.TransportError as error:
            raise Cut(f"{type(error).__name__}: {error}") from error
        except StopAsyncIteration:
            raise Cut("the stream ended without an answer") from None

    async def answer(self) -> dict[str, Any]:
        """What the request is answered with: its result, or an error. Raises Cut."""
        while "id" not in (message := await self.message()):
            pass
        return message


async def _messages(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    if response.headers["content-type"].startswith("text/event-stream"):
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line[6:])
    else:
        yield json.loads(await response.aread())


def data_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The data of a tool's answer."""
    assert "result" in answer, answer
    data: dict[str, Any] = answer["result"]["structuredContent"]
    return data


class Caller:
    """A host.

    Args:
        url: of the server, or of what stands in front of several.
        extensions: of MCP that it declares.
        headers: that say who calls.
        trusts: the authorities behind the server's certificate, if it has one.
    """

    def __init__(
        self,
        url: str,
        *,
        extensions: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        trusts: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            trust_env=False,
            timeout=HANG_SECONDS,
            headers=dict(headers or {}),
            verify=trusts or True,
        )
        can = {"elicitation": {"form": {}}, "extensions": dict(extensions or {})}
        self._about = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": can,
        }

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, where)

    def calling(self, tool: str, **arguments: Any) -> AbstractAsyncContextManager[Exchange]:
        """The same as `asked` for a call of a tool."""
        return self.asked("tools/call", name=tool, arguments=arguments)

    @asynccontextmanager
    async def asked(self, method: str, **params: Any) -> AsyncIterator[Exchange]:
        """Make a request. Leaving the block ends it, whether its answer is there or not.

        Raises:
            Cut: the server, or what stands in front of it, does not answer.
        """
        about = {**self._about, "progressToken": 1}
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": REVISION,
            "mcp-method": method,
        }
        if method in NAMED_BY:
            headers["mcp-name"] = params[NAMED_BY[method]]
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": about}}
        try:
            async with self._client.stream("POST", self._url, json=body, headers=headers) as answer:
                if answer.status_code >= 500:
                    raise Cut(f"status {answer.status_code}")
                yield Exchange(answer)
        except httpx.TransportError as error:
            raise Cut(f"{type(error).__name__}: {error}") from error

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a request. Raises Cut."""
        async with self.asked(method, **params) as exchange:
            return await exchange.answer()

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The data of a tool's answer. Raises Cut."""
        return data_of(await self.ask("tools/call", name=tool, arguments=arguments))
