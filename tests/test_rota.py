"""What every engine promises to pollers and waiters: it joins by one line in `STORES`."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from unittest.mock import patch

import anyio
import pytest

from wan_mcp.errors import CouldNotFindOut, RateLimited, Unauthorized, WanError
from wan_mcp.jobs import database
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.file import FILE
from wan_mcp.jobs.ledger import Caps, Ledger, LedgerUnavailable
from wan_mcp.jobs.owners import Owner
from wan_mcp.jobs.rota import Limit, Rota
from wan_mcp.jobs.row import Row, State
from wan_mcp.jobs.sqlite import SQLiteLedger
from wan_mcp.jobs.standing import trouble_of
from wan_mcp.jobs.typical import Typical
from wan_mcp.models import Job, JobStatus, Replacement

pytestmark = pytest.mark.anyio

ME = "my-account"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
LEASE = 20.0
HOUR = 3600.0
FILM = "https://temp.example/film.mp4?signature=s"


class SQLiteStore:
    """One ledger file and a clock moved by hand; each ledger on it is a process to the others.

    Attributes:
        on_time: called whenever a process asks for the time.
    """

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.opened: list[SQLiteLedger] = []
        self.on_time: Callable[[], object] = bool
        self._folder = folder

    def process(self) -> SQLiteLedger:
        self.opened.append(SQLiteLedger(self._folder, caps=Caps(None, None, None, None), now=self))
        return self.opened[-1]

    def __call__(self) -> datetime:
        now = self.now
        self.on_time()
        return now

    def later(self, seconds: float) -> None:
        """Let that much time pass, or the clock be set."""
        self.now += timedelta(seconds=seconds)

    async def end(self, ledger: SQLiteLedger, *, killed: bool) -> None:
        self.opened.remove(ledger)
        with patch.object(Owner, "release", Owner.drop_inherited if killed else Owner.release):
            await ledger.aclose()

    def requests_made_elsewhere(self, at: datetime) -> Callable[[], object]:
        """Another process that counts one request, as soon as the file lets it."""
        left = [at]

        def try_it() -> None:
            other = database.connect(self._folder / FILE, busy_seconds=0)
            with suppress(sqlite3.OperationalError):  # held by the process under test
                while left:
                    made_at = (left[0] - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
                    other.execute("INSERT INTO requests VALUES (?, ?)", (ME, made_at))
                    left.pop()
            other.close()

        return try_it


STORES = {"sqlite": SQLiteStore}
Store = SQLiteStore


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each engine."""
    made = STORES[request.param](tmp_path / "ledger")
    yield made
    for ledger in made.opened:
        await ledger.aclose()


@pytest.fixture
def ledger(store: Store) -> SQLiteLedger:
    """A process on the store."""
    return store.process()


@pytest.fixture
def rota(ledger: Ledger) -> Rota:
    """What that process shares."""
    return ledger.rota


@pytest.fixture
def other(store: Store) -> Rota:
    """What another process shares."""
    return store.process().rota


async def brought(ledger: Ledger, state: State, number: int = 1, film: str | None = FILM) -> Row:
    """A new row, brought to a state by the shortest way."""
    wanted = Replacement(video=f"https://a.ex/{number}", character_image="https://a.ex/i")
    row = (await ledger.claim(ME, wanted, planted_seed=number, estimate=2)).row
    if state in (State.INTENT, State.NOT_SENT):
        return row if state is State.INTENT else await ledger.conclude(row.handle, state, "no net")
    row = await ledger.commit_sending(row.handle)
    if state in (State.SENDING, State.REFUSED, State.UNKNOWN):
        return row if state is State.SENDING else await ledger.conclude(row.handle, state, "why")
    job = Job(job_id=f"job-{number}", status=JobStatus.RUNNING)
    row = await ledger.accept(row.handle, job)
    if state is State.LOST:
        return await ledger.conclude(row.handle, state, "404 three times")
    if state is not State.ACCEPTED:
        told = {"status": JobStatus(state), "video_url": film}
        return (await ledger.learn(ME, job.model_copy(update=told))).row
    return row


async def the_row(rota: Rota, row: Row) -> Row:
    [now] = await rota.rows([row.handle])
    return now


# Who polls


@pytest.mark.parametrize(
    ("passed", "free"),
    [(0, False), (LEASE - 0.1, False), (LEASE, True), (HOUR, True), (-1, False), (-HOUR, True)],
)
async def test_another_process_polls_once_the_lease_is_over(
    store: Store, rota: Rota, other: Rota, passed: float, free: bool
) -> None:
    """Also where a clock that was wrong dated it: none is longer than a minute (ours)."""
    first = await rota.lead(ME, LEASE)
    store.later(passed)
    second = await other.lead(ME, LEASE)

    assert (first, second) == (True, free)
    assert await rota.lead(ME, LEASE) is not free


