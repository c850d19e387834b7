"""A server that its operator made read-only, or from which tools were taken."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CallToolRequestParams,
    Request,
    ResourceTemplateReference,
    TextContent,
)

from tests.connected import Host, connected
from tests.tasks_client import AnyResult, TasksClient, ask, created_by, listening
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.front_desk.snapshot import DEPENDS
from wan_mcp.server import build_server
from wan_mcp.settings import BadSettings, Settings
from wan_mcp.settings.service import TOOLS

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)
READ_ONLY = {"WAN_MCP_READ_ONLY": "on"}
ONE_AT_A_TIME = {"WAN_MCP_MAX_IN_FLIGHT": "1"}
VIDEO_TEMPLATE = "wan://jobs/{job_id}/video"
OTHER_ROUTES = {
    "replace_character": {"prompt"},
    "get_job_status": {"wan://jobs/ID", "its template", "follow a job"},
    "wait_for_job": {"wait as a task", "follow a job", "follow a task"},
    "list_jobs": {"wan://jobs", "its entry", "completion"},
    "check_credits": set[str](),
    "cancel_job": {"tasks/cancel"},
    "keep_video": set[str](),
}
"""What does the same as a tool, or is there for it alone."""
TASKS = {"tasks/get"}
"""What a host needs for the tasks that other tools make."""


@pytest.fixture
async def buyer(time: VirtualTime, tmp_path: Path) -> AsyncIterator[Host]:
    """A host on an ordinary server."""
    async with connected(time, tmp_path / "data") as host:
        yield host


async def test_read_only_server_buys_nothing_and_says_so(
    time: VirtualTime, tmp_path: Path, buyer: Host
) -> None:
    """An operator stops all spending without hiding what is paid for (ours)."""
    async with connected(time, tmp_path / "data", beside=buyer, settings=READ_ONLY) as host:
        given = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
        refused = await host.call("replace_character", **given)

    posts = [each for each in buyer.sandbox.requests if each.method == "POST"]
    assert posts == []
    assert (refused["code"], refused["charged"], refused["retry_safe"]) == (
        "limit_reached",
        "no",
        False,
    )
    assert "This server is read-only: it starts no paid jobs" in refused["message"]
    assert "WAN_MCP_READ_ONLY" in refused["message"]


async def test_read_only_server_finds_the_job_of_an_equal_call(
    time: VirtualTime, tmp_path: Path, buyer: Host
) -> None:
    """It is paid for already (ours)."""
    job_id = await buyer.start(seed=1)
    async with connected(time, tmp_path / "data", beside=buyer, settings=READ_ONLY) as host:
        again = await host.start(seed=1)
        waited = await host.call("wait_for_job", job_id=job_id, timeout_seconds=1)
        listed = await host.call("list_jobs")

    assert again == job_id == listed["jobs"][0]["job_id"]
    assert waited["status"] == "running"


async def test_nobody_is_asked_about_a_job_that_a_read_only_server_refuses(
    time: VirtualTime, tmp_path: Path, buyer: Host
) -> None:
    """A yes would lead to a refusal (ours)."""
    settings = {**READ_ONLY, "WAN_MCP_CONFIRM_ABOVE": "0"}
    async with connected(time, tmp_path / "data", beside=buyer, settings=settings) as host:
        given = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
        refused = await host.call("replace_character", **given)

    assert refused["code"] == "limit_reached"


async def test_credits_say_that_a_job_would_be_refused(
    time: VirtualTime, tmp_path: Path, buyer: Host
) -> None:
    """So a model does not try (ours)."""
    async with connected(time, tmp_path / "data", beside=buyer, settings=READ_ONLY) as host:
        overview = await host.call("check_credits")

    assert "This server is read-only" in str(overview)


async def test_tool_that_is_switched_off_is_not_listed_and_cannot_be_called(
    time: VirtualTime, tmp_path: Path
) -> None:
    """The host shows what the model can use (ours)."""
    off = {"WAN_MCP_DISABLED_TOOLS": "replace_character, list_jobs"}
    async with connected(time, tmp_path / "data", settings=off) as host:
        listed = [tool.name for tool in (await host.client.list_tools()).tools]
        given = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
        called = await host.client.call_tool("replace_character", given)
        other = await host.client.call_tool("no_tool", {})

    (text,) = called.content
    assert isinstance(text, TextContent)
    assert listed == ["get_job_status", "wait_for_job", "check_credits", "cancel_job"]
    assert called.is_error
    assert text.text.endswith(
        "The operator of this server has switched replace_character off. Tell the user."
    )
    assert "switched" not in str(other.content)
    assert not host.sandbox.requests


@pytest.mark.parametrize("tool", TOOLS)
async def test_what_a_switched_off_tool_does_cannot_be_done_by_another_route(
    time: VirtualTime, tmp_path: Path, tool: str
) -> None:
    """The operator means what the tool does, not its name; everything else goes on (ours)."""
    off = {"WAN_MCP_DISABLED_TOOLS": tool}
    data = tmp_path / "data"
    async with connected(
        time, data, extensions=(TasksClient(),), local=True, settings=ONE_AT_A_TIME
    ) as buyer:
        await created_by(buyer, seed=1)
        running = buyer.sandbox.charges[-1].job_id
        queued = (await created_by(buyer, seed=2))["taskId"]
        everything = await _open_routes(buyer, running)
        async with connected(
            time, data, beside=buyer, extensions=(TasksClient(),), local=True, settings=off
        ) as host:
            still_open = await _open_routes(host, running)
            direct = await host.client.call_tool(tool, {"job_id": queued})
            # Last: with the tool on, it withdraws the request.
            if await _withdraws(host, queued):
                still_open.add("tasks/cancel")
        states = (await buyer.call("get_job_status", job_id=queued))["status"]

    assert everything == set[str]().union(TASKS, *OTHER_ROUTES.values()) - {"tasks/cancel"}
    assert still_open == (everything | {"tasks/cancel"}) - OTHER_ROUTES[tool]
    assert f"has switched {tool} off" in str(direct.content)
    assert (states == "queued") == (tool == "cancel_job")
    assert len(buyer.sandbox.charges) == 1


async def test_tasks_end_with_the_last_tool_that_shows_a_job(
    time: VirtualTime, tmp_path: Path, buyer: Host
) -> None:
    """No call can have made one, and an old one would show how a job stands (ours)."""
    job_id = await buyer.start(seed=1)
    off = {"WAN_MCP_DISABLED_TOOLS": "replace_character,get_job_status,wait_for_job"}
    async with connected(
        time, tmp_path / "data", beside=buyer, extensions=(TasksClient(),), settings=off
    ) as host:
        with pytest.raises(MCPError, match=r"switched get_job_status off\. Tell the user"):
            await ask(host, "tasks/get", job_id)
        with pytest.raises(MCPError, match="There is no such prompt"):
            await host.client.get_prompt("replace_a_character")


async def _open_routes(host: Host, job_id: str) -> set[str]:
    """What a host can do about a running job besides calling tools by their names."""
    resources = [each.uri for each in (await host.client.list_resources()).resources]
    listed = (await host.client.list_resource_templates()).resource_templates
    templates = [each.uri_template for each in listed]
    assert VIDEO_TEMPLATE in templates
    uri = f"wan://jobs/{job_id}"
    completed = await host.client.complete(
        ResourceTemplateReference(uri=VIDEO_TEMPLATE), {"name": "job_id", "value": ""}
    )
    async with listening(host, resourceSubscriptions=[uri], taskIds=[job_id]) as honored:
        followed = honored
    routes = {
        "prompt": bool((await host.client.list_prompts()).prompts),
        "wan://jobs/ID": await _can_read(host, uri),
        "its template": "wan://jobs/{job_id}" in templates,
        "wan://jobs": await _can_read(host, "wan://jobs"),
        "its entry": "wan://jobs" in resources,
        "completion": job_id in completed.completion.values,
        "follow a job": "resourceSubscriptions" in followed,
        "follow a task": "taskIds" in followed,
        "wait as a task": (await _wait(host, job_id)).get("resultType") == "task",
        "tasks/get": "status" in await ask(host, "tasks/get", job_id),
    }
    return {name for name, works in routes.items() if works}


async def _can_read(host: Host, uri: str) -> bool:
    try:
        return bool(await host.read(uri))
    except MCPError as refused:
        if "The operator of this server has switched" not in str(refused):
            raise
        return False


async def _wait(host: Host, job_id: str) -> dict[str, Any]:
    """What wait_for_job answers to a host that does not wait for its task."""
    given = {"job_id": job_id, "timeout_seconds": 5}
    params = CallToolRequestParams(name="wait_for_job", arguments=given)
    request = Request[CallToolRequestParams, str](method="tools/call", params=params)
    return (await host.client.session.send_request(request, AnyResult)).model_dump(by_alias=True)


async def _withdraws(host: Host, queued: str) -> bool:
    answer = await ask(host, "tasks/cancel", queued)
    note: str = answer["_meta"]["wan-mcp/note"]
    assert note.startswith(("The request was withdrawn", "Only the waiting is over. The operator"))
    return note.startswith("The request was withdrawn")


async def test_names_that_can_be_switched_off_are_those_of_all_tools(tmp_path: Path) -> None:
    """A name that the settings do not take could not be switched off (ours)."""
    tools = await build_server(Settings.read({}, tmp_path)).list_tools()

    assert sorted(tool.name for tool in tools) == sorted(TOOLS)


@pytest.mark.parametrize("names", ["replace_charakter", "replace_character;list_jobs", "all"])
def test_tool_that_does_not_exist_cannot_be_switched_off(names: str, tmp_path: Path) -> None:
    """A typing error would leave the tool on (ours)."""
    with pytest.raises(BadSettings, match=r"^WAN_MCP_DISABLED_TOOLS: must be names of tools \("):
        Settings.read({"WAN_MCP_DISABLED_TOOLS": names}, tmp_path)


def test_front_desk_does_not_list_tools_that_are_switched_off() -> None:
    """It answers before the settings are read, from a list of all tools (ours)."""
    assert "WAN_MCP_DISABLED_TOOLS" in DEPENDS["tools/list"]
