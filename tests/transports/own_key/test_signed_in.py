"""Signing in with a browser on the page for keys: whose key it becomes, and who is kept out."""

import json
import logging
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus

import anyio
import httpx
import pytest
import respx

from tests.transports.own_key.way import (
    AUTHORIZE,
    BACK,
    BEARER,
    CLIENT,
    CODE,
    COOKIE,
    KEY,
    METADATA,
    SECRET,
    SITE,
    TOKEN,
    Browser,
    Server,
    page_trust,
    serving,
    ticket_in,
)
from tests.transports.sign_in.scene import BOTH, ISSUER, NOW, OWN, RESOURCE
from tests.transports.sign_in.scene import Issuer as IssuerThere
from wan_mcp.logs.seldom import QUIET_SECONDS
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.transports.sign_in import sign_in
from wan_mcp.transports.sign_in.code_flow import AT_ONCE, LONGEST_CODE, PAUSE_SECONDS
from wan_mcp.transports.sign_in.trust import PageClient
from wan_mcp.web.documents import Documents

pytestmark = pytest.mark.anyio
HANG_SECONDS = 600.0
LIAR = "https://liar.example.com"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine ends no question."""
    monkeypatch.setattr(sign_in, "Documents", partial(Documents, seconds=HANG_SECONDS))


@pytest.fixture
async def server(network: respx.Router) -> AsyncIterator[Server]:
    async with serving(network) as server:
        yield server


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[Browser]:
    async with server.browser() as browser:
        yield browser


async def test_user_whom_the_issuer_names_stores_a_key(
    server: Server, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """The code is exchanged once, its token is forgotten, and nothing secret is in a log (ours)."""
    caplog.set_level(logging.DEBUG)
    asked = await browser.begin()
    verified = str(asked.pop("code_challenge"))
    state = asked.pop("state")
    back = await browser.come_back(state)
    page = await browser.client.get("/key/signed-in")
    stored = await browser.send(ticket_in(page))
    [exchange] = server.exchanged.calls
    form = dict(parse_qsl(exchange.request.content.decode(), strict_parsing=True))
    verifier = form.pop("code_verifier")

    assert asked == {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": BACK,
        "scope": BOTH,
        "code_challenge_method": "S256",
        "resource": RESOURCE,
    }
    assert form == {
        "grant_type": "authorization_code",
        "client_id": CLIENT,
        "code": CODE,
        "redirect_uri": BACK,
        "resource": RESOURCE,
    }
    assert "authorization" not in exchange.request.headers
    digest = sha256(verifier.encode()).digest()
    assert urlsafe_b64encode(digest).decode() == f"{verified}="
    assert min(len(verifier), len(state)) >= 43  # 256 bits
    assert "Ada (u-ada)" in page.text
    assert (stored.status_code, str(stored.next_request and stored.next_request.url)) == (
        303,
        f"{SITE}/key/stored",
    )
    assert server.desk.brought == [(KEY, "u-ada", ISSUER)]
    assert browser.cookie is None
    seen = f"{caplog.text} {back.headers} {page.text} {stored.headers} {stored.text}"
    for secret in (CODE, state, verifier, KEY, server.issuer.token().rpartition(".")[2]):
        assert secret not in seen


async def test_only_the_browser_can_carry_it_and_only_for_ten_minutes(
    browser: Browser,
) -> None:
    """Only this host can set a cookie of that name, and only over TLS (documented: RFC 6265bis)."""
    begun = await browser.client.post("/key/sign-in", data={"issuer": ISSUER})
    first = begun.headers["set-cookie"]

    rules = "; Max-Age=600; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert first.startswith(f"{COOKIE}=1.first.")
    assert first.endswith(rules)
    assert ISSUER not in first
    assert '"' not in first


async def test_no_page_is_kept_and_no_other_site_learns_its_address(browser: Browser) -> None:
    """The address with the code is not said even to this site (ours)."""
    begun = await browser.client.post("/key/sign-in", data={"issuer": ISSUER})
    refused = await browser.come_back("of somebody else")
    state = (await browser.begin())["state"]
    back = await browser.come_back(state)
    page = await browser.client.get("/key/signed-in")
    sent = await browser.send(ticket_in(page), "pd_bad")

    for answer in (begun, refused, page, sent):
        policy = answer.headers["content-security-policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert policy.startswith("default-src 'none'; form-action 'self'; style-src 'nonce-")
        assert answer.text.startswith(nonce)
    for answer in (begun, refused, back, page, sent):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
    assert [each.headers["referrer-policy"] for each in (begun, refused, back, page, sent)] == [
        *("same-origin", "no-referrer", "no-referrer", "same-origin", "same-origin")
    ]
    assert (sent.status_code, sent.headers["retry-after"]) == (422, "7")


@pytest.mark.parametrize(
    ("secret", "ways", "login", "in_form"),
    [
        (None, None, False, {"client_id": CLIENT}),
        (None, ["client_secret_post"], False, {"client_id": CLIENT}),
        (SECRET, None, True, {}),
        (SECRET, "client_secret_post", True, {}),
        (SECRET, ["client_secret_post", "client_secret_basic"], True, {}),
        (SECRET, ["client_secret_post"], False, {"client_id": CLIENT, "client_secret": SECRET}),
        (SECRET, ["private_key_jwt"], True, {}),
    ],
)
async def test_server_shows_who_it_is_in_the_way_that_the_issuer_takes(
    network: respx.Router,
    tmp_path: Path,
    secret: str | None,
    ways: object,
    login: bool,
    in_form: dict[str, str],
) -> None:
    """Basic unless only the form is taken; a public client has PKCE (documented: RFC 6749)."""
    given = {"client_id": CLIENT}
    if secret is not None:
        (tmp_path / "secret").write_text(f"{secret}\n")
        given["client_secret_file"] = str(tmp_path / "secret")
    async with (
        serving(network, page_trust(PageClient.model_validate(given))) as server,
        server.browser() as browser,
    ):
        server.says(token_endpoint_auth_methods_supported=ways)
        await browser.sign_in()
    request = server.exchanged.calls.last.request
    form = dict(parse_qsl(request.content.decode()))
    basic = b64encode(f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}".encode()).decode()

    assert request.headers.get("authorization") == (f"Basic {basic}" if login else None)
    assert {name: form[name] for name in form if name.startswith("client")} == in_form


async def test_scopes_are_asked_for_as_the_issuer_wants_them(network: respx.Router) -> None:
    trusted = page_trust(scope_prefix="api://wan/")
    async with serving(network, trusted) as server, server.browser() as browser:
        asked = await browser.begin()

    assert asked["scope"] == "api://wan/videos:read api://wan/videos:make"


# Attacks: whose browser it is


@pytest.mark.parametrize("state", ["of somebody else", "", None])
async def test_link_of_somebody_else_signs_nobody_in_and_ends_no_sign_in(
    server: Server, browser: Browser, state: str | None
) -> None:
    """A code of an attacker would store the victim's key for the attacker (ours)."""
    asked = await browser.begin()
    refused = await browser.come_back(state)
    calls = server.exchanged.call_count
    right = await browser.come_back(asked["state"])

    assert (refused.status_code, calls, right.status_code) == (400, 0, 303)
    assert "did not begin this sign-in" in refused.text
    assert "set-cookie" not in refused.headers
    assert CODE not in refused.text


