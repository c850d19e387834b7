"""The queue on every engine: what is put in it, what is sent of it and when, and how it ends."""

from dataclasses import replace

import pytest

from tests.ledger.stores import (
    ME,
    START,
    VIDEO_URL,
    WANTED,
    Store,
    claimed,
    reported,
    sent,
    store,
    wanted,
)
from wan_mcp.ledger import rules
from wan_mcp.ledger.contract import Claim, Fenced, Ledger
from wan_mcp.ledger.queueing.order import order_of
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import LimitReached, PriceRose, SpendingLimits
from wan_mcp.ledger.statements.dialects import both
from wan_mcp.models import Cursor, JobStatus, Replacement

pytestmark = pytest.mark.anyio

__all__ = ["store"]

ONE_AT_A_TIME = SpendingLimits(None, 100, 1, None, queued=3)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """A process whose operator allows one job in flight, and three queued."""
    return store.ledger(ONE_AT_A_TIME)


async def asked(
    ledger: Ledger, request: Replacement, estimate: float | None = 2.0, agreed: float | None = None
) -> Claim:
    return await ledger.claim(ME, request, generated_seed=7, estimate=estimate, agreed=agreed)


async def queued(ledger: Ledger, count: int) -> list[Record]:
    """One job in flight, and so many requests behind it."""
    await claimed(ledger, wanted(100))
    claims = [await asked(ledger, wanted(number)) for number in range(count)]
    assert all(claim.record.state is State.QUEUED for claim in claims)
    return [claim.record for claim in claims]


async def end_running(ledger: Ledger, seed: int = 100) -> None:
    """The job in flight is refused, so that its place is free."""
    record = await ledger.equal(ME, wanted(seed))
    assert record is not None
    if record.state is State.INTENT:
        record = await sent(ledger, record)
    await ledger.conclude(record, State.REFUSED, "no")


async def dispatched(ledger: Ledger, estimate: float | None = 2.0) -> Record | None:
    """What a dispatcher does for the next request."""
    following = await ledger.queue.next(ME)
    assert following is not None
    return await ledger.queue.dispatch(following.record, estimate)


async def stored(ledger: Ledger, record: Record) -> Record:
    found = await ledger.find(ME, record.submission_id)
    assert found is not None
    return found


async def test_a_request_beyond_the_jobs_in_flight_is_queued(ledger: Ledger) -> None:
    await claimed(ledger, wanted(1))

    claim = await asked(ledger, wanted(2))

    assert claim.created
    assert claim.record.state is State.QUEUED
    assert claim.record == await stored(ledger, claim.record)
    assert await ledger.queue.waiting(ME) == [claim.record]


async def test_a_request_beyond_the_submits_of_a_minute_is_queued(store: Store) -> None:
    ledger = store.ledger(SpendingLimits(None, None, None, 1, queued=1))
    await claimed(ledger, wanted(1))
    store.later(20)

    record = (await asked(ledger, wanted(2))).record

    following = await ledger.queue.next(ME)
    assert record.state is State.QUEUED
    assert following is not None
    assert following.wait == pytest.approx(40)


async def test_without_a_queue_these_limits_refuse_as_before(store: Store) -> None:
    ledger = store.ledger(replace(ONE_AT_A_TIME, queued=0))
    await claimed(ledger, wanted(1))

    with pytest.raises(LimitReached, match="WAN_MCP_MAX_IN_FLIGHT"):
        await asked(ledger, wanted(2))


@pytest.mark.parametrize("limits", [(0, None), (None, 0)], ids=["in flight", "a minute"])
async def test_a_limit_of_nothing_refuses_and_queues_nothing(
    store: Store, limits: tuple[int | None, int | None]
) -> None:
    """No time will come at which it has room. (ours)"""
    ledger = store.ledger(SpendingLimits(None, None, *limits, queued=3))

    with pytest.raises(LimitReached):
        await asked(ledger, wanted(1))


async def test_nobody_overtakes_the_queue(ledger: Ledger) -> None:
    """There is room when the third one asks, and the second one was there before. (ours)"""
    [first] = await queued(ledger, 1)
    await end_running(ledger)

    second = (await asked(ledger, wanted(9))).record

    assert second.state is State.QUEUED
    assert [each.submission_id for each in await ledger.queue.waiting(ME)] == [
        first.submission_id,
        second.submission_id,
    ]


async def test_a_full_queue_refuses_with_its_own_setting(ledger: Ledger) -> None:
    await queued(ledger, 3)

    with pytest.raises(LimitReached) as caught:
        await asked(ledger, wanted(9))

    assert (caught.value.setting, caught.value.limit, caught.value.used) == (
        "WAN_MCP_MAX_QUEUED",
        3,
        3,
    )
    assert "cancel_job" in caught.value.next_step


