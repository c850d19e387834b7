"""Equal calls at the same moment, in one process or in several: exactly one of them pays."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

import wan_mcp
from wan_mcp.ledger.contract import Fenced
from wan_mcp.ledger.equal_requests import EqualRequests
from wan_mcp.ledger.record import LIVE, State
from wan_mcp.ledger.spending_limits import LimitReached, SpendingLimits
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.models import Replacement
from wan_mcp.sandbox import Sandbox
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

MODEL_PAGE = "/api/v1/models/wan-2.2-replace"
RACE = Path(__file__).parents[1] / "crash" / "race.py"
ROOT = Path(wan_mcp.__file__).parents[1]
HANG_SECONDS = 600.0
"""A test that takes longer hangs; a slow machine does not."""

Open = Callable[..., SQLiteLedger]


@pytest.fixture
async def open_ledger(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same ledger file again, as one more process would."""
    async with AsyncExitStack() as opened:

        def open_ledger(**options: Any) -> SQLiteLedger:
            ledger = SQLiteLedger(tmp_path, **options)
            opened.push_async_callback(ledger.aclose)
            return ledger

        yield open_ledger


def request(number: int) -> Replacement:
    media = "https://media.example"
    return Replacement(video=f"{media}/{number}.mp4", character_image=f"{media}/face.png")


def live_states(folder: Path) -> list[str]:
    """The states of the live records in the ledger."""
    with closing(sqlite3.connect(folder / FILE)) as file:
        states = [state for (state,) in file.execute("SELECT state FROM jobs")]
    return [state for state in states if state in LIVE]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_eight_processes_pay_for_each_equal_request_once() -> None:
    """60 requests, each made by all 8 processes (promises 8 and 9)."""
    run = subprocess.run(
        [sys.executable, RACE, "--processes", "8", "--keys", "60"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode in (0, 1), run.stderr
    figures = json.loads(run.stdout)
    assert figures["charges"] == figures["records"] == 60
    assert figures["charged twice"] == figures["keys with two job ids"] == 0
    assert figures["left half-way"] == 0
    assert sum(figures["bought by each process"]) <= 60


async def test_two_servers_asked_at_once_buy_one_job(tmp_path: Path) -> None:
    """Two hosts share a data folder and call once each (promises 8 and 9)."""
    both_are_ready = anyio.Event()
    answers: list[dict[str, Any]] = []

    async with Sandbox() as sandbox:
        arguments = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
        environment = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        }
        # Each server reads the price just before its claim, so both claim at the same time.
        together = faults.held(faults.honest(), before=both_are_ready)
        sandbox.fault("GET", MODEL_PAGE, together, together)

        async def call(client: Client) -> None:
            result = await client.call_tool("replace_character", arguments)
            answers.append(result.structured_content or {})

        with anyio.fail_after(HANG_SECONDS):
            async with (
                server(environment) as one,
                server(environment) as two,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(call, one)
                tasks.start_soon(call, two)
                await sandbox.until(lambda: len(sandbox.seen("GET", MODEL_PAGE)) == 2)
                both_are_ready.set()
        charges = sandbox.charges

    assert len(charges) == 1
    assert [answer["job_id"] for answer in answers] == [charges[0].job_id] * 2
    assert sorted(answer["charged"] for answer in answers) == ["no", "yes"]


@asynccontextmanager
async def server(environment: dict[str, str]) -> AsyncIterator[Client]:
    """A client of a new server, started as a host starts it."""
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "wan_mcp"], env=environment, cwd=ROOT
    )
    async with Client(command) as client:
        yield client


async def test_simultaneous_claims_stay_under_the_limit(open_ledger: Open, tmp_path: Path) -> None:
    """8 processes claim 4 requests each; 5 may be in flight (promises 10)."""
    limits = SpendingLimits(credits_per_day=None, in_flight=5, submits_per_minute=None)
    refused: list[LimitReached] = []

    async def claim(ledger: SQLiteLedger, number: int) -> None:
        try:
            await ledger.claim("account", request(number), generated_seed=1, estimate=10)
        except LimitReached as limit:
            refused.append(limit)

    async with anyio.create_task_group() as tasks:
        for process in range(8):
            ledger = open_ledger(limits=limits)
            for number in range(4):
                tasks.start_soon(claim, ledger, 4 * process + number)

    assert live_states(tmp_path) == [State.INTENT] * 5
    assert len(refused) == 32 - 5


async def test_nobody_else_can_write_while_the_caps_are_counted(
    open_ledger: Open, tmp_path: Path
) -> None:
    """Otherwise two claims could both find room for one job (promises 10)."""
    probes: list[int] = []

    def now() -> datetime:
        # The ledger asks for the time when it counts; then another process tries to write.
        with closing(sqlite3.connect(tmp_path / FILE, timeout=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                probes.append(sqlite3.SQLITE_OK)
            except sqlite3.OperationalError as exc:
                probes.append(exc.sqlite_errorcode)
        return datetime(2026, 1, 1, tzinfo=UTC)

    ledger = open_ledger(now=now)
    await ledger.account("https://api.example", "pd_key")  # opens the file
    probes.clear()
    await ledger.claim("account", request(1), generated_seed=1, estimate=10)

    assert set(probes) == {sqlite3.SQLITE_BUSY}


async def test_a_claim_that_overlooks_its_equal_cannot_be_written(
    open_ledger: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unique index over live states prevents it (promises 9)."""
    ledger = open_ledger()
    await ledger.claim("account", request(1), generated_seed=1, estimate=10)
    monkeypatch.setattr(EqualRequests, "find", lambda *_, **__: None)

    with pytest.raises(sqlite3.IntegrityError):
        await ledger.claim("account", request(1), generated_seed=2, estimate=10)

    assert live_states(tmp_path) == [State.INTENT]


async def test_a_row_is_sent_by_the_one_who_claimed_it(open_ledger: Open) -> None:
    """Another process, or the same one a second time, gets Fenced (promises 9)."""
    owner, other = open_ledger(), open_ledger()
    claim = await owner.claim("account", request(1), generated_seed=1, estimate=10)

    with pytest.raises(Fenced):
        await other.commit_sending(claim.record)
    await owner.commit_sending(claim.record)
    with pytest.raises(Fenced):
        await owner.commit_sending(claim.record)
    with pytest.raises(Fenced):
        await other.conclude(claim.record, State.REFUSED, "another process owns it")
