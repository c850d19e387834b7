"""The check of the credits, below the tools: what it asks and survives, and that it never buys."""

import ast
import importlib.util
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import pytest
import respx

import wan_mcp
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.errors import Busy, CouldNotFindOut, NoKey, RateLimited, Unauthorized
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.expected_price import CreditReport
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.models import PriceType, Replacement
from wan_mcp.payments import credits as credits_module
from wan_mcp.payments.credits import MAX_KEY_SECONDS, Credits
from wan_mcp.payments.price import FRESH_SECONDS, MAX_READ_SECONDS, Price
from wan_mcp.pixeldojo.client import PixelDojo

pytestmark = pytest.mark.anyio

BASE = "https://api.example/api/v1"
KEY = "pd_test_key"
MODEL = "/models/wan-2.2-replace"
PAGE = {"creditCost": {"type": "per_second", "amount": 2}}
WANTED = Replacement(video="", character_image="", seconds=7, resolution="480")
time, anyio_backend = in_virtual_time()


@dataclass
class Desk:
    """One account's credits, PixelDojo as a table of routes, and a ledger."""

    credits: Credits
    price: Price
    ledger: SQLiteLedger
    vendor: respx.MockRouter

    async def report(self) -> CreditReport:
        return await self.credits.report(WANTED)


