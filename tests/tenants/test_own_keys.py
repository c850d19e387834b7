"""The page for keys of users, with the database and what PixelDojo answers behind it."""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
from starlette.applications import Starlette

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.tenants.team import BASE, KEY, Blue, ring, rows
from tests.tenants.test_own_wallets import with_job, with_work
from wan_mcp.app import own_keys
from wan_mcp.app.own_keys import PER_MINUTE_AND_USER, OwnKeys
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import State
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.tenants.administration import tokens, users, wallets
from wan_mcp.tenants.audit import entries
from wan_mcp.tenants.caller import READ, IdentityUnknown
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.key_page import KeyPage
from wan_mcp.tenants.own_wallets import OwnWallets
from wan_mcp.transports.operations.proxies import NOBODY_ELSE
from wan_mcp.transports.own_key.site import KeySite

pytestmark = pytest.mark.anyio
HERE = "http://127.0.0.1:8765"
PAGE = KeyPage(f"{HERE}/key")
OWN_KEY = "pd_canary_own"
OTHER_KEY = "pd_canary_other"
LIST = {"jobs": [{"jobId": "job-of-nobody-else", "status": "completed"}]}


@dataclass
class Vendor:
    """PixelDojo, as far as a key is tried there.

    Attributes:
        answers: what comes for the list of jobs.
        asked: each request.
    """

    answers: Callable[[], httpx.Response] = lambda: httpx.Response(200, json=LIST)
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answers()


class Page(Blue):
    """The team Blue at a server with the page.

    Attributes:
        now: seconds that pass when a test says so.
    """

    def __init__(self, blue: Blue, directory: StoredDirectory, vendor: Vendor) -> None:
        vars(self).update(vars(blue))
        self.now = 0.0
        self.vendor = vendor
        self.directory = directory
        transport = httpx.MockTransport(vendor)
        connect = partial(PixelDojo, BASE, transport=transport)
        self.desk = OwnKeys(directory, BASE, connect, lambda: self.now, PAGE)
        site = KeySite(lambda: self.desk, NOBODY_ELSE.page_rules(8765))
        self._app = NOBODY_ELSE.guard(Starlette(routes=site.routes))

    async def send(self, token: str, key: str) -> httpx.Response:
        """The answer to the form of the page."""
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            return await client.post("/key", data={"token": token, "key": key})

    async def remove(self, token: str, what: str = "remove") -> httpx.Response:
        """The answer to the other form, of which one of the two buttons was pressed."""
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            return await client.post("/key/remove", data={"token": token, what: "yes"})

    def payer(self, user: str) -> str | None:
        """The name of the wallet that pays for a user."""
        return {each.id: each.wallet for each in users.users(self.operator)}[user]


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
async def page(blue: Blue, database: str, vendor: Vendor) -> AsyncIterator[Page]:
    directory = StoredDirectory(database, ring())
    yield Page(blue, directory, vendor)
    await directory.aclose()


