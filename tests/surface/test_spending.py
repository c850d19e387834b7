"""What a job may cost and who decides that, through the server: limits, prices, and consent."""

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
        with anyio.fail_after(600):
            async with Client(
                build_server(settings), mode=mode, elicitation_callback=answer
            ) as client:
                yield client

    return opened


async def submit(client: Client, sandbox: Sandbox, seed: int = 1) -> CallToolResult:
    wanted = {"video": sandbox.source_video_url, "character_image": sandbox.image_url, "seed": seed}
    return await client.call_tool("replace_character", wanted)


def fields(result: CallToolResult) -> dict[str, Any]:
    data: dict[str, Any] | None = result.structured_content
    assert data is not None
    return data


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def test_the_default_limits_are_those_of_the_settings() -> None:
    """200 credits a day, 3 jobs in flight, 6 requests a minute, and no limit for one job."""
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
async def test_a_limit_refuses_one_job_too_many_before_anything_is_sent(
    host: Host, sandbox: Sandbox, setting: str, value: str, fits: int, safe: bool
) -> None:
    """The answer names the setting, says that nothing was charged, and whether waiting helps
    (promises 10). Without a queue, every limit refuses.
    """
    async with host(**{setting: value}, max_queued="0") as client:
        for seed in range(fits):
            assert not (await submit(client, sandbox, seed)).is_error
        refused = await submit(client, sandbox, 99)

    assert refused.is_error
    assert fields(refused)["code"] == "limit_reached"
    assert fields(refused)["charged"] == "no"
    assert fields(refused)["retry_safe"] is safe
    assert fields(refused)["limit"] == f"WAN_MCP_{setting.upper()}"
    assert fields(refused)["limit_value"] == float(value)
    assert fields(refused)["used"] >= 0
    waits = fits > 0 and "flight" not in setting
    assert ("retry_after_seconds" in fields(refused)) == waits
    blocking = fields(refused).get("blocking_job_ids", [])
    assert len(blocking) == (fits if "flight" in setting else 0)
    assert f"WAN_MCP_{setting.upper()}" in text(refused)
    assert len(sandbox.seen("POST", RUN)) == fits


async def test_a_limit_holds_across_a_restart(host: Host, sandbox: Sandbox) -> None:
    """What was spent is in the ledger, so a new process finds it (promises 10)."""
    async with host(max_credits_per_day="15") as client:
        await submit(client, sandbox, 1)
    async with host(max_credits_per_day="15") as client:
        refused = await submit(client, sandbox, 2)

    assert fields(refused)["code"] == "limit_reached"


async def test_joining_a_job_meets_no_limit(host: Host, sandbox: Sandbox) -> None:
    """An equal call buys nothing, so no limit refuses it (promises 8)."""
    async with host(max_in_flight="1") as client:
        first = await submit(client, sandbox)
        again = await submit(client, sandbox)

    assert fields(again)["job_id"] == fields(first)["job_id"]
    assert fields(again)["charged"] == "no"
    assert "another seed" in text(again)


async def test_a_charge_above_the_estimate_is_pointed_out(host: Host, sandbox: Sandbox) -> None:
    """PixelDojo's pages name several prices, so both numbers are shown if they differ."""
    sandbox.terms = Terms(price=10, quoted_price=2)
    async with host() as client:
        submitted = await submit(client, sandbox)

    assert fields(submitted)["credit_cost"] == 10
    assert fields(submitted)["credit_estimate"] == 2
    assert "expected 2" in text(submitted)


async def test_a_job_that_counts_as_more_than_the_page_says_so(
    host: Host, sandbox: Sandbox
) -> None:
    """The user learns why the second job is expected to cost 10 credits (promises 10)."""
    sandbox.terms = Terms(price=10, quoted_price=2)
    async with host() as client:
        await submit(client, sandbox)
        second = await submit(client, sandbox, seed=2)

    assert "The last job like this one cost 10 credits" in fields(second)["message"]
    assert "model page names 2 credits" in text(second)
    assert "Note the price" not in text(second)