async def test_what_is_queued_counts_in_full_against_the_credits_of_a_day(store: Store) -> None:
    """7 of 10 credits are reserved, so a job of 4 could not be paid when its turn comes."""
    ledger = store.ledger(SpendingLimits(None, 10, 1, None, queued=5))
    await claimed(ledger, wanted(1), estimate=3.0)
    await asked(ledger, wanted(2), estimate=4.0)

    with pytest.raises(LimitReached, match="WAN_MCP_MAX_CREDITS_PER_DAY"):
        await asked(ledger, wanted(3), estimate=4.0)

    assert (await asked(ledger, wanted(3), estimate=3.0)).record.state is State.QUEUED


async def test_a_queued_job_of_unknown_price_counts_as_the_whole_day(store: Store) -> None:
    ledger = store.ledger(SpendingLimits(None, 10, 1, None, queued=5))
    await claimed(ledger, wanted(1), estimate=0.0)
    await asked(ledger, wanted(2), estimate=None)

    with pytest.raises(LimitReached, match="WAN_MCP_MAX_CREDITS_PER_DAY"):
        await asked(ledger, wanted(3), estimate=1.0)


async def test_a_price_above_the_agreed_one_is_asked_about_before_it_is_queued(
    ledger: Ledger,
) -> None:
    await claimed(ledger, wanted(1))

    with pytest.raises(PriceRose):
        await asked(ledger, wanted(2), estimate=5.0, agreed=4.0)

    assert await ledger.queue.waiting(ME) == []


async def test_an_equal_request_joins_the_queued_one_in_any_spelling(ledger: Ledger) -> None:
    await claimed(ledger, wanted(100))
    record = (await asked(ledger, WANTED)).record
    signed_again = WANTED.model_copy(update={"video": "https://media.example/clip.mp4?sig=b"})
    respelt = WANTED.model_copy(update={"video": "https://MEDIA.example/%63lip.mp4?sig=a"})
    same_seed = WANTED.model_copy(update={"seed": 7})  # the one that was generated

    for request in (WANTED, signed_again, respelt, same_seed):
        claim = await asked(ledger, request)
        assert not claim.created
        assert claim.record.submission_id == record.submission_id
    assert len(await ledger.queue.waiting(ME)) == 1


async def test_the_whole_links_are_kept_until_it_is_sent_and_no_longer(ledger: Ledger) -> None:
    """A signature in a link is needed to send it, and nobody needs it afterwards. (ours)"""
    await claimed(ledger, wanted(100))
    record = (await asked(ledger, WANTED)).record
    order = order_of(record)
    assert order is not None
    assert order.wanted == WANTED
    await end_running(ledger)

    intent = await dispatched(ledger)
    assert intent is not None
    await ledger.commit_sending(intent)

    found = await stored(ledger, intent)
    assert (found.state, found.queued_request, found.queued_until) == (State.SENDING, None, None)


async def test_the_oldest_is_sent_first_whatever_the_clock_says(
    store: Store, ledger: Ledger
) -> None:
    await claimed(ledger, wanted(100))
    first = (await asked(ledger, wanted(1))).record
    store.later(-1_800)
    await asked(ledger, wanted(2))
    store.later(3_000)
    await asked(ledger, wanted(3))
    await end_running(ledger)

    seeds = [each.seed for each in await ledger.queue.waiting(ME)]
    intent = await dispatched(ledger)

    assert seeds == [1, 2, 3]
    assert intent is not None
    assert intent.submission_id == first.submission_id


async def test_only_the_first_one_is_dispatched_and_only_once(store: Store, ledger: Ledger) -> None:
    first, second = await queued(ledger, 2)
    await end_running(ledger)
    other = store.ledger(ONE_AT_A_TIME)

    assert await ledger.queue.dispatch(second, 2.0) is None
    assert await other.queue.dispatch(first, 2.0) is not None
    assert await ledger.queue.dispatch(first, 2.0) is None
    with pytest.raises(Fenced):
        await ledger.commit_sending(first)


async def test_nothing_is_dispatched_while_there_is_no_room(ledger: Ledger) -> None:
    [record] = await queued(ledger, 1)

    assert await dispatched(ledger) is None

    assert await stored(ledger, record) == record


async def test_a_dispatched_request_counts_from_then_on(store: Store, ledger: Ledger) -> None:
    """The limits count by the date of a record, also in a version without a queue."""
    [record] = await queued(ledger, 1)
    store.later(1_800)
    await end_running(ledger)

    intent = await dispatched(ledger)

    assert intent is not None
    assert intent.created_at == store.now
    assert intent.queued_at == START == record.created_at
    assert intent.state is State.INTENT


