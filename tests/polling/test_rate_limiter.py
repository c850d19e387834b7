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
from wan_mcp.pixeldojo.priority import Use
from wan_mcp.pixeldojo.reply import Reply, allowance
from wan_mcp.polling.rate_limiter import SUBMIT_PATIENCE, Budget, allowed, learnt, room, wait

pytestmark = pytest.mark.anyio

MINUTE = 60.0
HOUR = 3600.0


def reply(status: int = 200, retry_after: float | None = None, **headers: object) -> Reply:
    """An answer with such rate-limit headers."""
    named = {f"x-ratelimit-{name}": str(value) for name, value in headers.items()}
    return Reply(status, b"", retry_after=retry_after, allowance=allowance(named, EPOCH))


async def the_account() -> str:
    return "my-account"


class Desk:
    """Budgets of several processes on one file, in virtual time.

    Attributes:
        left: when each request left, and for what.
    """

    def __init__(self, folder: Path, time: VirtualTime) -> None:
        self.time = time
        self.left: list[tuple[float, Use]] = []
        self._folder = folder
        self._ledgers: list[SQLiteLedger] = []

    def process(self) -> Budget:
        self._ledgers.append(SQLiteLedger(self._folder, now=self.time.wall))
        return Budget(self._ledgers[-1].rota, the_account, self.time.clock())

    async def close(self) -> None:
        for ledger in self._ledgers:
            await ledger.aclose()

    async def ask(self, budget: Budget, use: Use) -> float:
        """Enter once; how long a read is told to wait, 0 when it left."""
        try:
            await budget.enter(use)
        except Busy as busy:
            return busy.retry_after or math.inf  # to be told no time is never right
        self.left.append((self.time.now, use))
        return 0.0

    async def fill(self, budget: Budget, use: Use) -> int:
        """Make requests until one has to wait; how many left."""
        count = 0
        while await self.ask(budget, use) == 0:
            count += 1
        return count

    def most(self) -> int:
        """The most requests that left in any minute."""
        times = [at for at, _ in self.left]
        return max(sum(at <= each < at + MINUTE for each in times) for at in times)


time, anyio_backend = in_virtual_time()


@pytest.fixture
async def desk(tmp_path: Path, time: VirtualTime) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "ledger", time)
    yield made
    await made.close()


@pytest.fixture
def budget(desk: Desk) -> Budget:
    return desk.process()


async def away() -> None:
    raise LedgerUnavailable("The ledger is away.")


@contextmanager
def broken(budget: Budget, fail: Callable[[], Awaitable[None]] = away) -> Iterator[None]:
    """Within it, the ledger cannot be used."""

    async def method(*given: object) -> None:
        await fail()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget._rota, "take", method)
        patch.setattr(budget._rota, "learn_limit", method)
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
    assert [room(per_minute, use) for use in Use] == rooms


@given(per_minute=st.integers(1, 60), ages=st.lists(st.floats(0, 61), max_size=70).map(sorted))
def test_a_more_urgent_request_never_waits_longer(per_minute: int, ages: list[float]) -> None:
    """At any moment and under any limit (ours)."""
    waits = [wait(Limit(per_minute), ages[::-1], use) for use in Use]

    assert waits == sorted(waits)
    assert (waits[0] == 0) == (len(ages) < per_minute or ages[per_minute - 1] == 61)


async def test_reads_leave_room_for_a_submit(desk: Desk, budget: Budget) -> None:
    """A person waits for it (ours)."""
    reads = [await desk.fill(budget, use) for use in reversed(Use) if use is not Use.SUBMIT]
    began = desk.time.now
    await budget.enter(Use.SUBMIT)

    assert reads == [4, 1, 1, 1, 1]
    assert desk.time.now == began


@pytest.mark.parametrize(
    ("since_full", "held", "waited"), [(0, 0, 2), (0, 300, 2), (60.2, 0, 0.8), (61, 0, 0)]
)
async def test_a_submit_waits_two_seconds_at_most_and_then_goes(
    desk: Desk, budget: Budget, since_full: float, held: float, waited: float
) -> None:
    """A 429 buys nothing, and may be sent once more (ours)."""
    for _ in range(10):
        await budget.enter(Use.SUBMIT)
    desk.time.now += since_full
    if held:
        await budget.heed(reply(503, held), paid=False)
    began = desk.time.now
    await budget.enter(Use.SUBMIT)

    assert desk.time.now - began == pytest.approx(waited, abs=0.01)
    assert waited <= SUBMIT_PATIENCE


