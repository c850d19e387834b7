"""People change while a payment is on its way: it is paid as they are then, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

import psycopg

from tests.crash.databases import LIMITS
from tests.ledger.stores import HANG_SECONDS, PostgresStore, wanted
from tests.tenants.team import BASE, Blue, ring
from tests.tenants.test_sent_to_page import PAGE, paid_with
from wan_mcp.app.quotas import quotas_of
from wan_mcp.ledger.contract import QuotasChanged
from wan_mcp.ledger.record import State
from wan_mcp.ledger.spending_limits import LimitReached, SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.payments.under_limits import MOST_TRIES, under_limits
from wan_mcp.tenants.administration import allowances, teams, tokens, users, wallets
from wan_mcp.tenants.administration.acts import Operator
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.limits import Kind
from wan_mcp.tenants.own_wallets import OwnWallets

if TYPE_CHECKING:
    from tests.tenants.company import Company, Person

pytestmark = pytest.mark.anyio

OPERATOR = SpendingLimits(None, None, None, None, queued=5)
WAITING = (
    "SELECT COUNT(*) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


class Held:
    """The lock of a wallet, as a payment of another user holds it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def until_waiting(self, count: int) -> None:
        """Wait until so many others wait for a lock. Only a defect makes that last."""
        with anyio.fail_after(HANG_SECONDS):
            while await anyio.to_thread.run_sync(self._waiting) < count:
                pass

    def release(self) -> None:
        self._connection.rollback()

    def _waiting(self) -> int:
        # A transaction has the same activities from its first look on.
        self._connection.execute("SELECT pg_stat_clear_snapshot()")
        [count] = self._connection.execute(WAITING).fetchone()
        return int(count)


@asynccontextmanager
async def held(database: str, wallet: str) -> AsyncIterator[Held]:
    with psycopg.connect(database) as connection:
        insert = "INSERT INTO wallets (account) VALUES (%s) ON CONFLICT DO NOTHING"
        connection.execute(insert, [wallet])
        connection.commit()
        connection.execute("SELECT 1 FROM wallets WHERE account = %s FOR UPDATE", [wallet])
        yield Held(connection)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy computer the locks are waited for longer than a server would."""
    for limit in LIMITS:
        monkeypatch.setattr(f"wan_mcp.ledger.{limit}", HANG_SECONDS)
    monkeypatch.setattr("wan_mcp.tenants.own_wallets.ANSWER_SECONDS", HANG_SECONDS)


class Ann:
    """She orders a job, and stores a PixelDojo key of her own, at the same moment."""

    def __init__(self, company: "Company", host: "Person", token: str) -> None:
        self.host = host
        self.key = company.sandbox.open_account()
        self.job: dict[str, Any] = {}
        self.stored = 0
        self._page = httpx.URL(company.url).join("/key")
        self._form = {"token": token, "key": self.key}

    async def order(self) -> None:
        self.job = await self.host.order()

    async def store(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=600) as browser:
            answer = await browser.post(self._page, data=self._form)
        self.stored = answer.status_code


@asynccontextmanager
async def signed_in(company: "Company", key_page: str | None = PAGE) -> AsyncIterator[Ann]:
    """Ann, whose host is connected to the company's server."""
    token = company.token(company.ann).text
    async with company.served(key_page=key_page), company.holder(company.ann, token) as host:
        yield Ann(company, host, token)


async def at_the_same_moment(company: "Company", ann: Ann, *acts: Callable[[Ann], Any]) -> None:
    """Let Ann do these things, which wait for each other in this order."""
    async with held(company.database, company.wallet) as lock, anyio.create_task_group() as tasks:
        for number, act in enumerate(acts, 1):
            tasks.start_soon(act, ann)
            await lock.until_waiting(number)
        lock.release()


