"""Tokens that only their issuer can read: what it is asked, and how often."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import anyio
import httpx
import pytest
import respx

from tests.transports.sign_in.scene import ISSUER, NOW, OWN, Issuer, Scene, opened, trust
from wan_mcp.transports.sign_in import remembered, sign_in
from wan_mcp.transports.sign_in.remembered import AT_ONCE, NEW_AT_ONCE, SECONDS
from wan_mcp.web.documents import Documents

pytestmark = pytest.mark.anyio
ASK = f"{ISSUER}/introspect"
SECRET = "the-secret-of-the-server"
HANG_SECONDS = 600.0
OTHER = "https://login.example.org"
TRUST = {"issuer": ISSUER, "introspection": {"client_id": "wan", "client_secret": SECRET}}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine ends no question."""
    monkeypatch.setattr(remembered, "LIMIT_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(sign_in, "Documents", partial(Documents, seconds=HANG_SECONDS))


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


@pytest.fixture
async def few_answers(asked: respx.Route, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Doors that remember few answers."""
    monkeypatch.setattr(remembered, "MOST", 3)
    async with opened(trust(issuers=[TRUST])) as scene:
        yield scene


class Introspected:
    """An issuer that gives no answer about invented tokens until the test says so.

    Attributes:
        holds: how the tokens begin about which it gives no answer.
        asked: the tokens that it was asked about.
        said: what it says about the others besides the usual claims.
        most: how many questions were open at the same time.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.said: dict[str, Any] = {"active": True}
        self.holds: tuple[str, ...] = ("invented",)
        self.most = 0
        self._now = 0
        self._opened = anyio.Event()

    def open(self) -> None:
        """Answer everything from now on."""
        self._opened.set()

    def close(self) -> None:
        """Give no answer again."""
        self._opened = anyio.Event()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        [token] = parse_qs(request.content.decode())["token"]
        self.asked.append(token)
        self._now += 1
        self.most = max(self.most, self._now)
        if token.startswith(self.holds):
            await self._opened.wait()
        self._now -= 1
        said = {"active": False} if token.startswith("invented") else self.said
        return httpx.Response(200, json={**Issuer().claims(), **said})


@pytest.fixture
def introspection(asked: respx.Route) -> Introspected:
    """The issuer."""
    made = Introspected()
    asked.side_effect = made.answer
    return made


async def ask_about_invented(scene: Scene, many: int, statuses: list[int]) -> None:
    """Ask about so many invented tokens at once, and list the statuses of the answers."""

    async def ask(number: int) -> None:
        statuses.append((await scene.ask(f"invented-{number}")).status_code)

    async with anyio.create_task_group() as tasks:
        for number in range(many):
            tasks.start_soon(ask, number)


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


@pytest.mark.parametrize("active", [True, False])
async def test_only_so_many_answers_are_remembered(
    few_answers: Scene, asked: respx.Route, active: bool
) -> None:
    """The memory of the server does not grow with the tokens (ours)."""
    asked.respond(json={"active": active, **Issuer().claims()})
    for token in ("a", "b", "c", "d", "d", "c", "b"):
        await few_answers.ask(token)
    assert asked.call_count == 4
    await few_answers.ask("a")

    assert asked.call_count == 5


async def test_wrong_tokens_take_no_answer_and_no_place_from_a_valid_one(
    few_answers: Scene, introspection: Introspected
) -> None:
    """However many they are (ours)."""
    scene = few_answers
    await scene.ask("valid")
    introspection.open()
    await ask_about_invented(scene, 10, [])
    await scene.ask("valid")
    at_first = introspection.asked.count("valid")
    scene.clock.now = SECONDS
    introspection.close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_about_invented, scene, 10, [])
        await anyio.wait_all_tasks_blocked()
        later = await scene.ask("valid")
        introspection.open()

    assert at_first == 1
    assert later.status_code == 200


async def test_known_token_is_renewed_at_once_while_the_issuer_hangs_on_invented_ones(
    scene: Scene, introspection: Introspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no longer than without them: a revoked one ends (docs/security.md)."""
    monkeypatch.setattr(remembered, "MOST_NEW", 20)
    await scene.ask("known")
    scene.clock.now = SECONDS
    statuses: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_about_invented, scene, 30, statuses)
        await anyio.wait_all_tasks_blocked()
        during = list(statuses)
        renewed = await scene.ask("known")
        new = await scene.ask("new")
        introspection.said = {"active": False}
        scene.clock.now += SECONDS - 1
        still = await scene.ask("known")
        scene.clock.now += 1
        revoked = await scene.ask("known")
        introspection.open()

    assert during == [503] * 10  # the others wait
    assert [each.status_code for each in (renewed, still, revoked)] == [200, 200, 401]
    assert (new.status_code, new.headers["retry-after"]) == (503, "5")
    assert sorted(statuses) == [401] * 20 + [503] * 10
    assert introspection.asked.count("known") == 3


@pytest.mark.parametrize(
    "last", [{"active": False}, {"aud": "https://other.example.com"}, {"exp": NOW - 31}]
)
async def test_token_that_was_not_accepted_when_last_asked_about_is_not_known(
    scene: Scene, introspection: Introspected, last: dict[str, Any]
) -> None:
    """It has no place of its own, although it was valid before (ours)."""
    first = await scene.ask("token")
    scene.clock.now = SECONDS
    introspection.said |= last
    second = await scene.ask("token")
    scene.clock.now += SECONDS
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_about_invented, scene, NEW_AT_ONCE, [])
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(scene.ask, "token")
        await anyio.wait_all_tasks_blocked()
        asked_meanwhile = introspection.asked.count("token")
        introspection.open()

    assert [first.status_code, second.status_code] == [200, 401]
    assert (asked_meanwhile, introspection.asked.count("token")) == (2, 3)


async def test_all_questions_together_are_a_few_at_a_time(
    scene: Scene, introspection: Introspected
) -> None:
    """About known and unknown tokens; the issuer has other things to do (ours)."""
    known = [f"known-{number}" for number in range(2 * AT_ONCE)]
    for token in known:
        await scene.ask(token)
    scene.clock.now = SECONDS
    introspection.holds = ("invented", "known")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_about_invented, scene, 50, [])
        await anyio.wait_all_tasks_blocked()
        only_invented = introspection.most
        for token in known:
            tasks.start_soon(scene.ask, token)
        await anyio.wait_all_tasks_blocked()
        introspection.open()

    assert (only_invented, introspection.most) == (NEW_AT_ONCE, AT_ONCE)


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
