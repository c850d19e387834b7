"""What every engine promises to pollers and waiters: it joins by one line in `stores.STORES`."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import anyio
import pytest

from tests.ledger import stores
from tests.ledger.stores import FILM, ME, START, Store, brought, told, wanted
from wan_mcp.clock import Clock
from wan_mcp.errors import CouldNotFindOut, RateLimited, Unauthorized, WanError
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.coordination import Coordination, Limit, Role
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import last_error_of
from wan_mcp.models import JobStatus
from wan_mcp.polling.durations import TypicalDuration

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger

LEASE = 20.0
HOUR = 3600.0


@pytest.fixture
def coordination(ledger: Ledger) -> Coordination:
    """What that process shares."""
    return ledger.coordination


@pytest.fixture
def other(store: Store) -> Coordination:
    """What another process shares."""
    return store.ledger().coordination


async def finish(store: Store, ledger: Ledger, number: int, seconds: float) -> None:
    """A job that takes so long to its film."""
    record = await brought(ledger, State.ACCEPTED, wanted(number))
    store.later(seconds)
    await ledger.record_update(ME, told(JobStatus.COMPLETED, job_id=record.job_id, video_url=FILM))


async def the_row(coordination: Coordination, record: Record) -> Record:
    [now] = await coordination.records([record.submission_id])
    return now


# Who polls


@pytest.mark.parametrize(
    ("passed", "free"),
    [(0, False), (LEASE - 0.1, False), (LEASE, True), (HOUR, True), (-1, False), (-HOUR, True)],
)
async def test_another_process_polls_once_the_lease_is_over(
    store: Store, coordination: Coordination, other: Coordination, passed: float, free: bool
) -> None:
    """Also where a clock that was wrong dated it: none is longer than a minute (ours)."""
    first = await coordination.lead(ME, Role.POLLER, LEASE)
    store.later(passed)
    second = await other.lead(ME, Role.POLLER, LEASE)

    assert (first, second) == (True, free)
    assert await coordination.lead(ME, Role.POLLER, LEASE) is not free


async def test_a_lease_is_extended_by_its_holder(
    store: Store, coordination: Coordination, other: Coordination
) -> None:
    """Renewed halfway, it never lapses (ours)."""
    for _ in range(5):
        assert await coordination.lead(ME, Role.POLLER, LEASE)
        store.later(LEASE / 2)

    assert not await other.lead(ME, Role.POLLER, LEASE)


async def test_a_lease_is_left_by_its_holder_only(
    coordination: Coordination, other: Coordination
) -> None:
    """Who has nothing to poll must not keep others from it (ours)."""
    await coordination.lead(ME, Role.POLLER, LEASE)
    await other.leave(ME, Role.POLLER)
    kept = not await other.lead(ME, Role.POLLER, LEASE)
    await coordination.leave(ME, Role.POLLER)

    assert kept
    assert await other.lead(ME, Role.POLLER, LEASE)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_dead_process_leaves_its_lease_at_once(
    store: Store, ledger: Ledger, other: Coordination, killed: bool
) -> None:
    """The kernel drops its lock with it, even at kill -9 (docs/promises.md)."""
    await ledger.coordination.lead(ME, Role.POLLER, LEASE)
    await store.end(ledger, killed=killed)

    assert await other.lead(ME, Role.POLLER, LEASE)


async def test_each_account_has_a_poller_of_its_own(
    coordination: Coordination, other: Coordination
) -> None:
    """Two keys may be used by two processes (ours)."""
    assert await coordination.lead(ME, Role.POLLER, LEASE)
    assert await other.lead("another-account", Role.POLLER, LEASE)


async def test_of_many_at_once_one_polls(store: Store) -> None:
    """Hosts start all their servers at the same moment (ours)."""
    rotas = [store.ledger().coordination for _ in range(6)]
    led: list[bool] = []

    async def lead(coordination: Coordination) -> None:
        led.append(await coordination.lead(ME, Role.POLLER, LEASE))

    async with anyio.create_task_group() as tasks:
        for coordination in rotas:
            tasks.start_soon(lead, coordination)

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
    ledger: Ledger,
    state: State,
    age: float,
    watched_for: float | None,
    polled: bool,
) -> None:
    """After a day the link of its video would be dead (docs/waiting.md)."""
    record = await brought(ledger, state, film=FILM)
    store.later(age)
    if watched_for is not None:
        await ledger.coordination.expect([record.submission_id], watched_for)
    live = await ledger.coordination.live(ME)

    assert [each.submission_id for each in live] == [record.submission_id] * polled
    assert await ledger.coordination.live("another-account") == []


@pytest.mark.parametrize(("watched_for", "polled"), [(30, True), (0, False)])
async def test_a_completed_job_without_its_film_is_polled_while_watched(
    store: Store, ledger: Ledger, watched_for: float, polled: bool
) -> None:
    """The link may come a moment after the word (docs/waiting.md)."""
    record = await brought(ledger, State.COMPLETED)
    await ledger.coordination.expect([record.submission_id], watched_for)

    assert bool(await ledger.coordination.live(ME)) is polled


async def test_nobody_waits_in_a_future_that_a_wrong_clock_dated(
    store: Store, ledger: Ledger
) -> None:
    """Waiters announce themselves half a minute ahead, never hours (ours)."""
    record = await brought(ledger, State.ACCEPTED)
    store.later(2 * DAY)
    await ledger.coordination.expect([record.submission_id], 30)
    store.later(-HOUR)

    assert await ledger.coordination.live(ME) == []


async def test_rows_are_those_asked_for_and_no_others(ledger: Ledger) -> None:
    """One query for all that a process watches, also with names that are no rows (ours)."""
    records = [await brought(ledger, State.ACCEPTED, wanted(number)) for number in range(3)]
    found = await ledger.coordination.records(
        [records[0].submission_id, records[2].submission_id, 'sub_"]; gone']
    )

    assert {record.submission_id for record in found} == {
        records[0].submission_id,
        records[2].submission_id,
    }
    assert await ledger.coordination.records([]) == []


@pytest.mark.parametrize(
    ("last_error", "kept"),
    [
        (None, None),
        (Unauthorized("No such key."), Unauthorized),
        (RateLimited("Slow down."), CouldNotFindOut),
        (CouldNotFindOut("See https://a.ex/x?key=k now."), CouldNotFindOut),
        (CouldNotFindOut("Never.", transient=False), CouldNotFindOut),
    ],
)
async def test_a_look_is_dated_with_what_it_met(
    store: Store,
    ledger: Ledger,
    other: Coordination,
    last_error: WanError | None,
    kept: type[WanError] | None,
) -> None:
    """Waiters of every process are told why a look failed, without URL queries (ours)."""
    record = await brought(ledger, State.ACCEPTED)
    store.later(5)
    await ledger.coordination.polled([record.submission_id], last_error)
    seen = await the_row(other, record)
    met = last_error_of(seen)

    assert seen.last_polled_at == store.now
    assert (met and type(met)) == kept
    assert "key=k" not in str(seen)
    await ledger.coordination.polled([record.submission_id])
    assert last_error_of(await the_row(other, record)) is None


@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED])
async def test_a_look_that_comes_after_the_end_changes_nothing(ledger: Ledger, end: State) -> None:
    """A read still under way when another told of the end must not spoil it (ours)."""
    record = await brought(ledger, end, film=FILM)
    await ledger.coordination.polled([record.submission_id], Unauthorized("The key is gone."))

    assert await the_row(ledger.coordination, record) == record


# How often


async def ages(coordination: Coordination, account: str = ME) -> list[float]:
    """Of the requests counted so far; nothing is counted."""
    seen: list[float] = []

    def refuse(limit: Limit, ages: object) -> float:
        assert isinstance(ages, list)
        seen.extend(ages)
        return 1.0

    assert (await coordination.try_acquire(account, refuse)).wait == 1.0
    return seen


async def try_acquire(coordination: Coordination) -> None:
    assert (await coordination.try_acquire(ME, lambda limit, ages: 0.0)).wait == 0.0


async def test_requests_of_all_processes_are_counted_together(
    store: Store, coordination: Coordination, other: Coordination
) -> None:
    """PixelDojo counts by key, oldest first, for a minute and a second (ours)."""
    await try_acquire(coordination)
    store.later(20)
    await try_acquire(other)
    store.later(40.5)
    seen = [
        await ages(coordination),
        await ages(other),
        await ages(coordination, "another-account"),
    ]
    store.later(0.5)

    assert seen == [[60.5, 40.5], [60.5, 40.5], []]
    assert await ages(coordination) == [41]


async def test_a_request_counted_while_another_process_waits_for_the_file_stays(
    store: Store, coordination: Coordination
) -> None:
    """The time must be read when the file is held, else the newer one looks wrong (ours)."""
    await try_acquire(coordination)
    store.on_time = store.requests_made_elsewhere(store.now + timedelta(seconds=0.05))
    await try_acquire(coordination)
    store.on_time()
    store.on_time = bool
    store.later(1)

    assert len(await ages(coordination)) == 3


@pytest.mark.parametrize("back", [0.5, 30])
async def test_a_clock_set_back_a_little_forgets_no_request(
    store: Store, coordination: Coordination, back: float
) -> None:
    """Clocks are corrected by seconds all the time (ours)."""
    await try_acquire(coordination)
    store.later(-back)

    assert len(await ages(coordination)) == 1


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_clock_that_jumped_blocks_no_request_for_long(
    store: Store, coordination: Coordination, jump: float
) -> None:
    """What it dated must not count for an hour (ours)."""
    await try_acquire(coordination)
    store.later(jump)
    await ages(coordination)
    store.later(61)

    assert await ages(coordination) == []


async def test_what_is_learnt_of_the_limit_is_known_to_all(
    store: Store, coordination: Coordination, other: Coordination
) -> None:
    """An answer to one process tells of the key's budget (ours)."""
    before = (await other.try_acquire(ME, lambda limit, ages: 1)).limit
    await coordination.adjust_limit(ME, lambda limit: Limit(30, cut_ago=0, held=10))
    at_once = (await other.try_acquire(ME, lambda limit, ages: 1)).limit
    store.later(4)
    soon = (await other.try_acquire(ME, lambda limit, ages: 1)).limit
    store.later(60)
    later = (await other.try_acquire(ME, lambda limit, ages: 1)).limit

    assert before == Limit(10, None, 0)
    assert at_once == Limit(30, 0, 10)
    assert soon == Limit(30, 4, 6)
    assert later == Limit(30, 64, 0)


