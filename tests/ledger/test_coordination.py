"""What every engine promises to roles and waiters. A new engine is one line in `stores.STORES`."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import anyio
import pytest

from tests.ledger import stores
from tests.ledger.stores import ME, VIDEO_URL, Store, record_in, reported, wanted
from wan_mcp.errors import CouldNotFindOut, RateLimited, Unauthorized, WanError
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable, VideoPolicy
from wan_mcp.ledger.coordination import Coordination, Limit, Role
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import last_error_of
from wan_mcp.models import Difference, JobStatus, SourceClip

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger

LEASE = 20.0
HOUR = 3600.0


@pytest.fixture
def coordination(ledger: Ledger) -> Coordination:
    """The coordination of the process of `ledger`."""
    return ledger.coordination


@pytest.fixture
def other(store: Store) -> Coordination:
    """The coordination of another process."""
    return store.ledger().coordination


async def finish(store: Store, ledger: Ledger, number: int, seconds: float) -> None:
    """A job that is completed after so many seconds."""
    record = await record_in(ledger, State.ACCEPTED, wanted(number))
    store.later(seconds)
    await ledger.record_update(
        ME, reported(JobStatus.COMPLETED, job_id=record.job_id, video_url=VIDEO_URL)
    )


async def stored_now(coordination: Coordination, record: Record) -> Record:
    [now] = await coordination.records([record.submission_id])
    return now


# Roles


@pytest.mark.parametrize(
    ("passed", "free"),
    [(0, False), (LEASE - 0.1, False), (LEASE, True), (HOUR, True), (-1, False), (-HOUR, True)],
)
async def test_another_process_gets_the_role_once_the_lease_is_over(
    store: Store, coordination: Coordination, other: Coordination, passed: float, free: bool
) -> None:
    """A lease that a wrong clock dated is over too: none is longer than a minute."""
    first = await coordination.lead(ME, Role.POLLER, LEASE)
    store.later(passed)
    second = await other.lead(ME, Role.POLLER, LEASE)

    assert (first, second) == (True, free)
    assert await coordination.lead(ME, Role.POLLER, LEASE) is not free


async def test_a_lease_is_renewed_by_its_holder(
    store: Store, coordination: Coordination, other: Coordination
) -> None:
    """Renewed after half its time, it never ends."""
    for _ in range(5):
        assert await coordination.lead(ME, Role.POLLER, LEASE)
        store.later(LEASE / 2)

    assert not await other.lead(ME, Role.POLLER, LEASE)


async def test_a_lease_is_given_up_by_its_holder_only(
    coordination: Coordination, other: Coordination
) -> None:
    """A process with nothing to poll must not keep the role from the others."""
    await coordination.lead(ME, Role.POLLER, LEASE)
    await other.leave(ME, Role.POLLER)
    kept = not await other.lead(ME, Role.POLLER, LEASE)
    await coordination.leave(ME, Role.POLLER)

    assert kept
    assert await other.lead(ME, Role.POLLER, LEASE)


@pytest.mark.parametrize("killed", [True, False])
async def test_the_lease_of_a_dead_process_ends_at_once(
    store: Store, ledger: Ledger, other: Coordination, killed: bool
) -> None:
    """The kernel releases the lock of a process even after kill -9."""
    await ledger.coordination.lead(ME, Role.POLLER, LEASE)
    await store.end(ledger, killed=killed)

    assert await other.lead(ME, Role.POLLER, LEASE)


async def test_each_account_has_a_poller_of_its_own(
    coordination: Coordination, other: Coordination
) -> None:
    """Two processes may use two keys."""
    assert await coordination.lead(ME, Role.POLLER, LEASE)
    assert await other.lead("another-account", Role.POLLER, LEASE)


async def test_of_many_processes_at_the_same_moment_one_gets_the_role(store: Store) -> None:
    """Hosts start all their servers together."""
    coordinations = [store.ledger().coordination for _ in range(6)]
    got_it: list[bool] = []

    async def lead(coordination: Coordination) -> None:
        got_it.append(await coordination.lead(ME, Role.POLLER, LEASE))

    async with anyio.create_task_group() as tasks:
        for coordination in coordinations:
            tasks.start_soon(lead, coordination)

    assert sorted(got_it) == [False] * 5 + [True]


async def test_each_role_has_a_lease_of_its_own(
    coordination: Coordination, other: Coordination
) -> None:
    """One process may poll while another one saves videos."""
    held = [await coordination.lead(ME, role, LEASE) for role in Role]
    await coordination.leave(ME, Role.SAVER)

    assert held == [True] * len(Role)
    assert [await other.lead(ME, role, LEASE) for role in Role] == [
        role is Role.SAVER for role in Role
    ]


# Jobs to poll

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
    """After a day the link to the video has expired, and an ended job has nothing new."""
    record = await record_in(ledger, state, video_url=VIDEO_URL)
    store.later(age)
    if watched_for is not None:
        await ledger.coordination.expect([record.submission_id], watched_for)
    live = await ledger.coordination.live(ME)

    assert [each.submission_id for each in live] == [record.submission_id] * polled
    assert await ledger.coordination.live("another-account") == []


@pytest.mark.parametrize(("watched_for", "polled"), [(30, True), (0, False)])
async def test_a_completed_job_without_its_video_is_polled_while_watched(
    store: Store, ledger: Ledger, watched_for: float, polled: bool
) -> None:
    """The link may come a moment after the status."""
    record = await record_in(ledger, State.COMPLETED)
    await ledger.coordination.expect([record.submission_id], watched_for)

    assert bool(await ledger.coordination.live(ME)) is polled


async def test_a_waiter_that_a_wrong_clock_dated_is_ignored(store: Store, ledger: Ledger) -> None:
    """Waiters announce themselves for half a minute, never for hours."""
    record = await record_in(ledger, State.ACCEPTED)
    store.later(2 * DAY)
    await ledger.coordination.expect([record.submission_id], 30)
    store.later(-HOUR)

    assert await ledger.coordination.live(ME) == []


async def test_records_are_those_asked_for_and_no_others(ledger: Ledger) -> None:
    """One query reads everything that a process watches; ids without a record are left out."""
    records = [await record_in(ledger, State.ACCEPTED, wanted(number)) for number in range(3)]
    found = await ledger.coordination.records(
        [records[0].submission_id, records[2].submission_id, 'sub_"]; gone']
    )

    assert {record.submission_id for record in found} == {
        records[0].submission_id,
        records[2].submission_id,
    }
    assert await ledger.coordination.records([]) == []


@pytest.mark.parametrize(
    ("last_error", "expected"),
    [
        (None, None),
        (Unauthorized("No such key."), Unauthorized),
        (RateLimited("Slow down."), CouldNotFindOut),
        (CouldNotFindOut("See https://a.ex/x?key=k now."), CouldNotFindOut),
        (CouldNotFindOut("Never.", transient=False), CouldNotFindOut),
    ],
)
async def test_a_reading_is_dated_and_its_error_recorded(
    store: Store,
    ledger: Ledger,
    other: Coordination,
    last_error: WanError | None,
    expected: type[WanError] | None,
) -> None:
    """Waiters of every process learn why a reading failed, without the queries of URLs."""
    record = await record_in(ledger, State.ACCEPTED)
    store.later(5)
    await ledger.coordination.polled([record.submission_id], last_error)
    seen = await stored_now(other, record)
    error = last_error_of(seen)

    assert seen.last_polled_at == store.now
    assert (error and type(error)) == expected
    assert "key=k" not in str(seen)
    await ledger.coordination.polled([record.submission_id])
    assert last_error_of(await stored_now(other, record)) is None


@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED])
async def test_a_reading_that_comes_after_the_end_changes_nothing(
    ledger: Ledger, end: State
) -> None:
    """A reading may still be under way when another one sees the end."""
    record = await record_in(ledger, end, video_url=VIDEO_URL)
    await ledger.coordination.polled([record.submission_id], Unauthorized("The key is gone."))

    assert await stored_now(ledger.coordination, record) == record


# Videos to save


async def completed(
    ledger: Ledger, number: int = 0, video_url: str | None = VIDEO_URL, folder: str | None = None
) -> Record:
    """A completed job whose submitter wants its video in that folder."""
    videos = None if folder is None else VideoPolicy(folder, limit_gb=2.5)
    claim = await ledger.claim(ME, wanted(number), generated_seed=7, estimate=2, videos=videos)
    await ledger.commit_sending(claim.record)
    job = reported(JobStatus.COMPLETED, job_id=f"job-{number}", video_url=video_url)
    return await ledger.accept(claim.record, job)


async def test_the_wish_of_the_submitter_is_in_the_record(
    ledger: Ledger, other: Coordination
) -> None:
    """The process that saves the video may have other settings."""
    decided = await completed(ledger, 1, folder="/videos")
    undecided = await completed(ledger, 2)

    found = [(each.video_folder, each.video_limit_gb) for each in await other.unsaved(ME)]
    assert found == [("/videos", 2.5), (None, None)]
    assert await other.unsaved(ME) == [decided, undecided]


async def test_a_video_that_nobody_wants_saved_is_not_saved(ledger: Ledger) -> None:
    """Its submitter said so, whatever the settings of the process that saves."""
    await completed(ledger, 1, folder="")
    await completed(ledger, 2, video_url=None)
    await ledger.record_update(
        ME, reported(JobStatus.COMPLETED, job_id="foreign", video_url=VIDEO_URL)
    )

    assert await ledger.coordination.unsaved(ME) == []


async def test_an_inspection_is_found_by_every_process(
    store: Store, ledger: Ledger, other: Coordination
) -> None:
    """A video is inspected once it is saved, and once."""
    found = (Difference(what="sound", expected="ja \ud800", seen="none"),)
    record, second = await completed(ledger, 1), await completed(ledger, 2)
    before = await other.uninspected(ME)
    for each in (record, second):
        await other.saved(each.submission_id, "/videos/1.mp4", "ab" * 32, 7)
    due = await other.uninspected(ME)
    await other.inspected(record.submission_id, found)
    await other.inspected(second.submission_id, ())
    inspected = await stored_now(ledger.coordination, record)

    assert before == []
    assert [each.submission_id for each in due] == [record.submission_id, second.submission_id]
    assert await ledger.coordination.uninspected(ME) == []
    assert inspected.inspection == (found[0].model_copy(update={"expected": "ja \ud800"}),)
    assert (await stored_now(other, second)).inspection == ()


async def test_a_video_is_inspected_within_a_day(store: Store, ledger: Ledger) -> None:
    """After that nobody asks for it any more."""
    record = await completed(ledger)
    await ledger.coordination.saved(record.submission_id, "/videos/1.mp4", "ab" * 32, 7)
    store.later(24 * HOUR)

    assert await ledger.coordination.uninspected(ME) == []


async def test_what_is_known_of_the_source_clip_stays_with_the_request(
    ledger: Ledger, other: Coordination
) -> None:
    """The process that inspects the video has not seen the clip."""
    source = SourceClip(seconds=8.04, frames_per_second=29.97, has_sound=False)
    claim = await ledger.claim(ME, wanted(1), generated_seed=7, estimate=2, source=source)
    without = await ledger.claim(ME, wanted(2), generated_seed=7, estimate=2)

    assert (await stored_now(other, claim.record)).source == source
    assert (await stored_now(other, without.record)).source == SourceClip()


async def test_a_saved_video_is_found_by_every_process(ledger: Ledger, other: Coordination) -> None:
    """It is saved once, and a failure that was recorded before is over."""
    record = await completed(ledger)
    await other.not_saved(record.submission_id, "the disk is full")
    failed = await stored_now(ledger.coordination, record)
    unsaved = await ledger.coordination.unsaved(ME)
    await other.saved(record.submission_id, "/videos/1.mp4", "ab" * 32, 5_000_000_000)
    saved = await stored_now(ledger.coordination, record)

    assert (failed.not_saved, unsaved) == ("the disk is full", [])
    assert (saved.saved_path, saved.sha256, saved.size) == ("/videos/1.mp4", "ab" * 32, 5 * 10**9)
    assert saved.not_saved is None
    assert await ledger.coordination.unsaved(ME) == []


@pytest.mark.parametrize(("age", "saved"), [(DAY - 1, True), (DAY, False)])
async def test_a_video_may_be_saved_for_a_day(
    store: Store, ledger: Ledger, age: float, saved: bool
) -> None:
    """After that its link has expired."""
    await completed(ledger)
    store.later(age)

    assert bool(await ledger.coordination.unsaved(ME)) is saved


async def test_a_kept_video_is_known_to_every_process(ledger: Ledger, other: Coordination) -> None:
    """Also if it is marked before it is saved; whoever saves the next one spares it (ours)."""
    record = await completed(ledger)
    await other.mark_kept(record.submission_id, True)
    assert await ledger.coordination.kept_videos() == []
    await other.saved(record.submission_id, "/videos/1.mp4", "ab" * 32, 5)
    assert await ledger.coordination.kept_videos() == ["/videos/1.mp4"]
    assert (await stored_now(ledger.coordination, record)).kept
    await other.mark_kept(record.submission_id, False)

    assert await ledger.coordination.kept_videos() == []


# The rate limit


async def ages(coordination: Coordination, account: str = ME) -> list[float]:
    """The ages of the requests counted so far. This counts none."""
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
    """PixelDojo counts by key. Ages are given oldest first, for a minute and a second."""
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


async def test_a_request_that_is_counted_while_another_process_waits_is_kept(
    store: Store, coordination: Coordination
) -> None:
    """The clock is read inside the transaction: no counted request is later than that."""
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
    """Clocks are corrected by some seconds all the time."""
    await try_acquire(coordination)
    store.later(-back)

    assert len(await ages(coordination)) == 1


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_clock_that_jumped_blocks_no_request_for_long(
    store: Store, coordination: Coordination, jump: float
) -> None:
    """A request that a wrong clock dated must not count for an hour."""
    await try_acquire(coordination)
    store.later(jump)
    await ages(coordination)
    store.later(61)

    assert await ages(coordination) == []


async def test_the_limit_that_one_process_learns_is_known_to_all(
    store: Store, coordination: Coordination, other: Coordination
) -> None:
    """An answer to one process contains the limit of the key."""
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
async def test_a_pause_that_a_wrong_clock_dated_is_ignored(
    store: Store, coordination: Coordination, wrong: float
) -> None:
    """PixelDojo's pauses last five minutes at most; a date in years would end all polling."""
    store.later(wrong)
    await coordination.adjust_limit(ME, lambda limit: Limit(held=10))
    store.later(-wrong)
    store.later(301)

    assert (await coordination.try_acquire(ME, lambda limit, ages: 1)).limit.held == 0