async def test_answer_to_another_browser_signs_nobody_in(server: Server, browser: Browser) -> None:
    """Neither without any cookie, nor in the middle of a sign-in of its own (ours)."""
    asked = await browser.begin()
    async with server.browser() as victim:
        without = await victim.come_back(asked["state"])
        await victim.begin()
        with_own = await victim.come_back(asked["state"])
        form = await victim.client.get("/key/signed-in")

    assert [without.status_code, with_own.status_code, form.status_code] == [400, 400, 403]
    assert not server.exchanged.called


async def test_answer_of_another_issuer_is_never_shown_to_the_one_that_was_chosen(
    network: respx.Router,
) -> None:
    """One that lies may have led the browser on to the other one (documented: RFC 9700, 4.4)."""
    places = {"authorization_endpoint": f"{LIAR}/authorize", "token_endpoint": f"{LIAR}/token"}
    network.get(f"{LIAR}/.well-known/openid-configuration").respond(
        json=IssuerThere(LIAR).metadata() | places
    )
    shown = network.post(f"{LIAR}/token").respond(400, json={"error": "invalid_grant"})
    trusted = page_trust(issuers=[{"issuer": ISSUER}, {"issuer": LIAR}])
    async with serving(network, trusted) as server, server.browser() as victim:
        asked = await victim.begin_at(LIAR)
        refused = await victim.come_back(asked["state"])  # with the code of the honest one
        async with server.browser() as other:
            honest = await other.begin()

    assert refused.status_code == 400
    assert "did not begin this sign-in" in refused.text
    assert not shown.called
    assert not server.exchanged.called
    assert honest["redirect_uri"] == BACK != asked["redirect_uri"]
    assert victim.cookie is not None


