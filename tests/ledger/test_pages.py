"""The list of jobs in pages, and the totals of all jobs."""

import itertools
import random
from collections import Counter
from datetime import timedelta

import pytest

from tests.ledger import stores
from tests.ledger.stores import (
    ME,
    Store,
    change,
    claimed,
    record_in,
    reported,
    rows_of,
    sent,
    wanted,
)
from wan_mcp.ledger.contract import Ledger, Page
from wan_mcp.ledger.record import LIVE, Record, State
from wan_mcp.ledger.status import view_of_record
from wan_mcp.models import Cursor, JobStatus, cursor
from wan_mcp.surface.answers.results import list_result

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger

CHANGES = (
    "UPDATE jobs SET credit_cost = :cost WHERE number = :number",
    "UPDATE jobs SET credit_cost = NULL WHERE number = :number",
    "UPDATE jobs SET state = 'accepted' WHERE number = :number AND state = 'lost'",
    "UPDATE jobs SET state = 'failed' WHERE number = :number AND state = 'accepted'",
)
"""What another server may do to a job."""
EVERY_JOB = (
    "SELECT COUNT(*), COALESCE(SUM(credit_cost), 0.0), COUNT(*) - COUNT(credit_cost) FROM jobs "
    "WHERE account = :account AND digest IS NOT NULL AND state NOT IN ('not_sent', 'refused')"
)
"""The totals, from all records."""


async def page_of(ledger: Ledger, limit: int, after: Cursor | None = None) -> Page:
    page = await ledger.page(ME, None, limit, after)
    assert page is not None
    return page


def behind(record: Record) -> Cursor:
    """The cursor that leads behind a record."""
    return Cursor(record.submission_id, record.state not in LIVE)


async def test_first_page_is_the_list_of_recent_jobs(ledger: Ledger) -> None:
    """One rule for both (ours)."""
    states = (State.UNKNOWN, State.FAILED, State.COMPLETED, State.ACCEPTED, State.REFUSED)
    for number, state in enumerate(states):
        await record_in(ledger, state, wanted(number))

    for limit in (0, 1, 5):
        assert (await page_of(ledger, limit)).records == await ledger.recent(ME, None, limit)


async def test_behind_an_ended_job_come_older_ended_ones_only(store: Store, ledger: Ledger) -> None:
    """The live ones were on the pages before (ours)."""
    old = [await record_in(ledger, State.FAILED, wanted(number)) for number in range(3)]
    await record_in(ledger, State.UNKNOWN, wanted(3))
    store.now += timedelta(minutes=1)
    new = await record_in(ledger, State.FAILED, wanted(4))

    assert (await page_of(ledger, 2, behind(new))).records == [old[2], old[1]]
    assert (await page_of(ledger, 2, behind(old[1]))).records == [old[0]]  # of the same moment
    assert (await page_of(ledger, 2, behind(old[0]))).records == []


async def test_behind_a_live_job_come_older_live_ones_and_the_newest_ended_ones(
    ledger: Ledger,
) -> None:
    """An ended job may be newer than all live ones; none has been shown yet (ours)."""
    unknown = [await record_in(ledger, State.UNKNOWN, wanted(number)) for number in range(3)]
    failed = [await record_in(ledger, State.FAILED, wanted(number)) for number in range(3, 6)]

    assert (await page_of(ledger, 2, behind(unknown[2]))).records == [
        *(failed[2], failed[1], unknown[1], unknown[0])
    ]


@pytest.mark.parametrize("seed", range(2))
async def test_pages_show_every_job_while_others_arrive_and_end(
    store: Store, ledger: Ledger, seed: int
) -> None:
    """No job is lost between two pages, and only one that ended meanwhile is shown again (ours)."""
    chance, numbers = random.Random(seed), itertools.count()
    limit = chance.choice([1, 2, 5])

    async def job(states: list[State]) -> Record:
        store.now += timedelta(seconds=chance.choice([0, 0, 60]))
        return await record_in(ledger, chance.choice(states), wanted(next(numbers)))

    held = [await job([State.UNKNOWN, State.FAILED, State.COMPLETED]) for _ in range(20)]
    shown: Counter[str] = Counter()
    live, after = set[str](), None
    while True:
        records = (await page_of(ledger, limit + 1, after)).records
        listed = list_result([view_of_record(each) for each in records], limit=limit)
        shown.update(line.job_id for line in listed.jobs or [])
        live |= {line.job_id for line in listed.jobs or [] if line.status == "unknown"}
        if listed.next_cursor is None:
            break
        after = cursor(listed.next_cursor)
        await job([State.FAILED, State.COMPLETED])
        unknowns = await ledger.unknowns(ME)
        if unknowns and chance.random() < 0.5:
            await ledger.conclude(chance.choice(unknowns), State.NOT_SENT, "no job in the list")

    assert {record.public_id for record in held} <= set(shown)
    assert {id for id, times in shown.items() if times > 1} <= live


