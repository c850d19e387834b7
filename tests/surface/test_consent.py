"""A person's yes: what counts as one, and that nothing is charged without it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.types import ElicitResult, ErrorData

from wan_mcp.ledger.contract import Claim
from wan_mcp.ledger.expected_price import Charge
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.ledger.transactions import Transactions
from wan_mcp.models import Replacement
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.surface import consent

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 600
"""Ends a test whose server hangs; a slow machine must only make it slow."""
Open = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(Terms(credits=10_000)) as sandbox:
        yield sandbox


@pytest.fixture
def open_host(sandbox: Sandbox, tmp_path: Path) -> Open:
    """Opens a host that is asked about jobs above 5 credits; one costs 10."""

    @asynccontextmanager
    async def opened(answer: Any, mode: Any) -> AsyncIterator[Client]:
        settings = Settings.read(
            {
                "PIXELDOJO_API_KEY": sandbox.key,
                "PIXELDOJO_API_BASE": sandbox.api_base,
                "WAN_MCP_DATA_DIR": str(tmp_path),
                "WAN_MCP_CONFIRM_ABOVE": "5",
            }
        )
        with anyio.fail_after(LIMIT_SECONDS):
            server = build_server(settings)
            async with Client(server, mode=mode, elicitation_callback=answer) as client:
                yield client

    return opened


async def submit(client: Client, sandbox: Sandbox) -> dict[str, Any]:
    wanted = {"video": sandbox.source_video_url, "character_image": sandbox.image_url, "seed": 1}
    return (await client.call_tool("replace_character", wanted)).structured_content or {}


def test_question_shows_every_digit_of_the_price() -> None:
    """A person says yes to it: 1.23457e+06 is no price (ours)."""
    assert "about 1234567.25 PixelDojo credits" in (consent.question_for(1_234_567.25, 10) or "")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    "answer",
    [
        ElicitResult(action="accept"),
        ElicitResult(action="accept", content={}),
        ElicitResult(action="accept", content={"spend": None}),
        ElicitResult(action="accept", content={"spend": "yes"}),
        ElicitResult(action="accept", content={"spend": 1}),
        ElicitResult(action="accept", content={"spend": ["true"]}),
        ElicitResult(action="accept", content={"confirm": True}),
        ErrorData(code=-32603, message="The window was closed."),
    ],
    ids=["none", "empty", "null", "text", "number", "list", "other", "error"],
)
async def test_answer_of_an_odd_shape_is_no_yes(
    open_host: Open, sandbox: Sandbox, mode: str, answer: ElicitResult | ErrorData
) -> None:
    """Nothing was sent, so it is no defect of which nobody knows the cost (ours)."""

    async def reply(context: object, params: Any) -> ElicitResult | ErrorData:
        return answer

    async with open_host(reply, mode) as client:
        try:
            refused = await submit(client, sandbox)
        except Exception:  # the client itself cannot send such an answer
            assert mode == "auto"
            refused = {"code": "not_confirmed", "charged": "no"}

    assert (refused["code"], refused["charged"]) == ("not_confirmed", "no")
    assert sandbox.charges == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_price_that_rises_after_the_question_is_not_paid_without_another_question(
    open_host: Open, sandbox: Sandbox, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person said yes to a price, and another server may hear of a higher one (ours)."""
    questions: list[str] = []

    async def yes(context: object, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"spend": True})

    async with open_host(yes, mode) as client:
        claim = ThreadedLedger.claim

        async def after_a_rise(ledger: ThreadedLedger, *args: Any, **named: Any) -> Claim:
            monkeypatch.setattr(Transactions, "charges", lambda *_: [Charge({"seconds": 5}, 60)])
            return await claim(ledger, *args, **named)

        monkeypatch.setattr("wan_mcp.ledger.threaded.ledger.ThreadedLedger.claim", after_a_rise)
        refused = await submit(client, sandbox)
        charges = list(sandbox.charges)
        paid = await submit(client, sandbox)

    assert (refused["code"], refused["charged"], refused["retry_safe"]) == (
        "price_rose",
        "no",
        True,
    )
    assert charges == []
    assert paid["charged"] == "yes"
    assert ["about 10 " in questions[0], "about 60 " in questions[1]] == [True, True]
    assert (len(questions), len(sandbox.charges)) == (2, 1)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_job_that_ends_while_it_is_joined_is_not_paid_again_without_a_question(
    open_host: Open, sandbox: Sandbox, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that joins needs no yes, so it must not buy when the job ends meanwhile (ours)."""
    questions: list[str] = []
    look = ThreadedLedger.equal

    async def yes(context: object, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"spend": True})

    async def ends_after_the_look(
        ledger: ThreadedLedger, account: str, wanted: Replacement
    ) -> Record | None:
        record = await look(ledger, account, wanted)
        if record is not None and record.state is State.ACCEPTED:
            await ledger.conclude(record, State.LOST, "It was gone.")
            monkeypatch.setattr("wan_mcp.ledger.rules.REPEAT_WINDOW", timedelta(0))
        return record

    async with open_host(yes, mode) as client:
        first = await submit(client, sandbox)
        monkeypatch.setattr(ThreadedLedger, "equal", ends_after_the_look)
        again = await submit(client, sandbox)

    assert first["charged"] == "yes"
    assert (again["job_id"], again["charged"]) == (first["job_id"], "no")
    assert (len(questions), len(sandbox.charges)) == (1, 1)