async def test_key_that_pixeldojo_accepts_pays_for_its_user_alone(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """The token says whose it is, and nothing shows the key again (ours)."""
    caplog.set_level(logging.DEBUG)
    token = page.token("Ann").text
    before = await page.directory.seat(page.ann)
    answer = await page.send(f" {token}\n", f"{OWN_KEY}\n")
    after = await page.directory.seat(page.ann)

    assert (answer.status_code, answer.headers["location"]) == (303, "key/stored")
    assert (before.wallet, after.api_key, after.api_base) == (page.wallet, OWN_KEY, BASE)
    assert page.payer(page.bob) == "blue wallet"
    [asked] = page.vendor.asked
    assert (asked.method, str(asked.url)) == ("GET", f"{BASE}/jobs")
    assert asked.headers["authorization"] == f"Bearer {OWN_KEY}"
    written = entries(page.operator.link, page.ann, 0, 1)
    assert [(each.actor, each.action, each.result) for each in written] == [
        (page.ann, "wallet.add", "done")
    ]
    shown = f"{answer.text}{answer.headers}{caplog.text}{written}"
    assert "canary" not in shown
    assert token.rpartition("_")[2] not in shown


def wrong_tokens(page: Page) -> dict[str, tuple[str, str]]:
    """Tokens that store nothing, each with a word of what is said."""
    revoked, disabled = page.token("Ann"), page.token("Bob")
    tokens.revoke(page.operator, revoked.id)
    users.disable(page.operator, "Bob")
    other = page.token("Ann").text
    reads = tokens.add(page.operator, "Ann", {READ}, 1, "")
    return {
        "": ("no token", ""),
        "#0815#": ("no token", "not of the form"),
        OWN_KEY: ("no token", "the key in the wrong field"),
        other[:-1] + ("a" if other[-1] != "a" else "b"): ("no token", "one letter"),
        revoked.text: ("no token", "revoked"),
        disabled.text: ("no token", "user disabled"),
        reads.text: ("may only read", "read-only"),
    }


async def test_no_wrong_token_stores_anything_or_says_why_it_is_wrong(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever guesses learns nothing, and PixelDojo is not asked (ours)."""
    caplog.set_level(logging.DEBUG)
    said: dict[str, set[str]] = {}
    count = len(entries(page.operator.link, None, 0, 100))
    for token, (sentence, _) in wrong_tokens(page).items():
        count = len(entries(page.operator.link, None, 0, 100))
        answer = await page.send(token, OWN_KEY)
        assert answer.status_code == 403
        assert sentence in answer.text
        assert 'aria-describedby="token-problem token-hint" aria-invalid="true"' in answer.text
        assert answer.text.count('aria-invalid="true"') == 1
        assert "canary" not in answer.text + caplog.text
        assert not token or token not in answer.text + caplog.text
        nonce = answer.headers["content-security-policy"].partition("'nonce-")[2][:22]
        said.setdefault(sentence, set()).add(answer.text.replace(nonce, ""))

    assert {sentence: len(pages) for sentence, pages in said.items()} == {
        "no token": 1,
        "may only read": 1,
    }
    assert page.vendor.asked == []
    assert len(entries(page.operator.link, None, 0, 100)) == count
    assert len(wallets.wallets(page.operator, None)) == 1


@pytest.mark.parametrize("key", ["", " ", "pd canary", "pd_canary\u00e9", "pd\ncanary", "x" * 501])
async def test_what_is_no_key_is_not_shown_to_pixeldojo(page: Page, key: str) -> None:
    answer = await page.send(page.token("Ann").text, key)

    assert answer.status_code == 422
    assert "This is no PixelDojo key" in answer.text
    assert 'aria-describedby="key-problem key-hint" aria-invalid="true"' in answer.text
    assert "canary" not in answer.text
    assert page.vendor.asked == []


async def test_token_in_the_field_of_the_key_is_not_shown_to_pixeldojo(page: Page) -> None:
    """It would give PixelDojo the right to call this server (ours)."""
    token = page.token("Ann").text
    answer = await page.send(token, token)

    assert (answer.status_code, page.vendor.asked) == (422, [])
    assert "This is a token of this server" in answer.text
    assert token not in answer.text


def fails() -> httpx.Response:
    raise httpx.ConnectError("no way")


@pytest.mark.parametrize(
    ("answers", "status", "sentence", "audited"),
    [
        (lambda: httpx.Response(401, json={"error": OWN_KEY}), 422, "does not accept", True),
        (lambda: httpx.Response(403, json={"error": OWN_KEY}), 422, "does not allow", True),
        (lambda: httpx.Response(403, html="<p>robot?</p>"), 503, "could not be asked", False),
        (lambda: httpx.Response(401, html="<p>robot?</p>"), 503, "could not be asked", False),
        (lambda: httpx.Response(404, json={"error": "x"}), 503, "could not be asked", False),
        (lambda: httpx.Response(429, json={"error": "x"}), 503, "could not be asked", False),
        (lambda: httpx.Response(500, text=OWN_KEY), 503, "could not be asked", False),
        (lambda: httpx.Response(200, html="<p>log in</p>"), 503, "could not be asked", False),
        (
            lambda: httpx.Response(302, headers={"location": "https://evil.example"}),
            503,
            "could not be asked",
            False,
        ),
        (fails, 503, "could not be asked", False),
    ],
)
async def test_key_that_pixeldojo_does_not_accept_is_not_stored(
    page: Page,
    caplog: pytest.LogCaptureFixture,
    answers: Callable[[], httpx.Response],
    status: int,
    sentence: str,
    audited: bool,
) -> None:
    """A key that could not be tried is not stored, either (ours)."""
    caplog.set_level(logging.DEBUG)
    page.vendor.answers = answers
    answer = await page.send(page.token("Ann").text, OWN_KEY)
    refused = [
        (each.actor, each.result)
        for each in entries(page.operator.link, page.ann, 0, 10)
        if each.action == "wallet.own-key"
    ]

    assert (answer.status_code, len(page.vendor.asked)) == (status, 1)
    assert sentence in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    assert refused == [(page.ann, "refused")] * audited
    assert page.payer(page.ann) == "blue wallet"
    assert "canary" not in answer.text + caplog.text
    assert "canary" not in repr(rows(page.operator.link, "SELECT * FROM audit"))


async def test_another_key_has_to_show_a_job_that_was_paid_with_the_first(
    page: Page, database: str
) -> None:
    """A key of another PixelDojo account would lose what is in flight (ours)."""
    token = page.token("Ann").text
    assert (await page.send(token, OWN_KEY)).status_code == 303
    found = await page.directory.own_wallets.find(page.ann, OTHER_KEY)
    assert found
    unproven = await page.send(token, OTHER_KEY)
    id = await with_job(database, page.ann, found.account)
    other = await page.send(token, OTHER_KEY)
    again = await page.send(token, OWN_KEY)
    page.vendor.answers = lambda: httpx.Response(
        200, json={"jobs": [*LIST["jobs"], {"jobId": id, "status": "completed"}]}
    )
    proven = await page.send(token, OTHER_KEY)

    assert [each.status_code for each in (unproven, other, again, proven)] == [409, 409, 303, 303]
    assert "another PixelDojo account" in other.text
    assert (await page.directory.seat(page.ann)).api_key == OTHER_KEY
    assert (await page.directory.seat(page.ann)).wallet == found.account


async def test_wallet_for_another_api_keeps_its_key(page: Page) -> None:
    """The key would be sent to an address that its user does not know (ours)."""
    wallets.add(page.operator, ring(), "Eve's", "pd_eve", "https://else.example/v1", user="Eve")
    answer = await page.send(page.token("Eve").text, OWN_KEY)

    assert (answer.status_code, page.vendor.asked) == (409, [])
    assert "another address" in answer.text


async def test_key_of_another_wallet_is_refused(page: Page) -> None:
    answer = await page.send(page.token("Ann").text, KEY)

    assert answer.status_code == 409
    assert "the same PixelDojo key" in answer.text
    assert page.payer(page.ann) == "blue wallet"


async def test_strangers_use_up_nobodys_attempts(page: Page) -> None:
    """Whoever knows the address could otherwise lock all users out (ours)."""
    guess = "wan_0123456789_" + "x" * 43
    guesses = [await page.send(guess, OWN_KEY) for _ in range(100)]
    stored = await page.send(page.token("Ann").text, OWN_KEY)

    assert {each.status_code for each in guesses} == {403}
    assert stored.status_code == 303


async def test_what_has_not_the_form_of_a_token_is_refused_without_the_database(
    page: Page,
) -> None:
    """A stranger without a token gives it no work (ours)."""
    directory = StoredDirectory("postgresql:///wan_mcp?host=/nowhere", ring())
    page.desk = OwnKeys(directory, BASE, partial(PixelDojo, BASE), lambda: page.now, PAGE)

    assert (await page.send("wan_guess", OWN_KEY)).status_code == 403
    assert (await page.send(page.token("Ann").text, OWN_KEY)).status_code == 503


async def test_key_is_not_stored_while_a_job_is_paid_with_that_of_the_team(
    page: Page, database: str
) -> None:
    """PixelDojo is not asked about the key before that is over (ours)."""
    token = page.token("Ann").text
    before = await page.directory.seat(page.ann)
    await with_job(database, page.ann, before.wallet)
    refused = await page.send(token, OWN_KEY)
    asked = len(page.vendor.asked)
    rows(page.operator.link, "UPDATE jobs SET state = 'completed' RETURNING 1")
    stored = await page.send(token, OWN_KEY)

    assert (refused.status_code, asked, stored.status_code) == (409, 0, 303)
    assert "Wait until they have ended" in refused.text


async def test_key_that_the_ring_does_not_open_is_replaced_by_itself(
    page: Page, database: str
) -> None:
    """The account of the key proves it: no job has to (ours)."""
    await OwnWallets(database, ring("lost")).store(page.ann, OWN_KEY, BASE, None)
    stored = await page.send(page.token("Ann").text, OWN_KEY)

    assert stored.status_code == 303
    assert (await page.directory.seat(page.ann)).api_key == OWN_KEY


async def test_pages_say_that_the_list_begins_anew_and_an_equal_request_is_paid_again(
    page: Page,
) -> None:
    """Whoever looks for an earlier job would otherwise order it once more (ours)."""
    for text in (page.desk.page("n"), page.desk.stored_page("n")):
        for words in ("begins anew", "stay with the key of the team", "is paid again"):
            assert words in text


async def test_refused_replacement_names_no_other_wallet(page: Page, database: str) -> None:
    """Names of other wallets and users are the operator's to know (ours)."""
    token = page.token("Ann").text
    assert (await page.send(token, OWN_KEY)).status_code == 303
    own = await page.directory.own_wallets.find(page.ann, KEY)
    assert own
    id = await with_job(database, page.ann, own.account)
    page.vendor.answers = lambda: httpx.Response(
        200, json={"jobs": [{"jobId": id, "status": "completed"}]}
    )
    refused = await page.send(token, KEY)

    assert refused.status_code == 409
    assert "the same PixelDojo key" in refused.text
    assert "blue wallet" not in refused.text


async def test_one_user_tries_few_keys_and_hinders_nobody_else(page: Page) -> None:
    """A user could otherwise have many stolen keys tried from here (ours)."""
    page.vendor.answers = lambda: httpx.Response(401, json={"error": "x"})
    token = page.token("Ann").text
    tried = [await page.send(token, f"{OWN_KEY}{n}") for n in range(PER_MINUTE_AND_USER + 1)]
    asked = len(page.vendor.asked)
    other = await page.send(page.token("Bob").text, OTHER_KEY)
    page.now += 60.0
    later = await page.send(token, OWN_KEY)

    assert [each.status_code for each in tried] == [422] * PER_MINUTE_AND_USER + [429]
    assert (tried[-1].headers["retry-after"], asked) == ("60", PER_MINUTE_AND_USER)
    assert (other.status_code, later.status_code) == (422, 422)


@pytest.mark.parametrize("away", ["token", "find", "store", "refuse"])
async def test_what_the_database_cannot_say_now_is_tried_again_later(
    page: Page, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """Nobody is turned away for good, and nothing is called stored (ours)."""

    async def fail(*_: object) -> None:
        raise LedgerUnavailable("The ledger's database cannot be reached.", transient=True)

    token = page.token("Ann").text
    if away == "token":
        directory = StoredDirectory("postgresql:///wan_mcp?host=/nowhere", ring())
        page.desk = OwnKeys(directory, BASE, partial(PixelDojo, BASE), lambda: page.now, PAGE)
    else:
        monkeypatch.setattr(page.directory.own_wallets, away, fail)
    if away == "refuse":
        page.vendor.answers = lambda: httpx.Response(401, json={"error": "x"})
    answer = await page.send(token, OWN_KEY)

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.text.count('aria-invalid="true"') == 0
    assert page.payer(page.ann) == "blue wallet"


async def test_read_that_tries_a_key_is_given_a_few_seconds() -> None:
    """Its user waits for it, and a proxy in front waits no longer (ours)."""
    assert own_keys.LIMITS.read_total <= 10


# Removing


async def test_key_is_seen_and_removed_with_a_token_and_pays_for_nothing_any_more(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """What is stored is said in words, and never shown (ours)."""
    caplog.set_level(logging.DEBUG)
    token = page.token("Ann")
    assert (await page.send(token.text, OWN_KEY)).status_code == 303
    own = (await page.directory.seat(page.ann)).wallet
    seen = await page.remove(token.text, "look")
    done = await page.remove(f" {token.text}\n")
    after = await page.remove(token.text, "look")
    [written] = entries(page.operator.link, own, 0, 1)

    assert (seen.status_code, after.status_code) == (200, 200)
    assert "A PixelDojo key of your own is stored here" in seen.text
    assert "No PixelDojo key of your own is stored here" in after.text
    assert (done.status_code, done.headers["location"]) == (303, "removed")
    assert (written.actor, written.action, written.result) == (page.ann, "wallet.remove", "done")
    assert written.detail == {"signed_in": token.id}
    assert (await page.directory.seat(page.ann)).wallet == page.wallet  # without another question
    shown = f"{seen.text} {done.text} {after.text} {caplog.text}"
    assert "canary" not in shown
    assert token.text.rpartition("_")[2] not in shown


@pytest.mark.parametrize("what", ["look", "remove"])
async def test_no_wrong_token_removes_or_sees_anything(page: Page, what: str) -> None:
    """Whoever guesses does not even learn who has a key (ours)."""
    token = page.token("Ann").text
    assert (await page.send(token, OWN_KEY)).status_code == 303
    for wrong, (sentence, _) in wrong_tokens(page).items():
        answer = await page.remove(wrong, what)
        assert answer.status_code == 403
        assert sentence in answer.text
        assert 'aria-describedby="token-problem token-hint" aria-invalid="true"' in answer.text
        assert "is stored here" not in answer.text
        assert not wrong or wrong not in answer.text

    assert (await page.directory.seat(page.ann, fresh=True)).api_key == OWN_KEY


async def test_key_is_not_removed_while_a_job_needs_it(page: Page, database: str) -> None:
    token = page.token("Ann").text
    assert (await page.send(token, OWN_KEY)).status_code == 303
    own = (await page.directory.seat(page.ann)).wallet
    await with_work(database, page.ann, own, State.ACCEPTED)
    refused = await page.remove(token)

    assert refused.status_code == 409
    assert "1 job of yours is in progress" in refused.text
    assert "Nothing was removed." in refused.text
    assert refused.text.count(" autofocus") == 1
    assert (await page.directory.seat(page.ann, fresh=True)).api_key == OWN_KEY


async def test_one_user_is_refused_only_so_often_in_a_minute(page: Page) -> None:
    """Each refusal is a row of the audit; it hinders nobody else (ours)."""
    wallets.add(page.operator, ring(), "Ann's", "pd_ann", BASE, user=page.ann)
    token = page.token("Ann").text
    refused = [await page.remove(token) for _ in range(PER_MINUTE_AND_USER + 1)]
    other = await page.remove(page.token("Bob").text)
    page.now += 60.0
    later = await page.remove(token, "look")

    assert [each.status_code for each in refused] == [409] * PER_MINUTE_AND_USER + [429]
    assert refused[-1].headers["retry-after"] == "60"
    assert (other.status_code, later.status_code) == (303, 200)
    assert "Only an operator can remove it" in later.text


@pytest.mark.parametrize("what", ["look", "remove"])
async def test_removal_that_the_database_cannot_do_now_is_tried_again_later(
    page: Page, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It may have been done, and doing it again is safe (ours)."""
    token = page.token("Ann").text

    async def fail(*_: object) -> None:
        raise LedgerUnavailable("The ledger's database cannot be reached.", transient=True)

    async def unknown(*_: object) -> None:
        raise IdentityUnknown("The database cannot be reached.")

    monkeypatch.setattr(page.directory.own_wallets, "remove", fail)
    monkeypatch.setattr(page.directory, "stored", unknown)
    answer = await page.remove(token, what)

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    words = {"remove": "not certain that the key was removed", "look": "not known now"}
    assert words[what] in answer.text


async def test_page_says_what_follows_before_a_key_is_removed(page: Page) -> None:
    """A user who does not know it looks for jobs, and orders them once more (ours)."""
    for words in (
        "If your team has a key, your next videos are paid with that one",
        "your list does not show them any more",
        "is paid again",
        "cannot be stored here a second time",
        "until you revoke it there",
    ):
        assert words in page.desk.removal_page("n")
