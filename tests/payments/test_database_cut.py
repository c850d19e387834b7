"""The network between a server and PostgreSQL is cut at each point of a payment.

What becomes of the request is in docs/teams.md. Another server of the team still reaches the
database, and the charges that the sandbox counts decide.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from tests.ledger.stores import HANG_SECONDS, PostgresStore
from tests.postgres.fixtures import TEMPLATE
from tests.postgres.packets import Packets, server_in_a_network
from tests.postgres.proxy import Fault, Proxy, proxy_to
from tests.postgres.server import Server
from wan_mcp.clock import Clock
from wan_mcp.errors import OutcomeUnknown
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.coordination import Role
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.sandbox import Sandbox
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/*/run"
LIMITS = SpendingLimits(in_flight=None)
CLAIM = "EXECUTE ledger_insert_"
POINT = "('sending', 1"
"""In the message that commits the claim, and in the one of the commit point: state and date."""

NOBODY_HOLDS_A_LOCK = "BEGIN; LOCK TABLE wallets IN EXCLUSIVE MODE; COMMIT"
"""Waits until that is so: a server that is cut off without notice holds that of its account."""

Serve = Callable[[Ledger], AbstractAsyncContextManager[Jobs]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def wanted(sandbox: Sandbox) -> Replacement:
    return Replacement(video=sandbox.source_video_url, character_image=sandbox.image_url)


class Way(NamedTuple):
    """The way to the database that is cut.

    Attributes:
        cut: how.
        name: of the database.
        direct: its address for those who are not cut off.
        server: it.
    """

    cut: Proxy | Packets
    name: str
    direct: str
    server: Server


@pytest.fixture(scope="module")
def in_a_network(shared_postgres: Server) -> Iterator[Callable[[], Packets]]:
    with server_in_a_network(shared_postgres) as way:
        yield way


@pytest.fixture(params=["connections are closed", "packets are dropped"])
def way(request: pytest.FixtureRequest, leisure: None, monkeypatch: Any) -> Iterator[Way]:
    """Both kinds of a cut: one that is noticed at once, and one that is not noticed for a while."""
    if request.param == "packets are dropped":
        packets: Packets = request.getfixturevalue("in_a_network")()
        monkeypatch.setattr("wan_mcp.jobs.ANSWER_SECONDS", HANG_SECONDS)  # a call waits for its end
        with packets.used():
            yield Way(packets, TEMPLATE, packets.server.url(TEMPLATE), packets.server)
        return
    server, name = request.getfixturevalue("postgres"), request.getfixturevalue("worker_database")
    with proxy_to(server) as proxy:
        yield Way(proxy, name, request.getfixturevalue("database"), server)


@pytest.fixture
def proxy(way: Way) -> Proxy | Packets:
    return way.cut


@pytest.fixture
async def other(way: Way) -> AsyncIterator[Ledger]:
    """That of another server, which reaches the database all the time."""
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    made = PostgresLedger(way.direct, limits=LIMITS)
    await made.recover()
    yield made
    await made.aclose()


@pytest.fixture
def back() -> anyio.Event:
    """Set when the network is back: until then nothing is tried again."""
    return anyio.Event()


@pytest.fixture
def serve(sandbox: Sandbox, back: anyio.Event) -> Serve:
    """The jobs of one server of the team."""

    @asynccontextmanager
    async def serve(ledger: Ledger) -> AsyncIterator[Jobs]:
        vendor = PixelDojo(sandbox.api_base, sandbox.key)
        account = partial(ledger.account, sandbox.api_base, sandbox.key)
        clock = Clock(sleep=lambda seconds: back.wait())
        async with aclosing(vendor), anyio.create_task_group() as tasks:
            with anyio.fail_after(HANG_SECONDS):
                limiter = SharedRateLimiter(ledger.coordination, account, clock)
                yield Jobs(vendor, ledger, account, limiter, tasks, clock)
            tasks.cancel_scope.cancel()

    return serve


@pytest.fixture
async def ledger(way: Way, tmp_path: Path, monkeypatch: Any) -> AsyncIterator[Any]:
    """That of the server whose network is cut; what it cannot find out it gives up at once."""
    from wan_mcp.ledger.postgres import session, wake_up
    from wan_mcp.ledger.postgres.engine import PostgresLedger

    monkeypatch.setattr(session, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(wake_up, "RETRY_SECONDS", 0.01)
    url = way.cut.url(way.name)
    made = PostgresLedger(url, limits=LIMITS, folder=tmp_path / "ledger")
    await made.recover()
    yield made
    way.cut.refuse(False)
    await made.aclose()


@pytest.fixture
def lease_ends(way: Way, ledger: Any) -> Callable[[], object]:
    """Lets the lease of the server that is cut off be over."""

    def end() -> None:
        # By then the database has undone what it was doing for that server.
        way.server.execute(NOBODY_HOLDS_A_LOCK, database=way.name)
        PostgresStore(way.direct).declare_dead(ledger.engine._lease.name)

    return end


async def submitted_at_last(jobs: Jobs, wanted: Replacement) -> None:
    """Repeat the call until the server has its lease back."""
    with anyio.fail_after(HANG_SECONDS):
        while True:
            with suppress(LedgerUnavailable):
                await jobs.submit(wanted)
                return


async def test_cut_before_the_claim_stores_nothing_and_sends_nothing(
    ledger: Any,
    proxy: Proxy | Packets,
    serve: Serve,
    other: Ledger,
    sandbox: Sandbox,
    wanted: Replacement,
) -> None:
    """The call is safe to repeat, and then it is paid once (promises 11)."""
    async with serve(ledger) as jobs:
        proxy.plan(CLAIM, Fault.CUT, cuts_off=True)
        with pytest.raises(LedgerUnavailable) as refused:
            await jobs.submit(wanted)
        stored = await other.recent(await other.account(sandbox.api_base, sandbox.key))
        proxy.refuse(False)
        await submitted_at_last(jobs, wanted)

    assert refused.value.retry_safe
    assert stored == []
    assert len(sandbox.charges) == 1


async def test_claim_that_landed_without_an_answer_ends_unsent_when_the_lease_is_over(
    ledger: Any,
    proxy: Proxy | Packets,
    serve: Serve,
    other: Ledger,
    lease_ends: Callable[[], object],
    sandbox: Sandbox,
    wanted: Replacement,
) -> None:
    """Nobody has the request, and another server buys the job (promises 1)."""
    async with serve(ledger) as jobs, serve(other) as elsewhere:
        proxy.plan(CLAIM, Fault.LOSE_ANSWER, cuts_off=True)
        with pytest.raises(LedgerUnavailable):
            await jobs.submit(wanted)
        lease_ends()
        [record] = await other.recover()
        await elsewhere.submit(wanted)

    assert record.state is State.NOT_SENT
    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("is_stored", [False, True])
async def test_cut_at_the_commit_point_sends_nothing(
    ledger: Any,
    proxy: Proxy | Packets,
    serve: Serve,
    other: Ledger,
    lease_ends: Callable[[], object],
    sandbox: Sandbox,
    wanted: Replacement,
    back: anyio.Event,
    is_stored: bool,
) -> None:
    """Whether `sending` was stored or not. The server says so when it is back (promises 2)."""
    async with serve(ledger) as jobs, serve(other) as elsewhere:
        proxy.plan(POINT, Fault.LOSE_ANSWER if is_stored else Fault.CUT, cuts_off=True)
        with pytest.raises(LedgerUnavailable) as refused:
            await jobs.submit(wanted)
        lease_ends()
        [record] = await other.recover()
        if is_stored:  # the others cannot know that nothing was sent, so they send nothing either
            with pytest.raises(OutcomeUnknown):
                await elsewhere.submit(wanted)
        proxy.refuse(False)
        back.set()
        ended = await until_ended(other, record)
        await elsewhere.submit(wanted)

    assert refused.value.retry_safe
    assert record.state is (State.UNKNOWN if is_stored else State.NOT_SENT)
    assert ended.state is State.NOT_SENT
    assert len(sandbox.seen("POST", RUN)) == len(sandbox.charges) == 1


async def test_answer_to_the_commit_point_that_is_lost_for_a_moment_is_looked_for(
    ledger: Any,
    proxy: Proxy | Packets,
    serve: Serve,
    sandbox: Sandbox,
    wanted: Replacement,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network is back at once: the request is sent, once (promises 1)."""
    monkeypatch.setattr("wan_mcp.ledger.postgres.session.LOOK_SECONDS", HANG_SECONDS)
    struck = proxy.plan(POINT, Fault.LOSE_ANSWER)
    async with serve(ledger) as jobs:
        view = await jobs.submit(wanted)

    assert struck.is_set()
    assert [charge.job_id for charge in sandbox.charges] == [view.id]


