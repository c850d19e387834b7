"""How often a payment waits for the server of the database, and that fewer times change no rule."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any, cast
from unittest.mock import patch

import pytest

from tests.ledger.stores import ME, PostgresStore, claimed, reported, wanted
from tests.postgres.bouncer import bouncer_to
from tests.postgres.round_trips import round_trips
from tests.postgres.server import Server
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Fenced, Ledger
from wan_mcp.ledger.postgres.change import Change
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rows import Rows, read
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace

pytestmark = pytest.mark.anyio

Inside = Callable[[Session, Rows], object]


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(database)
    yield made
    for ledger in made.opened:
        await ledger.aclose()


async def inside(ledger: Ledger, work: Inside) -> None:
    """Do work in one transaction of the account."""

    def transaction(opened: Any) -> None:
        with opened.session.transaction(ME):
            work(opened.session, Rows(opened.session))

    await cast("Any", ledger)._store.write(transaction)


async def only(ledger: Ledger) -> Record:
    [record] = await ledger.recent(ME)
    return record


@pytest.mark.parametrize("whose", [Workspace.of(ME), Workspace("ann", ME)], ids=["alone", "team"])
async def test_submit_waits_seven_times_for_the_server(
    store: PostgresStore, whose: Workspace
) -> None:
    """Lock and clock, all that the rules ask, the commit; then lock and commit twice. (ours)"""
    ledger, limits = store.ledger(), SpendingLimits(in_flight=9, submits_per_minute=9)
    of_user = Quota(limits, "your own", frozenset({whose.name}))
    waited: list[int] = []
    # The server plans what it is asked for the first time, also once a workspace has a record.
    for number in (1, 2, 3):
        with round_trips(ledger) as trips:
            waited.clear()
            claim = await ledger.claim(
                *(whose, wanted(number)),
                generated_seed=7,
                estimate=2.0,
                quotas=[of_user, Quota(limits)],
            )
            waited.append(len(trips))
            await ledger.commit_sending(claim.record)
            waited.append(len(trips))
            await ledger.accept(claim.record, reported(job_id=f"job-{number}", credit_cost=2.0))
            waited.append(len(trips))

    assert waited == [3, 5, 7]


async def test_owners_of_other_requests_are_asked_about_together(store: PostgresStore) -> None:
    """Each of several servers may be sending a request just now. (ours)"""
    others = [store.ledger() for _ in range(3)]
    for number, other in enumerate(others):
        await claimed(other, wanted(number))
    ledger = store.ledger()
    await claimed(ledger, wanted(8))  # the server plans what it is asked for the first time
    with round_trips(ledger) as trips:
        await ledger.claim(ME, wanted(9), generated_seed=7, estimate=2.0)

    # The second question about charges is asked because there was none yet.
    assert len(trips) == 5


async def test_what_was_asked_ahead_is_asked_again_after_a_change(store: PostgresStore) -> None:
    """A claim must count what it has changed itself. (ours)"""
    ledger, seen = store.ledger(), []
    record = await claimed(ledger)

    def work(session: Session, rows: Rows) -> None:
        asked = read(sql.records.JOB, submission_id=record.submission_id)
        session.ahead([asked])
        for state in (State.UNKNOWN, State.NOT_SENT):
            seen.append(rows.first_of(asked))
            rows.save(seen[-1] or record, record.model_copy(update={"state": state}))
        seen.append(rows.first_of(asked))

    await inside(ledger, work)

    assert [each.state for each in seen if each] == [State.INTENT, State.UNKNOWN, State.NOT_SENT]


async def test_update_that_finds_no_record_undoes_the_commit_that_it_travels_with(
    store: PostgresStore,
) -> None:
    """It is sent together with the COMMIT, so nobody can look at it first. (ours)"""
    ledger = store.ledger()
    record = await claimed(ledger)

    def work(session: Session, rows: Rows) -> None:
        rows.insert(record.model_copy(update={"submission_id": "sub_other", "dedupe_key": None}))
        stale = record.model_copy(update={"state": State.UNKNOWN})
        rows.save(stale, record)

    with pytest.raises(Fenced, match=f"{record.submission_id} is no longer unknown"):
        await inside(ledger, work)

    assert await only(ledger) == record


@pytest.mark.parametrize("next_one", ["read", "save"])
async def test_update_that_finds_no_record_stops_what_comes_behind_it(
    store: PostgresStore, next_one: str
) -> None:
    """What a rule reads next would be about a record that is not as it believes. (ours)"""
    ledger, reached = store.ledger(), []
    record = await claimed(ledger)

    def work(session: Session, rows: Rows) -> None:
        stale = record.model_copy(update={"state": State.UNKNOWN})
        rows.save(stale, record)
        if next_one == "read":
            rows.record(record.submission_id)
        else:
            rows.save(record, stale)
        reached.append(next_one)

    with pytest.raises(Fenced):
        await inside(ledger, work)

    assert reached == []
    assert (await only(ledger)).state is State.INTENT


async def test_server_keeps_plans_only_where_no_pool_stands_between(
    database: str, postgres: Server, worker_database: str
) -> None:
    """A pool gives the next transaction another process, which does not know them. (ours)"""
    from wan_mcp.ledger.postgres.connection import connect

    with connect(database) as link:
        assert link.prepared(sql.records.JOB).startswith(b"EXECUTE")
    with bouncer_to(postgres) as folder, connect(postgres.url(worker_database, folder)) as link:
        assert link.prepared(sql.records.JOB).startswith(b"SELECT")


async def test_server_keeps_only_so_many_plans_for_a_connection(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes memory of the server, and there are very many kinds of changes. (ours)"""
    from wan_mcp.ledger.postgres import connection

    monkeypatch.setattr(connection, "MAX_PLANS", 1)
    with connection.connect(database) as link:
        assert link.prepared(sql.records.JOB).startswith(b"EXECUTE")
        assert link.prepared(sql.records.LIVE_EQUAL).startswith(b"SELECT")
        assert link.prepared(sql.records.JOB).startswith(b"EXECUTE")


