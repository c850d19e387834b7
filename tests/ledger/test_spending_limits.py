"""What a job may cost, who decides that, and what is told: caps, estimates, and a person's yes."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.types import CallToolResult, ElicitResult, TextContent

from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"
MODEL = "/api/v1/models/wan-2.2-replace"

Host = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(Terms(credits=10_000)) as sandbox:
        yield sandbox


@pytest.fixture
def host(sandbox: Sandbox, tmp_path: Path) -> Host:
    """Opens a client in memory on a server with the operator's settings."""

    @asynccontextmanager
    async def opened(*, answer: Any = None, mode: Any = "auto", **limits: str) -> Any:
        settings = Settings.read(
            {
                "PIXELDOJO_API_KEY": sandbox.key,
                "PIXELDOJO_API_BASE": sandbox.api_base,
                "WAN_MCP_DATA_DIR": str(tmp_path),
                **{f"WAN_MCP_{name.upper()}": value for name, value in limits.items()},
            }
        )
        with anyio.fail_after(20):
            async with Client(
                build_server(settings), mode=mode, elicitation_callback=answer
            ) as client:
                yield client

    return opened


async def submit(client: Client, sandbox: Sandbox, seed: int = 1) -> CallToolResult:
    wanted = {"video": sandbox.source_video_url, "character_image": sandbox.image_url, "seed": seed}
    return await client.call_tool("replace_character", wanted)


def told(result: CallToolResult) -> dict[str, Any]:
    data: dict[str, Any] | None = result.structured_content
    assert data is not None
    return data


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def test_the_day_the_flight_and_the_minute_are_capped_by_default() -> None:
    """200 credits a day, 3 jobs in flight, 6 submits a minute; a job alone is not capped (ours)."""
    settings = Settings.read({})

    assert settings.max_credits_per_day == 200
    assert settings.max_in_flight == 3
    assert settings.max_submits_per_minute == 6
    assert settings.max_credits_per_job is None
    assert settings.confirm_above is None


@pytest.mark.parametrize(
    ("setting", "value", "fits", "safe"),
    [
        ("max_credits_per_job", "9.5", 0, False),
        ("max_credits_per_day", "25", 2, False),
        ("max_in_flight", "2", 2, False),
        ("max_submits_per_minute", "1", 1, True),
        ("max_credits_per_day", "0", 0, False),
    ],
)
async def test_a_cap_refuses_the_job_too_many_before_anything_is_sent(
    host: Host, sandbox: Sandbox, setting: str, value: str, fits: int, safe: bool
) -> None:
    """It names the setting, that nothing was charged, and whether waiting helps (ours)."""
    async with host(**{setting: value}) as client:
        for seed in range(fits):
            assert not (await submit(client, sandbox, seed)).is_error
        refused = await submit(client, sandbox, 99)

    assert refused.is_error
    assert told(refused)["code"] == "limit_reached"
    assert told(refused)["charged"] == "no"
    assert told(refused)["retry_safe"] is safe
    assert f"WAN_MCP_{setting.upper()}" in text(refused)
    assert told(refused)["limit"] == f"WAN_MCP_{setting.upper()}"
    assert told(refused)["limit_value"] == float(value)
    assert told(refused)["used"] >= 0
    assert ("retry_after_seconds" in told(refused)) == (fits > 0 and "flight" not in setting)
    assert len(told(refused).get("blocking_job_ids", [])) == (fits if "flight" in setting else 0)
    assert len(sandbox.seen("POST", RUN)) == fits


async def test_a_cap_holds_across_a_restart(host: Host, sandbox: Sandbox) -> None:
    """What was spent is in the ledger, so a new process finds it (ours)."""
    async with host(max_credits_per_day="15") as client:
        await submit(client, sandbox, 1)
    async with host(max_credits_per_day="15") as client:
        refused = await submit(client, sandbox, 2)

    assert told(refused)["code"] == "limit_reached"


async def test_joining_a_job_needs_no_room_under_a_cap(host: Host, sandbox: Sandbox) -> None:
    """An equal call buys nothing, so no cap stands against it (ours)."""
    async with host(max_in_flight="1") as client:
        first = await submit(client, sandbox)
        again = await submit(client, sandbox)

    assert told(again)["job_id"] == told(first)["job_id"]
    assert told(again)["charged"] == "no"
    assert "another seed" in text(again)


async def test_a_charge_above_the_estimate_is_pointed_out(host: Host, sandbox: Sandbox) -> None:
    """PixelDojo's pages name several prices, so both figures are shown when they differ (ours)."""
    sandbox.terms = Terms(price=10, quoted_price=2)
    async with host() as client:
        submitted = await submit(client, sandbox)

    assert told(submitted)["credit_cost"] == 10
    assert told(submitted)["credit_estimate"] == 2
    assert "expected 2" in text(submitted)


