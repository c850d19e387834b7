"""How many requests a key makes: never more than it may, the urgent ones first."""

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


class PaymentContext:
    """Budgets of several processes on one file, in virtual time.

    Attributes:
        left: when each request left, and for what.
    """

    def __init__(self, folder: Path, time: VirtualTime) -> None:
        self.time = time
        self.left: list[tuple[float, Priority]] = []
        self._folder = folder
        self._ledgers: list[SQLiteLedger] = []

    def process(self) -> SharedRateLimiter:
        self._ledgers.append(SQLiteLedger(self._folder, now=self.time.wall))
        return SharedRateLimiter(self._ledgers[-1].coordination, the_account, self.time.clock())

    async def close(self) -> None:
        for ledger in self._ledgers:
            await ledger.aclose()

    async def ask(self, limiter: SharedRateLimiter, priority: Priority) -> float:
        """Enter once; how long a read is told to wait, 0 when it left."""
        try:
            await limiter.acquire(priority)
        except Busy as busy:
            return busy.retry_after or math.inf  # to be told no time is never right
        self.left.append((self.time.now, priority))
        return 0.0

    async def fill(self, limiter: SharedRateLimiter, priority: Priority) -> int:
        """Make requests until one has to wait; how many left."""
        count = 0
        while await self.ask(limiter, priority) == 0:
            count += 1
        return count

    def most(self) -> int:
        """The most requests that left in any minute."""
        times = [at for at, _ in self.left]
        return max(sum(at <= each < at + MINUTE for each in times) for at in times)


time, anyio_backend = in_virtual_time()


@pytest.fixture
async def desk(tmp_path: Path, time: VirtualTime) -> AsyncIterator[PaymentContext]:
    made = PaymentContext(tmp_path / "ledger", time)
    yield made
    await made.close()


@pytest.fixture
def limiter(desk: PaymentContext) -> SharedRateLimiter:
    return desk.process()


async def away() -> None:
    raise LedgerUnavailable("The ledger is away.")


@contextmanager
def broken(
    limiter: SharedRateLimiter, fail: Callable[[], Awaitable[None]] = away
) -> Iterator[None]:
    """Within it, the ledger cannot be used."""

    async def method(*given: object) -> None:
        await fail()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limiter._coordination, "try_acquire", method)
        patch.setattr(limiter._coordination, "adjust_limit", method)
        yield


# Who goes first


@pytest.mark.parametrize(
    ("per_minute", "rooms"),
    [
        (1, [1, 1, 1, 1, 1, 1]),
        (2, [2, 1, 1, 1, 1, 1]),
        (6, [6, 4, 3, 2, 1, 1]),
        (10, [10, 8, 7, 6, 5, 4]),
        (30, [30, 25, 24, 23, 22, 21]),
        (60, [60, 55, 54, 53, 52, 51]),
    ],
)
def test_urgent_requests_find_room_because_others_leave_some(
    per_minute: int, rooms: list[int]
) -> None:
    """Submit before status before poll before list before reconcile before idle (ours)."""
    assert [capacity(per_minute, priority) for priority in Priority] == rooms


@given(per_minute=st.integers(1, 60), ages=st.lists(st.floats(0, 61), max_size=70).map(sorted))
def test_a_more_urgent_request_never_waits_longer(per_minute: int, ages: list[float]) -> None:
    """At any moment and under any limit (ours)."""
    waits = [wait(Limit(per_minute), ages[::-1], priority) for priority in Priority]

    assert waits == sorted(waits)
    assert (waits[0] == 0) == (len(ages) < per_minute or ages[per_minute - 1] == 61)


async def test_reads_leave_room_for_a_submit(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """A person waits for it (ours)."""
    reads = [
        await desk.fill(limiter, priority)
        for priority in reversed(Priority)
        if priority is not Priority.SUBMIT
    ]
    began = desk.time.now
    await limiter.acquire(Priority.SUBMIT)

    assert reads == [4, 1, 1, 1, 1]
    assert desk.time.now == began


@pytest.mark.parametrize(
    ("since_full", "held", "waited"), [(0, 0, 2), (0, 300, 2), (60.2, 0, 0.8), (61, 0, 0)]
)
async def test_a_submit_waits_two_seconds_at_most_and_then_goes(
    desk: PaymentContext, limiter: SharedRateLimiter, since_full: float, held: float, waited: float
) -> None:
    """A 429 buys nothing, and may be sent once more (ours)."""
    for _ in range(10):
        await limiter.acquire(Priority.SUBMIT)
    desk.time.now += since_full
    if held:
        await limiter.observe(reply(503, held), paid=False)
    began = desk.time.now
    await limiter.acquire(Priority.SUBMIT)

    assert desk.time.now - began == pytest.approx(waited, abs=0.01)
    assert waited <= SUBMIT_PATIENCE_SECONDS


async def test_a_submit_that_went_all_the_same_is_counted(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """PixelDojo counts it too (ours)."""
    for _ in range(11):
        await limiter.acquire(Priority.SUBMIT)
    desk.time.now += 60  # the ten are gone, and the one that waited two seconds is not

    assert await desk.fill(limiter, Priority.STATUS) == 7


# Never more than allowed

STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(Priority), st.sampled_from([0.0, 0.3, 2.0, 9.0])),
    min_size=30,
    max_size=90,
)