async def test_durations_are_those_of_own_completed_jobs(store: Store, ledger: Ledger) -> None:
    """A job from elsewhere was accepted before this ledger first saw it."""
    for number, state in enumerate([State.FAILED, State.LOST, State.ACCEPTED]):
        await record_in(ledger, state, wanted(number), VIDEO_URL)
    for number in range(10, 32):
        await finish(store, ledger, number, number)
    for status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        await ledger.record_update(ME, reported(status, job_id="foreign", video_url=VIDEO_URL))
        store.later(1)

    assert sorted(await ledger.coordination.durations(ME)) == list(range(12, 32))
    assert await ledger.coordination.durations("another-account") == []


# Changes


Act = Callable[[Coordination, str], Awaitable[object]]
COUNTED: dict[str, Act] = {
    "expect": lambda coordination, submission_id: coordination.expect([submission_id], 30),
    "polled": lambda coordination, submission_id: coordination.polled([submission_id]),
}
NOT_COUNTED: dict[str, Act] = {
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


@pytest.mark.parametrize("act", COUNTED | NOT_COUNTED)
async def test_only_changes_that_somebody_may_wait_for_are_counted(
    ledger: Ledger, act: str
) -> None:
    """A poller that woke itself by counting requests would never rest."""
    record = await record_in(ledger, State.ACCEPTED)
    before = ledger.coordination.own_changes
    await (COUNTED | NOT_COUNTED)[act](ledger.coordination, record.submission_id)

    assert (ledger.coordination.own_changes != before) is (act in COUNTED)


async def test_the_revision_changes_with_writes_of_other_processes(
    coordination: Coordination, other: Coordination
) -> None:
    """Their wake-ups do not reach this process."""
    before = await coordination.changed_since(0)
    await try_acquire(coordination)
    own = await coordination.changed_since(before)
    await try_acquire(other)

    assert own == before
    assert await coordination.changed_since(own) != own


@pytest.mark.parametrize("act", COUNTED | NOT_COUNTED)
async def test_a_closed_ledger_is_unavailable(store: Store, ledger: Ledger, act: str) -> None:
    """Pollers and waiters continue without it, so they must know (promises 11)."""
    await store.end(ledger)

    with pytest.raises(LedgerUnavailable):
        await partial((COUNTED | NOT_COUNTED)[act], ledger.coordination)("sub_x")
