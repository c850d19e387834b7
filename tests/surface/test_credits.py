"""check_credits through the server: prices, balance, limits and the key, and never a charge."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.types import TextContent

from tests.virtual_time import VirtualTime
from wan_mcp.models import PriceType
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.vendor import prices
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.surface.answers.credits import CreditOverview, LimitLine

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"
MODEL = "/api/v1/models/wan-2.2-replace"
TERMS = Terms(credits=100, price=prices.per_second(2))

Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(TERMS) as sandbox:
        yield sandbox


@pytest.fixture
def connect(sandbox: Sandbox, tmp_path: Path) -> Connect:
    """Connects a client in memory to a server with the operator's settings.

    The clock of all servers stands still, so that no limit frees while a slow machine works.
    """
    clock = VirtualTime().clock()

    @asynccontextmanager
    async def connect(key: str = sandbox.key, **limits: str) -> AsyncIterator[Client]:
        given = {
            "PIXELDOJO_API_KEY": key,
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
            **{f"WAN_MCP_{name.upper()}": value for name, value in limits.items()},
        }
        with anyio.fail_after(600):
            settings = Settings.read(given, tmp_path)
            async with Client(build_server(settings, clock=clock)) as client:
                yield client

    return connect


async def check(client: Client, **size: Any) -> dict[str, Any]:
    """The data of the answer, which is never an error and whose text says the same."""
    result = await client.call_tool("check_credits", size)
    (block,) = result.content
    data: dict[str, Any] | None = result.structured_content

    assert not result.is_error
    assert data is not None
    assert isinstance(block, TextContent)
    assert block.text.startswith(data["message"])
    assert data["charged"] == "no"
    return data


async def buy(client: Client, sandbox: Sandbox, seed: int, **size: Any) -> dict[str, Any]:
    links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    result = await client.call_tool("replace_character", {**links, **size, "seed": seed})
    data: dict[str, Any] | None = result.structured_content
    assert not result.is_error
    assert data is not None
    return data


def limit(data: dict[str, Any], name: str) -> dict[str, Any]:
    (line,) = (each for each in data["limits"] if each["limit"] == f"WAN_MCP_{name}")
    return {key: value for key, value in line.items() if key != "limit"}


@pytest.mark.parametrize("size", [{}, {"video_duration": "5", "resolution": "480p"}])
async def test_new_account_learns_the_price_of_a_default_job(
    connect: Connect, sandbox: Sandbox, size: dict[str, Any]
) -> None:
    """The defaults are those of the paid call; nothing is charged and nothing is posted."""
    async with connect() as client:
        data = await check(client, **size)

    assert (data["video_duration"], data["resolution"]) == (5, "480")
    assert (data["price_type"], data["page_credits"], data["up_to_credits"]) == (
        *("per_second", 10),
        10,
    )
    assert "credits_remaining" not in data
    assert (data["credits_spent_24h"], data["credits_spent"]) == (0, 0)
    assert data["key_accepted"] == "yes"
    assert "replace_character" in data["next"]
    assert sandbox.charges == []
    assert {request.method for request in sandbox.requests} == {"GET"}


async def test_what_was_bought_is_in_the_next_answer_even_after_a_restart(
    connect: Connect, sandbox: Sandbox
) -> None:
    """Balance with its date, spent, places and requests; asking again changes nothing."""
    async with connect() as client:
        job = await buy(client, sandbox, 1, video_duration=7)
        first = await check(client, video_duration=15)
        second = await check(client, video_duration=15)
    async with connect() as client:
        third = await check(client, video_duration=15)

    assert first["credits_remaining"] == 86
    assert first["credits_remaining_at"] == "2026-11-01T00:16:40+00:00"
    assert (first["credits_spent_24h"], first["credits_spent"]) == (14, 14)
    assert first["up_to_credits"] == 30
    assert limit(first, "MAX_CREDITS_PER_DAY").items() >= {"limit_value": 200, "used": 14}.items()
    assert limit(first, "MAX_IN_FLIGHT") == {
        "limit_value": 3,
        "used": 1,
        "blocking_job_ids": [job["job_id"]],
    }
    assert limit(first, "MAX_SUBMITS_PER_MINUTE")["used"] == 1
    assert limit(first, "MAX_CREDITS_PER_JOB") == {}
    assert first == second == third
    assert len(sandbox.charges) == 1


async def test_earlier_charge_above_the_page_is_the_figure_and_is_said(
    connect: Connect, sandbox: Sandbox
) -> None:
    """A page that is out of date is believed only once; of other sizes the price is not known."""
    sandbox.terms = replace(TERMS, price=prices.per_second(3), quoted_price=prices.per_second(2))
    async with connect() as client:
        before = await check(client)
        await buy(client, sandbox, 1)
        after = await check(client)
        longer = await check(client, video_duration=6)

    assert before["up_to_credits"] == 10
    assert (after["page_credits"], after["up_to_credits"]) == (10, 15)
    assert "cost 15 credits, although PixelDojo's model page names 10" in after["message"]
    assert "up_to_credits" not in longer
    assert "not known" in longer["message"]
    assert "not known" in longer["next"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (faults.status(503), "HTTP 503"),
        (faults.reset(work=False), "could not be reached"),
        (faults.status(200, "<html>log in</html>"), "web page"),
        (faults.status(200, '{"creditCost": {"type": "per_frame", "amount": 1}}'), "per_frame"),
        (faults.status(200, '{"creditCost": null}'), "names no price"),
    ],
)
async def test_price_that_cannot_be_had_is_unknown_with_the_reason(
    connect: Connect, sandbox: Sandbox, fault: Any, why: str
) -> None:
    """Never a guess, and the rest of the answer stands."""
    sandbox.fault("GET", MODEL, fault)
    async with connect() as client:
        data = await check(client)

    assert data["price_type"] == "unknown"
    assert {"up_to_credits", "page_credits", "price"}.isdisjoint(data)
    assert why in data["message"]
    assert data["key_accepted"] == "yes"
    assert data["credits_spent"] == 0


@pytest.mark.parametrize("key", ["", "your-pixeldojo-key"])
async def test_without_a_key_it_says_what_is_known_here_and_what_to_do(
    connect: Connect, sandbox: Sandbox, key: str
) -> None:
    """The one tool that answers before anything is set up."""
    async with connect(key, max_credits_per_job="25") as client:
        data = await check(client)

    assert (data["key_accepted"], data["up_to_credits"]) == ("no", 10)
    assert limit(data, "MAX_CREDITS_PER_JOB") == {"limit_value": 25}
    assert {"credits_spent", "credits_remaining"}.isdisjoint(data)
    assert "PIXELDOJO_API_KEY" in data["next"]
    assert [request.path for request in sandbox.requests] == [MODEL]


async def test_wrong_key_shows_before_anything_is_bought(
    connect: Connect, sandbox: Sandbox
) -> None:
    """The API itself says no; the words are those of every other tool."""
    async with connect("pd_wrong") as client:
        data = await check(client)

    assert data["key_accepted"] == "no"
    assert "does not accept the API key" in data["message"]
    assert "check PIXELDOJO_API_KEY" in data["next"]


@pytest.mark.parametrize(
    ("limits", "setting", "next_step"),
    [
        ({"max_credits_per_job": "9"}, "MAX_CREDITS_PER_JOB", "operator"),
        ({"max_credits_per_day": "15"}, "MAX_CREDITS_PER_DAY", "room again at"),
        ({"max_in_flight": "1"}, "MAX_IN_FLIGHT", "get_job_status"),
        ({"max_submits_per_minute": "1"}, "MAX_SUBMITS_PER_MINUTE", "room again in"),
    ],
)
async def test_limit_that_would_refuse_the_job_is_named_with_what_frees_it(
    connect: Connect, sandbox: Sandbox, limits: dict[str, str], setting: str, next_step: str
) -> None:
    """And the paid call is refused by the same one."""
    async with connect() as client:
        await buy(client, sandbox, 1)
    async with connect(**limits, max_queued="0") as client:
        data = await check(client)
        links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
        refused = await client.call_tool("replace_character", {**links, "seed": 2})

    assert data["refused_by"] == f"WAN_MCP_{setting}"
    assert next_step in data["next"]
    assert refused.structured_content is not None
    assert refused.structured_content["limit"] == data["refused_by"]
    assert ("retry_after_seconds" in data) == ("room again" in next_step)
    assert len(sandbox.charges) == 1


async def test_balance_that_does_not_cover_the_job_is_said(
    connect: Connect, sandbox: Sandbox
) -> None:
    async with connect(max_queued="0") as client:
        for seed in range(3):
            await buy(client, sandbox, seed, video_duration=15)
        data = await check(client, video_duration=6)

    assert (data["credits_remaining"], data["up_to_credits"]) == (10, 12)
    assert "lower than that" in data["message"]
    assert "refused_by" in data  # three jobs are in flight, and that comes first
    assert "room" in data["next"]


async def test_question_to_the_user_is_listed_beside_the_limits(connect: Connect) -> None:
    async with connect(confirm_above="12.5") as client:
        data = await check(client)

    assert limit(data, "CONFIRM_ABOVE") == {"limit_value": 12.5}
    assert "CONFIRM_ABOVE" not in str(data["next"])


async def test_argument_of_another_size_is_refused_like_that_of_the_paid_call(
    connect: Connect, sandbox: Sandbox
) -> None:
    async with connect() as client:
        given = {"video_duration": 16, "resolution": "1080"}
        result = await client.call_tool("check_credits", given)

    assert result.is_error
    assert result.structured_content is not None
    assert result.structured_content["code"] == "invalid_arguments"
    assert sandbox.requests == []


DOCS = Path(__file__).parents[2] / "docs" / "costs.md"


def test_page_about_costs_explains_every_field_and_every_type_of_price() -> None:
    """A word that is not explained cannot be understood (ours)."""
    words = set(re.findall(r"`([^`\n]+)`", DOCS.read_text("utf-8")))
    usual = {"message", "charged", "retry_safe", "code", "next", "price"}
    sizes = {"video_duration", "resolution"}

    assert {*CreditOverview.model_fields, *LimitLine.model_fields} - usual - sizes <= words
    assert sizes <= words
    assert set(PriceType) <= words