@pytest.mark.parametrize("is_signed", [False, True])
async def test_token_is_shown_to_nobody_but_the_issuer_that_gave_it(
    network: respx.Router, is_signed: bool
) -> None:
    """Also not to the one that is asked about tokens which nobody else can read (ours)."""
    asked_about = f"{LIAR}/introspect"
    shown = network.post(asked_about).respond(json={"active": False})
    client = {"url": asked_about, "client_id": "wan", "client_secret": SECRET}
    token = IssuerThere(LIAR).token() if is_signed else "opaque"
    trusted = page_trust(issuers=[{"issuer": ISSUER}, {"issuer": LIAR, "introspection": client}])
    async with serving(network, trusted) as server, server.browser() as browser:
        server.exchanged.respond(json={"access_token": token, **BEARER})
        refused = await browser.come_back((await browser.begin())["state"])

    assert (refused.status_code, shown.called) == (502, False)


async def test_opaque_token_is_shown_to_the_issuer_that_gave_it(network: respx.Router) -> None:
    """Also where it has the form of a signed one of somebody else (ours)."""
    asked_about = f"{ISSUER}/introspect"
    said = IssuerThere().claims(active=True)
    shown = network.post(asked_about).respond(json=said)
    client = {"url": asked_about, "client_id": "wan", "client_secret": SECRET}
    async with (
        serving(
            network, page_trust(issuers=[{"issuer": ISSUER, "introspection": client}])
        ) as server,
        server.browser() as browser,
    ):
        for token in ("opaque", IssuerThere(LIAR).token()):
            server.exchanged.respond(json={"access_token": token, **BEARER})
            await browser.sign_in()

    assert shown.call_count == 2


async def test_cookie_of_another_server_or_another_kind_counts_for_nothing(
    server: Server, browser: Browser, network: respx.Router
) -> None:
    """What a sign-in begins with is no ticket, nor the other way round (ours)."""
    asked = await browser.begin()
    early = await browser.client.get("/key/signed-in")
    begun = str(browser.cookie)
    await browser.sign_in()
    late = await browser.come_back(asked["state"])
    async with (
        serving(network, ring=KeyRing({"first": b"\2" * 32})) as other,
        other.browser() as stranger,
    ):
        stranger.client.cookies.set(COOKIE, begun, "wan.example.com")
        elsewhere = await stranger.come_back(asked["state"])

    assert [early.status_code, late.status_code, elsewhere.status_code] == [403, 400, 400]
    assert browser.cookie != begun


@pytest.mark.parametrize("before", [b"\xa0", b"\x85", b"\x1f", b"\x0b", b"\xc2\xa0", b"x=y;\xa0"])
async def test_cookie_of_almost_the_same_name_signs_nobody_in(
    server: Server, browser: Browser, before: bytes
) -> None:
    """A neighbour of the host can set one, with a sign-in of their own (observed: Chromium)."""
    ticket = await browser.sign_in()
    planted = {b"cookie": before + f"{COOKIE}={browser.cookie}".encode()}
    async with server.browser() as victim:
        page = await victim.client.get("/key/signed-in", headers=planted)
        form = {"ticket": ticket, "key": KEY}
        sent = await victim.client.post("/key/signed-in", data=form, headers=planted)

    assert [page.status_code, sent.status_code] == [403, 403]
    assert server.desk.brought == []


