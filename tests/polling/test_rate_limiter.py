"""How many requests one API key makes: never more than allowed, and the urgent ones first."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.virtual_time import EPOCH, VirtualLoop, VirtualTime, in_virtual_time, watched_threads
from wan_mcp.errors import Busy
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Limit
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.pixeldojo.reply import Reply, allowance
from wan_mcp.polling.rate_limiter import (
    SUBMIT_PATIENCE_SECONDS,
    SharedRateLimiter,
    adjusted,
    allowed,
    capacity,
    wait,
)

pytestmark = pytest.mark.anyio

MINUTE = 60.0
HOUR = 3600.0


def reply(status: int = 200, retry_after: float | None = None, **headers: object) -> Reply:
    """An answer with such rate-limit headers."""
    named = {f"x-ratelimit-{name}": str(value) for name, value in headers.items()}
    return Reply(status, b"", retry_after=retry_after, allowance=allowance(named, EPOCH))


async def the_account() -> str:
    return "my-account"


class Processes:
    """Rate limiters of several processes on one ledger, in virtual time.

    Attributes:
        sent: when each request was sent, and its priority.
    """

    def __init__(self, folder: Path, time: VirtualTime) -> None:
        self.time = time
        self.sent: list[tuple[float, Priority]] = []
        self._folder = folder
        self._ledgers: list[SQLiteLedger] = []

    def limiter(self) -> SharedRateLimiter:
        """The rate limiter of one more process."""
        self._ledgers.append(SQLiteLedger(self._folder, now=self.time.wall))
        return SharedRateLimiter(self._ledgers[-1].coordination, the_account, self.time.clock())

    async def close(self) -> None:
        for ledger in self._ledgers:
            await ledger.aclose()

    async def ask(self, limiter: SharedRateLimiter, priority: Priority) -> float:
        """Try to send one request; 0 when it was sent, else the seconds that it has to wait."""
        try:
            await limiter.acquire(priority)
        except Busy as busy:
            return busy.retry_after or math.inf  # a Busy without a time is a defect
        self.sent.append((self.time.now, priority))
        return 0.0

    async def fill(self, limiter: SharedRateLimiter, priority: Priority) -> int:
        """Send requests until one has to wait; how many were sent."""
        count = 0
        while await self.ask(limiter, priority) == 0:
            count += 1
        return count

    def most_in_a_minute(self) -> int:
        """The largest number of requests that were sent within one minute."""
        times = [at for at, _ in self.sent]
        return max(sum(at <= each < at + MINUTE for each in times) for at in times)


time, anyio_backend = in_virtual_time()


@pytest.fixture
async def processes(tmp_path: Path, time: VirtualTime) -> AsyncIterator[Processes]:
    made = Processes(tmp_path / "ledger", time)
    yield made
    await made.close()


@pytest.fixture
def limiter(processes: Processes) -> SharedRateLimiter:
    return processes.limiter()


async def unavailable() -> None:
    raise LedgerUnavailable("The ledger is away.")


@contextmanager
def broken(
    limiter: SharedRateLimiter, fail: Callable[[], Awaitable[None]] = unavailable
) -> Iterator[None]:
    """Within this context the limiter's part of the ledger fails.

    Args:
        fail: what happens instead of each access; by default the ledger is unavailable.
    """

    async def method(*given: object) -> None:
        await fail()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limiter._coordination, "try_acquire", method)
        patch.setattr(limiter._coordination, "adjust_limit", method)
        yield


# Priorities


@pytest.mark.parametrize(
    ("per_minute", "capacities"),
    [
        (1, [1, 1, 1, 1, 1, 1]),
        (2, [2, 1, 1, 1, 1, 1]),
        (6, [6, 4, 3, 2, 1, 1]),
        (10, [10, 8, 7, 6, 5, 4]),
        (30, [30, 25, 24, 23, 22, 21]),
        (60, [60, 55, 54, 53, 52, 51]),
    ],
)
def test_urgent_requests_find_room_because_less_urgent_ones_leave_some(
    per_minute: int, capacities: list[int]
) -> None:
    """In the order submit, status, poll, list, reconcile, idle (ours)."""
    assert [capacity(per_minute, priority) for priority in Priority] == capacities


@given(per_minute=st.integers(1, 60), ages=st.lists(st.floats(0, 61), max_size=70).map(sorted))
def test_a_more_urgent_request_never_waits_longer(per_minute: int, ages: list[float]) -> None:
    """This holds at any moment and under any limit (ours)."""
    waits = [wait(Limit(per_minute), ages[::-1], priority) for priority in Priority]

    assert waits == sorted(waits)
    assert (waits[0] == 0) == (len(ages) < per_minute or ages[per_minute - 1] == 61)


async def test_reads_leave_room_for_a_submit(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Somebody waits for the submit (ours)."""
    reads = [
        await processes.fill(limiter, priority)
        for priority in reversed(Priority)
        if priority is not Priority.SUBMIT
    ]
    began = processes.time.now
    await limiter.acquire(Priority.SUBMIT)

    assert reads == [4, 1, 1, 1, 1]
    assert processes.time.now == began