async def test_a_submit_that_went_all_the_same_is_counted(desk: Desk, budget: Budget) -> None:
    """PixelDojo counts it too (ours)."""
    for _ in range(11):
        await budget.enter(Use.SUBMIT)
    desk.time.now += 60  # the ten are gone, and the one that waited two seconds is not

    assert await desk.fill(budget, Use.STATUS) == 7


# Never more than allowed

STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(Use), st.sampled_from([0.0, 0.3, 2.0, 9.0])),
    min_size=30,
    max_size=90,
)


@settings(max_examples=10, deadline=None)
@given(steps=STEPS, told=st.sampled_from([None, 4, 10, 17]))
def test_two_processes_together_never_make_more_requests_than_allowed(
    steps: list[tuple[int, Use, float]], told: int | None
) -> None:
    """Whatever they are for; only a submit that waited may go on top (reliability 2)."""
    virtually(partial(mixed, steps, told))


async def mixed(steps: list[tuple[int, Use, float]], told: int | None, desk: Desk) -> None:
    both = [desk.process(), desk.process()]
    if told is not None:
        await both[0].heed(reply(limit=told), paid=False)
    limit = told or 10
    for number, use, gap in steps:
        desk.time.now += gap
        began = desk.time.now
        await desk.ask(both[number], use)

        assert desk.time.now - began <= SUBMIT_PATIENCE
        if desk.left and desk.left[-1] == (began, use):  # it left without a wait
            recent = [at for at, _ in desk.left if began - MINUTE < at]
            assert len(recent) <= limit


def virtually(work: Callable[[Desk], Awaitable[None]]) -> None:
    """Run it with an empty folder in a time of its own."""
    time = VirtualTime()

    async def run() -> None:
        with TemporaryDirectory() as folder:
            desk = Desk(Path(folder) / "ledger", time)
            await work(desk)
            await desk.close()

    with watched_threads(), asyncio.Runner(loop_factory=partial(VirtualLoop, time)) as runner:
        runner.run(run())


async def test_requests_at_one_moment_are_counted_one_by_one(desk: Desk) -> None:
    """Both processes wake together (ours)."""
    both = [desk.process(), desk.process()]
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(desk.ask, both[number % 2], Use.STATUS)

    assert len(desk.left) == 8


@pytest.mark.parametrize("jump", [-2, -HOUR, 2])
async def test_a_clock_that_is_set_makes_no_room(desk: Desk, budget: Budget, jump: float) -> None:
    """No time has passed for PixelDojo; an hour ahead may be a sleep, and is let go (ours)."""
    await desk.fill(budget, Use.STATUS)
    desk.time.now += 1
    desk.time.skew = jump
    await desk.fill(budget, Use.STATUS)

    assert desk.most() <= 10


async def test_a_clock_set_back_stops_nobody_for_long(desk: Desk, budget: Budget) -> None:
    """What it dated an hour ahead must not count for an hour (ours)."""
    await desk.fill(budget, Use.STATUS)
    await budget.heed(reply(429, 10), paid=False)
    desk.time.skew = -HOUR
    desk.time.now += 301
    told = await desk.ask(budget, Use.RECONCILE)
    desk.time.now += 61

    assert told <= 61
    assert await desk.ask(budget, Use.RECONCILE) == 0


async def test_without_the_ledger_a_process_counts_for_itself(desk: Desk, budget: Budget) -> None:
    """Reads go on without it, within the limit (ours)."""
    with broken(budget):
        counts = [await desk.fill(budget, use) for use in (Use.POLL, Use.STATUS, Use.STATUS)]
        await budget.enter(Use.SUBMIT)
        desk.time.now += 61
        again = await desk.fill(budget, Use.POLL)

    assert counts == [7, 1, 0]
    assert again == 7


@pytest.mark.parametrize("away_first", [False, True])
async def test_a_ledger_that_comes_and_goes_makes_no_room(
    desk: Desk, budget: Budget, away_first: bool
) -> None:
    """What was counted there before, and here meanwhile, is one minute of one key (ours)."""
    if not away_first:
        await desk.fill(budget, Use.POLL)
    with broken(budget):
        await desk.fill(budget, Use.POLL)
    await desk.fill(budget, Use.POLL)

    assert desk.most() == 7


async def test_without_the_ledger_a_pause_is_still_kept(desk: Desk, budget: Budget) -> None:
    """To ask earlier is to be refused longer (reliability 2)."""
    with broken(budget):
        await budget.heed(reply(429, 30), paid=False)
        desk.time.now += 10
        soon = await desk.ask(budget, Use.STATUS)
        desk.time.now += 20
        later = await desk.ask(budget, Use.STATUS)

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
    desk: Desk, budget: Budget, answer: Reply, per_minute: int, held: float
) -> None:
    """By any of the headers in use on the web; nonsense changes nothing (assumed)."""
    other = desk.process()
    await budget.heed(answer, paid=False)
    told = await desk.ask(other, Use.STATUS)
    desk.time.now += told
    left = await desk.fill(other, Use.STATUS)

    assert told == pytest.approx(held)
    assert left + (told == 0) == room(per_minute, Use.STATUS)