@pytest.mark.parametrize(
    ("cookies", "status"),
    [
        (["a=b; \t{}\t;c"], 200),
        (["a=b", "{}"], 200),
        (["{}; {}"], 403),
        (["{}", "{}"], 403),
        (["{}; {name}="], 403),
        (["{}; \xa0{name}=other"], 200),
    ],
)
async def test_cookie_counts_wherever_it_stands_but_only_once(
    browser: Browser, cookies: list[str], status: int
) -> None:
    """Of two of one name nobody knows which one this host has set (documented: RFC 6265)."""
    await browser.sign_in()
    own = f"{COOKIE}={browser.cookie}"
    browser.client.cookies.clear()
    headers = [
        (b"cookie", each.replace("{}", own).replace("{name}", COOKIE).encode("latin-1"))
        for each in cookies
    ]

    answer = await browser.client.get("/key/signed-in", headers=headers)

    assert answer.status_code == status


async def test_any_server_of_the_team_goes_on_with_a_sign_in(
    server: Server, browser: Browser, network: respx.Router
) -> None:
    """Behind a balancer each request may come to another one (ours)."""
    asked = await browser.begin()
    async with serving(network) as other, other.browser() as same:
        same.client.cookies = browser.client.cookies
        assert (await same.come_back(asked["state"])).status_code == 303
        ticket = ticket_in(await same.client.get("/key/signed-in"))
        browser.client.cookies = same.client.cookies
    stored = await browser.send(ticket)

    assert stored.status_code == 303
    assert server.desk.brought == [(KEY, "u-ada", ISSUER)]


async def test_replayed_answer_signs_nobody_in_and_takes_nothing_away(
    server: Server, browser: Browser
) -> None:
    """The first one has been used up: the cookie has no state any more (ours)."""
    asked = await browser.begin()
    await browser.come_back(asked["state"])
    ticket = ticket_in(await browser.client.get("/key/signed-in"))
    again = await browser.come_back(asked["state"])
    stored = await browser.send(ticket)

    assert (again.status_code, stored.status_code) == (400, 303)
    assert server.exchanged.call_count == 1


async def test_program_that_only_looks_at_the_address_uses_up_no_code(
    server: Server, browser: Browser
) -> None:
    """HEAD is safe: the user who follows the redirect is still signed in (documented: RFC 9110)."""
    asked = await browser.begin()
    looked = await browser.client.head(BACK, params={"code": CODE, "state": asked["state"]})
    exchanged = server.exchanged.call_count
    back = await browser.come_back(asked["state"])

    assert (looked.status_code, looked.headers["allow"], exchanged) == (405, "GET", 0)
    assert back.status_code == 303


async def test_answer_that_says_something_twice_is_none(server: Server, browser: Browser) -> None:
    """Two programs could read it in two ways (documented: RFC 6749)."""
    asked = await browser.begin()
    twice = await browser.client.get(f"{BACK}?code=a&code=b&state={asked['state']}")

    assert twice.status_code == 400
    assert not server.exchanged.called


async def test_ticket_of_another_browser_stores_and_removes_nothing(
    server: Server, browser: Browser
) -> None:
    """Nor one of an earlier page of the same browser, which may show another user (ours)."""
    earlier = await browser.sign_in()
    own = await browser.sign_in()
    async with server.browser() as other:
        without = await other.send(own)
        theirs = await other.sign_in()
        crossed = [await other.send(own), await other.remove(own)]
    answers = [without, *crossed]
    for ticket in (theirs, earlier):
        answers += [await browser.send(ticket), await browser.remove(ticket)]

    assert [each.status_code for each in answers] == [403] * 7
    assert (server.desk.brought, server.desk.removed) == ([], [])
    assert (await browser.send(own)).status_code == 303