@settings(max_examples=10, deadline=None)
@given(steps=STEPS, told=st.sampled_from([None, 4, 10, 17]))
def test_two_processes_together_never_make_more_requests_than_allowed(
    steps: list[tuple[int, Priority, float]], told: int | None
) -> None:
    """Whatever they are for; only a submit that waited may go on top (reliability 2)."""
    virtually(partial(mixed, steps, told))


async def mixed(
    steps: list[tuple[int, Priority, float]], told: int | None, desk: PaymentContext
) -> None:
    both = [desk.process(), desk.process()]
    if told is not None:
        await both[0].observe(reply(limit=told), paid=False)
    limit = told or 10
    for number, priority, gap in steps:
        desk.time.now += gap
        began = desk.time.now
        await desk.ask(both[number], priority)

        assert desk.time.now - began <= SUBMIT_PATIENCE_SECONDS
        if desk.left and desk.left[-1] == (began, priority):  # it left without a wait
            recent = [at for at, _ in desk.left if began - MINUTE < at]
            assert len(recent) <= limit


def virtually(work: Callable[[PaymentContext], Awaitable[None]]) -> None:
    """Run it with an empty folder in a time of its own."""
    time = VirtualTime()

    async def run() -> None:
        with TemporaryDirectory() as folder:
            desk = PaymentContext(Path(folder) / "ledger", time)
            await work(desk)
            await desk.close()

    with watched_threads(), asyncio.Runner(loop_factory=partial(VirtualLoop, time)) as runner:
        runner.run(run())


async def test_requests_at_one_moment_are_counted_one_by_one(desk: PaymentContext) -> None:
    """Both processes wake together (ours)."""
    both = [desk.process(), desk.process()]
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(desk.ask, both[number % 2], Priority.STATUS)

    assert len(desk.left) == 8


@pytest.mark.parametrize("jump", [-2, -HOUR, 2])
async def test_a_clock_that_is_set_makes_no_room(
    desk: PaymentContext, limiter: SharedRateLimiter, jump: float
) -> None:
    """No time has passed for PixelDojo; an hour ahead may be a sleep, and is let go (ours)."""
    await desk.fill(limiter, Priority.STATUS)
    desk.time.now += 1
    desk.time.skew = jump
    await desk.fill(limiter, Priority.STATUS)

    assert desk.most() <= 10


