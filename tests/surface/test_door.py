"""What is decided about every request before anything else sees it."""

import logging
from dataclasses import dataclass
from typing import Any, cast

import anyio
import pytest
from mcp.client import Client
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS
from opentelemetry import trace

from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.surface.calls import RequestContext
from wan_mcp.surface.door import NOT_A_NAME, PlainNames, SpansIfRecorded, refuse_cursors

pytestmark = pytest.mark.anyio

SECRET = "letters-only-secret"
KEY = "pd_4f9a0c2e77b1d3a9"


@dataclass
class Request:
    """The part of the SDK's context that the middleware reads."""

    method: str
    params: dict[str, Any] | None = None


async def passed(method: str, **params: Any) -> Request:
    """The request as everything behind the middleware sees it."""
    seen: list[Request] = []

    async def inner(ctx: RequestContext) -> None:
        seen.append(cast(Request, ctx))

    await PlainNames(SECRET)(cast(RequestContext, Request(method, params)), inner)
    return seen[0]


@pytest.mark.parametrize("method", ["tools/call", "server/discover", "io.example/x.y_z"])
async def test_method_passes_as_it_is(method: str) -> None:
    """Methods of extensions too (MCP specification)."""
    assert (await passed(method)).method == method


@pytest.mark.parametrize(
    "given",
    [KEY, SECRET, f"tools/{SECRET}", "sk-abc", "a" * 90, "4f9a0c2e77b1", "x y", "a\nb", "\u202ex"],
)
async def test_what_is_no_name_is_replaced_before_anything_sees_it(given: str) -> None:
    """A key in the wrong place must not reach an answer or the log (ours)."""
    called = await passed("tools/call", name=given, arguments={"a": 1})

    assert called.params == {"name": NOT_A_NAME, "arguments": {"a": 1}}
    assert (await passed(given)).method == NOT_A_NAME


@pytest.mark.parametrize(
    "uri",
    [f"wan://jobs/{KEY}", f"x://{SECRET}", "file:///etc/passwd?key=1", KEY, "x://" + "a" * 300],
)
async def test_odd_uri_is_refused_without_being_repeated(uri: str) -> None:
    """The SDK repeats and logs the URI of an unknown resource (observed)."""
    with pytest.raises(MCPError) as caught:
        await passed("resources/read", uri=uri)

    assert caught.value.error.code == INVALID_PARAMS
    assert uri not in f"{caught.value.error.message} {caught.value.error.data}"


@pytest.mark.parametrize(
    "uri", ["wan://jobs", "wan://jobs/job_1/video", "ui://wan-mcp/player.html"]
)
async def test_uri_of_this_server_passes(uri: str) -> None:
    """The ids of jobs have digits (vendor)."""
    assert (await passed("resources/read", uri=uri)).params == {"uri": uri}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_key_in_the_place_of_a_name_is_neither_answered_nor_logged(
    mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Users publish the logs of their hosts (observed elsewhere)."""
    caplog.set_level(logging.DEBUG)
    server = build_server(Settings.read({"PIXELDOJO_API_KEY": KEY}))
    answers: list[str] = []
    with anyio.fail_after(600):
        async with Client(server, mode=mode) as client:
            answers.append(str(await client.call_tool(KEY, {})))
            for ask in (client.read_resource(f"wan://jobs/{KEY}"), client.get_prompt(KEY)):
                with pytest.raises(MCPError) as caught:
                    await ask
                answers.append(f"{caught.value.error}")

    logged = [entry.getMessage() for entry in caplog.records if entry.name.startswith("mcp.server")]
    assert KEY not in "".join(answers)
    assert KEY not in "".join(logged)
    assert "only replace_character" in answers[0]


@pytest.mark.parametrize("records", [False, True])
async def test_a_span_is_made_only_if_something_records_it(
    records: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as a call waits, its span costs memory (measured)."""
    made: list[str] = []

    async def spans(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        made.append(ctx.method)
        return await call_next(ctx)

    async def inner(ctx: RequestContext) -> dict[str, Any]:
        return {"answer": 1}

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace.NoOpTracerProvider() if records else None)
    ctx = cast(RequestContext, Request("tools/call"))
    assert await SpansIfRecorded(spans)(ctx, inner) == {"answer": 1}
    assert made == ["tools/call"] * records


def test_the_server_makes_spans_in_no_other_way() -> None:
    """The SDK's middleware is found by its name, which the SDK might change (ours)."""
    middleware = build_server(Settings.read({})).middleware

    assert sum(isinstance(each, SpansIfRecorded) for each in middleware) == 1
    assert "Telemetry" not in "".join(type(each).__name__ for each in middleware)


LISTS = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]


@pytest.mark.parametrize("method", LISTS)
async def test_made_up_cursor_is_refused(method: str) -> None:
    """-32602 (MCP specification): page one again would never end a client that follows cursors."""

    async def inner(ctx: RequestContext) -> dict[str, Any]:
        return {"page": 1}

    for cursor in (None, ""):
        context = cast(RequestContext, Request(method, {"cursor": cursor}))
        assert await refuse_cursors(context, inner) == {"page": 1}
    with pytest.raises(MCPError) as caught:
        await refuse_cursors(cast(RequestContext, Request(method, {"cursor": "x"})), inner)
    assert caught.value.error.code == INVALID_PARAMS


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_made_up_cursor_is_refused_on_the_wire(mode: Any) -> None:
    """The middleware is part of the server (ours)."""
    with anyio.fail_after(600):
        async with Client(build_server(Settings.read({})), mode=mode) as client:
            for ask in (client.list_tools, client.list_prompts, client.list_resource_templates):
                assert await ask()
                with pytest.raises(MCPError) as caught:
                    await ask(cursor="x")
                assert caught.value.error.code == INVALID_PARAMS