async def test_a_refusal_halves_the_limit_which_comes_back_by_one_a_minute() -> None:
    """Up to the ten of the beginning, and no further (reliability 2)."""
    limits = [Limit(10)]
    for _ in range(4):
        limits.append(learnt(limits[-1], reply(429)))
    after = [allowed(Limit(2, cut_ago=MINUTE * minutes)) for minutes in (0, 0.9, 1, 5, 8, 500)]

    assert [limit.per_minute for limit in limits] == [10, 5, 2, 2, 2]
    assert after == [2, 2, 3, 7, 10, 10]
    assert allowed(Limit(30, cut_ago=500 * MINUTE)) == 30
    assert learnt(Limit(2, cut_ago=3 * MINUTE), reply(429)).per_minute == 2
    assert learnt(Limit(2, cut_ago=9), reply(limit=10)) == Limit(10)


async def test_a_refusal_is_learnt_once_whoever_asks_meanwhile(desk: Desk, budget: Budget) -> None:
    """Others go on while it is written down (ours)."""
    other = desk.process()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(budget.heed, reply(429), paid=False))
        for _ in range(3):
            tasks.start_soon(desk.ask, budget, Use.POLL)
    desk.time.now += 61  # in which one of the five that are left has come back

    assert await desk.fill(other, Use.STATUS) == room(6, Use.STATUS)


async def test_a_pause_grows_and_never_shrinks(desk: Desk, budget: Budget) -> None:
    """A late answer to an earlier request knows less (ours)."""
    await budget.heed(reply(429, 100), paid=False)
    desk.time.now += 10
    await budget.heed(reply(429, 5), paid=False)

    assert await desk.ask(budget, Use.STATUS) == pytest.approx(90)


async def test_the_answer_to_a_submit_waits_for_no_disk(desk: Desk, budget: Budget) -> None:
    """Until its job's id is kept, whoever kills the server loses it (reliability 1)."""
    other = desk.process()
    with broken(budget, anyio.sleep_forever), anyio.fail_after(1):
        await budget.heed(reply(202, limit=30), paid=True)
    await desk.ask(budget, Use.STATUS)  # the next request tells the others

    assert await desk.fill(other, Use.STATUS) == room(30, Use.STATUS) - 1


@pytest.mark.parametrize("paid", [True, False])
async def test_a_defect_in_the_ledger_does_not_cost_an_answer(
    desk: Desk, budget: Budget, paid: bool
) -> None:
    """It is more than what it says about pace (ours)."""

    async def defect() -> None:
        raise RuntimeError("a defect")

    with broken(budget, defect):
        await budget.heed(reply(202, limit=30), paid=paid)
    await budget.heed(reply(200, limit=30, remaining=0), paid=False)
    desk.time.now += 2

    assert await desk.fill(budget, Use.POLL) == room(30, Use.POLL)


async def test_an_answer_that_tells_nothing_new_writes_nothing(desk: Desk, budget: Budget) -> None:
    """Each answer would cost a sync of the disk (ours)."""
    writes: list[None] = []

    async def write() -> None:
        writes.append(None)

    await budget.heed(reply(limit=30), paid=False)
    with broken(budget, write):
        for _ in range(5):
            await budget.heed(reply(limit=30, remaining=20, reset=30), paid=False)

    assert writes == []


async def test_a_refused_read_is_told_why(desk: Desk, budget: Budget) -> None:
    """Whether the limit is used up, or PixelDojo asked for a pause (ours)."""
    texts = []
    await desk.fill(budget, Use.POLL)
    for _ in range(2):
        with pytest.raises(Busy) as caught:
            await budget.enter(Use.POLL)
        texts.append(caught.value.what)
        await budget.heed(reply(429, 30), paid=False)

    assert "last minute" in texts[0]
    assert "pause" in texts[1]


async def test_takers_share_what_is_left_evenly(desk: Desk, budget: Budget) -> None:
    """Eight polls in 61 seconds, whoever makes them (ours)."""
    first = budget.spacing(Use.POLL, 4)
    await budget.heed(reply(limit=60), paid=False)
    await budget.heed(reply(429), paid=False)

    assert first == 4 * 61 / 7
    assert budget.spacing(Use.POLL, 4) == 4 * 61 / room(30, Use.POLL)
