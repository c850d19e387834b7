"""The spending limits inside a claim, on every engine. The rule itself is in `spending_limits`."""

import asyncio
from datetime import timedelta

import pytest

from tests.ledger import stores
from tests.ledger.stores import (
    ME,
    START,
    WANTED,
    Store,
    claimed,
    confirmed,
    opened,
    record_in,
    reported,
    wanted,
)
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.record import State
from wan_mcp.ledger.spending_limits import FreesAt, LimitReached, SpendingLimits
from wan_mcp.models import JobStatus, Replacement

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger


async def refusal(ledger: Ledger, request: Replacement, estimate: float | None = 2) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await ledger.claim(ME, request, generated_seed=1, estimate=estimate)
    return caught.value


@pytest.mark.parametrize("estimate", [10.5, None])
async def test_job_above_the_limit_per_job_is_refused(store: Store, estimate: float | None) -> None:
    """This limit refuses an unknown price too, because it might be exceeded (promises 10)."""
    ledger = store.ledger(SpendingLimits(10, None, None, None))
    refused = await refusal(ledger, WANTED, estimate)

    assert refused.setting == "WAN_MCP_MAX_CREDITS_PER_JOB"
    assert (refused.limit, refused.used, refused.frees_at) == (10, estimate, None)
    assert not refused.retry_safe
    assert await ledger.recent(ME) == []
    await claimed(ledger, WANTED, 10)


async def spent(ledger: Ledger, number: int, credits: float) -> None:
    record = await claimed(ledger, wanted(number), credits)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported(JobStatus.FAILED, job_id=f"job-{number}"))


async def test_daily_limit_is_a_sliding_window_across_restarts(store: Store) -> None:
    """Credits become free 24 hours after they were spent, not by a restart (promises 10)."""
    limits = SpendingLimits(None, 10, None, None)
    first = store.ledger(limits)
    await spent(first, 1, 6)
    store.now += timedelta(hours=1)
    await spent(first, 2, 4)
    await store.end(first)
    ledger = store.ledger(limits)
    refused = await refusal(ledger, wanted(3), 6)
    store.now = START + timedelta(hours=24)

    assert refused.setting == "WAN_MCP_MAX_CREDITS_PER_DAY"
    assert (refused.limit, refused.used) == (10, 10)
    assert refused.frees_at == FreesAt(23 * 3_600, store.now)
    assert (refused.retry_safe, refused.wait_seconds) == (False, 23 * 3_600)
    await claimed(ledger, wanted(3), 6)


async def test_job_more_expensive_than_the_daily_limit_never_fits(store: Store) -> None:
    """The error text names no time at which it would fit."""
    refused = await refusal(store.ledger(SpendingLimits(None, 10, None, None)), WANTED, 11)

    assert (refused.frees_at, refused.retry_safe) == (None, False)


@pytest.mark.parametrize(
    ("state", "counts"),
    [(state, state not in (State.REFUSED, State.NOT_SENT)) for state in State],
)
async def test_daily_limit_counts_everything_that_may_have_cost_credits(
    store: Store, state: State, counts: bool
) -> None:
    """Unknown outcomes, failed jobs and even intents count; refused and unsent do not."""
    ledger = store.ledger(SpendingLimits(None, 3, None, None))
    await record_in(ledger, state)
    if counts:
        assert (await refusal(ledger, wanted(1))).used == 2
    else:
        await claimed(ledger, wanted(1))


async def test_charge_replaces_the_estimate(store: Store) -> None:
    """Once PixelDojo reports what a job costs, that counts. Nothing counts below 0."""
    ledger = store.ledger(SpendingLimits(None, 10, None, None))
    for number, cost in enumerate((-50, 9)):
        record = await record_in(ledger, State.SENDING, wanted(number))
        await ledger.accept(record, reported(credit_cost=cost, job_id=f"job-{number}"))

    assert (await refusal(ledger, wanted(3))).used == 9


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (SpendingLimits(50, None, None, None), "WAN_MCP_MAX_CREDITS_PER_JOB"),
        (SpendingLimits(None, 100, None, None), "WAN_MCP_MAX_CREDITS_PER_DAY"),
    ],
)
async def test_limits_believe_the_last_charge_when_it_is_higher_than_the_page(
    store: Store, limits: SpendingLimits, setting: str
) -> None:
    """The page names 2 credits and 60 are charged: the first job corrects it (promises 10)."""
    first = store.ledger(limits)
    record = await record_in(first, State.SENDING)
    await first.accept(record, reported(credit_cost=60))
    refused = await refusal(store.ledger(limits), wanted(2), 2)

    assert refused.setting == setting
    assert "cost 60 credits, although PixelDojo's model page names 2" in refused.what


