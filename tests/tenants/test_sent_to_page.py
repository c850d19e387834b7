"""A call of somebody without a wallet: where it leads in each revision, and how it goes on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitRequestURLParams, ElicitResult

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.tenants.team import ring
from wan_mcp.app.team import TeamApp
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.pixeldojo.request import Limits
from wan_mcp.server import RunningServer, build_server
from wan_mcp.settings import Settings
from wan_mcp.surface.request_state import logger as request_state_logger
from wan_mcp.tenants.administration import tokens
from wan_mcp.tenants.audit import entries
from wan_mcp.tenants.caller import READ, SCOPES, ByIssuer, ByToken, Caller
from wan_mcp.tenants.current import calling
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.key_page import KeyPage
from wan_mcp.tenants.own_wallets import OwnWallets

if TYPE_CHECKING:
    from tests.tenants.company import Company

pytestmark = pytest.mark.anyio
PAGE = "https://wan.example.com/key"
ISSUER = "https://login.example.com"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the sandbox may take long to answer the read that tries a key."""
    monkeypatch.setattr("wan_mcp.app.team.LIMITS", Limits(600, 600, 600, 600, 600))


class Host:
    """A host whose user opens each page, and does there what the test says."""

    def __init__(self, running: RunningServer, token: str) -> None:
        self.asked: list[ElicitRequestURLParams] = []
        self.action = "accept"
        self.key = ""
        self._running = running
        self._token = token

    async def elicit(self, context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        self.asked.append(params)
        if self.key:
            desk = self._running.own_keys
            assert desk
            assert await desk.store(self._token, self.key, "") is None
        return ElicitResult.model_validate({"action": self.action})


@asynccontextmanager
async def connected(
    company: "Company", folder: Path, mode: Any, caller: Caller, *, page: str | None = PAGE
) -> AsyncIterator[tuple[Client, Host]]:
    """The official client in memory, as this caller, whose host can open pages."""
    settings = {
        "PIXELDOJO_API_BASE": company.sandbox.api_base,
        "WAN_MCP_LEDGER_URL": company.database,
        "WAN_MCP_DATA_DIR": str(folder),
        "WAN_MCP_ARCHIVE": "off",
        "WAN_MCP_PREFLIGHT": "off",
    }
    running, directory = RunningServer(), StoredDirectory(company.database, ring())
    server = build_server(
        Settings.read(settings, folder),
        running=running,
        people=directory,
        key_page=KeyPage(page, {ISSUER: "login.example.com"}) if page else None,
    )
    host = Host(running, company.token(caller.user).text)
    with calling(caller):
        async with Client(server, mode=mode, elicitation_callback=host.elicit) as client:
            yield client, host


def zoe(company: "Company", **changes: Any) -> Caller:
    """Somebody without any wallet."""
    known: dict[str, Any] = {
        "user": company.zoe,
        "name": "Zoe",
        "team": None,
        "scopes": SCOPES,
        "signed_in": ByToken("t"),
    }
    return Caller(**{**known, **changes})


def order(company: "Company") -> dict[str, Any]:
    return {
        "video": company.sandbox.source_video_url,
        "character_image": company.sandbox.image_url,
    }


def paid_with(company: "Company") -> list[str]:
    """The keys of all paid requests."""
    sent = [each for each in company.sandbox.requests if each.method == "POST"]
    return [each.headers["authorization"].removeprefix("Bearer ") for each in sent]


async def test_page_is_the_answer_and_the_same_call_goes_on_when_the_key_is_there(
    company: "Company", tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """2026-07-28: the host repeats the call by itself (documented)."""
    async with connected(company, tmp_path, "auto", zoe(company)) as (client, host):
        host.key = company.sandbox.open_account()
        answer = await client.call_tool("replace_character", order(company))
    data = answer.structured_content or {}
    [asked] = host.asked
    own = entries(company.operator.link, company.zoe, 0, 10)

    assert (asked.url, asked.elicitation_id) == (PAGE, None)
    assert not answer.is_error
    assert data["job_id"]
    assert paid_with(company) == [host.key]
    assert ("wallet.add", company.zoe) in [(each.action, each.actor) for each in own]
    assert host.key not in f"{asked} {answer} {own} {caplog.text}"
    assert not [each for each in caplog.records if each.name == request_state_logger.name]


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_page_is_shown_once_and_then_words_say_what_to_do(
    company: "Company", tmp_path: Path, action: str
) -> None:
    """A host may say yes when the page is opened; to ask again would open it without end (ours)."""
    async with connected(company, tmp_path, "auto", zoe(company)) as (client, host):
        host.action = action
        answer = await client.call_tool("check_credits", {})
    data = answer.structured_content or {}

    assert len(host.asked) == 1
    assert answer.is_error
    assert data["code"] == "no_api_key"
    assert PAGE in data["next"]
    assert "call again" in data["next"]


async def test_page_is_an_error_of_the_protocol_in_the_revision_before(
    company: "Company", tmp_path: Path
) -> None:
    """2025-11-25: -32042, and the call is made again (documented)."""
    async with connected(company, tmp_path, "legacy", zoe(company)) as (client, host):
        failures = []
        for _ in range(2):
            with pytest.raises(MCPError) as failed:
                await client.call_tool("replace_character", order(company))
            failures.append(failed.value.error)
        key = company.sandbox.open_account()
        desk = host._running.own_keys
        assert desk
        assert await desk.store(host._token, key, "") is None
        answer = await client.call_tool("replace_character", order(company))
    pages = [failure.data["elicitations"] for failure in failures]

    assert [failure.code for failure in failures] == [-32042, -32042]
    assert [[each["url"] for each in page] for page in pages] == [[PAGE], [PAGE]]
    assert len({page[0]["elicitationId"] for page in pages}) == 2
    assert not answer.is_error


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("changes", "page"),
    [
        ({"signed_in": ByIssuer("https://login.example.org", "zoe")}, PAGE),
        ({"signed_in": ByIssuer(ISSUER, "zoe"), "scopes": frozenset({READ})}, PAGE),
        ({"scopes": frozenset({READ})}, PAGE),
        ({}, None),
    ],
    ids=["other issuer", "issuer, may only read", "may only read", "page not allowed"],
)
async def test_whoever_cannot_use_the_page_is_not_sent_there(
    company: "Company", tmp_path: Path, mode: str, changes: dict[str, Any], page: str | None
) -> None:
    """It asks for a token that may buy, of this server or of an issuer of the page (ours)."""
    caller = zoe(company, **changes)
    async with connected(company, tmp_path, mode, caller, page=page) as (client, host):
        answer = await client.call_tool("check_credits", {})
    data = answer.structured_content or {}

    assert (host.asked, answer.is_error) == ([], True)
    assert "/key" not in data["next"]
    assert "operator of this server" in data["next"]


async def test_whoever_signs_in_at_an_issuer_of_the_page_is_sent_there(
    company: "Company", tmp_path: Path
) -> None:
    """They have no token of this server: the page must not ask for one alone (ours)."""
    caller = zoe(company, signed_in=ByIssuer(ISSUER, "zoe"))
    async with connected(company, tmp_path, "auto", caller) as (client, host):
        answer = await client.call_tool("check_credits", {})
    [asked] = host.asked

    assert asked.url == PAGE
    for words in (asked.message, (answer.structured_content or {})["next"]):
        assert "sign in" in words


# Over HTTP


async def test_user_stores_a_key_on_the_page_and_the_next_call_is_paid_with_it(
    company: "Company",
) -> None:
    """A host that opens no page gets its address in words, and a resource says it, too (ours)."""
    key = company.sandbox.open_account()
    async with company.served(key_page=PAGE), company.person(company.zoe) as zoe:
        refused = await zoe.order()
        error = (await zoe.read("wan://jobs"))["error"]["message"]
        page = httpx.URL(company.url).join("/key")
        async with httpx.AsyncClient(
            trust_env=False, follow_redirects=True, timeout=600
        ) as browser:
            shown = await browser.get(page)
            form = {"token": company.token(company.zoe).text, "key": key}
            stored = await browser.post(page, data=form)
        bought = await zoe.order()

    assert refused["code"] == "no_api_key"
    for text in (refused["next"], error):
        assert PAGE in text
        assert "conversation" in text
    assert 'name="token"' in shown.text
    assert (stored.status_code, stored.url.path) == (200, "/key/stored")
    assert bought["job_id"]
    assert paid_with(company) == [key]


async def test_host_of_an_earlier_revision_gets_the_address_in_words(company: "Company") -> None:
    """Over HTTP a request of 2025-11-25 does not say what its host can do (observed)."""
    token = company.token(company.zoe).text

    async def never(context: Any, params: Any) -> ElicitResult:
        raise AssertionError

    async with company.served(key_page=PAGE):
        headers = {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(trust_env=False, headers=headers, timeout=600) as http,
            Client(
                streamable_http_client(company.url, http_client=http),
                mode="legacy",
                elicitation_callback=never,
            ) as client,
        ):
            answer = await client.call_tool("check_credits", {})

    assert answer.is_error
    assert PAGE in (answer.structured_content or {})["next"]


async def test_server_whose_operator_has_not_allowed_it_has_no_page(company: "Company") -> None:
    async with (
        company.served(),
        company.person(company.zoe) as zoe,
        httpx.AsyncClient(trust_env=False, timeout=600) as browser,
    ):
        page = httpx.URL(company.url).join("/key")
        answers = [await browser.get(page), await browser.post(page, data={"token": "x"})]
        refused = await zoe.order()

    assert [answer.status_code for answer in answers] == [404, 404]
    assert "wallet add" in refused["next"]


async def test_read_only_token_is_refused_on_the_page_of_a_running_server(
    company: "Company",
) -> None:
    token = tokens.add(company.operator, company.zoe, {READ}, 1, "").text
    async with (
        company.served(key_page=PAGE),
        httpx.AsyncClient(trust_env=False, timeout=600) as browser,
    ):
        form = {"token": token, "key": company.sandbox.open_account()}
        answer = await browser.post(httpx.URL(company.url).join("/key"), data=form)

    assert answer.status_code == 403


# A key that is removed


async def test_user_removes_the_key_on_the_page_when_the_job_has_ended(company: "Company") -> None:
    """The next call is that of a user without a key, and the former one is used no more (ours)."""
    key, token = company.sandbox.open_account(), company.token(company.zoe).text
    async with company.served(key_page=PAGE), company.person(company.zoe) as zoe:
        page = httpx.URL(company.url).join("/key")
        remove = {"token": token, "remove": "yes"}
        async with httpx.AsyncClient(
            trust_env=False, follow_redirects=True, timeout=600
        ) as browser:
            await browser.post(page, data={"token": token, "key": key})
            bought = await zoe.order()
            waits = await browser.post(f"{page}/remove", data=remove)
            company.jobs_time.now += 50
            await zoe.call("wait_for_job", job_id=bought["job_id"])
            done = await browser.post(f"{page}/remove", data=remove)
        asked = len(company.sandbox.requests)
        refused = await zoe.order()
        listed = await zoe.call("list_jobs")
    acts = [
        (each.action, each.result)
        for each in entries(company.operator.link, company.zoe, 0, 10)
        if each.action.startswith("wallet.")
    ]

    assert waits.status_code == 409
    assert "1 job of yours is in progress" in waits.text
    assert (done.status_code, done.url.path) == (200, "/key/removed")
    assert [each["code"] for each in (refused, listed)] == ["no_api_key"] * 2
    assert PAGE in refused["next"]
    assert len(company.sandbox.requests) == asked
    assert acts == [("wallet.remove", "done"), ("wallet.remove", "refused"), ("wallet.add", "done")]


async def test_server_that_has_not_heard_of_a_removal_pays_nothing_and_shows_the_page(
    company: "Company", tmp_path: Path
) -> None:
    """Another server has removed the key; the call goes on with the next one (ours)."""
    own = OwnWallets(company.database, ring())
    first = company.sandbox.open_account()
    await own.store(company.zoe, first, company.sandbox.api_base, None)
    async with connected(company, tmp_path, "auto", zoe(company)) as (client, host):
        known = await client.call_tool("check_credits", {})
        await own.remove(company.zoe)
        host.key = company.sandbox.open_account()
        answer = await client.call_tool("replace_character", order(company))

    assert not known.is_error
    assert [asked.url for asked in host.asked] == [PAGE]
    assert not answer.is_error
    assert paid_with(company) == [host.key]


async def test_call_during_which_the_key_is_removed_pays_nothing(
    company: "Company", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limits were read with the key, and its request is not recorded yet (ours)."""
    own, quotas = OwnWallets(company.database, ring()), TeamApp._quotas
    await own.store(company.zoe, company.sandbox.open_account(), company.sandbox.api_base, None)

    async def read(app: TeamApp, workspace: str, *, fresh: bool = False) -> Sequence[Quota]:
        found = await quotas(app, workspace, fresh=fresh)
        if fresh:
            await own.remove(company.zoe)
        return found

    monkeypatch.setattr(TeamApp, "_quotas", read)
    async with connected(company, tmp_path, "auto", zoe(company)) as (client, _):
        answer = await client.call_tool("replace_character", order(company))
    data = answer.structured_content or {}

    assert (data["code"], data["charged"]) == ("no_api_key", "no")
    assert PAGE in data["next"]
    assert paid_with(company) == []