async def test_a_lease_is_extended_by_its_holder(store: Store, rota: Rota, other: Rota) -> None:
    """Renewed halfway, it never lapses (ours)."""
    for _ in range(5):
        assert await rota.lead(ME, LEASE)
        store.later(LEASE / 2)

    assert not await other.lead(ME, LEASE)


async def test_a_lease_is_left_by_its_holder_only(rota: Rota, other: Rota) -> None:
    """Who has nothing to poll must not keep others from it (ours)."""
    await rota.lead(ME, LEASE)
    await other.leave(ME)
    kept = not await other.lead(ME, LEASE)
    await rota.leave(ME)

    assert kept
    assert await other.lead(ME, LEASE)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_dead_process_leaves_its_lease_at_once(
    store: Store, ledger: SQLiteLedger, other: Rota, killed: bool
) -> None:
    """The kernel drops its lock with it, even at kill -9 (reliability 1)."""
    await ledger.rota.lead(ME, LEASE)
    await store.end(ledger, killed=killed)

    assert await other.lead(ME, LEASE)


async def test_each_account_has_a_poller_of_its_own(rota: Rota, other: Rota) -> None:
    """Two keys may be used by two processes (ours)."""
    assert await rota.lead(ME, LEASE)
    assert await other.lead("another-account", LEASE)


async def test_of_many_at_once_one_polls(store: Store) -> None:
    """Hosts start all their servers at the same moment (ours)."""
    rotas = [store.process().rota for _ in range(6)]
    led: list[bool] = []

    async def lead(rota: Rota) -> None:
        led.append(await rota.lead(ME, LEASE))

    async with anyio.create_task_group() as tasks:
        for rota in rotas:
            tasks.start_soon(lead, rota)

    assert sorted(led) == [False] * 5 + [True]


# What for

DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("state", "age", "watched_for", "polled"),
    [
        (State.ACCEPTED, 0, None, True),
        (State.ACCEPTED, DAY - 1, None, True),
        (State.ACCEPTED, DAY, None, False),
        (State.ACCEPTED, DAY, 1, True),
        (State.ACCEPTED, DAY, 0, False),
        (State.ACCEPTED, -HOUR, None, True),
        *((state, 0, 30, False) for state in State if state is not State.ACCEPTED),
    ],
)
async def test_running_jobs_are_polled_for_a_day_and_while_watched(
    store: Store,
    ledger: SQLiteLedger,
    state: State,
    age: float,
    watched_for: float | None,
    polled: bool,
) -> None:
    """After a day its film would be dead (ours); an ended one tells nothing new (reliability 2)."""
    row = await brought(ledger, state)
    store.later(age)
    if watched_for is not None:
        await ledger.rota.expect([row.handle], store.now + timedelta(seconds=watched_for))
    live = await ledger.rota.live(ME)

    assert [each.handle for each in live] == [row.handle] * polled
    assert await ledger.rota.live("another-account") == []


@pytest.mark.parametrize(("watched_for", "polled"), [(30, True), (0, False)])
async def test_a_completed_job_without_its_film_is_polled_while_watched(
    store: Store, ledger: SQLiteLedger, watched_for: float, polled: bool
) -> None:
    """The link may come a moment after the word (reliability 2)."""
    row = await brought(ledger, State.COMPLETED, film=None)
    await ledger.rota.expect([row.handle], store.now + timedelta(seconds=watched_for))

    assert bool(await ledger.rota.live(ME)) is polled


async def test_nobody_waits_in_a_future_that_a_wrong_clock_dated(
    store: Store, ledger: SQLiteLedger
) -> None:
    """Waiters announce themselves half a minute ahead, never hours (ours)."""
    row = await brought(ledger, State.ACCEPTED)
    store.later(2 * DAY)
    await ledger.rota.expect([row.handle], store.now + timedelta(seconds=30))
    store.later(-HOUR)

    assert await ledger.rota.live(ME) == []


async def test_rows_are_those_asked_for_and_no_others(ledger: SQLiteLedger) -> None:
    """One query for all that a process watches, also with names that are no rows (ours)."""
    rows = [await brought(ledger, State.ACCEPTED, number) for number in range(3)]
    found = await ledger.rota.rows([rows[0].handle, rows[2].handle, 'sub_"]; gone'])

    assert {row.handle for row in found} == {rows[0].handle, rows[2].handle}
    assert await ledger.rota.rows([]) == []