async def test_each_step_lasts_ten_minutes(server: Server, browser: Browser) -> None:
    server.gives(exp=NOW + 3600)
    asked = await browser.begin()
    server.clock.now += 600
    late = await browser.come_back(asked["state"])
    ticket = await browser.sign_in()
    server.clock.now += 600
    page = await browser.client.get("/key/signed-in")
    sent, removed = await browser.send(ticket), await browser.remove(ticket)

    assert [late.status_code, page.status_code] == [400, 403]
    for answer in (sent, removed):
        assert answer.status_code == 403
        assert "ten minutes" in answer.text
    assert (server.desk.brought, server.desk.removed) == ([], [])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ISSUER}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "https://tools.example.com"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": SITE}, 403),
        ({"host": "evil.example"}, 421),
    ],
)
async def test_form_of_another_site_is_refused(
    server: Server, browser: Browser, headers: dict[str, str], status: int
) -> None:
    ticket = await browser.sign_in()
    sent = [await browser.send(ticket, **headers), await browser.remove(ticket, **headers)]
    begun = await browser.client.post("/key/sign-in", data={"issuer": ISSUER}, headers=headers)

    assert {each.status_code for each in (*sent, begun)} == {status}
    assert "set-cookie" not in begun.headers
    assert (server.desk.brought, server.desk.removed) == ([], [])


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/key/sign-in", {"issuer": "https://evil.example"}),
        ("/key/sign-in", {"issuer": ISSUER, "user": "u-bob"}),
        ("/key/sign-in", {}),
        ("/key/signed-in", {"ticket": "TICKET", "key": KEY, "user": "u-bob"}),
        ("/key/signed-in", {"ticket": "TICKET"}),
        ("/key/signed-in", {"ticket": "TICKET", "key": KEY, "remove": "yes"}),
        ("/key/signed-in", {"ticket": "TICKET", "remove": "yes", "user": "u-bob"}),
    ],
)
async def test_form_of_another_shape_is_refused(
    server: Server, browser: Browser, path: str, form: dict[str, str]
) -> None:
    """No field of it says who the user is (ours)."""
    ticket = await browser.sign_in()
    given = {name: value.replace("TICKET", ticket) for name, value in form.items()}
    answer = await browser.client.post(path, data=given or {"": ""})

    assert answer.status_code == 400
    assert (server.desk.brought, server.desk.removed) == ([], [])


# What the issuer says


def says(**claims: Any) -> Callable[[Server], None]:
    return lambda server: server.gives(**claims)


def answers(status: int, **body: Any) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        server.exchanged.respond(status, content=json.dumps(body))

    return change


def promises_its_name(server: Server) -> None:
    server.says(authorization_response_iss_parameter_supported=True)


def is_down(server: Server) -> None:
    server.exchanged.mock(side_effect=httpx.ConnectError("no route"))


def is_slow(server: Server) -> None:
    server.exchanged.mock(side_effect=TimeoutError)


def has_no_keys(server: Server) -> None:
    server.network.get(f"{ISSUER}/keys").respond(503)


def knows_nobody_now(server: Server) -> None:
    server.people.down = True