async def test_an_unknown_price_does_not_stop_a_job(host: Host, sandbox: Sandbox) -> None:
    """Without a cap per job the model page is a courtesy (ours)."""
    sandbox.fault("GET", MODEL, faults.status(500), times=None)
    async with host() as client:
        submitted = await submit(client, sandbox)

    assert not submitted.is_error
    assert "credit_estimate" not in told(submitted)


async def test_an_unknown_price_is_refused_under_a_cap_for_each_job(
    host: Host, sandbox: Sandbox
) -> None:
    """A cap that cannot be checked must not be passed (ours)."""
    sandbox.fault("GET", MODEL, faults.status(500), times=None)
    async with host(max_credits_per_job="50") as client:
        refused = await submit(client, sandbox)

    assert told(refused)["code"] == "limit_reached"
    assert sandbox.charges == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_yes_of_the_person_starts_a_dear_job(
    host: Host, sandbox: Sandbox, mode: str
) -> None:
    """Asked through the host in both protocol eras; the question says the price (ours)."""
    questions: list[str] = []

    async def yes(context: object, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"spend": True})

    async with host(confirm_above="5", answer=yes, mode=mode) as client:
        submitted = await submit(client, sandbox)

    assert not submitted.is_error
    assert len(sandbox.charges) == 1
    assert questions == ["This job costs about 10 PixelDojo credits. Start it?"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    "answer",
    [
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
        ElicitResult(action="accept", content={"spend": False}),
    ],
)
async def test_anything_but_a_yes_sends_nothing(
    host: Host, sandbox: Sandbox, mode: str, answer: ElicitResult
) -> None:
    """Some hosts answer without having asked, so nobody is said to have declined (users)."""

    async def reply(context: object, params: Any) -> ElicitResult:
        return answer

    async with host(confirm_above="5", answer=reply, mode=mode) as client:
        refused = await submit(client, sandbox)

    assert told(refused)["code"] == "not_confirmed"
    assert told(refused)["charged"] == "no"
    assert "declined" not in text(refused)
    assert sandbox.requests == [] or sandbox.charges == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_that_cannot_ask_is_told_the_way_out(
    host: Host, sandbox: Sandbox, mode: str
) -> None:
    """The operator's setting stands; the text names it (ours)."""
    async with host(confirm_above="5", mode=mode) as client:
        refused = await submit(client, sandbox)

    assert told(refused)["code"] == "not_confirmed"
    assert "WAN_MCP_CONFIRM_ABOVE" in text(refused)
    assert sandbox.charges == []


async def test_a_cheap_job_is_not_asked_about(host: Host, sandbox: Sandbox) -> None:
    """The limit itself is still free of questions (ours)."""
    async with host(confirm_above="10") as client:
        submitted = await submit(client, sandbox)

    assert not submitted.is_error


async def test_the_list_shows_what_was_bought_newest_first(host: Host, sandbox: Sandbox) -> None:
    """list_jobs needs only the ledger (ours)."""
    async with host() as client:
        ids = [told(await submit(client, sandbox, seed))["job_id"] for seed in (1, 2)]
        sandbox.fault("POST", RUN, faults.dropped(work=True))
        lost = told(await submit(client, sandbox, 3))["job_id"]
        before = len(sandbox.requests)
        listed = await client.call_tool("list_jobs", {})
        requests = [each for each in sandbox.requests[before:] if each.path != "/api/v1/jobs"]

    shown = [job["job_id"] for job in told(listed)["jobs"]]
    assert shown[1:] == ids[::-1]
    assert shown[0] in (lost, sandbox.charges[-1].job_id)
    assert requests == []


async def test_the_list_always_holds_what_may_have_been_charged(
    host: Host, sandbox: Sandbox
) -> None:
    """Unknown and running ones are shown whatever the filter and the limit (ours)."""
    sandbox.terms = Terms(list_echoes_input=False)
    async with host() as client:
        running = told(await submit(client, sandbox, 1))["job_id"]
        sandbox.fault("POST", RUN, faults.dropped(work=True))
        unknown = told(await submit(client, sandbox, 2))["job_id"]
        listed = await client.call_tool("list_jobs", {"status": "failed", "limit": "1"})

    assert [job["job_id"] for job in told(listed)["jobs"]] == [unknown, running]


async def test_another_account_sees_nothing_of_a_job(host: Host, sandbox: Sandbox) -> None:
    """Rows are kept per key and API base, also when processes share a ledger (ours)."""
    async with host() as client:
        job_id = told(await submit(client, sandbox))["job_id"]
    sandbox.key = sandbox.open_account("pd_other")
    async with host() as client:
        listed = await client.call_tool("list_jobs", {})
        asked = await client.call_tool("get_job_status", {"job_id": job_id})

    assert told(listed)["jobs"] == []
    assert told(asked)["code"] == "not_found"