async def test_live_jobs_beyond_one_page_are_shown_on_the_next(ledger: Ledger) -> None:
    """A request of unknown outcome may have been paid for; none stays unseen (ours)."""
    unknown = [await record_in(ledger, State.UNKNOWN, wanted(number)) for number in range(53)]
    first = list_result([view_of_record(each) for each in (await page_of(ledger, 11)).records])
    after = cursor(first.next_cursor or "")
    second = (await page_of(ledger, 11, after)).records

    assert len(first.jobs or []) == 50
    assert second == unknown[2::-1]


async def test_place_of_another_account_or_of_nobody_is_none(ledger: Ledger) -> None:
    """A page must not begin at a job that the caller cannot see (ours)."""
    record = await record_in(ledger, State.FAILED)

    assert await ledger.page("another-account", None, 5, behind(record)) is None
    assert await ledger.page(ME, None, 5, Cursor("sub_nobody", is_ended=True)) is None
    assert await ledger.page(ME, None, 5, behind(record)) is not None


@pytest.mark.parametrize("text", ["", "ended", "ended.", "closed.sub_1", "ended.a b", "ended.a\n"])
def test_text_of_no_cursor_is_none(text: str) -> None:
    """It is refused before the ledger is read (ours)."""
    assert cursor(text) is None
    assert cursor("ended.sub_1") == Cursor("sub_1", is_ended=True)
    assert str(cursor("open.sub_1")) == "open.sub_1"


async def test_totals_count_what_was_or_may_have_been_paid_for(
    store: Store, ledger: Ledger
) -> None:
    """As PixelDojo named the cost; what it has not named is counted apart, never guessed (ours)."""
    costs = {State.COMPLETED: 10.0, State.FAILED: 2.5, State.LOST: 4.0, State.ACCEPTED: 1.25}
    for number, (state, cost) in enumerate(costs.items()):
        record = await sent(ledger, await claimed(ledger, wanted(number), estimate=99))
        job = reported(job_id=f"job-{number}", credit_cost=cost)
        record = await ledger.accept(record, job)
        if state is State.LOST:
            await ledger.conclude(record, state, "404 three times")
        elif state is not State.ACCEPTED:
            await stores.confirmed(ledger, job.model_copy(update={"status": JobStatus(state)}))
        store.later(43_200)
    for number, state in enumerate((State.UNKNOWN, State.NOT_SENT, State.REFUSED), 4):
        await record_in(ledger, state, wanted(number))
    elsewhere = reported(JobStatus.COMPLETED, job_id="job-elsewhere", credit_cost=1_000)
    await ledger.record_update(ME, elsewhere)
    await ledger.record_update("another-account", elsewhere)
    totals = (await page_of(ledger, 1)).totals

    assert totals.jobs == 5
    assert totals.credits == sum(costs.values())
    assert totals.day_credits == costs[State.ACCEPTED]
    assert totals.without_cost == 1


async def test_totals_of_an_empty_ledger_are_zero(ledger: Ledger) -> None:
    """Not unknown: nothing was bought (ours)."""
    totals = (await page_of(ledger, 5)).totals

    assert (totals.jobs, totals.day_credits, totals.credits, totals.without_cost) == (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(2))
async def test_totals_are_those_of_all_jobs_whatever_was_added_up_when(
    store: Store, ledger: Ledger, seed: int
) -> None:
    """Also after a server that knows no totals has changed a job, which this one does by hand."""
    chance = random.Random(seed)
    await ledger.claim(ME, wanted(0), generated_seed=7, estimate=2)
    for number in range(1, 40):
        await record_in(ledger, chance.choice([State.COMPLETED, State.LOST]), wanted(number))
        changed = chance.choice(CHANGES)
        values = {"number": chance.randrange(1, number + 1), "cost": chance.choice([1.5, 2.25])}
        await change(ledger, changed, **values)
        if chance.random() < 0.3:
            await ledger.recover()
        shown = (await page_of(ledger, 1)).totals
        (expected,) = await rows_of(ledger, EVERY_JOB, account=ME)
        assert (shown.jobs, shown.credits, shown.without_cost) == expected