NOTHING = dict[str, Any]()
TWO_LONG = {"code": "x" * (LONGEST_CODE + 1)}
FAILURES: dict[str, tuple[Callable[[Server], None], dict[str, Any], int, str]] = {
    "another issuer": (says(), {"iss": "https://evil.example"}, 403, "Another authorization"),
    "no issuer": (promises_its_name, NOTHING, 403, "Another authorization"),
    "wrong issuer of an error": (says(), {"iss": "x", "error": "access_denied"}, 403, "Another"),
    "declined": (says(), {"code": None, "error": "access_denied"}, 403, "did not let you in"),
    "unknown error": (says(), {"code": None, "error": "<canary>"}, 400, "did not accept"),
    "bad scope": (says(), {"code": None, "error": "invalid_scope"}, 400, "whose log says more"),
    "wrong scope": (answers(400, error="invalid_scope"), NOTHING, 502, "do not fit together"),
    "busy": (says(), {"code": None, "error": "server_error"}, 503, "Sign in again"),
    "busy with a code": (answers(400, error="server_error"), NOTHING, 503, "Try again"),
    "no code": (says(), {"code": None}, 400, "no code"),
    "empty code": (says(), {"code": ""}, 400, "no code"),
    "long code": (says(), TWO_LONG, 400, "no code"),
    "code used up": (answers(400, error="invalid_grant"), NOTHING, 400, "did not accept"),
    "unknown client": (answers(401, error="invalid_client"), NOTHING, 502, "do not fit together"),
    "error of any kind": (answers(400, error=[]), NOTHING, 400, "did not accept"),
    "down": (is_down, NOTHING, 503, "Try again"),
    "slow": (is_slow, NOTHING, 503, "Try again"),
    "failing": (answers(500), NOTHING, 503, "Try again"),
    "redirecting": (answers(302), NOTHING, 503, "Try again"),
    "no token": (answers(200, token_type="Bearer"), NOTHING, 502, "do not fit together"),
    "bound token": (answers(200, access_token="x", token_type="DPoP"), NOTHING, 502, "not fit"),
    "no text": (answers(200, access_token="\ud800", **BEARER), NOTHING, 502, "do not fit"),
    "own token": (answers(200, access_token=OWN, **BEARER), NOTHING, 502, "do not fit together"),
    "other audience": (says(aud="https://other.example"), NOTHING, 502, "do not fit together"),
    "expired": (says(exp=1), NOTHING, 502, "do not fit together"),
    "token of another issuer": (says(iss="https://evil.example"), NOTHING, 502, "do not fit"),
    "ID token": (says(aud=CLIENT), NOTHING, 502, "do not fit together"),
    "read-only": (says(scope="videos:read"), NOTHING, 403, "does not let you start jobs"),
    "no scopes": (says(scope=None), NOTHING, 403, "does not let you start jobs"),
    "nobody": (says(sub="sub-zoe"), NOTHING, 403, "no user of this server"),
    "no keys": (has_no_keys, NOTHING, 503, "Sign in again"),
    "no database": (knows_nobody_now, NOTHING, 503, "Sign in again"),
}
CAN_BE_LOADED_AGAIN = {"busy with a code", "down", "slow", "failing", "redirecting"}
GOES_ON = CAN_BE_LOADED_AGAIN | {
    *("code used up", "unknown client", "wrong scope", "error of any kind"),
}
"""Where the code may still be good, or another load of the same address may have used it."""