@pytest.mark.parametrize(
    ("since_full", "held", "waited"), [(0, 0, 2), (0, 300, 2), (60.2, 0, 0.8), (61, 0, 0)]
)
async def test_a_submit_waits_two_seconds_at_most_and_is_then_sent(
    processes: Processes, limiter: SharedRateLimiter, since_full: float, held: float, waited: float
) -> None:
    """A 429 buys nothing, and allows that the submit is sent once more (ours)."""
    for _ in range(10):
        await limiter.acquire(Priority.SUBMIT)
    processes.time.now += since_full
    if held:
        await limiter.observe(reply(503, held), paid=False)
    began = processes.time.now
    await limiter.acquire(Priority.SUBMIT)

    assert processes.time.now - began == pytest.approx(waited, abs=0.01)
    assert waited <= SUBMIT_PATIENCE_SECONDS


async def test_a_submit_that_is_sent_without_room_is_counted(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """PixelDojo counts it as well (assumed)."""
    for _ in range(11):
        await limiter.acquire(Priority.SUBMIT)
    processes.time.now += 60  # the first ten count no longer; the one that waited two seconds does

    assert await processes.fill(limiter, Priority.STATUS) == 7


# Never more than allowed

STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(Priority), st.sampled_from([0.0, 0.3, 2.0, 9.0])),
    min_size=30,
    max_size=90,
)


@settings(max_examples=10, deadline=None)
@given(steps=STEPS, named=st.sampled_from([None, 4, 10, 17]))
def test_two_processes_together_never_make_more_requests_than_allowed(
    steps: list[tuple[int, Priority, float]], named: int | None
) -> None:
    """This holds for any mix; only a submit that has waited may exceed the limit (ours)."""
    virtually(partial(mixed, steps, named))


async def mixed(
    steps: list[tuple[int, Priority, float]], named: int | None, processes: Processes
) -> None:
    both = [processes.limiter(), processes.limiter()]
    if named is not None:
        await both[0].observe(reply(limit=named), paid=False)
    limit = named or 10
    for number, priority, gap in steps:
        processes.time.now += gap
        began = processes.time.now
        await processes.ask(both[number], priority)

        assert processes.time.now - began <= SUBMIT_PATIENCE_SECONDS
        if processes.sent and processes.sent[-1] == (began, priority):  # sent without a wait
            recent = [at for at, _ in processes.sent if began - MINUTE < at]
            assert len(recent) <= limit


def virtually(work: Callable[[Processes], Awaitable[None]]) -> None:
    """Run it on an empty ledger, in virtual time of its own."""
    time = VirtualTime()

    async def run() -> None:
        with TemporaryDirectory() as folder:
            processes = Processes(Path(folder) / "ledger", time)
            await work(processes)
            await processes.close()

    with watched_threads(), asyncio.Runner(loop_factory=partial(VirtualLoop, time)) as runner:
        runner.run(run())


async def test_requests_at_one_moment_are_counted_one_by_one(processes: Processes) -> None:
    """Two processes may ask at the same moment (ours)."""
    both = [processes.limiter(), processes.limiter()]
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(processes.ask, both[number % 2], Priority.STATUS)

    assert len(processes.sent) == 8