@pytest.mark.parametrize("wrong", [HOUR, 1e9])
async def test_a_pause_that_a_wrong_clock_dated_ends_in_time(
    store: Store, coordination: Coordination, wrong: float
) -> None:
    """PixelDojo is heeded for five minutes at most; years would end all polling (ours)."""
    store.later(wrong)
    await coordination.adjust_limit(ME, lambda limit: Limit(held=10))
    store.later(-wrong)
    store.later(301)

    assert (await coordination.try_acquire(ME, lambda limit, ages: 1)).limit.held == 0


async def test_typical_times_are_those_of_own_completed_jobs(store: Store, ledger: Ledger) -> None:
    """A job from elsewhere was accepted before we first saw it (ours)."""
    for number, state in enumerate([State.FAILED, State.LOST, State.ACCEPTED]):
        await brought(ledger, state, wanted(number), FILM)
    for number in range(10, 32):
        await finish(store, ledger, number, number)
    for status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        await ledger.record_update(ME, told(status, job_id="foreign", video_url=FILM))
        store.later(1)

    assert sorted(await ledger.coordination.durations(ME)) == list(range(12, 32))
    assert await ledger.coordination.durations("another-account") == []


@pytest.mark.parametrize(
    ("took", "told"), [([], None), ([9, 5], None), ([9, 5, 70], 9), ([9, 5, 70, 11], 10)]
)
async def test_what_is_typical_is_the_median_of_three_jobs_or_more(
    store: Store, ledger: Ledger, took: list[float], told: float | None
) -> None:
    """Fewer tell nothing, and the figure holds for a minute (ours)."""

    async def account() -> str:
        return ME

    def monotonic() -> float:
        return (store.now - START).total_seconds()

    typical = TypicalDuration(ledger.coordination, account, Clock(monotonic=monotonic))

    for number, seconds in enumerate(took):
        await finish(store, ledger, number, seconds)
    first = await typical.seconds()
    await finish(store, ledger, 10, 0.001)
    soon = await typical.seconds()
    await store.end(ledger)
    store.later(60)

    assert (first, soon) == (told, told)
    assert await typical.seconds() is None


