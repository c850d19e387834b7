"""Where people sign in, each next step is something that its user can do."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from mcp.shared.exceptions import MCPError

from wan_mcp.app.team import TeamApp
from wan_mcp.errors import Unauthorized
from wan_mcp.sandbox.http import faults
from wan_mcp.surface.answers.team_user import TeamUser
from wan_mcp.surface.calls import Calls
from wan_mcp.tenants.administration import tokens
from wan_mcp.tenants.caller import READ
from wan_mcp.tenants.seat import WalletKey

if TYPE_CHECKING:
    from tests.tenants.company import Company, Person

pytestmark = pytest.mark.anyio
PAGE = "https://team.example/key"
RUN = "/api/v1/models/*/run"
OF_OPERATORS = ("WAN_MCP_", "PIXELDOJO_", "restart", "configuration")


async def answers(person: "Person", *tools: str) -> list[str]:
    """The next steps of these tools, each of which meets an error."""
    found = [await (person.order() if each == "order" else person.call(each)) for each in tools]
    return [each["next"] for each in found]


def revoke(company: "Company", key: str, now: str | None = None) -> None:
    """PixelDojo accepts a key no more; another one is of the same account now."""
    vendor = company.sandbox.vendor
    account = vendor._accounts.pop(key)
    if now is not None:
        vendor._accounts[now] = account
        own = {id: job for id, job in vendor.jobs.items() if job.key == key}
        vendor.jobs |= {id: replace(job, key=now) for id, job in own.items()}


def keys_of(company: "Company") -> dict[str, str]:
    """The keys of the team and of Eve."""
    team = company.sandbox.key
    [own] = [key for key in company.sandbox.vendor._accounts if key != team]
    return {"ann": team, "eve": own}


@pytest.mark.parametrize(
    ("who", "page", "scopes", "step"),
    [
        ("eve", PAGE, None, f"store it at {PAGE}"),
        ("eve", None, None, "ask the operator of this server to store it"),
        ("eve", PAGE, {READ}, "ask the operator of this server to store it"),
        ("ann", PAGE, None, "ask the operator of this server to check the PixelDojo key"),
    ],
    ids=["own key", "own key, no page", "own key, may only read", "key of the team"],
)
async def test_user_whose_key_is_refused_learns_what_they_can_do(
    company: "Company", who: str, page: str | None, scopes: set[str] | None, step: str
) -> None:
    """Nobody of a team can set PIXELDOJO_API_KEY, or restart the server (ours)."""
    user = vars(company)[who]
    revoke(company, keys_of(company)[who])
    async with company.served(key_page=page):
        token = tokens.add(company.operator, user, scopes, 1, "") if scopes else company.token(user)
        async with company.holder(user, token.text) as person:
            tools = ["check_credits"] + ["order"] * (scopes is None)
            steps = await answers(person, *tools)

    for each in steps:
        assert step in each
        assert "Never ask for a key" in each
        assert not any(word in each for word in OF_OPERATORS)


async def test_new_key_that_a_user_stores_is_used_by_the_next_call(company: "Company") -> None:
    """They call again at once, and would be sent to the page once more (ours)."""
    old, new = keys_of(company)["eve"], "pd_sandbox_of_eve_again"
    async with company.served(key_page=PAGE), company.person(company.eve) as eve:
        await eve.order()
        revoke(company, old, new)
        refused = await eve.call("check_credits")
        async with httpx.AsyncClient(trust_env=False, timeout=600) as browser:
            form = {"token": company.token(company.eve).text, "key": new}
            stored = await browser.post(httpx.URL(company.url).join("/key"), data=form)
        accepted = await eve.call("check_credits")

    assert (refused["key_accepted"], stored.status_code) == ("no", 303)
    assert accepted["key_accepted"] == "yes"


async def test_key_that_was_replaced_is_not_put_back_by_what_is_still_remembered(
    company: "Company",
) -> None:
    """What a server remembers of a user may be older than what it has read of the wallet (ours)."""
    old, new = keys_of(company)["eve"], "pd_sandbox_of_eve_again"
    async with company.served(), company.person(company.eve) as eve:
        assert (await eve.call("check_credits"))["key_accepted"] == "yes"
        revoke(company, old, new)
        app = company.running.app
        assert isinstance(app, TeamApp)
        app._wallets.renew(WalletKey(company.eves, company.sandbox.api_base, new))
        accepted = await eve.call("check_credits")

    assert accepted["key_accepted"] == "yes"


REFUSALS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "no credits": (
        lambda: faults.status(402, {"error": "Insufficient credits"}),
        "operator of this server to buy credits",
        "buy credits on pixeldojo.ai",
    ),
    "not allowed": (
        lambda: faults.status(403, {"error": "Not with this key"}),
        "ask the operator of this server to check on pixeldojo.ai",
        "check on pixeldojo.ai what this API key",
    ),
    "stopped on the way": (
        lambda: faults.status(403, "<p>Are you a robot?</p>"),
        "ask the operator of this server",
        "ask the operator of this server",
    ),
    "unknown model": (
        lambda: faults.status(404, {"error": "No such model"}),
        "ask the operator of this server",
        "ask the operator of this server",
    ),
    "moved": (
        lambda: faults.redirect("https://elsewhere.example/"),
        "ask the operator of this server",
        "ask the operator of this server",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
async def test_who_can_do_something_about_a_refusal_depends_on_whose_account_it_is(
    company: "Company", why: str
) -> None:
    """A user of the team's wallet has no account at PixelDojo, but the operator has (ours)."""
    fault, for_team, for_owner = REFUSALS[why]
    found = {}
    async with company.served():
        for user, expected in ((company.ann, for_team), (company.eve, for_owner)):
            async with company.person(user) as person:
                company.sandbox.fault("POST", RUN, fault())
                refused = await person.order()
                look = await person.call("get_job_status", job_id=await id_of_last(company, user))
                found[expected] = (refused["next"], look)

    for expected, (step, look) in found.items():
        assert expected in step
        for text in (step, look["message"], look["next"]):
            assert not any(word in text for word in OF_OPERATORS)
        assert "If the user can remove the reason" in look["next"]


async def id_of_last(company: "Company", user: str) -> str:
    """The id of the newest request of a user."""
    from tests.tenants.team import rows

    query = f"SELECT handle FROM jobs WHERE account LIKE '%/{user}' ORDER BY number DESC LIMIT 1"
    [(handle,)] = rows(company.operator.link, query)
    return str(handle)


async def test_error_of_a_resource_says_the_same_as_that_of_a_tool() -> None:
    """A host that reads resources shows their error to the same user (ours)."""

    async def eve() -> TeamUser:
        return TeamUser(has_account=True, key_page=PAGE)

    calls = Calls(None, False, False, who_reads=eve)
    with pytest.raises(MCPError) as caught:
        async with calls.as_mcp_errors():
            raise Unauthorized("The key is not accepted.")

    assert f"store it at {PAGE}" in caught.value.error.message
