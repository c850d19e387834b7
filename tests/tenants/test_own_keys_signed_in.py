"""Keys of users who have signed in elsewhere: the rules are those of the page, whoever they are."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.tenants.team import BASE, ISSUER, Blue, ring
from tests.tenants.test_own_keys import OWN_KEY, Page, Vendor
from wan_mcp.app.own_keys import PER_MINUTE_AND_USER, OwnKeys
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.tenants.administration import wallets
from wan_mcp.tenants.audit import entries
from wan_mcp.tenants.caller import MAKE, READ, ByIssuer, Caller, IdentityUnknown
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.key_page import KeyPage

pytestmark = pytest.mark.anyio


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
async def page(blue: Blue, database: str, vendor: Vendor) -> AsyncIterator[Page]:
    """A page on which the people of one issuer can sign in."""
    directory = StoredDirectory(database, ring())
    page = Page(blue, directory, vendor)

    def connect(key: str) -> PixelDojo:
        return PixelDojo(BASE, key, transport=httpx.MockTransport(vendor))

    here = KeyPage("https://wan.example.com/key", {ISSUER: "login.example.com"})
    page.desk = OwnKeys(directory, BASE, connect, lambda: page.now, here)
    yield page
    await directory.aclose()


def ann(page: Page) -> Caller:
    """Ann, signed in at the issuer."""
    return Caller(page.ann, "Ann", None, frozenset({MAKE}), ByIssuer(ISSUER, "ann-1"))


def audited(page: Page) -> list[tuple[str, str, object]]:
    """What the audit says of keys that Ann brought: the newest comes first."""
    written = entries(page.operator.link, page.ann, 0, 100)
    kept = [each for each in written if each.action.startswith("wallet.")]
    return [(each.action, each.result, each.detail["signed_in"]) for each in kept]


async def test_audit_says_by_what_each_user_has_signed_in(page: Page) -> None:
    """Also of a key that was refused, and of a token by its id alone (ours)."""
    page.vendor.answers = lambda: httpx.Response(401, json={"error": "x"})
    refused = await page.desk.store_for(ann(page), OWN_KEY, "n", "t")
    page.vendor.answers = Vendor.answers
    stored = await page.desk.store_for(ann(page), f" {OWN_KEY}\n", "n", "t")
    seen = audited(page)
    token = page.token("Ann")
    page.vendor.answers = lambda: httpx.Response(401, json={"error": "x"})
    await page.send(token.text, f"{OWN_KEY}_2")

    assert refused is not None
    assert (refused.status, stored) == (422, None)
    assert seen == [("wallet.add", "done", ISSUER), ("wallet.own-key", "refused", ISSUER)]
    assert audited(page)[0] == ("wallet.own-key", "refused", token.id)
    assert (await page.directory.seat(page.ann)).api_key == OWN_KEY


async def test_attempts_are_those_of_the_user_however_they_sign_in(page: Page) -> None:
    page.vendor.answers = lambda: httpx.Response(401, json={"error": "x"})
    token = page.token("Ann").text
    for _ in range(PER_MINUTE_AND_USER - 1):
        await page.send(token, OWN_KEY)
    last = await page.desk.store_for(ann(page), OWN_KEY, "n", "t")
    beyond = await page.desk.store_for(ann(page), OWN_KEY, "n", "t")

    assert last is not None
    assert beyond is not None
    assert (last.status, beyond.status, beyond.retry_after) == (422, 429, 60)


@pytest.mark.parametrize(
    "changes",
    [
        {"signed_in": ByIssuer("https://login.example.org", "ann-1")},
        {"scopes": frozenset({READ})},
    ],
    ids=["other issuer", "read-only"],
)
async def test_whoever_the_page_is_not_for_stores_nothing(
    page: Page, changes: dict[str, object]
) -> None:
    """An operator may have changed that since they signed in (ours)."""
    refused = await page.desk.store_for(replace(ann(page), **changes), OWN_KEY, "n", "t")  # type: ignore[arg-type]

    assert refused is not None
    assert (refused.status, page.vendor.asked) == (403, [])
    assert page.payer(page.ann) == "blue wallet"


async def test_refusal_is_the_form_again_with_the_problem_at_its_field(page: Page) -> None:
    """It says whose key it is, and repeats nothing that was sent (ours)."""
    caller = replace(ann(page), name="<b>Ann</b> {{ticket}}")
    refused = await page.desk.store_for(caller, "pd canary", "n", "the-ticket")

    assert refused is not None
    assert refused.status == 422
    assert "<strong>&lt;b&gt;Ann&lt;/b&gt; &#123;&#123;ticket}}</strong> (login." in refused.page
    assert refused.page.count('value="the-ticket"') == 1
    assert refused.page.count('aria-invalid="true" autofocus') == 1
    assert "This is no PixelDojo key" in refused.page
    assert "canary" not in refused.page


async def test_page_has_a_button_for_each_issuer_also_after_a_refusal(page: Page) -> None:
    """Its form brings the address of the issuer and nothing else (ours)."""
    refused = await page.send("wan_wrong", OWN_KEY)
    button = f'<button class="main" name="issuer" value="{ISSUER}">Sign in with login.example.com<'

    for html in (page.desk.page("n"), refused.text):
        assert html.count(button) == 1
        assert html.count("<form") == 2


async def test_page_that_leads_on_spells_the_address_as_html(page: Page) -> None:
    html = page.desk.leading_page("n", ISSUER, 'https://a.example/?x=1&y="')

    assert html.count("https://a.example/?x=1&amp;y=&quot;") == 2
    assert "<h1>On to login.example.com</h1>" in html


# Removing


async def test_whoever_has_signed_in_sees_what_is_stored_and_removes_it(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """There is a button only for a key that they have stored themselves (ours)."""
    shown = {"nothing": await page.desk.signed_in_page("n", ann(page), "t")}
    assert await page.desk.store_for(ann(page), OWN_KEY, "n", "t") is None
    shown["own"] = await page.desk.signed_in_page("n", ann(page), "t")
    assert await page.desk.remove_for(ann(page), "n", "t") is None
    wallets.add(page.operator, ring(), "Ann's", "pd_ann", BASE, user=page.ann)
    shown["of an operator"] = await page.desk.signed_in_page("n", ann(page), "t")
    button = '<button class="main" type="submit" name="remove" value="yes">'

    assert {name: html.count(button) for name, html in shown.items()} == {
        "nothing": 0,
        "own": 1,
        "of an operator": 0,
    }
    assert "No PixelDojo key of your own is stored here" in shown["nothing"]
    assert "A PixelDojo key of your own is stored here" in shown["own"]
    assert shown["own"].count('value="t"') == 2
    assert "Only an operator can remove it" in shown["of an operator"]
    assert ("wallet.remove", "done", ISSUER) in audited(page)
    assert "canary" not in f"{shown}{caplog.text}"


async def test_key_that_cannot_be_removed_is_there_with_the_reason(page: Page) -> None:
    wallets.add(page.operator, ring(), "Ann's", "pd_ann", BASE, user=page.ann)
    refused = await page.desk.remove_for(ann(page), "n", "the-ticket")
    other = replace(ann(page), signed_in=ByIssuer("https://login.example.org", "ann-1"))
    stranger = await page.desk.remove_for(other, "n", "the-ticket")

    assert refused
    assert stranger
    assert (refused.status, stranger.status) == (409, 403)
    assert "only an operator can remove it" in refused.page
    assert refused.page.count('value="the-ticket"') == 1
    assert page.payer(page.ann) == "Ann's"


async def test_page_is_there_while_the_database_cannot_say_what_is_stored(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: object) -> None:
        raise IdentityUnknown("The database cannot be reached.")

    monkeypatch.setattr(page.directory, "stored", unknown)
    html = await page.desk.signed_in_page("n", ann(page), "t")

    assert "not known now whether a key of yours is stored" in html
    assert 'name="remove"' not in html
    assert 'name="key"' in html