async def test_a_clock_set_back_stops_nobody_for_long(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """What it dated an hour ahead must not count for an hour (ours)."""
    await desk.fill(limiter, Priority.STATUS)
    await limiter.observe(reply(429, 10), paid=False)
    desk.time.skew = -HOUR
    desk.time.now += 301
    told = await desk.ask(limiter, Priority.RECONCILE)
    desk.time.now += 61

    assert told <= 61
    assert await desk.ask(limiter, Priority.RECONCILE) == 0


async def test_without_the_ledger_a_process_counts_for_itself(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """Reads go on without it, within the limit (ours)."""
    with broken(limiter):
        counts = [
            await desk.fill(limiter, priority)
            for priority in (Priority.POLL, Priority.STATUS, Priority.STATUS)
        ]
        await limiter.acquire(Priority.SUBMIT)
        desk.time.now += 61
        again = await desk.fill(limiter, Priority.POLL)

    assert counts == [7, 1, 0]
    assert again == 7


@pytest.mark.parametrize("away_first", [False, True])
async def test_a_ledger_that_comes_and_goes_makes_no_room(
    desk: PaymentContext, limiter: SharedRateLimiter, away_first: bool
) -> None:
    """What was counted there before, and here meanwhile, is one minute of one key (ours)."""
    if not away_first:
        await desk.fill(limiter, Priority.POLL)
    with broken(limiter):
        await desk.fill(limiter, Priority.POLL)
    await desk.fill(limiter, Priority.POLL)

    assert desk.most() == 7


async def test_without_the_ledger_a_pause_is_still_kept(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """To ask earlier is to be refused longer (reliability 2)."""
    with broken(limiter):
        await limiter.observe(reply(429, 30), paid=False)
        desk.time.now += 10
        soon = await desk.ask(limiter, Priority.STATUS)
        desk.time.now += 20
        later = await desk.ask(limiter, Priority.STATUS)

    assert [soon, later] == pytest.approx([20, 0])


# What answers tell


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
async def test_an_answer_tells_how_many_requests_the_key_may_make(
    desk: PaymentContext, limiter: SharedRateLimiter, answer: Reply, per_minute: int, held: float
) -> None:
    """By any of the headers in use on the web; nonsense changes nothing (assumed)."""
    other = desk.process()
    await limiter.observe(answer, paid=False)
    told = await desk.ask(other, Priority.STATUS)
    desk.time.now += told
    left = await desk.fill(other, Priority.STATUS)

    assert told == pytest.approx(held)
    assert left + (told == 0) == capacity(per_minute, Priority.STATUS)


async def test_a_refusal_halves_the_limit_which_comes_back_by_one_a_minute() -> None:
    """Up to the ten of the beginning, and no further (reliability 2)."""
    limits = [Limit(10)]
    for _ in range(4):
        limits.append(adjusted(limits[-1], reply(429)))
    after = [allowed(Limit(2, cut_ago=MINUTE * minutes)) for minutes in (0, 0.9, 1, 5, 8, 500)]

    assert [limit.per_minute for limit in limits] == [10, 5, 2, 2, 2]
    assert after == [2, 2, 3, 7, 10, 10]
    assert allowed(Limit(30, cut_ago=500 * MINUTE)) == 30
    assert adjusted(Limit(2, cut_ago=3 * MINUTE), reply(429)).per_minute == 2
    assert adjusted(Limit(2, cut_ago=9), reply(limit=10)) == Limit(10)


async def test_a_refusal_is_learnt_once_whoever_asks_meanwhile(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """Others go on while it is written down (ours)."""
    other = desk.process()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(limiter.observe, reply(429), paid=False))
        for _ in range(3):
            tasks.start_soon(desk.ask, limiter, Priority.POLL)
    desk.time.now += 61  # in which one of the five that are left has come back

    assert await desk.fill(other, Priority.STATUS) == capacity(6, Priority.STATUS)


async def test_a_pause_grows_and_never_shrinks(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """A late answer to an earlier request knows less (ours)."""
    await limiter.observe(reply(429, 100), paid=False)
    desk.time.now += 10
    await limiter.observe(reply(429, 5), paid=False)

    assert await desk.ask(limiter, Priority.STATUS) == pytest.approx(90)


async def test_the_answer_to_a_submit_waits_for_no_disk(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """Until its job's id is kept, whoever kills the server loses it (reliability 1)."""
    other = desk.process()
    with broken(limiter, anyio.sleep_forever), anyio.fail_after(1):
        await limiter.observe(reply(202, limit=30), paid=True)
    await desk.ask(limiter, Priority.STATUS)  # the next request tells the others

    assert await desk.fill(other, Priority.STATUS) == capacity(30, Priority.STATUS) - 1


@pytest.mark.parametrize("paid", [True, False])
async def test_a_defect_in_the_ledger_does_not_cost_an_answer(
    desk: PaymentContext, limiter: SharedRateLimiter, paid: bool
) -> None:
    """It is more than what it says about pace (ours)."""

    async def defect() -> None:
        raise RuntimeError("a defect")

    with broken(limiter, defect):
        await limiter.observe(reply(202, limit=30), paid=paid)
    await limiter.observe(reply(200, limit=30, remaining=0), paid=False)
    desk.time.now += 2

    assert await desk.fill(limiter, Priority.POLL) == capacity(30, Priority.POLL)


async def test_an_answer_that_tells_nothing_new_writes_nothing(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """Each answer would cost a sync of the disk (ours)."""
    writes: list[None] = []

    async def write() -> None:
        writes.append(None)

    await limiter.observe(reply(limit=30), paid=False)
    with broken(limiter, write):
        for _ in range(5):
            await limiter.observe(reply(limit=30, remaining=20, reset=30), paid=False)

    assert writes == []


async def test_a_refused_read_is_told_why(desk: PaymentContext, limiter: SharedRateLimiter) -> None:
    """Whether the limit is used up, or PixelDojo asked for a pause (ours)."""
    texts = []
    await desk.fill(limiter, Priority.POLL)
    for _ in range(2):
        with pytest.raises(Busy) as caught:
            await limiter.acquire(Priority.POLL)
        texts.append(caught.value.what)
        await limiter.observe(reply(429, 30), paid=False)

    assert "last minute" in texts[0]
    assert "pause" in texts[1]


async def test_takers_share_what_is_left_evenly(
    desk: PaymentContext, limiter: SharedRateLimiter
) -> None:
    """Eight polls in 61 seconds, whoever makes them (ours)."""
    first = limiter.spacing(Priority.POLL, 4)
    await limiter.observe(reply(limit=60), paid=False)
    await limiter.observe(reply(429), paid=False)

    assert first == 4 * 61 / 7
    assert limiter.spacing(Priority.POLL, 4) == 4 * 61 / capacity(30, Priority.POLL)
