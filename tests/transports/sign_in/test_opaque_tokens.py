"""Tokens that only their issuer can read: what it is asked, and how often."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
import respx

from tests.transports.sign_in.scene import ISSUER, NOW, OWN, Issuer, Scene, opened, trust
from wan_mcp.transports.sign_in import remembered
from wan_mcp.transports.sign_in.remembered import AT_ONCE, SECONDS

pytestmark = pytest.mark.anyio
ASK = f"{ISSUER}/introspect"
SECRET = "the-secret-of-the-server"
OTHER = "https://login.example.org"
TRUST = {"issuer": ISSUER, "introspection": {"client_id": "wan", "client_secret": SECRET}}


@pytest.fixture
def asked(network: respx.Router) -> respx.Route:
    """The route at which the issuer is asked; it accepts every token."""
    metadata = {**Issuer().metadata(), "introspection_endpoint": ASK}
    network.get(f"{ISSUER}/.well-known/openid-configuration").respond(json=metadata)
    return network.post(ASK).respond(json={"active": True, **Issuer().claims()})


@pytest.fixture
async def scene(asked: respx.Route) -> AsyncIterator[Scene]:
    async with opened(trust(issuers=[TRUST])) as scene:
        yield scene


async def test_the_issuer_is_asked_with_the_name_and_the_secret_of_the_server(
    scene: Scene, asked: respx.Route
) -> None:
    """(documented: RFC 7662)"""
    answer = await scene.ask("opaque")

    assert answer.json()["user"] == "u-ada"
    request = asked.calls.last.request
    assert parse_qs(request.content.decode()) == {
        "token": ["opaque"],
        "token_type_hint": ["access_token"],
    }
    expected = httpx.Request("POST", ASK)
    (flow,) = [httpx.BasicAuth("wan", SECRET).auth_flow(expected)]
    assert request.headers["authorization"] == next(flow).headers["authorization"]


REFUSED: dict[str, dict[str, Any]] = {
    "not active": {"active": False},
    "active as a word": {"active": "true"},
    "active as a number": {"active": 1},
    "nothing": {"active": None},
    "another audience": {"aud": "https://other.example.com"},
    "no audience": {"aud": None},
    "another issuer": {"iss": OTHER},
    "expired": {"exp": NOW - 31},
    "no end": {"exp": None},
    "no person": {"sub": None},
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_issuer_says_must_fit_as_in_a_signed_token(
    scene: Scene, asked: respx.Route, name: str
) -> None:
    asked.respond(json={"active": True, **Issuer().claims(), **REFUSED[name]})

    assert (await scene.ask("opaque")).status_code == 401
    assert scene.people.asked == []


async def test_an_answer_is_remembered_for_thirty_seconds(scene: Scene, asked: respx.Route) -> None:
    """A token that was revoked is good for at most that long (ours)."""
    for _ in range(3):
        await scene.ask("opaque")
    asked.respond(json={"active": False})
    scene.clock.now = SECONDS - 1
    before = await scene.ask("opaque")
    scene.clock.now = SECONDS
    after = await scene.ask("opaque")

    assert [before.status_code, after.status_code] == [200, 401]
    assert asked.call_count == 2


async def test_a_remembered_token_ends_when_it_says(scene: Scene, asked: respx.Route) -> None:
    asked.respond(json={"active": True, **Issuer().claims(exp=NOW - 20)})
    first = await scene.ask("opaque")
    scene.clock.now = 11
    second = await scene.ask("opaque")

    assert [first.status_code, second.status_code] == [200, 401]
    assert asked.call_count == 1


async def test_many_requests_with_one_token_cause_one_question(
    scene: Scene, asked: respx.Route
) -> None:
    answers = []

    async def ask() -> None:
        answers.append((await scene.ask("opaque")).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)

    assert answers == [200] * 20
    assert asked.call_count == 1


async def test_only_so_many_answers_are_remembered(
    scene: Scene, asked: respx.Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the server does not grow with the tokens (ours)."""
    monkeypatch.setattr(remembered, "MOST", 3)
    for token in ("a", "b", "c", "d", "d", "c", "b"):
        await scene.ask(token)
    assert asked.call_count == 4
    await scene.ask("a")

    assert asked.call_count == 5


async def test_a_flood_of_tokens_is_asked_about_a_few_at_a_time(
    scene: Scene, asked: respx.Route
) -> None:
    """The issuer has other things to do (ours)."""
    open, most = 0, 0
    release = anyio.Event()

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal open, most
        open += 1
        most = max(most, open)
        await release.wait()
        open -= 1
        return httpx.Response(200, json={"active": False})

    asked.side_effect = answer
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(scene.ask, f"opaque-{number}")
        await anyio.wait_all_tasks_blocked()
        release.set()

    assert most == AT_ONCE


@pytest.mark.parametrize("status", [401, 404, 429, 500, 302])
async def test_an_issuer_that_gives_no_answer_is_no_reason_to_sign_in_again(
    scene: Scene, asked: respx.Route, status: int
) -> None:
    asked.respond(status, headers={"location": "https://evil.example"})
    answer = await scene.ask("opaque")

    assert answer.status_code == 503
    assert "retry-after" in answer.headers


async def test_tokens_of_others_are_not_shown_to_the_issuer(
    network: respx.Router, asked: respx.Route
) -> None:
    """It could use them (documented: tokens are not passed on)."""
    other = Issuer(OTHER)
    other.serve(network)
    async with opened(trust(issuers=[TRUST, {"issuer": OTHER}])) as scene:
        statuses = [
            (await scene.ask(token)).status_code
            for token in (OWN, f"{OWN}x", other.token(), Issuer("https://x.example").token())
        ]

    assert statuses == [200, 401, 200, 401]
    assert asked.call_count == 0


async def test_a_readable_token_of_the_issuer_is_asked_about_too(
    scene: Scene, asked: respx.Route
) -> None:
    """The operator wants its word about each token, for only it knows which were revoked (ours)."""
    assert (await scene.ask(scene.issuer.token())).status_code == 200
    assert asked.call_count == 1


async def test_the_secret_of_the_server_is_in_no_line_of_the_log(
    scene: Scene, asked: respx.Route, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    asked.side_effect = httpx.ConnectError(f"cannot connect with {SECRET}")
    await scene.ask("opaque-token")

    assert "a token could not be checked" in caplog.text
    assert SECRET not in caplog.text
    assert "opaque-token" not in caplog.text