@pytest.mark.parametrize("jump", [-2, -HOUR, 2])
async def test_a_wall_clock_that_is_set_makes_no_room(
    processes: Processes, limiter: SharedRateLimiter, jump: float
) -> None:
    """For PixelDojo no time has passed; a jump far ahead may be a sleep, and is believed (ours)."""
    await processes.fill(limiter, Priority.STATUS)
    processes.time.now += 1
    processes.time.skew = jump
    await processes.fill(limiter, Priority.STATUS)

    assert processes.most_in_a_minute() <= 10


async def test_a_wall_clock_that_is_set_back_stops_requests_for_a_minute_at_most(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Requests that were recorded with a date in the future must not count for an hour (ours)."""
    await processes.fill(limiter, Priority.STATUS)
    await limiter.observe(reply(429, 10), paid=False)
    processes.time.skew = -HOUR
    processes.time.now += 301
    pause = await processes.ask(limiter, Priority.RECONCILE)
    processes.time.now += 61

    assert pause <= 61
    assert await processes.ask(limiter, Priority.RECONCILE) == 0


async def test_without_the_ledger_a_process_counts_its_own_requests(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Reads go on within the limit (promises 11)."""
    with broken(limiter):
        counts = [
            await processes.fill(limiter, priority)
            for priority in (Priority.POLL, Priority.STATUS, Priority.STATUS)
        ]
        await limiter.acquire(Priority.SUBMIT)
        processes.time.now += 61
        again = await processes.fill(limiter, Priority.POLL)

    assert counts == [7, 1, 0]
    assert again == 7


@pytest.mark.parametrize("unavailable_first", [False, True])
async def test_a_ledger_that_comes_and_goes_makes_no_room(
    processes: Processes, limiter: SharedRateLimiter, unavailable_first: bool
) -> None:
    """What the ledger counted before and the process meanwhile is added up (ours)."""
    if not unavailable_first:
        await processes.fill(limiter, Priority.POLL)
    with broken(limiter):
        await processes.fill(limiter, Priority.POLL)
    await processes.fill(limiter, Priority.POLL)

    assert processes.most_in_a_minute() == 7


async def test_without_the_ledger_a_pause_is_still_observed(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """A request that comes too early may be refused for longer (assumed)."""
    with broken(limiter):
        await limiter.observe(reply(429, 30), paid=False)
        processes.time.now += 10
        soon = await processes.ask(limiter, Priority.STATUS)
        processes.time.now += 20
        later = await processes.ask(limiter, Priority.STATUS)

    assert [soon, later] == pytest.approx([20, 0])


# What is learned from answers


@pytest.mark.parametrize(
    ("answer", "per_minute", "held"),
    [
        (reply(limit=60), 60, 0),
        (reply(limit=10), 10, 0),
        (reply(limit=1), 1, 0),
        (reply(limit=0), 10, 0),
        (reply(limit=10**9), 60, 0),
        (reply(limit=-5), 10, 0),
        (reply(limit="10, 10;w=60"), 10, 0),
        (reply(limit="many"), 10, 0),
        (reply(limit="\u0663\u0660"), 10, 0),
        (reply(limit=20, remaining=1, reset=50), 20, 0),
        (reply(limit=20, remaining=0), 20, 3),
        (reply(limit=20, remaining=0, reset=50), 20, 50),
        (reply(remaining=0), 10, 6),
        (reply(429, limit=20), 20, 3),
        (reply(429, limit=20, remaining=5, reset=40), 20, 40),
        (reply(429), 5, 12),
        (reply(429, 30), 5, 30),
        (reply(429, 0.0, reset=7), 5, 7),
        (reply(503, 30), 10, 30),
        (reply(503), 10, 0),
        (reply(404, limit=30), 30, 0),
    ],
    ids=str,
)
async def test_an_answer_names_how_many_requests_the_key_may_make(
    processes: Processes, limiter: SharedRateLimiter, answer: Reply, per_minute: int, held: float
) -> None:
    """All common rate-limit headers are read; values without a meaning are ignored (assumed)."""
    other = processes.limiter()
    await limiter.observe(answer, paid=False)
    pause = await processes.ask(other, Priority.STATUS)
    processes.time.now += pause
    count = await processes.fill(other, Priority.STATUS)

    assert pause == pytest.approx(held)
    assert count + (pause == 0) == capacity(per_minute, Priority.STATUS)


async def test_a_refusal_halves_the_limit_which_comes_back_by_one_a_minute() -> None:
    """It grows up to the first limit of 10, and no further (ours)."""
    limits = [Limit(10)]
    for _ in range(4):
        limits.append(adjusted(limits[-1], reply(429)))
    after = [allowed(Limit(2, cut_ago=MINUTE * minutes)) for minutes in (0, 0.9, 1, 5, 8, 500)]

    assert [limit.per_minute for limit in limits] == [10, 5, 2, 2, 2]
    assert after == [2, 2, 3, 7, 10, 10]
    assert allowed(Limit(30, cut_ago=500 * MINUTE)) == 30
    assert adjusted(Limit(2, cut_ago=3 * MINUTE), reply(429)).per_minute == 2
    assert adjusted(Limit(2, cut_ago=9), reply(limit=10)) == Limit(10)


async def test_a_refusal_counts_once_while_others_send_requests(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Other requests are sent while the refusal is being recorded (ours)."""
    other = processes.limiter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(limiter.observe, reply(429), paid=False))
        for _ in range(3):
            tasks.start_soon(processes.ask, limiter, Priority.POLL)
    processes.time.now += 61  # in this minute the limit has grown from five to six

    assert await processes.fill(other, Priority.STATUS) == capacity(6, Priority.STATUS)


async def test_a_later_answer_never_shortens_a_pause(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """The answer to an earlier request may arrive late (ours)."""
    await limiter.observe(reply(429, 100), paid=False)
    processes.time.now += 10
    await limiter.observe(reply(429, 5), paid=False)

    assert await processes.ask(limiter, Priority.STATUS) == pytest.approx(90)


async def test_the_answer_to_a_submit_does_not_wait_for_the_ledger(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """A kill before the job id is recorded would lose it (promises 3)."""
    other = processes.limiter()
    with broken(limiter, anyio.sleep_forever), anyio.fail_after(1):  # virtual time
        await limiter.observe(reply(202, limit=30), paid=True)
    await processes.ask(limiter, Priority.STATUS)  # this request records the limit for the others

    assert await processes.fill(other, Priority.STATUS) == capacity(30, Priority.STATUS) - 1


@pytest.mark.parametrize("paid", [True, False])
async def test_a_defect_in_the_ledger_does_not_cost_an_answer(
    processes: Processes, limiter: SharedRateLimiter, paid: bool
) -> None:
    """The answer matters more than its rate-limit headers (ours)."""

    async def defect() -> None:
        raise RuntimeError("a defect")

    with broken(limiter, defect):
        await limiter.observe(reply(202, limit=30), paid=paid)
    await limiter.observe(reply(200, limit=30, remaining=0), paid=False)
    processes.time.now += 2

    assert await processes.fill(limiter, Priority.POLL) == capacity(30, Priority.POLL)


async def test_an_answer_that_names_the_same_limit_writes_nothing(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Each write would wait for the disk (ours)."""
    writes: list[None] = []

    async def write() -> None:
        writes.append(None)

    await limiter.observe(reply(limit=30), paid=False)
    with broken(limiter, write):
        for _ in range(5):
            await limiter.observe(reply(limit=30, remaining=20, reset=30), paid=False)

    assert writes == []


async def test_a_read_that_has_to_wait_gets_the_reason(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Either the limit is used up, or PixelDojo asked for a pause (ours)."""
    texts = []
    await processes.fill(limiter, Priority.POLL)
    for _ in range(2):
        with pytest.raises(Busy) as caught:
            await limiter.acquire(Priority.POLL)
        texts.append(caught.value.what)
        await limiter.observe(reply(429, 30), paid=False)

    assert "last minute" in texts[0]
    assert "pause" in texts[1]


async def test_jobs_share_the_requests_evenly(
    processes: Processes, limiter: SharedRateLimiter
) -> None:
    """Seven polls in 61 s for all jobs together, under the first limit of 10 (ours)."""
    first = limiter.spacing(Priority.POLL, 4)
    await limiter.observe(reply(limit=60), paid=False)
    await limiter.observe(reply(429), paid=False)

    assert first == 4 * 61 / 7
    assert limiter.spacing(Priority.POLL, 4) == 4 * 61 / capacity(30, Priority.POLL)