@pytest.mark.parametrize(
    ("trouble", "kept"),
    [
        (None, None),
        (Unauthorized("No such key."), Unauthorized),
        (RateLimited("Slow down."), CouldNotFindOut),
        (CouldNotFindOut("See https://a.ex/x?key=k now."), CouldNotFindOut),
        (CouldNotFindOut("Never.", passing=False), CouldNotFindOut),
    ],
)
async def test_a_look_is_dated_with_what_it_met(
    store: Store,
    ledger: SQLiteLedger,
    other: Rota,
    trouble: WanError | None,
    kept: type[WanError] | None,
) -> None:
    """Waiters of every process are told why a look failed, without URL queries (ours)."""
    row = await brought(ledger, State.ACCEPTED)
    store.later(5)
    await ledger.rota.looked([row.handle], trouble)
    seen = await the_row(other, row)
    met = trouble_of(seen)

    assert seen.looked_at == store.now
    assert (met and type(met)) == kept
    assert "key=k" not in str(seen)
    await ledger.rota.looked([row.handle])
    assert trouble_of(await the_row(other, row)) is None


@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED])
async def test_a_look_that_comes_after_the_end_changes_nothing(
    ledger: SQLiteLedger, end: State
) -> None:
    """A read still under way when another told of the end must not spoil it (ours)."""
    row = await brought(ledger, end)
    await ledger.rota.looked([row.handle], Unauthorized("The key is gone."))

    assert await the_row(ledger.rota, row) == row


# How often


async def ages(rota: Rota, account: str = ME) -> list[float]:
    """Of the requests counted so far; nothing is counted."""
    seen: list[float] = []

    def refuse(limit: Limit, ages: object) -> float:
        assert isinstance(ages, list)
        seen.extend(ages)
        return 1.0

    assert (await rota.take(account, refuse)).wait == 1.0
    return seen


async def take(rota: Rota) -> None:
    assert (await rota.take(ME, lambda limit, ages: 0.0)).wait == 0.0


async def test_requests_of_all_processes_are_counted_together(
    store: Store, rota: Rota, other: Rota
) -> None:
    """PixelDojo counts by key, oldest first, for a minute and a second (ours)."""
    await take(rota)
    store.later(20)
    await take(other)
    store.later(40.5)
    seen = [await ages(rota), await ages(other), await ages(rota, "another-account")]
    store.later(0.5)

    assert seen == [[60.5, 40.5], [60.5, 40.5], []]
    assert await ages(rota) == [41]


async def test_a_request_counted_while_another_process_waits_for_the_file_stays(
    store: Store, rota: Rota
) -> None:
    """The time must be read when the file is held, else the newer one looks wrong (ours)."""
    await take(rota)
    store.on_time = store.requests_made_elsewhere(store.now + timedelta(seconds=0.05))
    await take(rota)
    store.on_time()
    store.on_time = bool
    store.later(1)

    assert len(await ages(rota)) == 3


@pytest.mark.parametrize("back", [0.5, 30])
async def test_a_clock_set_back_a_little_forgets_no_request(
    store: Store, rota: Rota, back: float
) -> None:
    """Clocks are corrected by seconds all the time (ours)."""
    await take(rota)
    store.later(-back)

    assert len(await ages(rota)) == 1


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_clock_that_jumped_blocks_no_request_for_long(
    store: Store, rota: Rota, jump: float
) -> None:
    """What it dated must not count for an hour (ours)."""
    await take(rota)
    store.later(jump)
    await ages(rota)
    store.later(61)

    assert await ages(rota) == []


async def test_what_is_learnt_of_the_limit_is_known_to_all(
    store: Store, rota: Rota, other: Rota
) -> None:
    """An answer to one process tells of the key's budget (ours)."""
    before = (await other.take(ME, lambda limit, ages: 1)).limit
    await rota.learn_limit(ME, lambda limit: Limit(30, cut_ago=0, held=10))
    at_once = (await other.take(ME, lambda limit, ages: 1)).limit
    store.later(4)
    soon = (await other.take(ME, lambda limit, ages: 1)).limit
    store.later(60)
    later = (await other.take(ME, lambda limit, ages: 1)).limit

    assert before == Limit(10, None, 0)
    assert at_once == Limit(30, 0, 10)
    assert soon == Limit(30, 4, 6)
    assert later == Limit(30, 64, 0)


