"""The ledger in PostgreSQL when an answer is lost, a lease ends, or the server goes away."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from mcp.client import Client

from tests.crash.databases import LIMITS
from tests.ledger.stores import (
    HANG_SECONDS,
    ME,
    NO_LIMITS,
    PostgresStore,
    claimed,
    reported,
    stop_renewing,
    wanted,
)
from tests.postgres.bouncer import bouncer_to
from tests.postgres.fixtures import TEMPLATE
from tests.postgres.proxy import Fault, Proxy, proxy_to
from tests.postgres.server import Server
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.record import Record, State
from wan_mcp.sandbox import Sandbox
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

WAITS_FOR_LOCK = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
COMMIT = "; COMMIT"
"""In the message that commits a transaction which has changed something."""
SECRET = "secret-word"


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    """An empty store on the server of all tests."""
    made = PostgresStore(database)
    yield made
    for ledger in made.opened:
        await ledger.aclose()


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Proxy]:
    """Between a ledger and the server."""
    with proxy_to(postgres) as made:
        yield made


@pytest.fixture
async def ledger(store: PostgresStore, proxy: Proxy, worker_database: str) -> AsyncIterator[Ledger]:
    """An open ledger whose connections lead through the proxy."""
    direct, store.url = store.url, proxy.url(worker_database)
    ledger = store.ledger()
    store.url = direct
    await ledger.recover()
    yield ledger
    await store.end(ledger)  # before the proxy


def rows(server: Server, url: str, sql: str) -> list[tuple[Any, ...]]:
    """What a statement finds, asked from outside."""
    return server.execute(sql, database=url.partition("@/")[2].partition("?")[0])


async def until(server: Server, url: str, sql: str) -> list[tuple[Any, ...]]:
    """Ask again until the answer has rows. Only a defect makes that last."""
    with anyio.fail_after(HANG_SECONDS):
        while not (found := await anyio.to_thread.run_sync(rows, server, url, sql)):
            pass
    return found


async def change_heard(ledger: Ledger, since: int) -> None:
    with anyio.fail_after(HANG_SECONDS):
        await ledger.coordination.next_change(since)


async def claimed_at_last(ledger: Ledger) -> Record:
    """Claim again and again, until the ledger can be used."""
    with anyio.fail_after(HANG_SECONDS):
        while True:
            with suppress(LedgerUnavailable):
                return await claimed(ledger)


async def test_claim_waits_while_another_process_has_the_lock_of_its_account(
    postgres: Server, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no process counts without what another one is about to store (promises 10)."""
    for limit in LIMITS:  # on a busy computer the claim may have to wait long here
        monkeypatch.setattr(f"wan_mcp.ledger.{limit}", HANG_SECONDS)
    ledger = store.ledger()
    await claimed(ledger, wanted(1))
    import psycopg

    with psycopg.connect(store.url) as other:
        other.execute("SELECT 1 FROM wallets WHERE account = %s FOR UPDATE", [ME])
        claim = asyncio.create_task(claimed(ledger, wanted(2)))
        waits = asyncio.create_task(until(postgres, store.url, WAITS_FOR_LOCK))
        await asyncio.wait([claim, waits], return_when=asyncio.FIRST_COMPLETED)
        had_to_wait = not claim.done()
        await asyncio.gather(waits) if had_to_wait else waits.cancel()

    assert had_to_wait
    assert await claim


# The answer to a COMMIT is lost


async def test_claim_whose_commit_landed_without_an_answer_is_that_claim(
    ledger: Ledger, proxy: Proxy
) -> None:
    """The session looks under the account's lock, so the caller notices nothing (promises 1)."""
    struck = proxy.plan(COMMIT, Fault.LOSE_ANSWER)
    record = await claimed(ledger)
    await ledger.commit_sending(record)

    assert struck.is_set()
    assert (await ledger.recent(ME))[0].state is State.SENDING


