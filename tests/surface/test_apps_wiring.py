"""What hosts are offered besides tools, and that it stays out of the way of all others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.types import TextResourceContents

from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.surface import player
from wan_mcp.transports.http import http_app

pytestmark = pytest.mark.anyio

LOOPBACK = "http://127.0.0.1:8080"
SHOWN = {"replace_character", "get_job_status", "wait_for_job"}


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


def settings(api_base: str = "https://pixeldojo.ai/api/v1") -> Settings:
    return Settings.read({"PIXELDOJO_API_BASE": api_base}, Path())


async def test_tools_that_answer_a_job_name_the_player(mode: str) -> None:
    """The list of jobs is text (MCP Apps 2026-01-26)."""
    async with Client(build_server(settings()), mode=mode) as client:
        tools = (await client.list_tools()).tools
    named = {tool.name: tool.meta for tool in tools}

    assert {name for name, meta in named.items() if meta} == SHOWN
    assert all(named[name] == {"ui": {"resourceUri": player.PLAYER_URI}} for name in SHOWN)


@pytest.mark.parametrize(
    ("api_base", "origins"),
    [
        ("https://pixeldojo.ai/api/v1", [player.MEDIA_ORIGIN]),
        (f"{LOOPBACK}/api/v1", [player.MEDIA_ORIGIN, LOOPBACK]),
    ],
)
async def test_the_player_may_load_videos_and_nothing_else(
    mode: str, api_base: str, origins: list[str]
) -> None:
    """The same rights in the list and with the page, for hosts read either (MCP Apps)."""
    ui = {"csp": {"resourceDomains": origins}, "prefersBorder": True}
    async with Client(build_server(settings(api_base)), mode=mode) as client:
        listed = {str(each.uri): each for each in (await client.list_resources()).resources}
        (content,) = (await client.read_resource(player.PLAYER_URI)).contents

    assert isinstance(content, TextResourceContents)
    assert content.text == player.page(api_base)
    assert (content.mime_type, content.meta) == (player.MIME_TYPE, {"ui": ui})
    assert (listed[player.PLAYER_URI].mime_type, listed[player.PLAYER_URI].meta) == (
        player.MIME_TYPE,
        {"ui": ui},
    )


async def test_capabilities_declare_only_what_the_server_does(mode: str) -> None:
    """A host that is promised changes of lists holds a stream open for them (ours)."""
    async with Client(build_server(settings()), mode=mode) as client:
        capabilities = client.server_capabilities.model_dump(by_alias=True, exclude_none=True)
    extensions = capabilities.pop("extensions", {})

    assert capabilities == {
        "prompts": {"listChanged": False},
        "resources": {"listChanged": False, "subscribe": True},
        "tools": {"listChanged": False},
        "completions": {},
    }
    ours = {f"io.modelcontextprotocol/{name}" for name in ("ui", "tasks", "skills")}
    assert extensions.keys() == (ours if mode == "auto" else set())


async def test_over_http_nothing_is_promised_that_needs_a_session() -> None:
    """There each request stands alone; 2026-07-28 subscribes by a request (ours)."""
    server = build_server(settings())
    app = http_app(server, host="127.0.0.1", port=0)
    transport = httpx.ASGITransport(app)
    async with (
        server.session_manager.run(),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        post = asker(client)
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
        info = {"clientInfo": {"name": "test", "version": "1"}}
        offered = (await post("initialize", {**hello, **info}))["result"]["capabilities"]
        refused = (await post("resources/subscribe", {"uri": "wan://jobs/job_x"}))["error"]

    assert offered["resources"] == {"listChanged": False, "subscribe": False}
    assert refused["code"] == -32601


def asker(client: httpx.AsyncClient) -> Callable[[str, dict[str, Any]], Any]:
    """Sends a request of a handshake revision over HTTP and gives its answer."""
    accept = {"Accept": "application/json, text/event-stream"}

    async def post(method: str, params: dict[str, Any]) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await client.post("/mcp", json=message, headers=accept)
        lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
        return json.loads(lines[-1].removeprefix("data: "))

    return post