async def test_a_request_keeps_its_place_in_the_list_when_it_is_dispatched(
    store: Store, ledger: Ledger
) -> None:
    """Between two pages it would otherwise pass by the reader. (ours)"""
    [first] = await queued(ledger, 1)
    store.later(60)
    second = (await asked(ledger, wanted(9))).record
    await end_running(ledger)
    behind = Cursor(second.submission_id, is_ended=False)
    store.later(60)

    async def is_listed() -> bool:
        page = await ledger.page(ME, None, 10, behind)
        assert page is not None
        return first.submission_id in [each.submission_id for each in page.records]

    found = [await is_listed()]
    intent = await dispatched(ledger)
    assert intent is not None
    found.append(await is_listed())
    await ledger.commit_sending(intent)
    await ledger.accept(intent, reported(JobStatus.COMPLETED, video_url=VIDEO_URL))
    found.append(await is_listed())

    assert found == [True] * 3
    newest = await ledger.recent(ME, None, 10)
    assert [each.submission_id for each in newest][:2] == [
        second.submission_id,
        first.submission_id,
    ]


async def test_a_price_that_rose_beyond_the_agreed_one_ends_the_request(ledger: Ledger) -> None:
    await claimed(ledger, wanted(100))
    record = (await asked(ledger, wanted(1), agreed=2.0)).record
    await end_running(ledger)

    assert await dispatched(ledger, estimate=3.0) is None

    found = await stored(ledger, record)
    assert found.state is State.NOT_SENT
    assert "At most 2 credits may be spent on this job" in (found.error or "")


async def test_a_limit_in_credits_ends_the_request_when_its_turn_comes(store: Store) -> None:
    """A server that counts no queue, of an older version, may have spent the credits. (ours)"""
    ledger = store.ledger(SpendingLimits(None, 6, 1, None, queued=3))
    await claimed(ledger, wanted(100), estimate=0.0)
    record = (await asked(ledger, wanted(1), estimate=4.0)).record
    other = store.ledger(SpendingLimits(None, None, None, None))
    await other.accept(await sent(other, await claimed(other, wanted(5), 4.0)), reported())
    await other.record_update(ME, reported(JobStatus.COMPLETED, video_url="https://a.example/v"))
    await end_running(ledger)

    assert await dispatched(ledger, estimate=4.0) is None

    found = await stored(ledger, record)
    assert found.state is State.NOT_SENT
    assert "WAN_MCP_MAX_CREDITS_PER_DAY" in (found.error or "")


async def test_a_request_whose_hour_is_over_ends_as_not_sent(store: Store, ledger: Ledger) -> None:
    [record] = await queued(ledger, 1)
    store.later(3_599)
    await ledger.recover()
    assert (await stored(ledger, record)).state is State.QUEUED
    store.later(1)

    await ledger.recover()

    found = await stored(ledger, record)
    assert (found.state, found.queued_request) == (State.NOT_SENT, None)
    assert "within an hour" in (found.error or "")


async def test_a_clock_that_is_set_back_gives_nobody_more_than_an_hour(
    store: Store, ledger: Ledger
) -> None:
    [record] = await queued(ledger, 1)
    store.later(-86_400)
    await ledger.recover()
    assert (await stored(ledger, record)).state is State.QUEUED

    store.later(rules.QUEUE_SECONDS)
    await ledger.recover()

    assert (await stored(ledger, record)).state is State.NOT_SENT


async def test_a_dispatched_request_of_a_dead_process_is_in_the_queue_again(store: Store) -> None:
    ledger = store.ledger(ONE_AT_A_TIME)
    first, second = await queued(ledger, 2)
    await end_running(ledger)
    assert await dispatched(ledger) is not None
    await store.end(ledger, killed=True)
    other = store.ledger(ONE_AT_A_TIME)

    await other.recover()

    waiting = await other.queue.waiting(ME)
    assert [each.submission_id for each in waiting] == [first.submission_id, second.submission_id]
    assert await dispatched(other) is not None


async def test_a_sent_request_of_a_dead_process_is_unknown_and_never_queued(store: Store) -> None:
    ledger = store.ledger(ONE_AT_A_TIME)
    [record] = await queued(ledger, 1)
    await end_running(ledger)
    intent = await dispatched(ledger)
    assert intent is not None
    await ledger.commit_sending(intent)
    await store.end(ledger, killed=True)
    other = store.ledger(ONE_AT_A_TIME)

    await other.recover()

    assert (await stored(other, record)).state is State.UNKNOWN
    assert await other.queue.waiting(ME) == []


async def test_what_is_said_late_of_one_turn_does_not_end_the_next(
    store: Store, ledger: Ledger
) -> None:
    """The request of the second turn may be on its way, and would be sent once more (ours)."""
    await queued(ledger, 1)
    await end_running(ledger)
    first_turn = await dispatched(ledger)
    assert first_turn is not None
    await ledger.queue.put_back(first_turn)
    store.later(9)
    second_turn = await dispatched(ledger)
    assert second_turn is not None
    await ledger.commit_sending(second_turn)

    with pytest.raises(Fenced):
        await ledger.queue.put_back(first_turn)

    assert (await stored(ledger, second_turn)).state is State.SENDING