Open = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def opened(time: VirtualTime, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a desk on a new ledger."""
    async with anyio.create_task_group() as ending:
        ends: list[Callable[[], Awaitable[None]]] = []

        async def opened(key: str = KEY) -> Desk:
            vendor = respx.MockRouter(base_url=BASE, assert_all_called=False)
            dojo = PixelDojo(BASE, key, transport=httpx.MockTransport(vendor.async_handler))
            ledger = SQLiteLedger(tmp_path / "ledger", now=time.wall)
            ends.extend((dojo.aclose, ledger.aclose))

            async def account() -> str:
                return await ledger.account(BASE, key)

            price = Price(dojo, time.clock())
            return Desk(Credits(dojo, ledger, account, price), price, ledger, vendor)

        yield opened
        for end in ends:
            await end()
        ending.cancel_scope.cancel()


def answers(vendor: respx.MockRouter, *, jobs: int = 200) -> None:
    vendor.get(MODEL).respond(json=PAGE)
    vendor.get("/jobs").respond(jobs, json={"jobs": []})


async def test_two_reads_are_all_that_is_sent(opened: Open) -> None:
    """The public page goes without the key, and the other one with it (ours)."""
    desk = await opened()
    answers(desk.vendor)
    report = await desk.report()
    sent = {call.request.url.path: call.request for call in desk.vendor.calls}

    assert sorted(sent) == ["/api/v1/jobs", f"/api/v1{MODEL}"]
    assert len(desk.vendor.calls) == 2
    assert {request.method for request in sent.values()} == {"GET"}
    assert {request.content for request in sent.values()} == {b""}
    assert "authorization" not in sent[f"/api/v1{MODEL}"].headers
    assert sent["/api/v1/jobs"].headers["authorization"] == f"Bearer {KEY}"
    assert (report.price.named, report.price.up_to, report.key_problem) == (14, 14, None)


async def test_without_a_key_the_price_and_the_limits_are_known(opened: Open) -> None:
    """The page is public. Nothing is asked in the name of no account (ours)."""
    desk = await opened("")
    answers(desk.vendor)
    report = await desk.report()

    assert [call.request.url.path for call in desk.vendor.calls] == [f"/api/v1{MODEL}"]
    assert type(report.key_problem) is NoKey
    assert report.price.up_to == 14
    assert report.credits is None
    assert [(each.limit, each.used) for each in report.limits] == [
        *((None, None), (200, None), (3, None), (6, None))
    ]


@pytest.mark.parametrize(
    ("status", "problem"),
    [(401, Unauthorized), (429, RateLimited), (500, CouldNotFindOut), (404, CouldNotFindOut)],
)
async def test_what_pixeldojo_says_to_the_key_hides_nothing_else(
    opened: Open, status: int, problem: type[Exception]
) -> None:
    """Only a 401 means that the key is not accepted (ours)."""
    desk = await opened()
    answers(desk.vendor, jobs=status)
    report = await desk.report()

    assert type(report.key_problem) is problem
    assert report.price.up_to == 14
    assert report.credits is not None


async def test_silent_vendor_is_not_waited_for_longer_than_a_host_waits(
    opened: Open, time: VirtualTime
) -> None:
    """Some hosts end a call after 5 s (observed elsewhere). Both reads are made at once."""

    async def silent(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(3_600)
        raise AssertionError("nobody waits so long")

    desk = await opened()
    desk.vendor.route().mock(side_effect=silent)
    report = await desk.report()

    assert time.passed() == max(MAX_KEY_SECONDS, MAX_READ_SECONDS)
    assert type(report.key_problem) is CouldNotFindOut
    assert report.page.type is PriceType.UNKNOWN
    assert (report.price.up_to, report.credits is None) == (None, False)


async def test_full_minute_of_requests_is_no_evidence_about_the_key(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the key is not looked at, and the rest is reported (ours)."""
    desk = await opened()
    answers(desk.vendor)

    async def full(self: PixelDojo) -> None:
        raise Busy("As many requests as PixelDojo allows were made.")

    monkeypatch.setattr(PixelDojo, "require_accepted_key", full)
    report = await desk.report()

    assert type(report.key_problem) is Busy
    assert report.price.up_to == 14


async def test_unreadable_ledger_leaves_the_price_unknown_and_the_page_shown(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier charges might contradict the page (ours)."""
    desk = await opened()
    answers(desk.vendor)

    async def unreadable(*given: object) -> None:
        raise LedgerUnavailable("The disk is gone.")

    monkeypatch.setattr(desk.ledger, "charges", unreadable)
    report = await desk.report()

    assert type(report.ledger_problem) is LedgerUnavailable
    assert (report.price.named, report.price.up_to, report.credits) == (14, None, None)
    assert [each.used for each in report.limits] == [None] * 4


# The price, which submits use too


async def test_price_is_read_anew_for_each_question_and_submits_use_what_was_read(
    opened: Open, time: VirtualTime
) -> None:
    """Whoever was given a price is asked about the same one (ours)."""
    desk = await opened()
    page = desk.vendor.get(MODEL).respond(json={"creditCost": 10})
    assert (await desk.price.read()).of_every_job == 10
    page.respond(json={"creditCost": 20})
    assert (await desk.price.read()).of_every_job == 10
    assert (await desk.price.read_now()).of_every_job == 20
    assert (await desk.price.read()).of_every_job == 20

    assert page.call_count == 2
    time.now += FRESH_SECONDS
    page.respond(json={"creditCost": 30})
    assert (await desk.price.read()).of_every_job == 30


async def test_each_report_names_the_price_of_its_moment(opened: Open) -> None:
    """A page that was read minutes ago for a submit is no answer (ours)."""
    desk = await opened()
    answers(desk.vendor)
    await desk.price.read()
    desk.vendor.get(MODEL).respond(json={"creditCost": 20})

    assert (await desk.report()).price.up_to == 20


async def test_page_that_cannot_be_read_now_has_no_price_now(opened: Open) -> None:
    """An outdated price is no answer to a question; a submit may go on with it for minutes."""
    desk = await opened()
    page = desk.vendor.get(MODEL).respond(json={"creditCost": 10})
    await desk.price.read()
    page.mock(side_effect=httpx.ConnectError("no route"))

    unread = await desk.price.read_now()
    assert unread.type is PriceType.UNKNOWN
    assert "could not be reached" in unread.why
    assert (await desk.price.read()).of_every_job == 10


# Nothing is bought

BUYS = {"wan_mcp.payments.payment", "wan_mcp.payments.in_progress", "wan_mcp.jobs"}
SENDS = {"submit", "claim", "commit_sending", "run"}


def imports_of(module: str) -> set[str]:
    """The modules of wan_mcp that a module imports, directly or through others."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        spec = importlib.util.find_spec(waiting.pop())
        if spec is None or spec.origin is None:
            continue
        for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wan_mcp"):
                names = {node.module or "", *(f"{node.module}.{each.name}" for each in node.names)}
                new = {name for name in names - found if exists(name)}
                found |= new
                waiting.extend(new)
    return found


def exists(module: str) -> bool:
    path = Path(wan_mcp.__file__).parent.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_nothing_that_it_imports_can_pay() -> None:
    """Not even through another module: the paid path is out of its reach (promises 1)."""
    reached = imports_of("wan_mcp.payments.credits")

    assert "wan_mcp.payments.price" in reached
    assert "wan_mcp.pixeldojo.client" not in reached
    assert not BUYS & reached
    assert BUYS & imports_of("wan_mcp.payments.in_progress")  # or the search finds nothing


def test_nothing_that_buys_is_called() -> None:
    """It knows PixelDojo only as two reads (promises 1)."""
    for module in (credits_module.__file__, importlib.util.find_spec("wan_mcp.payments.price")):
        origin = module if isinstance(module, str) else module and module.origin
        tree = ast.parse(Path(str(origin)).read_text("utf-8"))
        named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

        assert not SENDS & named


async def test_report_of_an_account_holds_no_key(opened: Open) -> None:
    """Not even when PixelDojo repeats it (ours)."""
    desk = await opened()
    desk.vendor.get(MODEL).respond(json={"creditCost": {"type": KEY, "amount": 1}})
    desk.vendor.get("/jobs").respond(401, text=json.dumps({"error": f"{KEY} is revoked"}))

    assert KEY not in repr(await desk.report())
