"""Whatever strangers or one user ask for, the others are known, pay and are served meanwhile."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import anyio
import httpx
import pytest

from tests.ledger.stores import HANG_SECONDS
from tests.tenants.company import Company
from tests.tenants.team import ISSUER, Blue, Time
from wan_mcp.ledger.postgres.connection import Link, Part, Rows
from wan_mcp.tenants import asking
from wan_mcp.tenants import directory as directory_module
from wan_mcp.tenants.administration import teams, tokens
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.directory import HOLDS_SECONDS, StoredDirectory

pytestmark = pytest.mark.anyio


def invented(number: int) -> str:
    """A token that has the right form, and that nobody has made."""
    return f"wan_{number:010}_" + "x" * 43


def is_invented(values: Mapping[str, object]) -> bool:
    """Whether a statement is about such a token."""
    return any(str(id).isdecimal() for id in cast("list[str]", values.get("ids", [])))


class HeldDatabase:
    """A database that answers some questions when the test says so, and all others at once.

    Attributes:
        asked: the values of each statement that had any, in their order.
        holds: set when the first held question has come.
    """

    def __init__(self, about: Callable[[Mapping[str, object]], bool]) -> None:
        self.asked: list[Mapping[str, object]] = []
        self.holds = anyio.Event()
        self._about = about
        self._loop = asyncio.get_running_loop()
        self._answers = threading.Event()

    def answer(self) -> None:
        """Answer everything from now on."""
        self._answers.set()

    def before(self, parts: tuple[Part, ...]) -> None:
        """Wait with a question, in its thread."""
        for _, values in parts:
            if values:
                self.asked.append(values)
            if values and self._about(values) and not self._answers.is_set():
                self._loop.call_soon_threadsafe(self.holds.set)
                assert self._answers.wait(HANG_SECONDS)


@contextmanager
def held(about: Callable[[Mapping[str, object]], bool]) -> Iterator[HeldDatabase]:
    """Within it, the database holds questions about some values; it answers them at the end."""
    database, run = HeldDatabase(about), Link.run

    def late(self: Link, *parts: Part) -> list[Rows]:
        database.before(parts)
        return run(self, *parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "run", late)
        try:
            yield database
        finally:
            database.answer()


class Strangers:
    """Many callers with invented tokens, all at once.

    Attributes:
        sent_away_for_now: how many were.
        turned_away: how many have a token that is wrong.
    """

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self.sent_away_for_now = 0
        self.turned_away = 0
        self._ask = ask
        self._too_many = anyio.Event()

    async def come(self, database: HeldDatabase, tasks: Any) -> None:
        """Fill the question that is asked now and the next one."""
        tasks.start_soon(self._come, invented(0))
        await database.holds.wait()
        for number in range(directory_module.MOST_STRANGERS + 10):
            tasks.start_soon(self._come, invented(number))
        await self._too_many.wait()

    async def _come(self, token: str) -> None:
        try:
            assert await self._ask(token) is None
            self.turned_away += 1
        except IdentityUnknown:
            self.sent_away_for_now += 1
            self._too_many.set()


@pytest.fixture(autouse=True)
def few_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory takes few strangers at once."""
    monkeypatch.setattr(directory_module, "MOST_STRANGERS", 5)


async def test_known_people_seats_keys_and_readiness_do_not_wait_for_strangers(
    blue: Blue, directory: StoredDirectory, ticks: Time
) -> None:
    """Also when the ten seconds of an answer are over, for as long as strangers come (ours)."""
    issued, revoked = blue.token("Ann"), blue.token("Bob")
    for token in (issued, revoked):
        assert await directory.token(token.text)
    assert await directory.person(ISSUER, "ann-1", "Ann")
    ticks.now += HOLDS_SECONDS
    tokens.revoke(blue.operator, revoked.id)
    strangers = Strangers(directory.token)
    async with anyio.create_task_group() as tasks:
        with held(is_invented) as database:
            await strangers.come(database, tasks)
            for _ in range(3):
                ticks.now += HOLDS_SECONDS
                assert await directory.token(issued.text)
                assert await directory.person(ISSUER, "ann-1", "Ann")
            assert (await directory.seat(blue.ann, fresh=True)).wallet == blue.wallet
            assert (await directory.key(blue.wallet)).wallet == blue.wallet
            assert await directory.closed() == 0
            assert await directory.token(revoked.text) is None
            for new in (revoked, blue.token("Ann")):
                with pytest.raises(IdentityUnknown):
                    await directory.token(new.text)

    assert strangers.turned_away == 6  # one is asked about, and five are in the next question
    assert strangers.sent_away_for_now == 10
    assert await directory.token(new.text)


async def test_person_of_an_issuer_who_never_came_before_is_a_stranger(
    blue: Blue, directory: StoredDirectory, ticks: Time
) -> None:
    """Whoever has an account at the issuer can come, also who is no user here (ours)."""
    teams.set_issuer(blue.operator, "Blue", ISSUER)
    await directory.person(ISSUER, "ann-1", "Ann")
    ticks.now += HOLDS_SECONDS
    came: list[str] = []

    async def come(subject: str) -> None:
        found = await directory.person(ISSUER, subject, subject)
        came.append(found.name if found else "nobody")

    strangers = Strangers(directory.token)
    async with anyio.create_task_group() as tasks:
        with held(is_invented) as database:
            await strangers.come(database, tasks)
            tasks.start_soon(come, "new")
            await anyio.wait_all_tasks_blocked()
            await come("ann-1")
            await anyio.wait_all_tasks_blocked()

    assert came == ["ann-1", "new"]


async def test_what_one_user_asks_keeps_others_waiting_for_one_question(
    blue: Blue, directory: StoredDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is all answered: an agent may order fifty videos at once (ours)."""
    monkeypatch.setattr(asking, "MOST_WAITING", 5)
    found: list[str] = []

    async def sit_down(user: str) -> None:
        found.append((await directory.seat(user, fresh=True)).user)

    async with anyio.create_task_group() as tasks:
        with held(lambda values: values.get("user") == blue.ann) as database:
            for _ in range(50):
                tasks.start_soon(sit_down, blue.ann)
            await database.holds.wait()
            tasks.start_soon(sit_down, blue.bob)
            tasks.start_soon(directory.closed)
            await anyio.wait_all_tasks_blocked()

    assert found == [blue.ann, blue.bob, *[blue.ann] * 49]


async def test_people_at_work_are_served_while_strangers_flood_the_server(
    company: Company,
) -> None:
    """A balancer takes a server that is not ready away from everybody (ours)."""
    tried = {"authorization": f"Bearer {invented(1)}"}
    limits = httpx.Limits(max_connections=None)
    async with (
        company.served(),
        company.person(company.ann) as ann,
        httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS, limits=limits) as outside,
    ):
        await ann.call("list_jobs")
        company.time.now += HOLDS_SECONDS
        answers: list[httpx.Response] = []
        refused = anyio.Event()

        async def come() -> None:
            answers.append(await outside.post(company.url, json={}, headers=tried))
            refused.set()

        async with anyio.create_task_group() as tasks:
            with held(is_invented) as database:
                tasks.start_soon(come)
                await database.holds.wait()
                for _ in range(10):
                    tasks.start_soon(come)
                await refused.wait()
                paid = await ann.order()
                ready = await outside.get(company.url.replace("/mcp", "/readyz"))
                during = list(answers)

    assert paid["charged"] == "yes"
    assert ready.status_code == 200
    assert {(each.status_code, each.headers["retry-after"]) for each in during} == {(503, "5")}
    assert sorted(each.status_code for each in answers) == [401] * 6 + [503] * 5