async def test_the_question_names_the_last_charge_when_it_is_higher_than_the_page(
    host: Host, sandbox: Sandbox
) -> None:
    """The page stays below the limit, and the user would never be asked (promises 10)."""
    sandbox.terms = Terms(price=60, quoted_price=2)
    asked: list[str] = []

    async def no(context: object, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    async with host(confirm_above="50", answer=no) as client:
        first = await submit(client, sandbox)
        second = await submit(client, sandbox, seed=2)

    assert (fields(first)["charged"], fields(second)["charged"]) == ("yes", "no")
    assert fields(second)["code"] == "not_confirmed"
    [question] = asked
    assert question.startswith("This job costs about 60 PixelDojo credits. The last job like this")
    assert len(sandbox.seen("POST", RUN)) == 1


async def test_an_unknown_price_does_not_stop_a_job(host: Host, sandbox: Sandbox) -> None:
    """Without a limit per job, the price on the model page is not needed."""
    sandbox.fault("GET", MODEL, faults.status(500), times=None)
    async with host() as client:
        submitted = await submit(client, sandbox)

    assert not submitted.is_error
    assert "credit_estimate" not in fields(submitted)


async def test_an_unknown_price_is_refused_under_a_limit_per_job(
    host: Host, sandbox: Sandbox
) -> None:
    """A limit that cannot be checked must not be passed (promises 10)."""
    sandbox.fault("GET", MODEL, faults.status(500), times=None)
    async with host(max_credits_per_job="50") as client:
        refused = await submit(client, sandbox)

    assert fields(refused)["code"] == "limit_reached"
    assert sandbox.charges == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_yes_of_the_user_starts_an_expensive_job(
    host: Host, sandbox: Sandbox, mode: str
) -> None:
    """The host asks in both protocol eras, and the question contains the price."""
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
    """Some hosts answer without having asked, so no answer says that the user declined."""

    async def reply(context: object, params: Any) -> ElicitResult:
        return answer

    async with host(confirm_above="5", answer=reply, mode=mode) as client:
        refused = await submit(client, sandbox)

    assert fields(refused)["code"] == "not_confirmed"
    assert fields(refused)["charged"] == "no"
    assert "declined" not in text(refused)
    assert sandbox.requests == [] or sandbox.charges == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_that_cannot_ask_gets_the_name_of_the_setting(
    host: Host, sandbox: Sandbox, mode: str
) -> None:
    """The operator's setting holds, and the answer names it."""
    async with host(confirm_above="5", mode=mode) as client:
        refused = await submit(client, sandbox)

    assert fields(refused)["code"] == "not_confirmed"
    assert "WAN_MCP_CONFIRM_ABOVE" in text(refused)
    assert sandbox.charges == []


async def test_no_question_about_a_job_at_the_limit(host: Host, sandbox: Sandbox) -> None:
    """Only a job that costs more than the limit needs a yes."""
    async with host(confirm_above="10") as client:
        submitted = await submit(client, sandbox)

    assert not submitted.is_error


async def test_the_list_shows_what_was_bought_newest_first(host: Host, sandbox: Sandbox) -> None:
    """list_jobs needs only the ledger."""
    async with host() as client:
        ids = [fields(await submit(client, sandbox, seed))["job_id"] for seed in (1, 2)]
        sandbox.fault("POST", RUN, faults.dropped(work=True))
        lost = fields(await submit(client, sandbox, 3))["job_id"]
        before = len(sandbox.requests)
        listed = await client.call_tool("list_jobs", {})
        requests = [each for each in sandbox.requests[before:] if each.path != "/api/v1/jobs"]

    shown = [job["job_id"] for job in fields(listed)["jobs"]]
    assert shown[1:] == ids[::-1]
    assert shown[0] in (lost, sandbox.charges[-1].job_id)
    assert requests == []


async def test_the_list_always_contains_what_may_have_been_charged(
    host: Host, sandbox: Sandbox
) -> None:
    """Unknown outcomes and running jobs are listed whatever the filter and the limit."""
    sandbox.terms = Terms(list_echoes_input=False)
    async with host() as client:
        running = fields(await submit(client, sandbox, 1))["job_id"]
        sandbox.fault("POST", RUN, faults.dropped(work=True))
        unknown = fields(await submit(client, sandbox, 2))["job_id"]
        listed = await client.call_tool("list_jobs", {"status": "failed", "limit": "1"})

    assert [job["job_id"] for job in fields(listed)["jobs"]] == [unknown, running]


async def test_another_account_sees_nothing_of_a_job(host: Host, sandbox: Sandbox) -> None:
    """Records belong to one key at one API address, even if processes share a ledger."""
    async with host() as client:
        job_id = fields(await submit(client, sandbox))["job_id"]
    sandbox.key = sandbox.open_account("pd_other")
    async with host() as client:
        listed = await client.call_tool("list_jobs", {})
        asked = await client.call_tool("get_job_status", {"job_id": job_id})

    assert fields(listed)["jobs"] == []
    assert fields(asked)["code"] == "not_found"