async def test_a_job_under_way_reserves_what_the_last_one_cost(store: Store) -> None:
    """Several jobs before the first answer would otherwise be counted at the page's price."""
    ledger = store.ledger(SpendingLimits(None, 200, None, None))
    record = await record_in(ledger, State.SENDING)
    await ledger.accept(record, reported(credit_cost=60))
    reserved = [await claimed(ledger, wanted(number), 2) for number in (1, 2)]
    refused = await refusal(ledger, wanted(3), 2)

    assert [record.estimate for record in reserved] == [60, 60]
    assert refused.used == 180


async def test_first_job_of_unknown_price_uses_the_whole_daily_limit(store: Store) -> None:
    """One is allowed and shows the price. Then the highest known price counts for the next."""
    ledger = store.ledger(SpendingLimits(None, 10, None, None))
    record = await claimed(ledger, wanted(1), None)
    refused = await refusal(ledger, wanted(2), None)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported(credit_cost=4))
    await claimed(ledger, wanted(2), None)

    assert refused.used == 10
    assert (await refusal(ledger, wanted(3), None)).used == 8


@pytest.mark.parametrize("estimate", [2.0, None])
async def test_a_job_whose_price_is_not_known_yet_is_the_reason_and_not_the_day(
    store: Store, estimate: float | None
) -> None:
    """The answer to it names the price within seconds: nobody has to wait until tomorrow (ours)."""
    ledger = store.ledger(SpendingLimits(None, 10, None, None))
    await claimed(ledger, wanted(1), None)
    refused = await refusal(ledger, wanted(2), estimate)

    assert "the price of 1 earlier job is not known yet" in refused.what
    assert "room again" not in refused.what
    assert (refused.retry_safe, refused.wait_seconds) == (False, None)
    assert "once it shows a job with its credits" in refused.next_step
    assert "If it never does: There is room again at 2026-11-24 12:00" in refused.next_step


async def test_a_job_that_exceeds_the_whole_day_is_refused_for_its_own_price(store: Store) -> None:
    """No price of another job could help it."""
    ledger = store.ledger(SpendingLimits(None, 10, None, None))
    await claimed(ledger, wanted(1), None)

    assert "this job counts as 11" in (await refusal(ledger, wanted(2), 11)).what


@pytest.mark.parametrize("estimate", [None, 0.0, 2.0])
async def test_daily_limit_of_zero_refuses_every_job(store: Store, estimate: float | None) -> None:
    """With 0 the operator allows nothing, whatever the price."""
    refused = await refusal(store.ledger(SpendingLimits(None, 0, None, None)), WANTED, estimate)

    assert (refused.setting, refused.frees_at) == ("WAN_MCP_MAX_CREDITS_PER_DAY", None)


async def test_credits_are_shown_with_every_digit(store: Store) -> None:
    """Nobody reads 1.23457e+06 as an amount."""
    day = await refusal(
        store.ledger(SpendingLimits(None, 1_234_567, None, None)), WANTED, 7_654_321.5
    )
    job = await refusal(
        store.ledger(SpendingLimits(1_234_567, None, None, None)), WANTED, 7_654_321.5
    )

    assert "At most 1234567 credits" in day.what
    assert "counts as 7654321.5." in day.what
    assert "At most 1234567 credits" in job.what
    assert "costs 7654321.5." in job.what


@pytest.mark.parametrize(
    ("limits", "counts", "no_more"),
    [
        (SpendingLimits(None, 2, None, None), timedelta(hours=23), timedelta(hours=25)),
        (SpendingLimits(None, None, None, 1), timedelta(seconds=59), timedelta(seconds=61)),
        (SpendingLimits(None, None, 1, None), timedelta(minutes=59), timedelta(minutes=61)),
    ],
    ids=["day", "minute", "in flight"],
)
async def test_record_from_the_future_counts_no_longer_than_one_from_the_past(
    store: Store, limits: SpendingLimits, counts: timedelta, no_more: timedelta
) -> None:
    """A clock that was wrong once must not block the account until that date comes."""
    ledger = store.ledger(limits)
    await record_in(ledger, State.UNKNOWN)
    store.now = START - counts
    await refusal(ledger, wanted(1))
    store.now = START - no_more

    await claimed(ledger, wanted(1))


async def test_limit_in_flight_names_the_jobs_to_look_at(store: Store) -> None:
    """Reading the status of a job that has ended frees its place; waiting alone does not."""
    ledger = store.ledger(SpendingLimits(None, None, 2, None))
    sent = await record_in(ledger, State.UNKNOWN, wanted(1))
    store.now += timedelta(seconds=1)
    running = await record_in(ledger, State.ACCEPTED, wanted(2))
    refused = await refusal(ledger, wanted(3))

    assert f"get_job_status for {sent.submission_id}, {running.job_id}: " in refused.next_step
    assert "frees the place of a job that has ended" in refused.next_step
    assert "Then repeat the same call." in refused.next_step
    assert "WAN_MCP_MAX_IN_FLIGHT" in refused.next_step
    assert refused.figures is not None
    assert refused.figures.blocking_job_ids == (sent.submission_id, running.job_id)
    assert (refused.retry_safe, refused.wait_seconds) == (False, None)