async def test_a_key_is_not_stored_while_a_payment_with_the_old_one_begins(
    company: "Company",
) -> None:
    """The job would be paid and hidden, and an equal call would pay again (ours)."""
    async with signed_in(company) as ann:
        await at_the_same_moment(company, ann, Ann.order, Ann.store)
        jobs = await ann.host.call("list_jobs")
        again = await ann.host.order()

    assert ann.stored == 409
    assert [each["job_id"] for each in jobs["jobs"]] == [ann.job["job_id"]]
    assert again["job_id"] == ann.job["job_id"]
    assert paid_with(company) == [company.sandbox.key]


async def test_a_payment_that_waits_while_a_key_is_stored_is_not_made_with_the_old_one(
    company: "Company",
) -> None:
    """It charged nothing and may be repeated: the new key pays then, once (ours)."""
    async with signed_in(company) as ann:
        await ann.host.call("check_credits")  # the server knows who pays for her
        await at_the_same_moment(company, ann, Ann.store, Ann.order)
        assert paid_with(company) == []
        again = await ann.host.order()
        jobs = await ann.host.call("list_jobs")

    assert ann.stored == 303
    assert (ann.job["code"], ann.job["charged"]) == ("no_api_key", "no")
    assert ann.job["retry_safe"] is True
    assert [each["job_id"] for each in jobs["jobs"]] == [again["job_id"]]
    assert paid_with(company) == [ann.key]


async def test_after_a_change_of_wallets_a_call_is_safe_only_if_no_equal_job_may_be_hidden(
    company: "Company",
) -> None:
    """The new wallet would pay again for a job that the other one has just paid (ours)."""
    own = OwnWallets(company.database, ring())
    async with signed_in(company, key_page=None) as ann:
        job = await ann.host.order()
        company.jobs_time.now += 1000
        ended = await ann.host.call("get_job_status", job_id=job["job_id"])
        # On another server: this one does not know it until it is about to pay.
        await own.store(company.ann, ann.key, company.sandbox.api_base, None)
        refused = await ann.host.order(seed=2)

    assert ended["status"] == "completed"
    assert (refused["code"], refused["charged"]) == ("no_api_key", "no")
    assert refused["retry_safe"] is False
    assert "may have an equal job" in refused["next"]
    assert paid_with(company) == [company.sandbox.key]


LEAVING: dict[str, Callable[[Operator], object]] = {
    "out of the team": lambda o: users.set_team(o, "Ann", None),
    "into another team": lambda o: users.set_team(o, "Ann", "Red"),
    "to an own wallet": lambda o: wallets.add(o, ring(), "Ann's", "pd_a", BASE, user="Ann"),
    "wallet gone": lambda o: wallets.remove(o, "blue wallet"),
}


@pytest.mark.parametrize("leaving", LEAVING)
async def test_whoever_takes_a_wallet_from_a_user_waits_for_the_payment_that_begins(
    blue: Blue, database: str, leaving: str
) -> None:
    """What is paid then counts as a job in progress (ours)."""
    teams.add(blue.operator, "Red", None)
    async with held(database, blue.wallet) as lock:
        leaves = asyncio.create_task(asyncio.to_thread(LEAVING[leaving], blue.operator))
        waits = asyncio.create_task(lock.until_waiting(1))
        await asyncio.wait([leaves, waits], return_when=asyncio.FIRST_COMPLETED)
        had_to_wait = not leaves.done()
        await asyncio.gather(waits) if had_to_wait else waits.cancel()
        lock.release()
        await leaves

    assert had_to_wait
    wallet = {each.id: each.wallet for each in users.users(blue.operator)}[blue.ann]
    assert wallet == ("Ann's" if leaving == "to an own wallet" else None)


def allowed(directory: StoredDirectory, user: str) -> Callable[[], Any]:
    """Asks for the workspace of a user, and for the limits."""

    async def ask() -> tuple[Workspace, list[Quota]]:
        seat = await directory.seat(user, fresh=True)
        return Workspace(seat.workspace, seat.wallet), quotas_of(seat, OPERATOR)

    return ask


