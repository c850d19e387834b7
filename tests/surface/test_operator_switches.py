"""A server that its operator made read-only, or from which tools were taken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp.types import TextContent

from tests.connected import Host, connected
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.front_desk.snapshot import DEPENDS
from wan_mcp.server import build_server
from wan_mcp.settings import BadSettings, Settings
from wan_mcp.settings.service import TOOLS

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)
READ_ONLY = {"WAN_MCP_READ_ONLY": "on"}


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