async def test_a_limit_of_none_at_all_is_a_refusal_also_behind_a_queue(
    store: Store, ledger: Ledger
) -> None:
    """It is no matter of time, so there is nothing to wait for (ours)."""
    await queued(ledger, 1)
    for none in (replace(ONE_AT_A_TIME, in_flight=0), replace(ONE_AT_A_TIME, submits_per_minute=0)):
        with pytest.raises(LimitReached):
            await asked(store.ledger(none), wanted(50))

    assert len(await ledger.queue.waiting(ME)) == 1


@pytest.mark.parametrize("committed", [False, True])
async def test_what_is_put_back_has_its_place_and_its_links_again(
    ledger: Ledger, committed: bool
) -> None:
    first, second = await queued(ledger, 2)
    await end_running(ledger)
    intent = await dispatched(ledger)
    assert intent is not None
    if committed:
        await ledger.commit_sending(intent)

    back = await ledger.queue.put_back(intent)

    assert back == await stored(ledger, first)
    assert (back.state, back.queued_request) == (State.QUEUED, first.queued_request)
    waiting = await ledger.queue.waiting(ME)
    assert [each.submission_id for each in waiting] == [first.submission_id, second.submission_id]
    with pytest.raises(Fenced):
        await ledger.commit_sending(intent)


async def test_only_what_is_queued_can_be_cancelled(store: Store, ledger: Ledger) -> None:
    """A request of unknown outcome that ended as not sent could be paid twice."""
    first, second = await queued(ledger, 2)
    cancelled = await ledger.queue.cancel(second)
    await end_running(ledger)
    intent = await dispatched(ledger)
    assert intent is not None

    assert (cancelled.state, cancelled.withdrawn) == (State.NOT_SENT, True)
    assert cancelled.queued_request is None
    for state in (State.INTENT, State.SENDING, State.UNKNOWN):
        found = await stored(ledger, first)
        assert found.state is state
        for known in (found, first):
            with pytest.raises(Fenced):
                await ledger.queue.cancel(known)
        if state is State.INTENT:
            await ledger.commit_sending(intent)
        if state is State.SENDING:
            await ledger.conclude(intent, State.UNKNOWN, "no answer")


async def test_a_reason_that_meets_all_ends_the_whole_queue(ledger: Ledger) -> None:
    records = await queued(ledger, 3)

    await ledger.queue.end_all(ME, "PixelDojo does not accept the API key.")

    found = [await stored(ledger, each) for each in records]
    assert {each.state for each in found} == {State.NOT_SENT}
    assert {each.error for each in found} == {"PixelDojo does not accept the API key."}
    assert await ledger.queue.waiting(ME) == []


async def test_a_queued_request_is_listed_as_open_and_never_as_not_sent(ledger: Ledger) -> None:
    [record] = await queued(ledger, 1)
    ended = await ledger.queue.cancel((await asked(ledger, wanted(9))).record)

    assert record in await ledger.recent(ME, frozenset({State.COMPLETED}), 1)
    not_sent = await ledger.recent(ME, frozenset({State.NOT_SENT}), 10)
    states = {each.submission_id: each.state for each in not_sent}
    assert states[ended.submission_id] is State.NOT_SENT
    assert states[record.submission_id] is State.QUEUED
    assert len(not_sent) == 3  # with the job in flight


async def test_a_server_without_a_queue_reads_it_as_ended_and_free(
    ledger: Ledger,
) -> None:
    [record] = await queued(ledger, 1)

    statement = both("SELECT state FROM jobs WHERE handle = :submission_id")
    values = {"submission_id": record.submission_id}
    opened = ledger._store  # type: ignore[attr-defined]  # as another program reads it
    [(state,)] = await opened.read(lambda each: each.session.query(statement, values))

    assert state == "not_sent"


async def test_the_place_in_the_queue_says_when_it_will_probably_start(ledger: Ledger) -> None:
    first, second = await queued(ledger, 2)

    places = await ledger.queue.places(ME, 90.0)

    assert places[first.submission_id].position == 1
    assert places[first.submission_id].starts_in == pytest.approx(90)
    assert places[second.submission_id].starts_in == pytest.approx(180)
    unknown = await ledger.queue.places(ME, None)
    assert unknown[first.submission_id].starts_in is None


async def test_check_credits_counts_the_queue_and_says_that_a_job_would_wait(
    ledger: Ledger,
) -> None:
    await queued(ledger, 2)

    credits = await ledger.credits(ME, 2.0)

    assert (credits.queued.requests, credits.queued.credits) == (2, 4.0)
    assert credits.would_wait
    assert credits.refusal is None
    assert credits.limits[-1].used == 2