async def test_limit_in_flight_names_five_jobs_at_most(store: Store) -> None:
    """The oldest jobs are the most likely to have ended."""
    ledger = store.ledger(SpendingLimits(None, None, 7, None))
    records = []
    for number in range(7):
        store.now += timedelta(seconds=1)
        records.append(await record_in(ledger, State.ACCEPTED, wanted(number)))
    refused = await refusal(ledger, wanted(8))

    named = [str(record.job_id) in refused.next_step for record in records]
    assert named == [True] * 5 + [False] * 2


async def test_limit_in_flight_of_zero_names_no_job(store: Store) -> None:
    """With a limit of 0, only the setting helps."""
    refused = await refusal(store.ledger(SpendingLimits(None, None, 0, None)), WANTED)

    assert (refused.next_step, refused.retry_safe) == (LimitReached.advice, False)


async def test_jobs_in_flight_are_limited(store: Store) -> None:
    """A job that ends frees a place for the next one (promises 10)."""
    ledger = store.ledger(SpendingLimits(None, None, 2, None))
    await record_in(ledger, State.INTENT, wanted(1))
    record = await record_in(ledger, State.ACCEPTED, wanted(2))
    refused = await refusal(ledger, wanted(3))
    await confirmed(ledger, reported(JobStatus.FAILED, job_id=record.job_id))

    assert refused.setting == "WAN_MCP_MAX_IN_FLIGHT"
    assert (refused.limit, refused.used, refused.frees_at) == (2, 2, None)
    await claimed(ledger, wanted(3))


async def test_lost_answers_do_not_block_the_account_for_ever(store: Store) -> None:
    """An unknown outcome counts as in flight for one hour only."""
    ledger = store.ledger(SpendingLimits(None, None, 1, None))
    await record_in(ledger, State.UNKNOWN)
    store.now += timedelta(minutes=59)
    await refusal(ledger, wanted(1))
    store.now += timedelta(minutes=1)

    await claimed(ledger, wanted(1))


async def test_paid_requests_a_minute_are_limited(store: Store) -> None:
    """Refused requests count because they were sent; unsent ones do not (promises 10)."""
    ledger = store.ledger(SpendingLimits(None, None, None, 2))
    for number, state in enumerate((State.NOT_SENT, State.REFUSED, State.NOT_SENT)):
        await record_in(ledger, state, wanted(number))
    store.now += timedelta(seconds=20)
    await record_in(ledger, State.REFUSED, wanted(4))
    refused = await refusal(ledger, wanted(5))
    store.now = START + timedelta(minutes=1)

    assert refused.setting == "WAN_MCP_MAX_SUBMITS_PER_MINUTE"
    assert (refused.limit, refused.used) == (2, 2)
    assert refused.frees_at == FreesAt(40, store.now)
    await claimed(ledger, wanted(5))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (SpendingLimits(1, None, None, None), "At most 1 credit may be spent on one job, and"),
        (
            SpendingLimits(None, 1, None, None),
            "At most 1 credit may be spent in 24 hours: 1 is used up",
        ),
        (SpendingLimits(None, None, 1, None), "At most 1 job may be in flight at once, and 1 is."),
        (
            SpendingLimits(None, None, None, 1),
            "At most 1 paid request may be sent a minute, and 1 was.",
        ),
    ],
    ids=["job", "day", "in flight", "minute"],
)
async def test_limit_of_one_is_written_in_the_singular(
    store: Store, limits: SpendingLimits, words: str
) -> None:
    """A user reads these words."""
    ledger = store.ledger(limits)
    await claimed(ledger, wanted(1), 1)

    assert (await refusal(ledger, wanted(2))).what.startswith(words)


async def test_limit_holds_against_claims_at_the_same_moment(store: Store) -> None:
    """Check and insert are one transaction, so two processes cannot both take the last place
    (promises 10).
    """
    ledgers = [store.ledger(SpendingLimits(None, 6, None, None)) for _ in range(4)]
    await opened(*ledgers)
    outcomes = await asyncio.gather(
        *(
            ledger.claim(ME, wanted(number), generated_seed=1, estimate=2)
            for number, ledger in enumerate(ledgers * 3)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, LimitReached) for outcome in outcomes) == 9
    assert len(await ledgers[0].recent(ME, limit=0)) == 3


async def test_joining_a_live_job_meets_no_limit(store: Store) -> None:
    """An equal call costs nothing, so no limit refuses it (promises 8)."""
    ledger = store.ledger(SpendingLimits(2, 2, 1, 1))
    record = await claimed(ledger)
    again = await ledger.claim(ME, WANTED, generated_seed=1, estimate=None)

    assert (again.created, again.record) == (False, record)