@pytest.mark.parametrize("case", FAILURES)
async def test_whoever_is_not_signed_in_is_answered_in_words_and_stores_nothing(
    server: Server, browser: Browser, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """Nothing of the answer is repeated or logged. A refused sign-in is over (ours)."""
    caplog.set_level(logging.DEBUG)
    change, more, status, words = FAILURES[case]
    change(server)
    asked = await browser.begin()
    answer = await browser.come_back(asked["state"], **more)
    form = await browser.client.get("/key/signed-in")

    assert (answer.status_code, form.status_code) == (status, 403), answer.text
    assert words in answer.text
    assert ("retry-after" in answer.headers) == (case in CAN_BE_LOADED_AGAIN)
    assert (browser.cookie is not None) == (case in GOES_ON)
    seen = f"{answer.text} {answer.headers} {caplog.text}"
    for secret in (CODE, asked["state"], "canary", server.issuer.token().partition(".")[0], OWN):
        assert secret not in seen


async def test_page_that_could_not_be_shown_can_be_loaded_again(
    server: Server, browser: Browser
) -> None:
    """That is what the answer says, and after how many seconds (ours)."""
    asked = await browser.begin()
    is_down(server)
    first = await browser.come_back(asked["state"])
    server.exchanged.mock(side_effect=None)
    server.gives()
    server.clock.now += float(first.headers["retry-after"])
    second = await browser.come_back(asked["state"])

    assert (first.status_code, second.status_code) == (503, 303)


async def test_user_whose_browser_loads_the_address_twice_at_once_is_signed_in(
    server: Server, browser: Browser
) -> None:
    """The load that finds the code used up takes nothing from the other one (ours)."""
    asked, came, signed_in = await browser.begin(), anyio.Event(), anyio.Event()
    codes, statuses = list[str](), list[int]()

    async def exchange_once(_request: httpx.Request) -> httpx.Response:
        codes.append(CODE)
        if len(codes) == 1:
            await came.wait()
            return httpx.Response(200, json={"access_token": server.issuer.token(), **BEARER})
        came.set()
        await signed_in.wait()
        return httpx.Response(400, json={"error": "invalid_grant"})

    server.exchanged.mock(side_effect=exchange_once)

    async def load() -> None:
        statuses.append((await browser.come_back(asked["state"])).status_code)
        signed_in.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        tasks.start_soon(load)

    assert statuses == [303, 400]
    assert (await browser.client.get("/key/signed-in")).status_code == 200


async def test_operator_learns_from_the_log_what_does_not_fit(
    server: Server, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """The user gets no details: the way out is the operator's (ours)."""
    for change in (answers(401, error="invalid_client"), says(aud="https://other.example")):
        change(server)
        await browser.come_back((await browser.begin())["state"])

    assert f"issuer {ISSUER} answers invalid_client" in caplog.text
    assert "its audience is not this server" in caplog.text


async def test_strangers_do_not_fill_the_log(
    server: Server, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do they say there anything in the name of an issuer (ours)."""

    async def come(**more: Any) -> list[str]:
        caplog.clear()
        for _ in range(3):
            await browser.come_back((await browser.begin())["state"], **more)
        return caplog.messages

    brought = await come(code=None, error="invalid_client") + await come(code=None, error="x")
    asked = server.exchanged.called
    answers(401, error="invalid_client")(server)
    answered = await come()
    is_down(server)
    failed = await come()
    server.clock.now += QUIET_SECONDS
    later = await come()

    assert not asked
    assert brought == [
        f"a browser came to the page for keys with the error invalid_client of {ISSUER}; anybody "
        "can bring one, so it means something only if users cannot sign in"
    ]
    assert answered == [
        f"a sign-in on the page for keys: issuer {ISSUER} answers invalid_client",
    ]
    assert failed == later
    assert later == [f"nobody can sign in on the page for keys: {ISSUER} cannot be reached"]


async def test_issuer_that_says_its_name_is_believed(server: Server, browser: Browser) -> None:
    """(documented: RFC 9207)"""
    promises_its_name(server)
    asked = await browser.begin()

    assert (await browser.come_back(asked["state"], iss=ISSUER)).status_code == 303


# The form


async def test_refused_key_can_be_sent_again(server: Server, browser: Browser) -> None:
    ticket = await browser.sign_in()
    refused = await browser.send(ticket, "pd_bad")
    stored = await browser.send(ticket_in(refused))

    assert (refused.status_code, stored.status_code) == (422, 303)
    assert [key for key, *_ in server.desk.brought] == ["pd_bad", KEY]


async def test_user_who_has_signed_in_removes_the_key_as_soon_as_nothing_needs_it(
    server: Server, browser: Browser
) -> None:
    """Only the form removes it, and whoever is refused can press the button again (ours)."""
    ticket = await browser.sign_in()
    given = {"ticket": ticket, "remove": "yes"}
    await browser.client.get("/key/signed-in", params=given)
    await browser.client.head("/key/signed-in", params=given)
    before = list(server.desk.removed)
    server.desk.busy = True
    refused = await browser.remove(ticket)
    server.desk.busy = False
    done = await browser.remove(ticket_in(refused))
    again = await browser.remove(ticket)

    assert before == []
    assert (refused.status_code, done.status_code, again.status_code) == (409, 303, 403)
    assert str(done.next_request and done.next_request.url) == f"{SITE}/key/removed"
    assert server.desk.removed == [("u-ada", ISSUER)] * 2
    assert browser.cookie is None


@pytest.mark.parametrize("becomes", [None, "u-bob"])
async def test_whoever_is_no_user_any_more_stores_and_removes_nothing(
    server: Server, browser: Browser, monkeypatch: pytest.MonkeyPatch, becomes: str | None
) -> None:
    """Somebody who was disabled since, or is another user now (ours)."""
    ticket = await browser.sign_in()
    bob = await server.people.person(ISSUER, "sub-bob", "Bob")

    async def person(*_: str) -> object:
        return becomes and bob

    monkeypatch.setattr(server.people, "person", person)
    for answer in (await browser.send(ticket), await browser.remove(ticket)):
        assert answer.status_code == 403
        assert "no user of this server any more" in answer.text
    assert (server.desk.brought, server.desk.removed) == ([], [])


async def test_form_can_be_sent_again_when_the_database_is_back(
    server: Server, browser: Browser
) -> None:
    ticket = await browser.sign_in()
    server.people.down = True
    away = [await browser.send(ticket), await browser.remove(ticket)]
    server.people.down = False
    stored = await browser.send(ticket_in(away[0]))

    for answer in away:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert stored.status_code == 303
    assert server.desk.removed == []


# What strangers can have the server do


async def test_issuer_that_does_not_answer_is_asked_once_in_a_while(
    server: Server, browser: Browser, network: respx.Router
) -> None:
    """Anybody can press the button (ours)."""
    looked = network.get(METADATA).respond(503)
    network.get(f"{ISSUER}/.well-known/oauth-authorization-server").respond(404)
    pressed = [await browser.client.post("/key/sign-in", data={"issuer": ISSUER}) for _ in range(5)]
    asked = looked.call_count
    server.clock.now += PAUSE_SECONDS
    server.says()
    later = await browser.client.post("/key/sign-in", data={"issuer": ISSUER})

    assert {each.status_code for each in pressed} == {503}
    assert "Try again" in pressed[-1].text
    assert (asked, later.status_code) == (1, 200)


async def test_issuer_gets_few_codes_at_once(server: Server, browser: Browser) -> None:
    """Anybody can invent them (ours)."""
    waiting, released, statuses = anyio.Semaphore(0), anyio.Event(), list[int]()
    good = {"access_token": server.issuer.token(), **BEARER}

    async def hold(_request: httpx.Request) -> httpx.Response:
        waiting.release()
        await released.wait()
        return httpx.Response(200, json=good)

    server.exchanged.mock(side_effect=hold)

    async def sign_in() -> None:
        async with server.browser() as other:
            asked = await other.begin()
            statuses.append((await other.come_back(asked["state"])).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(sign_in)
        for _ in range(AT_ONCE):
            await waiting.acquire()
        asked = await browser.begin()
        refused = await browser.come_back(asked["state"])
        released.set()

    assert refused.status_code == 503
    assert statuses == [303] * AT_ONCE


async def test_addresses_of_an_issuer_are_looked_up_again_when_they_fail(
    server: Server, browser: Browser, network: respx.Router
) -> None:
    """They may have moved (ours)."""
    asked = await browser.begin()
    is_down(server)
    await browser.come_back(asked["state"])
    moved = network.post(f"{TOKEN}/new").respond(
        json={"access_token": server.issuer.token(), **BEARER}
    )
    server.says(token_endpoint=f"{TOKEN}/new")
    await browser.sign_in()

    assert moved.called


@pytest.mark.parametrize(
    "metadata",
    [
        {"authorization_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": f"{AUTHORIZE}?client_id=other"},
        {"token_endpoint": "http://login.example.com/token"},
        {"code_challenge_methods_supported": ["plain"]},
    ],
)
async def test_nobody_is_led_to_a_place_that_is_not_safe(
    server: Server, browser: Browser, metadata: dict[str, Any]
) -> None:
    server.says(**metadata)
    answer = await browser.client.post("/key/sign-in", data={"issuer": ISSUER})

    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("site", "name", "rules"),
    [
        ("https://wan.example.com/team", COOKIE, "; Path=/; HttpOnly; SameSite=Lax; Secure"),
        ("http://127.0.0.1:8765", "wan-mcp-key", "; Path=/; HttpOnly; SameSite=Lax"),
    ],
)
async def test_address_to_come_back_to_is_that_of_the_operators_file(
    network: respx.Router, site: str, name: str, rules: str
) -> None:
    """Never that of a request. On this computer there is no TLS, and so no such cookie (ours)."""
    trusted = page_trust(resource=f"{site}/mcp")
    async with serving(network, trusted) as server, server.browser() as browser:
        begun = await browser.client.post(f"{SITE}/key/sign-in", data={"issuer": ISSUER})

    back = BACK.replace(SITE, site)
    assert f"&redirect_uri={quote_plus(back)}&" in begun.text
    assert begun.headers["set-cookie"].startswith(f"{name}=")
    assert begun.headers["set-cookie"].endswith(rules)