async def test_a_limit_of_a_team_counts_the_wallet_that_a_member_has_just_got(
    blue: Blue, database: str, directory: StoredDirectory
) -> None:
    """Bob's payment has asked for the limits before Ann got a wallet and paid (promises 10)."""
    allowances.set_limits(blue.operator, Kind.TEAM, "Blue", {"credits_per_day": 15.0})
    ledger = PostgresStore(database).ledger()
    bob, outdated = await allowed(directory, blue.bob)()
    wallets.add(blue.operator, ring(), "Ann's", "pd_ann", BASE, user=blue.ann)
    ann, limits = await allowed(directory, blue.ann)()
    _, limits = await allowed(directory, blue.ann)()  # her first call has opened her workspace
    asked: dict[str, Any] = {"generated_seed": 7, "estimate": 10.0}
    paid = await ledger.claim(ann, wanted(1), quotas=limits, **asked)

    assert paid.record.state is State.INTENT
    with pytest.raises(QuotasChanged):
        await ledger.claim(bob, wanted(2), quotas=outdated, **asked)
    bob, current = await allowed(directory, blue.bob)()
    with pytest.raises(LimitReached):
        await ledger.claim(bob, wanted(2), quotas=current, **asked)
    await ledger.aclose()


async def test_a_queued_request_is_not_sent_under_limits_of_before(
    blue: Blue, database: str, directory: StoredDirectory
) -> None:
    """It stays in the queue, and is sent as soon as they are asked for again (ours)."""
    ledger = PostgresStore(database).ledger()
    ann, limits = await allowed(directory, blue.ann)()
    ann, limits = await allowed(directory, blue.ann)()
    one = [Quota(SpendingLimits(None, None, 1, None, queued=1))]
    asked: dict[str, Any] = {"generated_seed": 7, "estimate": 10.0, "quotas": one}
    await ledger.claim(ann, wanted(1), **asked)
    queued = (await ledger.claim(ann, wanted(2), **asked)).record
    users.rename(blue.operator, "Bob", "Robert")

    with pytest.raises(QuotasChanged):
        await ledger.queue.dispatch(queued, 10.0, limits)
    _, current = await allowed(directory, blue.ann)()
    sent = await ledger.queue.dispatch(queued, 10.0, current)
    assert sent is not None
    await ledger.aclose()


async def test_every_change_of_people_makes_limits_outdated(
    blue: Blue, directory: StoredDirectory
) -> None:
    """So does the first call of a user, from which on their jobs count (ours)."""

    async def version() -> int:
        return (await directory.seat(blue.bob, fresh=True)).as_of

    await version()
    seen = [await version()]
    await directory.seat(blue.ann)
    seen.append(await version())
    for change in (
        lambda: users.set_team(blue.operator, "Eve", "Blue"),
        lambda: allowances.set_limits(blue.operator, Kind.USER, "Bob", {"in_flight": 1}),
        lambda: wallets.add(blue.operator, ring(), "Eve's", "pd_e", BASE, user="Eve"),
        lambda: tokens.add(blue.operator, "Bob", frozenset({"videos:read"}), 1, ""),
    ):
        change()
        seen.append(await version())

    assert seen == sorted(set(seen))
    assert await version() == seen[-1]


@pytest.mark.parametrize("changes", [0, MOST_TRIES - 1, MOST_TRIES])
async def test_limits_that_change_again_and_again_are_asked_for_a_few_times(changes: int) -> None:
    """In the end the call says that it bought nothing and may be repeated (ours)."""
    asked: list[str] = []

    async def quotas(workspace: str, *, fresh: bool = False) -> list[Quota]:
        assert fresh
        asked.append(workspace)
        return []

    async def work(quotas: list[Quota]) -> str:
        if len(asked) <= changes:
            raise QuotasChanged
        return "done"

    if changes < MOST_TRIES:
        assert await under_limits(quotas, "w/ann", work) == "done"
    else:
        with pytest.raises(QuotasChanged) as failed:
            await under_limits(quotas, "w/ann", work)
        assert failed.value.retry_safe
    assert asked == ["w/ann"] * min(changes + 1, MOST_TRIES)
