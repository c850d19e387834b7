"""What the ledger knows about an account's credits, on every engine, and about each limit."""

from datetime import timedelta
from typing import Any

import pytest

from tests.ledger import stores
from tests.ledger.stores import ME, START, Store, claimed, record_in, reported, wanted
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.expected_price import Balance, Totals
from wan_mcp.ledger.limit_use import LimitUse, settings_of
from wan_mcp.ledger.record import FREE_OF_CHARGE, State
from wan_mcp.ledger.spending_limits import FreesAt, SpendingLimits

pytestmark = pytest.mark.anyio

store = stores.store
JOB, DAY, FLIGHT, MINUTE = (each.setting for each in settings_of(SpendingLimits()))
LIMITS = SpendingLimits(50, 100, 5, 6)


async def bought(ledger: Ledger, number: int, **answer: Any) -> str:
    """A job in flight, and what PixelDojo's answer to its submit said. Returns its id."""
    record = await claimed(ledger, wanted(number), 2)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported(job_id=f"job-{number}", **answer))
    return f"job-{number}"


async def use(ledger: Ledger, setting: str) -> LimitUse:
    credits = await ledger.credits(ME, 2)
    (found,) = (each for each in credits.limits if each.setting == setting)
    return found


async def test_an_empty_ledger_has_spent_nothing_and_uses_no_limit(store: Store) -> None:
    """Every limit has its value, and nothing that is used ever frees."""
    credits = await store.ledger(LIMITS).credits(ME, 2)

    assert (credits.spent, credits.balance) == (Totals(0, 0, 0, 0), None)
    assert credits.refusal is None
    assert credits.limits == [
        LimitUse(JOB, 50),
        LimitUse(DAY, 100, 0),
        LimitUse(FLIGHT, 5, 0),
        LimitUse(MINUTE, 6, 0),
    ]


async def test_spent_is_what_was_charged_in_24_hours_and_in_all(store: Store) -> None:
    """Across restarts. What PixelDojo has not named is counted as a job, not as credits."""
    first = store.ledger(LIMITS)
    await bought(first, 1, credit_cost=10)
    store.now += timedelta(hours=23)
    await bought(first, 2, credit_cost=2.5)
    await bought(first, 3)
    await store.end(first)
    ledger = store.ledger(LIMITS)
    soon = await ledger.credits(ME, 2)
    store.now += timedelta(hours=1)
    later = await ledger.credits(ME, 2)

    assert soon.spent == Totals(3, 12.5, 12.5, 1)
    assert later.spent == Totals(3, 2.5, 12.5, 1)
    assert (await ledger.credits("another account", 2)).spent == Totals(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("state", "unpriced"),
    [(state, int(state not in FREE_OF_CHARGE | {State.QUEUED})) for state in State],
)
async def test_job_whose_cost_is_not_known_is_never_called_free(
    store: Store, state: State, unpriced: int
) -> None:
    """Only what was refused, not sent or is queued certainly cost nothing (promises 10)."""
    ledger = store.ledger(LIMITS)
    await record_in(ledger, state)

    assert (await ledger.credits(ME, 2)).spent == Totals(unpriced, 0, 0, unpriced)


async def test_balance_is_the_last_one_that_was_reported_with_its_date(store: Store) -> None:
    """A later answer without a balance does not hide it, and makes it no newer."""
    ledger = store.ledger(LIMITS)
    await bought(ledger, 1, credits_remaining=90)
    store.now += timedelta(minutes=5)
    await bought(ledger, 2, credits_remaining=0)
    store.now += timedelta(minutes=5)
    await bought(ledger, 3)

    credits = await ledger.credits(ME, 2)
    assert credits.balance == Balance(0, START + timedelta(minutes=5))


async def test_day_limit_frees_when_its_oldest_job_leaves_the_day(store: Store) -> None:
    """A job counts as it does in a claim: as its cost, or as what the last one cost until then."""
    ledger = store.ledger(LIMITS)
    await bought(ledger, 1, credit_cost=10)
    store.now += timedelta(hours=1)
    await bought(ledger, 2)

    frees_at = FreesAt(23 * 3_600, START + timedelta(hours=24))
    assert await use(ledger, DAY) == LimitUse(DAY, 100, 20, frees_at)


async def test_places_in_flight_are_those_of_the_jobs_that_run(store: Store) -> None:
    """They free when a job ends, which nobody knows; an unknown outcome gives up after an hour."""
    ledger = store.ledger(LIMITS)
    unknown = await record_in(ledger, State.UNKNOWN)
    store.now += timedelta(minutes=10)
    running = await bought(ledger, 2)

    frees_at = FreesAt(3_000, START + timedelta(hours=1))
    ids = (unknown.submission_id, running)
    assert await use(ledger, FLIGHT) == LimitUse(FLIGHT, 5, 2, frees_at, ids)
    store.now += timedelta(minutes=50)
    assert await use(ledger, FLIGHT) == LimitUse(FLIGHT, 5, 1, None, (running,))


async def test_requests_a_minute_free_one_by_one(store: Store) -> None:
    ledger = store.ledger(LIMITS)
    for number in range(3):
        await bought(ledger, number)
        store.now += timedelta(seconds=10)

    frees_at = FreesAt(30, START + timedelta(seconds=60))
    assert await use(ledger, MINUTE) == LimitUse(MINUTE, 6, 3, frees_at)


@pytest.mark.parametrize(
    ("limits", "estimate", "setting"),
    [
        (SpendingLimits(None, None, None, None), None, None),
        (SpendingLimits(2, 4, 2, 2), 2, None),
        (SpendingLimits(1, 4, 2, 2), 2, JOB),
        (SpendingLimits(2, 3, 2, 2), 2, DAY),
        (SpendingLimits(None, 4, 2, 2), 3, DAY),
        (SpendingLimits(None, 4, 1, 2), 2, FLIGHT),
        (SpendingLimits(None, 4, 2, 1), 2, MINUTE),
        (SpendingLimits(2, None, None, None), None, JOB),
        (SpendingLimits(None, 0, None, None), 2, DAY),
    ],
)
async def test_refusal_is_the_one_that_a_claim_would_meet(
    store: Store, limits: SpendingLimits, estimate: float | None, setting: str | None
) -> None:
    """One rule decides both, so that no answer promises what the next one refuses (ours)."""
    first = store.ledger()
    await bought(first, 1, credit_cost=2)
    await store.end(first)
    ledger = store.ledger(limits)
    before = (await ledger.credits(ME, estimate)).refusal
    met = None
    try:
        await ledger.claim(ME, wanted(2), generated_seed=2, estimate=estimate)
    except Exception as refused:
        met = refused

    assert (before and before.setting) == setting
    assert str(before) == str(met)