async def test_claim_whose_commit_was_canceled_once_it_was_stored_is_that_claim(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may notice only when it logs how long the COMMIT took. (observed)"""
    from wan_mcp.ledger.postgres.connection import Link

    run, canceled = Link.run, (b"DO $$ BEGIN RAISE query_canceled; END $$", None)

    def answered_late(link: Link, *parts: Any) -> Any:
        return run(link, *parts, *[canceled] * (parts[-1][0] == b"COMMIT"))

    monkeypatch.setattr(Link, "run", answered_late)
    ledger = store.ledger()
    await ledger.commit_sending(await claimed(ledger))

    assert (await ledger.recent(ME))[0].state is State.SENDING


async def test_claim_whose_commit_never_arrived_buys_nothing_and_can_be_repeated(
    ledger: Ledger, proxy: Proxy
) -> None:
    """Nothing was stored, so nothing stands in the way of the same call (promises 1)."""
    proxy.plan(COMMIT, Fault.CUT)
    with pytest.raises(LedgerUnavailable) as refused:
        await claimed(ledger)

    assert refused.value.retry_safe
    assert await ledger.recent(ME) == []
    assert await claimed(ledger)


async def test_look_after_a_lost_answer_waits_for_a_commit_that_is_still_on_its_way(
    ledger: Ledger, proxy: Proxy, postgres: Server, store: PostgresStore
) -> None:
    """Without the lock it would say too early that nothing is stored (observed elsewhere)."""
    struck = proxy.plan(COMMIT, Fault.DELIVER_LATE)
    claim = asyncio.create_task(claimed(ledger))
    await anyio.to_thread.run_sync(struck.wait)
    await until(postgres, store.url, WAITS_FOR_LOCK)
    await anyio.to_thread.run_sync(proxy.deliver)
    record = await claim

    assert (await ledger.recent(ME))[0].submission_id == record.submission_id


@pytest.fixture
def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look gives up at once, and a lost connection is tried again at once."""
    monkeypatch.setattr("wan_mcp.ledger.postgres.session.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("wan_mcp.ledger.postgres.wake_up.RETRY_SECONDS", 0.01)


@pytest.mark.usefixtures("short_look")
async def test_claim_that_nobody_got_is_not_waited_for_by_equal_calls_for_long(
    ledger: Any, proxy: Proxy, store: PostgresStore
) -> None:
    """Its commit may have landed. The process takes another name, and the old one dies."""
    name, other = ledger.engine._lease.name, store.ledger()
    await other.recover()
    proxy.plan(COMMIT, Fault.LOSE_ANSWER, cuts_off=True)
    with pytest.raises(LedgerUnavailable) as refused:
        await claimed(ledger)
    proxy.refuse(False)
    store.declare_dead(name)
    [orphan] = await other.recover()
    again = await claimed_at_last(ledger)

    assert refused.value.retry_safe
    assert orphan.state is State.NOT_SENT
    assert again.owner != name


@pytest.mark.usefixtures("short_look")
async def test_request_whose_commit_point_is_in_doubt_is_not_sent_and_can_be_ended(
    ledger: Ledger, proxy: Proxy
) -> None:
    """The caller has the record, so it records that nothing was sent (promises 1)."""
    record = await claimed(ledger)
    proxy.plan(COMMIT, Fault.LOSE_ANSWER, cuts_off=True)
    with pytest.raises(LedgerUnavailable):
        await ledger.commit_sending(record)
    proxy.refuse(False)
    ended = await ledger.conclude(record, State.NOT_SENT, "the ledger was away")

    assert ended.state is State.NOT_SENT


async def test_paid_job_that_cannot_be_written_is_kept_on_disk_until_the_database_is_back(
    database: str, proxy: Proxy, worker_database: str, tmp_path: Path
) -> None:
    """The process may end before the database is back (promises 2)."""
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    ledger = PostgresLedger(proxy.url(worker_database), folder=tmp_path / "ledger")
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    proxy.refuse()
    with pytest.raises(LedgerUnavailable):
        await ledger.accept(record, reported())
    await ledger.aclose()
    kept = list((tmp_path / "ledger-paid-jobs").iterdir())
    next_one = PostgresLedger(database, folder=tmp_path / "ledger")
    await next_one.recover()
    found = await next_one.find(ME, "job-1")
    await next_one.aclose()

    assert len(kept) == 1
    assert found is not None
    assert found.state is State.ACCEPTED
    assert not list((tmp_path / "ledger-paid-jobs").iterdir())


# Leases


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass for the process alone, as while it is stopped."""
    # All who read that clock are imported before: they would keep the one that stands still.
    from wan_mcp.ledger.postgres import engine, liveness  # noqa: F401

    began = liveness.ticks()
    monkeypatch.setattr(liveness, "ticks", lambda: began)
    return lambda seconds: monkeypatch.setattr(liveness, "ticks", lambda: began + seconds)


@pytest.mark.parametrize(("seconds", "is_sent"), [(12.5, True), (13.5, False), (1200, False)])
async def test_process_that_stood_still_sends_nothing_when_others_may_take_it_for_dead(
    store: PostgresStore, later: Callable[[float], None], seconds: float, is_sent: bool
) -> None:
    """Between its commit and its first byte another one may have proven that it sent nothing."""
    ledger = cast("Any", store.ledger())
    record = await claimed(ledger)
    stop_renewing(ledger)  # its other thread does not go on either
    later(seconds)
    refused = None
    try:
        await ledger.commit_sending(record)
    except LedgerUnavailable as error:
        refused = error

    assert (refused is None) is is_sent
    assert refused is None or refused.retry_safe


async def test_process_that_was_taken_for_dead_goes_on_under_another_name(
    store: PostgresStore,
) -> None:
    """What it had claimed belongs to nobody any more, and is not sent (promises 1)."""
    ledger, other = cast("Any", store.ledger()), store.ledger()
    await other.recover()
    record = await claimed(ledger)
    name = ledger.engine._lease.name
    store.declare_dead(name)
    [settled] = await other.recover()
    with ledger.engine._connect() as link:
        await anyio.to_thread.run_sync(ledger.engine._lease.renew, link)
    with pytest.raises(Fenced):
        await ledger.commit_sending(record)
    again = await claimed(ledger)
    await ledger.commit_sending(again)

    assert settled.state is State.NOT_SENT
    assert ledger.engine._lease.name != name
    assert again.owner == ledger.engine._lease.name


async def test_paid_answer_of_a_process_that_was_taken_for_dead_is_recorded(
    store: PostgresStore,
) -> None:
    """Its id must not be lost, whatever the others have made of the request (promises 2)."""
    ledger, other = cast("Any", store.ledger()), store.ledger()
    await other.recover()
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    store.declare_dead(ledger.engine._lease.name)
    [unknown] = await other.recover()
    accepted = await ledger.accept(record, reported())

    assert unknown.state is State.UNKNOWN
    assert accepted.job_id == "job-1"
    assert [each.state for each in await ledger.recent(ME)] == [State.ACCEPTED]


async def test_lease_is_renewed_and_given_back(store: PostgresStore, postgres: Server) -> None:
    """Others need not wait for the end of a server that has been stopped (promises 8)."""
    ledger = cast("Any", store.ledger())
    await ledger.recover()
    until_when = "SELECT alive_until FROM owners"
    [(before,)] = rows(postgres, store.url, until_when)
    with ledger.engine._connect() as link:
        ledger.engine._lease.renew(link)
    [(after,)] = rows(postgres, store.url, until_when)
    await store.end(ledger)

    assert after > before
    assert rows(postgres, store.url, until_when) == [(0.0,)]


# Waiting for others


async def test_change_by_another_process_wakes_who_waits(store: PostgresStore) -> None:
    """Long before the next look (promises 7)."""
    one, other = store.ledger(), store.ledger()
    await one.recover()
    since = one.coordination.own_changes
    await claimed(other)
    await change_heard(one, since)

    assert (await one.recent(ME))[0].state is State.INTENT


async def test_what_nobody_waits_for_wakes_nobody(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request to PixelDojo is counted in the ledger, by every server (ours)."""
    announced: list[object] = []
    other = cast("Any", store.ledger())
    await other.recover()
    monkeypatch.setattr(other.engine._attendant, "_tell", lambda: announced.append(1))
    await other.coordination.try_acquire(ME, lambda limit, ages: 0.0)

    assert not other.engine._attendant._has_news.is_set()
    assert announced == []


async def test_news_arrives_again_after_the_connection_that_hears_it_was_lost(
    store: PostgresStore, postgres: Server
) -> None:
    """And what was announced meanwhile is looked for at once (promises 7)."""
    one, other = store.ledger(), store.ledger()
    await one.recover()
    await other.recover()
    since = one.coordination.own_changes
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_notify%'"
    await until(postgres, store.url, f"{ended} AND pid <> pg_backend_pid()")
    await change_heard(one, since)
    since = one.coordination.own_changes
    await claimed(other)
    await change_heard(one, since)


async def test_stuck_list_holds_up_no_payment(store: PostgresStore) -> None:
    """Lists have a thread and a connection of their own (promises 11)."""
    ledger = cast("Any", store.ledger())
    goes_on = threading.Event()
    stuck = asyncio.create_task(ledger._reading.read(lambda _: goes_on.wait(HANG_SECONDS)))
    await anyio.lowlevel.checkpoint()
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported())
    goes_on.set()

    assert await stuck


# Servers of a team

MEDIA = {
    "video": "https://media.example/clip.mp4",
    "character_image": "https://media.example/face.png",
}


async def test_servers_of_a_team_buy_one_job_for_equal_calls(database: str) -> None:
    """The operator sets the address of the database, and nothing else is shared (promises 1)."""
    buys: list[dict[str, Any]] = []
    async with Sandbox() as sandbox:
        given = {"PIXELDOJO_API_BASE": sandbox.api_base, "PIXELDOJO_API_KEY": sandbox.key}
        given |= {"WAN_MCP_LEDGER_URL": database, "WAN_MCP_ARCHIVE": "off"}
        for _ in range(2):
            async with Client(build_server(Settings.read(given), local=False)) as client:
                answer = await client.call_tool("replace_character", MEDIA)
                buys.append(answer.structured_content or {})
                listed = await client.call_tool("list_jobs", {})

        assert len(sandbox.vendor.jobs) == 1
    assert buys[0]["job_id"] == buys[1]["job_id"]
    assert [job["job_id"] for job in (listed.structured_content or {})["jobs"]] == [
        buys[0]["job_id"]
    ]


async def test_server_without_the_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plain install has no driver for PostgreSQL (ours)."""
    monkeypatch.setitem(sys.modules, "wan_mcp.ledger.postgres.engine", None)
    given = {"PIXELDOJO_API_KEY": "pd_test", "WAN_MCP_LEDGER_URL": "postgresql://host/database"}
    async with Client(build_server(Settings.read(given), local=False)) as client:
        answer = await client.call_tool("list_jobs", {})

    assert answer.is_error
    assert "wan-mcp[postgres]" in str(answer.content)


# The server goes away, or is no server


async def test_ledger_goes_on_after_the_server_was_killed_and_started_again(
    own_postgres: Server,
) -> None:
    """Calls in between are refused, and may be repeated (promises 11)."""
    store = PostgresStore(own_postgres.url(TEMPLATE))
    ledger = store.ledger()
    record = await claimed(ledger)
    own_postgres.kill()
    refusals = []
    for work in (partial(claimed, ledger, wanted(2)), partial(ledger.recent, ME)):
        with pytest.raises(LedgerUnavailable) as refused:
            await work()
        refusals.append(refused.value.retry_safe)
    own_postgres.start()
    await ledger.commit_sending(record)
    accepted = await ledger.accept(record, reported())
    listed = await ledger.recent(ME)
    await ledger.aclose()

    assert refusals == [True, True]
    assert [each.job_id for each in listed] == [accepted.job_id]


@pytest.mark.usefixtures("short_look")
@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_commit_that_is_on_no_standby_is_no_commit_point(
    own_postgres: Server, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """PostgreSQL reports success with a warning, or nothing at all (documented)."""
    # Before it is cancelled, the COMMIT is looked for, which may take a busy computer long.
    patience = HANG_SECONDS if is_cancelled else 3.0
    monkeypatch.setattr("wan_mcp.ledger.postgres.connection.ANSWER_SECONDS", patience)
    # It may not end before a busy computer sends the COMMIT.
    monkeypatch.setattr("wan_mcp.ledger.postgres.liveness.LEASE_SECONDS", 2 * HANG_SECONDS)
    store = PostgresStore(own_postgres.url(TEMPLATE))
    ledger = cast("Any", store.ledger())
    record = await claimed(ledger)
    stop_renewing(ledger)  # its lease would wait for the standby, too
    own_postgres.execute(
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"
    )
    is_set = "SELECT 1 WHERE current_setting('synchronous_standby_names') = 'nobody'"
    await until(own_postgres, store.url, is_set)
    waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    point = asyncio.create_task(ledger.commit_sending(record))
    if is_cancelled:  # otherwise it may have given up before a busy computer looks
        await until(own_postgres, store.url, f"SELECT pid {waits}")
        own_postgres.execute(f"SELECT pg_cancel_backend(pid) {waits}")
    with pytest.raises(LedgerUnavailable) as refused:
        await point
    await ledger.aclose()

    assert refused.value.retry_safe


@pytest.mark.parametrize(
    ("url", "is_transient"),
    [
        (f"postgresql://me:{SECRET}@/db?host=/there/is/none", True),
        (f"postgresql://me:{SECRET}@host:port%zz/db", False),
        (f"postgresql://me:{SECRET}@/db?no_such_option=1", False),
    ],
)
async def test_password_is_in_no_message_and_no_log(
    url: str, is_transient: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """libpq repeats parts of an address that it cannot use (observed)."""
    pytest.importorskip("psycopg")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(LedgerUnavailable) as refused:
        await claimed(PostgresStore(url).ledger())
    shown = [*_chain(refused.value), caplog.text, refused.value.next_step]

    assert refused.value.retry_safe is is_transient
    assert not [text for text in shown if SECRET in str(text)]


def _chain(error: BaseException | None) -> Iterator[str]:
    """An error and all that a traceback would show with it."""
    while error is not None:
        yield repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_payment_works_behind_pgbouncer_in_transaction_mode(
    database: str, postgres: Server, worker_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """There each transaction may have another connection, and nothing set before it holds."""
    with bouncer_to(postgres) as folder:
        store = PostgresStore(postgres.url(worker_database, folder))
        one, other = store.ledger(), store.ledger()
        for number in range(3):
            record = await claimed(one, wanted(number))
            await one.commit_sending(record)
            await one.accept(record, reported(job_id=f"job-{number}"))
        seen = await other.recent(ME)
        for ledger in (one, other):
            await ledger.aclose()

    assert [each.state for each in seen] == [State.ACCEPTED] * 3


async def test_news_arrives_past_pgbouncer_at_an_address_of_its_own(
    database: str, postgres: Server, worker_database: str
) -> None:
    """Payments go through the pool, and the lease with what is heard goes past it. (ours)"""
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    with bouncer_to(postgres) as folder:
        through_pool = postgres.url(worker_database, folder)
        one = PostgresLedger(through_pool, listen_url=database, limits=NO_LIMITS)
        other = PostgresLedger(through_pool, listen_url=database, limits=NO_LIMITS)
        await one.recover()
        since = one.coordination.own_changes
        record = await claimed(other)
        await change_heard(one, since)
        await other.commit_sending(record)
        for ledger in (one, other):
            await ledger.aclose()


async def test_address_for_news_that_leads_to_another_database_is_refused(
    database: str, own_postgres: Server
) -> None:
    """The lease would be kept where no other server sees it. (ours)"""
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    ledger = PostgresLedger(database, listen_url=own_postgres.url(TEMPLATE), limits=NO_LIMITS)
    with pytest.raises(LedgerUnavailable, match="another database"):
        await claimed(ledger)
    await ledger.aclose()


async def test_process_that_hears_no_notices_goes_on_and_says_so_once(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As behind a pool. Who waits finds news by looking; the lease is renewed all the same."""
    from wan_mcp.ledger.postgres import wake_up

    tries, third = count(), threading.Event()

    def connect_again(attendant: wake_up.Attendant) -> None:
        reconnect(attendant)
        if next(tries) == 2:
            third.set()

    reconnect = wake_up.Attendant._reconnect
    monkeypatch.setattr(wake_up.Attendant, "_reconnect", connect_again)
    monkeypatch.setattr(wake_up, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(wake_up, "_NOTIFY", b"SELECT %(channel)s, %(text)s")
    ledger = store.ledger()
    await ledger.recover()
    assert await anyio.to_thread.run_sync(third.wait, HANG_SECONDS)

    assert caplog.text.count("no notices come") == 1
    assert await claimed(ledger)