# Who is told


Act = Callable[[Coordination, str], Awaitable[object]]
TOLD: dict[str, Act] = {
    "expect": lambda coordination, submission_id: coordination.expect([submission_id], 30),
    "polled": lambda coordination, submission_id: coordination.polled([submission_id]),
}
UNTOLD: dict[str, Act] = {
    "lead": lambda coordination, submission_id: coordination.lead(ME, Role.POLLER, LEASE),
    "leave": lambda coordination, submission_id: coordination.leave(ME, Role.POLLER),
    "try_acquire": lambda coordination, submission_id: coordination.try_acquire(
        ME, lambda limit, ages: 0
    ),
    "adjust_limit": lambda coordination, submission_id: coordination.adjust_limit(
        ME, lambda limit: Limit(30)
    ),
    "live": lambda coordination, submission_id: coordination.live(ME),
    "records": lambda coordination, submission_id: coordination.records([submission_id]),
    "durations": lambda coordination, submission_id: coordination.durations(ME),
}


@pytest.mark.parametrize("act", TOLD | UNTOLD)
async def test_what_somebody_may_wait_for_is_told(ledger: Ledger, act: str) -> None:
    """A poller that woke itself by its own counting would never rest (ours)."""
    record = await brought(ledger, State.ACCEPTED)
    before = ledger.coordination.own_changes
    await (TOLD | UNTOLD)[act](ledger.coordination, record.submission_id)

    assert (ledger.coordination.own_changes != before) is (act in TOLD)


async def test_the_version_tells_of_other_processes_only(
    coordination: Coordination, other: Coordination
) -> None:
    """Their events do not reach this one (ours)."""
    before = await coordination.changed_since(0)
    await try_acquire(coordination)
    own = await coordination.changed_since(before)
    await try_acquire(other)

    assert own == before
    assert await coordination.changed_since(own) != own


@pytest.mark.parametrize("act", TOLD | UNTOLD)
async def test_a_ledger_that_is_gone_says_so(store: Store, ledger: Ledger, act: str) -> None:
    """Pollers and waiters go on without it, so they must be told (docs/promises.md)."""
    await store.end(ledger)

    with pytest.raises(LedgerUnavailable):
        await partial((TOLD | UNTOLD)[act], ledger.coordination)("sub_x")