class Cut:
    """A gate of the sandbox: the request has arrived, and now the network to the ledger is cut."""

    def __init__(self, proxy: Proxy | Packets) -> None:
        self._proxy = proxy

    async def wait(self) -> None:
        self._proxy.refuse()


async def test_cut_behind_the_commit_point_loses_no_job_and_buys_no_second_one(
    ledger: Any,
    proxy: Proxy | Packets,
    serve: Serve,
    other: Ledger,
    lease_ends: Callable[[], object],
    sandbox: Sandbox,
    wanted: Replacement,
    back: anyio.Event,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The id is told, logged and kept on disk, and stored when the network is back (promises 3)."""
    caplog.set_level(logging.INFO, "wan_mcp.payments")
    sandbox.fault("POST", RUN, faults.held(faults.honest(), before=Cut(proxy)))
    async with serve(ledger) as jobs, serve(other) as elsewhere:
        view = await jobs.submit(wanted)
        kept = list((tmp_path / "ledger-paid-jobs").iterdir())
        lease_ends()
        [record] = await other.recover()
        with pytest.raises(OutcomeUnknown):
            await elsewhere.submit(wanted)
        proxy.refuse(False)
        back.set()
        ended = await until_ended(other, record)
        again = await elsewhere.submit(wanted)

    assert [charge.job_id for charge in sandbox.charges] == [view.id] == [again.id]
    assert view.id in caplog.text
    assert len(kept) == 1
    assert record.state is State.UNKNOWN
    assert (ended.state, ended.job_id) == (State.ACCEPTED, view.id)


async def until_ended(ledger: Ledger, record: Record) -> Record:
    """The record once the server that was cut off has written how its request ended."""
    with anyio.fail_after(HANG_SECONDS):
        while True:
            found = await ledger.find(record.account, record.submission_id)
            if found and found.state not in (State.SENDING, State.UNKNOWN):
                return found
            await asyncio.sleep(0)


async def test_work_of_a_server_that_is_cut_off_passes_to_another_when_its_lease_is_over(
    ledger: Any, proxy: Proxy | Packets, other: Ledger, lease_ends: Callable[[], object]
) -> None:
    """Somebody polls, saves and dispatches all the time (promises 8)."""
    leads = [await ledger.coordination.lead("me", Role.POLLER, 60.0)]
    proxy.refuse()
    leads.append(await other.coordination.lead("me", Role.POLLER, 60.0))
    lease_ends()
    leads.append(await other.coordination.lead("me", Role.POLLER, 60.0))

    assert leads == [True, False, True]