async def test_plan_that_is_there_after_an_error_stands_in_nobodys_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PREPARE that is canceled when it is logged has made its plan. (observed)"""
    from psycopg.errors import DivisionByZero

    from wan_mcp.ledger.postgres.connection import Link, connect

    with connect(database) as link:
        with monkeypatch.context() as until_then:
            until_then.setattr(Link, "run", partialmethod(_fails_after, Link.run))
            with pytest.raises(DivisionByZero):
                link.prepared(sql.records.JOB)
        [found] = link.run((link.prepared(sql.records.JOB), {"submission_id": "sub_none"}))

    assert found == []


def _fails_after(link: Any, run: Callable[..., object], *parts: object) -> object:
    """Run statements in a message that ends with an error. A plan stays even so."""
    return run(link, *parts, (b"SELECT 1 / 0", None))


async def test_new_connection_is_limited_before_anything_is_planned_on_it(
    store: PostgresStore,
) -> None:
    """To plan a statement is to wait for whoever alters its table. (ours)"""
    ledger = store.ledger()
    await claimed(ledger)
    with messages(ledger) as sent:
        cast("Any", ledger)._store._opened.session._link.close()
        await claimed(ledger, wanted(1))

    first, second, *_ = sent
    assert first.startswith(b"SET SESSION statement_timeout")
    assert second.startswith(b"PREPARE")


@contextmanager
def messages(ledger: Ledger) -> Iterator[list[bytes]]:
    """Within it, the list gets the first statement of each message of a payment's connection."""
    from wan_mcp.ledger.postgres.connection import Link

    sent: list[bytes] = []
    run = Link.run

    def noted(link: Link, *parts: Any) -> Any:
        if link is cast("Any", ledger)._store._opened.session._link:
            sent.append(parts[0][0])
        return run(link, *parts)

    with patch.object(Link, "run", noted):
        yield sent


SETTINGS = "SELECT name || ' ' || setting FROM pg_settings WHERE name IN ('lock_timeout', " + (
    "'statement_timeout', 'idle_in_transaction_session_timeout', 'synchronous_commit') ORDER BY 1"
)


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_each_transaction_has_its_limits_whatever_the_one_before_it_had(
    database: str, postgres: Server, worker_database: str, is_pooled: bool
) -> None:
    """A connection that keeps its settings is limited once, one of a pool each time. (ours)"""
    from wan_mcp.ledger.postgres.connection import BUSY_SECONDS, IMPATIENT_SECONDS, connect

    seen = []
    with (
        bouncer_to(postgres) as folder,
        connect(postgres.url(worker_database, folder) if is_pooled else database) as link,
    ):
        link.run((b"SET synchronous_commit = off", None))  # as an operator may set it for a user
        for patience in (BUSY_SECONDS, IMPATIENT_SECONDS, BUSY_SECONDS):
            limits = link.limits(patience)
            found = link.run((b"BEGIN", None), *limits, (SETTINGS.encode(), None))[-1]
            link.run((b"ROLLBACK", None))
            seen.append([setting for (setting,) in found])

    assert seen == [
        [
            "idle_in_transaction_session_timeout 10000",
            f"lock_timeout {milliseconds}",
            "statement_timeout 5000",
            "synchronous_commit on",
        ]
        for milliseconds in (5000, 300, 5000)
    ]


def test_turn_of_a_queued_request_is_looked_for_after_a_lost_commit() -> None:
    """It gets a new date as a new record does, but is known by its id (ours)."""
    change = Change("account")
    change.note({"created_at": 2.0, "submission_id_before": "sub_1"}, changes_jobs=True)

    assert change.jobs == {"sub_1": {"created_at": 2.0}}