@pytest.mark.parametrize("wrong", [HOUR, 1e9])
async def test_a_pause_that_a_wrong_clock_dated_ends_in_time(
    store: Store, rota: Rota, wrong: float
) -> None:
    """PixelDojo is heeded for five minutes at most; years would end all polling (ours)."""
    store.later(wrong)
    await rota.learn_limit(ME, lambda limit: Limit(held=10))
    store.later(-wrong)
    store.later(301)

    assert (await rota.take(ME, lambda limit, ages: 1)).limit.held == 0


async def test_typical_times_are_those_of_own_completed_jobs(
    store: Store, ledger: SQLiteLedger
) -> None:
    """A job from elsewhere was accepted before we first saw it (ours)."""
    for number, state in enumerate([State.FAILED, State.LOST, State.ACCEPTED]):
        await brought(ledger, state, number)
    for number in range(10, 32):
        await brought(ledger, State.ACCEPTED, number)
        store.later(number)
        done = Job(job_id=f"job-{number}", status=JobStatus.COMPLETED, video_url=FILM)
        await ledger.learn(ME, done)
    for status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        await ledger.learn(ME, Job(job_id="foreign", status=status, video_url=FILM))
        store.later(1)

    assert sorted(await ledger.rota.typical(ME)) == list(range(12, 32))
    assert await ledger.rota.typical("another-account") == []


@pytest.mark.parametrize(
    ("took", "told"), [([], None), ([9, 5], None), ([9, 5, 70], 9), ([9, 5, 70, 11], 10)]
)
async def test_what_is_typical_is_the_median_of_three_jobs_or_more(
    store: Store, ledger: SQLiteLedger, took: list[float], told: float | None
) -> None:
    """Fewer tell nothing, and the figure holds for a minute (ours)."""

    async def account() -> str:
        return ME

    def monotonic() -> float:
        return (store.now - START).total_seconds()

    typical = Typical(ledger.rota, account, Clock(monotonic=monotonic))

    async def finish(number: int, seconds: float) -> None:
        await brought(ledger, State.ACCEPTED, number)
        store.later(seconds)
        done = Job(job_id=f"job-{number}", status=JobStatus.COMPLETED, video_url=FILM)
        await ledger.learn(ME, done)

    for number, seconds in enumerate(took):
        await finish(number, seconds)
    first = await typical.seconds()
    await finish(10, 0.001)
    soon = await typical.seconds()
    await store.end(ledger, killed=False)
    store.later(60)

    assert (first, soon) == (told, told)
    assert await typical.seconds() is None


# Who is told


Act = Callable[[Rota, str], Awaitable[object]]
TOLD: dict[str, Act] = {
    "expect": lambda rota, handle: rota.expect([handle], START),
    "looked": lambda rota, handle: rota.looked([handle]),
}
UNTOLD: dict[str, Act] = {
    "lead": lambda rota, handle: rota.lead(ME, LEASE),
    "leave": lambda rota, handle: rota.leave(ME),
    "take": lambda rota, handle: rota.take(ME, lambda limit, ages: 0),
    "learn_limit": lambda rota, handle: rota.learn_limit(ME, lambda limit: Limit(30)),
    "live": lambda rota, handle: rota.live(ME),
    "rows": lambda rota, handle: rota.rows([handle]),
    "typical": lambda rota, handle: rota.typical(ME),
}


@pytest.mark.parametrize("act", TOLD | UNTOLD)
async def test_what_somebody_may_wait_for_is_told(ledger: SQLiteLedger, act: str) -> None:
    """A poller that woke itself by its own counting would never rest (ours)."""
    row = await brought(ledger, State.ACCEPTED)
    change = ledger.rota.next_change()
    await (TOLD | UNTOLD)[act](ledger.rota, row.handle)

    assert change.is_set() is (act in TOLD)
    assert not ledger.rota.next_change().is_set()


async def test_the_version_tells_of_other_processes_only(rota: Rota, other: Rota) -> None:
    """Their events do not reach this one (ours)."""
    before = await rota.version()
    await take(rota)
    own = await rota.version()
    await take(other)

    assert own == before
    assert await rota.version() != own


@pytest.mark.parametrize("act", TOLD | UNTOLD)
async def test_a_ledger_that_is_gone_says_so(store: Store, ledger: SQLiteLedger, act: str) -> None:
    """Pollers and waiters go on without it, so they must be told (reliability 1)."""
    await store.end(ledger, killed=False)

    with pytest.raises(LedgerUnavailable):
        await partial((TOLD | UNTOLD)[act], ledger.rota)("sub_x")
