"""What every ledger engine promises: an engine joins by one line in `stores.STORES`."""

import asyncio
import itertools
import json
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import pytest

from tests.ledger import stores
from tests.ledger.stores import FILM, ME, START, WANTED, Store, brought, claimed, sent, told, wanted
from wan_mcp.ledger.contract import Fenced, Ledger
from wan_mcp.ledger.record import LIVE, Record, State
from wan_mcp.ledger.spending_limits import FreesAt, LimitReached, SpendingLimits
from wan_mcp.models import JobStatus, Replacement
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.reply import Reply

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger

MOVES = {
    State.SENDING: {State.INTENT},
    State.ACCEPTED: {State.UNKNOWN},
    State.REFUSED: {State.SENDING},
    State.NOT_SENT: {State.INTENT, State.SENDING, State.UNKNOWN},
    State.UNKNOWN: {State.SENDING},
    State.LOST: {State.ACCEPTED},
}
"""Written out once more, so that a change of the engine's table is noticed."""


async def opened(*ledgers: Ledger) -> None:
    """Ready, so that what follows happens at the same moment."""
    for ledger in ledgers:
        await ledger.recover()


async def move(ledger: Ledger, record: Record, state: State) -> Record:
    if state is State.SENDING:
        return await sent(ledger, record)
    if state is State.ACCEPTED:
        return await ledger.match(record, told(job_id=record.job_id or "job-1"))
    return await ledger.conclude(record, state, "the reason")


async def bring_on(ledger: Ledger, record: Record, state: State) -> None:
    """Bring a record that is being sent to another state, as other processes would."""
    if state is State.REFUSED:
        await ledger.conclude(record, state, "refused")
    elif state not in (State.INTENT, State.SENDING):
        await ledger.conclude(record, State.UNKNOWN, "no answer")
        if state is State.NOT_SENT:
            await ledger.conclude(record, state, "no job in the list")
        elif state is not State.UNKNOWN:
            await ledger.match(record, told(job_id="job-matched"))
        if state is State.LOST:
            await ledger.conclude(record, state, "404 three times")
        elif state in (State.COMPLETED, State.FAILED):
            await ledger.record_update(ME, told(JobStatus(state), job_id="job-matched"))


# Claims


async def test_claim_writes_down_what_will_be_sent(ledger: Ledger) -> None:
    """The row exists before anything is sent, with the planted seed beside the arguments. (ours)"""
    record = await claimed(ledger)

    assert record.state is State.INTENT
    assert record.submission_id.startswith("sub_")
    assert record.public_id == record.submission_id
    assert record.job is None
    assert (record.seed, record.seed_generated) == (7, True)
    assert record.arguments == {
        "video": "https://media.example/clip.mp4",
        "character_image": "https://media.example/face.png",
        "seconds": 5,
    }
    assert record.created_at == START
    assert await ledger.find(ME, record.submission_id) == record


async def test_given_seed_is_kept_and_not_replaced(ledger: Ledger) -> None:
    """The caller's seed wins over the planted one, however large: no limit is known. (ours)"""
    record = await claimed(ledger, wanted(10**30))

    assert (record.seed, record.seed_generated) == (10**30, False)
    assert record.arguments["seed"] == 10**30


@pytest.mark.parametrize("state", sorted(LIVE))
async def test_equal_claim_gets_the_live_row(ledger: Ledger, state: State) -> None:
    """While a request is live in any state, an equal one joins it and pays nothing. (ours)"""
    record = await brought(ledger, state)
    again = await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)

    assert (again.record, again.created, again.query_differs) == (record, False, False)


@pytest.mark.parametrize("state", [State.FAILED, State.REFUSED, State.NOT_SENT])
async def test_claim_after_an_end_without_film_is_new(ledger: Ledger, state: State) -> None:
    """A new call after a failure is a new request. (ours)"""
    record = await brought(ledger, state)
    again = await claimed(ledger)

    assert again.submission_id != record.submission_id


@pytest.mark.parametrize("end", [State.COMPLETED, State.LOST])
async def test_ended_job_answers_for_fifteen_minutes(
    store: Store, ledger: Ledger, end: State
) -> None:
    """A repeated call soon after gets what was paid for, a later one another take. (ours)"""
    store.now += timedelta(minutes=1)
    record = await brought(ledger, end)
    store.now += timedelta(minutes=14, seconds=59)
    soon = await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)
    store.now += timedelta(seconds=1)
    later = await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)

    assert (soon.record, soon.created) == (record, False)
    assert later.created


@pytest.mark.parametrize(("ahead", "joins"), [(14, True), (16, False)])
async def test_job_ended_in_the_future_answers_within_the_window(
    store: Store, ledger: Ledger, ahead: int, joins: bool
) -> None:
    """A clock that was once wrong must not make one film answer for years. (ours)"""
    store.now = START + timedelta(minutes=ahead)
    await brought(ledger, State.COMPLETED)
    store.now = START
    again = await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)

    assert again.created is not joins


@pytest.mark.parametrize("state", [*sorted(LIVE), State.COMPLETED, State.LOST])
async def test_planted_seed_given_back_joins_its_job(ledger: Ledger, state: State) -> None:
    """The seed that was told is the same request spelt out: it is not paid again. (ours)"""
    record = await brought(ledger, state)
    seen = await ledger.equal(ME, wanted(7))
    again = await ledger.claim(ME, wanted(7), generated_seed=8, estimate=2.0)
    other = await ledger.claim(ME, wanted(6), generated_seed=8, estimate=2.0)

    assert (again.record, again.created, again.query_differs) == (record, False, False)
    assert seen == record
    assert other.created


async def test_planted_seed_with_another_argument_pays(ledger: Ledger) -> None:
    """Another length, or an ended film's newly signed clip, is another film. (ours)"""
    await brought(ledger, State.COMPLETED)
    longer = wanted(7).model_copy(update={"seconds": 6})
    signed_anew = wanted(7).model_copy(update={"video": "https://media.example/clip.mp4?sig=b"})

    assert (await claimed(ledger, longer)).seed == 7
    assert (await claimed(ledger, signed_anew)).seed == 7


@pytest.mark.parametrize("end", [State.FAILED, State.REFUSED, State.NOT_SENT])
async def test_planted_seed_of_a_failure_pays(ledger: Ledger, end: State) -> None:
    """A new call after a failure is a new request, with its seed spelt out too. (ours)"""
    await brought(ledger, end)

    await claimed(ledger, wanted(7))


async def test_seed_of_the_callers_own_is_not_taken_for_planted(ledger: Ledger) -> None:
    """A call without a seed asks for any take, so it does not join a chosen one. (ours)"""
    await brought(ledger, State.ACCEPTED, wanted(7))

    await claimed(ledger, WANTED)


async def test_newly_signed_url_joins_the_live_job_only(ledger: Ledger) -> None:
    """Only the query differs: one clip while it runs, but perhaps another's film. (ours)"""
    signed_anew = WANTED.model_copy(update={"video": "https://media.example/clip.mp4?sig=b"})
    record = await brought(ledger, State.ACCEPTED)
    joined = await ledger.claim(ME, signed_anew, generated_seed=8, estimate=2.0)
    await ledger.record_update(ME, told(JobStatus.COMPLETED, job_id=record.job_id))
    after = await ledger.claim(ME, signed_anew, generated_seed=8, estimate=2.0)

    assert (joined.record, joined.created, joined.query_differs) == (record, False, True)
    assert after.created


async def test_other_seed_is_another_request(ledger: Ledger) -> None:
    """Another take is had by another seed. (ours)"""
    assert (await claimed(ledger, wanted(1))).submission_id != (
        await claimed(ledger, wanted(2))
    ).submission_id


async def test_accounts_do_not_see_each_other(ledger: Ledger) -> None:
    """An equal request, a handle or a job id of another account is as good as none. (ours)"""
    created = await brought(ledger, State.ACCEPTED)
    theirs = await ledger.claim("another", WANTED, generated_seed=7, estimate=2.0)
    learnt = await ledger.record_update("another", told(JobStatus.FAILED, job_id=created.job_id))

    assert theirs.created
    assert learnt.record.submission_id != created.submission_id
    assert await ledger.find(ME, created.submission_id) == created
    assert await ledger.find("another", created.submission_id) is None
    assert await ledger.recent(ME) == [created]


async def test_many_tasks_claiming_at_once_have_one_winner(ledger: Ledger) -> None:
    """Two equal calls at once in one process: one sends. (ours)"""
    claims = await asyncio.gather(
        *(ledger.claim(ME, WANTED, generated_seed=seed, estimate=2.0) for seed in range(20))
    )

    assert sum(claim.created for claim in claims) == 1
    assert len({claim.record.submission_id for claim in claims}) == 1


async def test_many_threads_claiming_at_once_have_one_winner_each(store: Store) -> None:
    """Four ledgers, each with its own thread and connection: one winner for every key. (ours)"""
    ledgers = [store.ledger() for _ in range(4)]
    await opened(*ledgers)
    claims = await asyncio.gather(
        *(
            ledger.claim(ME, wanted(number), generated_seed=1, estimate=2.0)
            for number, ledger in itertools.product(range(10), ledgers)
        )
    )

    assert sum(claim.created for claim in claims) == 10
    assert len({claim.record.submission_id for claim in claims}) == 10


# States


@pytest.mark.parametrize("state", State)
async def test_only_listed_moves_pass_the_fence(ledger: Ledger, state: State) -> None:
    """Each state is entered from the right ones; else nothing changes and it is said. (ours)"""
    for number, (target, before) in enumerate(MOVES.items()):
        record = await brought(ledger, state, wanted(number))
        if state in before:
            assert (await move(ledger, record, target)).state is target
            continue
        with pytest.raises(Fenced, match=f"Request .* is {state}"):
            await move(ledger, record, target)
        assert await ledger.find(ME, record.submission_id) == record


@pytest.mark.parametrize("state", [State.INTENT, State.SENDING])
async def test_unsettled_row_obeys_its_owner_only(
    store: Store, ledger: Ledger, state: State
) -> None:
    """No other process moves a submit that is under way. (ours)"""
    record = await brought(ledger, state)
    other = store.ledger()
    for target in MOVES:
        with pytest.raises(Fenced):
            await move(other, record, target)

    assert await ledger.find(ME, record.submission_id) == record


@pytest.mark.parametrize("state", State)
async def test_the_answer_to_a_sent_request_is_recorded_whatever_became_of_it(
    ledger: Ledger, state: State
) -> None:
    """Another process may have declared the payer dead; the job id is paid for (ours)."""
    record = await brought(ledger, State.INTENT)
    await ledger.commit_sending(record)
    await bring_on(ledger, record, state)

    accepted = await ledger.accept(record, told(job_id="job-paid"))

    found = await ledger.find(ME, "job-paid")
    assert found == accepted
    assert found is not None
    assert not found.from_elsewhere
    assert (await ledger.find(ME, record.submission_id)) is not None


async def test_an_answer_whose_record_is_gone_gets_its_record_back(
    store: Store, ledger: Ledger
) -> None:
    """A store may lose its last commits; the process that sent the request knows it (ours)."""
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    store.forget(record.submission_id)

    accepted = await ledger.accept(record, told())

    assert accepted.submission_id == record.submission_id
    assert accepted.arguments == record.arguments
    assert await ledger.find(ME, "job-1") == accepted


async def test_an_answer_that_comes_after_its_equal_was_sent_is_listed_beside_it(
    ledger: Ledger,
) -> None:
    """Both were paid: both are listed and count as spent, and the live one is joined (ours)."""
    first = await claimed(ledger)
    await ledger.commit_sending(first)
    await ledger.conclude(first, State.UNKNOWN, "no answer")
    await ledger.conclude(first, State.NOT_SENT, "no job in the list")
    second = await claimed(ledger)

    late = await ledger.accept(first, told())

    assert late.job_id == "job-1"
    assert {record.submission_id for record in await ledger.recent(ME)} == {
        first.submission_id,
        second.submission_id,
    }
    joined = await ledger.claim(ME, WANTED, generated_seed=9, estimate=2.0)
    assert (joined.created, joined.record.submission_id) == (False, second.submission_id)


async def test_any_process_may_settle_an_unknown(store: Store, ledger: Ledger) -> None:
    """A reconciliation elsewhere finds the job: the row goes on as accepted. (ours)"""
    record = await brought(ledger, State.UNKNOWN)
    found = await store.ledger().match(record, told())

    assert (found.state, found.job_id, found.error) == (State.ACCEPTED, "job-1", None)
    assert found.next_check_at is None


@pytest.mark.parametrize("state", [State.INTENT, State.SENDING, State.COMPLETED])
async def test_submit_cannot_be_concluded_as_something_else(ledger: Ledger, state: State) -> None:
    """Those states have their own methods. (ours)"""
    record = await claimed(ledger)
    with pytest.raises(ValueError, match="cannot be concluded"):
        await ledger.conclude(record, state, "x")


async def test_move_of_an_unknown_handle_is_fenced(ledger: Ledger) -> None:
    """A row that does not exist cannot be sent. (ours)"""
    missing = (await claimed(ledger)).model_copy(update={"submission_id": "sub_none"})
    with pytest.raises(Fenced, match="no request"):
        await ledger.commit_sending(missing)


async def test_each_step_is_dated(store: Store, ledger: Ledger) -> None:
    """Created, sent, accepted and ended have their own times. (ours)"""
    record = await claimed(ledger)
    store.now += timedelta(seconds=1)
    await ledger.commit_sending(record)
    store.now += timedelta(seconds=1)
    await ledger.accept(record, told())
    store.now += timedelta(seconds=1)
    record = (await ledger.record_update(ME, told(JobStatus.COMPLETED))).record

    dates = (record.created_at, record.sent_at, record.accepted_at, record.ended_at)
    assert dates == tuple(START + timedelta(seconds=seconds) for seconds in range(4))


async def test_submit_answered_with_a_finished_job_is_completed(ledger: Ledger) -> None:
    """An answer may already carry the end. (assumed)"""
    record = await brought(ledger, State.SENDING)
    record = await ledger.accept(record, told(JobStatus.COMPLETED, video_url=FILM))

    assert (record.state, record.video_url) == (State.COMPLETED, FILM)


# What polls tell


async def test_everything_told_of_a_job_is_kept(ledger: Ledger) -> None:
    """The row gives back the job as it was told, also to another caller of the model. (ours)"""
    await brought(ledger, State.ACCEPTED)
    job = told(
        JobStatus.COMPLETED,
        vendor_status="succeeded",
        video_url=FILM,
        expires_at=datetime(9999, 12, 31, tzinfo=UTC),
        credit_cost=2.5,
        credits_remaining=97.25,
        note="an output was left out",
    )
    learnt = await ledger.record_update(ME, job)
    record = await ledger.find(ME, "job-1")

    assert record == learnt.record
    assert record is not None
    assert record.job == job


async def test_poorer_news_erases_nothing(ledger: Ledger) -> None:
    """Only the answer to the submit has the balance; a poll without it leaves it. (vendor)"""
    record = await brought(ledger, State.SENDING)
    await ledger.accept(record, told(credit_cost=2, credits_remaining=98))
    record = (await ledger.record_update(ME, told(vendor_status="processing"))).record

    assert (record.credit_cost, record.credits_remaining) == (2, 98)
    assert record.vendor_status == "processing"


@pytest.mark.parametrize("end", [JobStatus.COMPLETED, JobStatus.FAILED])
@pytest.mark.parametrize("later", JobStatus)
async def test_end_of_a_job_is_final(ledger: Ledger, end: JobStatus, later: JobStatus) -> None:
    """A later word that contradicts the end is ignored, and reported as ignored. (ours)"""
    record = await brought(ledger, State(end))
    learnt = await ledger.record_update(ME, told(later, job_id=record.job_id))

    assert learnt.record.state is State(end)
    assert learnt.ignored is (later is not end)
    assert learnt.record.ended_at == record.ended_at


async def test_film_told_after_the_end_is_added(ledger: Ledger) -> None:
    """Completed without a usable output is asked again; what comes then is kept. (ours)"""
    record = await brought(ledger, State.COMPLETED)
    learnt = await ledger.record_update(
        ME, told(JobStatus.COMPLETED, job_id=record.job_id, video_url=f"{FILM}#t=1")
    )

    assert (learnt.record.video_url, learnt.ignored) == (FILM, False)


@pytest.mark.parametrize("word", [JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED])
async def test_lost_job_yields_to_a_verdict_only(ledger: Ledger, word: JobStatus) -> None:
    """Lost is our conclusion: the vendor's verdict beats it, its "pending" does not. (ours)"""
    record = await brought(ledger, State.LOST)
    learnt = await ledger.record_update(ME, told(word, job_id=record.job_id))

    assert learnt.ignored is (word is JobStatus.RUNNING)
    assert learnt.record.state == (State.LOST if learnt.ignored else word)


async def test_job_from_elsewhere_is_kept_without_spending(store: Store) -> None:
    """A job submitted without this ledger keeps its result and uses up no cap. (ours)"""
    ledger = store.ledger(SpendingLimits(None, 2, 1, 1))
    record = (await ledger.record_update(ME, told(credit_cost=50))).record

    assert (record.state, record.from_elsewhere, record.arguments) == (State.ACCEPTED, True, {})
    assert record.public_id == "job-1"
    assert (
        await ledger.record_update(ME, told(JobStatus.FAILED))
    ).record.submission_id == record.submission_id
    await claimed(ledger)


@pytest.mark.parametrize("known", [JobStatus.RUNNING, JobStatus.COMPLETED])
async def test_job_read_before_its_submit_was_answered_is_one_row(
    ledger: Ledger, known: JobStatus
) -> None:
    """A list may tell of the job first, even of its end: the submit's row takes it over. (ours)"""
    record = await brought(ledger, State.SENDING)
    read = (await ledger.record_update(ME, told(known, video_url=FILM))).record
    record = await ledger.accept(record, told(video_url=FILM, credit_cost=2))

    assert (record.state, record.video_url, record.credit_cost) == (read.state, FILM, 2)
    assert await ledger.recent(ME) == [record]


async def test_one_job_id_for_two_submits_keeps_both(ledger: Ledger) -> None:
    """Should PixelDojo give one id twice, no row is lost and both learn of the end. (assumed)"""
    for number in range(2):
        record = await brought(ledger, State.SENDING, wanted(number))
        await ledger.accept(record, told())
    await ledger.record_update(ME, told(JobStatus.FAILED, error="no face"))

    assert [(record.state, record.error) for record in await ledger.recent(ME)] == [
        (State.FAILED, "no face"),
        (State.FAILED, "no face"),
    ]


async def test_lost_answer_cannot_take_the_job_of_another_request(ledger: Ledger) -> None:
    """Two requests that shared one job would hide that a second may have been paid. (ours)"""
    first = await brought(ledger, State.SENDING, wanted(1))
    lost = await brought(ledger, State.UNKNOWN, wanted(2))
    await ledger.accept(first, told())
    with pytest.raises(Fenced, match="belongs to another request"):
        await ledger.match(lost, told())

    assert await ledger.find(ME, lost.submission_id) == lost


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.9999999Z", "1970-12-31T23:59:59Z"])
async def test_end_of_time_in_an_answer_keeps_the_job(ledger: Ledger, text: str) -> None:
    """A date that means "never" must not make a paid job's id unstorable. (ours)"""
    record = await brought(ledger, State.SENDING)
    body = {"jobId": "job-1", "status": "pending", "expiresAt": text}
    record = await ledger.accept(record, wire.accepted(Reply(200, json.dumps(body).encode())))

    assert (record.job_id, record.expires_at) == ("job-1", None)


async def test_time_that_no_date_can_hold_reads_as_none(ledger: Ledger) -> None:
    """Rounding may lead past the last date; the row has to be readable all the same. (ours)"""
    record = await brought(ledger, State.SENDING)
    await ledger.accept(record, told(expires_at=datetime.max.replace(tzinfo=UTC)))
    [record] = await ledger.recent(ME)

    assert (record.job_id, record.expires_at) == ("job-1", None)


async def test_text_that_is_no_utf8_is_kept_readable(ledger: Ledger) -> None:
    """Half a surrogate pair in the vendor's JSON cannot make the answer unstorable. (ours)"""
    record = await brought(ledger, State.SENDING)
    record = await ledger.accept(record, told(JobStatus.FAILED, error="bad \ud800 text"))

    assert record.error == "bad ? text"


# Accounts


async def test_account_names_the_key_without_holding_it(store: Store, ledger: Ledger) -> None:
    """One name for a key at an API base, in every process; another for any other. (ours)"""
    name = await ledger.account("https://pixeldojo.ai/api/v1", "pd_secret")
    same = await store.ledger().account("HTTPS://PixelDojo.ai:443/api/v1/", "pd_secret")
    other_key = await ledger.account("https://pixeldojo.ai/api/v1", "pd_other")
    sandbox = await ledger.account("http://127.0.0.1:8080/api/v1", "pd_secret")

    assert same == name
    assert len({name, other_key, sandbox}) == 3
    assert "pd_secret" not in name


# Caps


async def refusal(ledger: Ledger, request: Replacement, estimate: float | None = 2) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await ledger.claim(ME, request, generated_seed=1, estimate=estimate)
    return caught.value


@pytest.mark.parametrize("estimate", [10.5, None])
async def test_job_above_the_cap_per_job_is_refused(store: Store, estimate: float | None) -> None:
    """A cap per job also refuses a price that cannot be had: it could not be kept. (ours)"""
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
    await ledger.accept(record, told(JobStatus.FAILED, job_id=f"job-{number}"))


async def test_day_of_spending_slides_across_restarts(store: Store) -> None:
    """What was spent frees up 24 hours later, and not by starting the server again. (ours)"""
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


async def test_job_dearer_than_a_whole_day_never_fits(store: Store) -> None:
    """No time is promised at which it would. (ours)"""
    refused = await refusal(store.ledger(SpendingLimits(None, 10, None, None)), WANTED, 11)

    assert (refused.frees_at, refused.retry_safe) == (None, False)


@pytest.mark.parametrize(
    ("state", "counts"),
    [(state, state not in (State.REFUSED, State.NOT_SENT)) for state in State],
)
async def test_day_counts_all_that_may_have_cost(store: Store, state: State, counts: bool) -> None:
    """Unknown, failed and even an intent count; refused and unsent do not. (ours)"""
    ledger = store.ledger(SpendingLimits(None, 3, None, None))
    await brought(ledger, state)
    if counts:
        assert (await refusal(ledger, wanted(1))).used == 2
    else:
        await claimed(ledger, wanted(1))


async def test_charge_replaces_the_estimate(store: Store) -> None:
    """Once PixelDojo said what a job costs, that counts; nothing below zero does. (ours)"""
    ledger = store.ledger(SpendingLimits(None, 10, None, None))
    for number, cost in enumerate((-50, 9)):
        record = await brought(ledger, State.SENDING, wanted(number))
        await ledger.accept(record, told(credit_cost=cost, job_id=f"job-{number}"))

    assert (await refusal(ledger, wanted(3))).used == 9


async def test_first_job_of_unknown_price_takes_the_whole_day(store: Store) -> None:
    """One is let through and tells the price; then the dearest job known stands for it. (ours)"""
    ledger = store.ledger(SpendingLimits(None, 10, None, None))
    record = await claimed(ledger, wanted(1), None)
    refused = await refusal(ledger, wanted(2), None)
    await ledger.commit_sending(record)
    await ledger.accept(record, told(credit_cost=4))
    await claimed(ledger, wanted(2), None)

    assert refused.used == 10
    assert (await refusal(ledger, wanted(3), None)).used == 8


@pytest.mark.parametrize("estimate", [None, 0.0, 2.0])
async def test_day_without_credits_refuses_every_job(store: Store, estimate: float | None) -> None:
    """Zero is the operator's word for "nothing", whatever the price. (ours)"""
    refused = await refusal(store.ledger(SpendingLimits(None, 0, None, None)), WANTED, estimate)

    assert (refused.setting, refused.frees_at) == ("WAN_MCP_MAX_CREDITS_PER_DAY", None)


async def test_credits_are_told_with_every_digit(store: Store) -> None:
    """1.23457e+06 is no amount that a person reads. (ours)"""
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
async def test_future_row_counts_as_long_as_a_past_one(
    store: Store, limits: SpendingLimits, counts: timedelta, no_more: timedelta
) -> None:
    """A clock that was once wrong must not lock the account until that day comes. (ours)"""
    ledger = store.ledger(limits)
    await brought(ledger, State.UNKNOWN)
    store.now = START - counts
    await refusal(ledger, wanted(1))
    store.now = START - no_more

    await claimed(ledger, wanted(1))


async def test_full_flight_names_the_jobs_to_look_at(store: Store) -> None:
    """A look at a job that has ended frees its place, which no waiting alone does. (ours)"""
    ledger = store.ledger(SpendingLimits(None, None, 2, None))
    sent = await brought(ledger, State.UNKNOWN, wanted(1))
    store.now += timedelta(seconds=1)
    running = await brought(ledger, State.ACCEPTED, wanted(2))
    refused = await refusal(ledger, wanted(3))

    assert f"get_job_status for {sent.submission_id}, {running.job_id}: " in refused.next_step
    assert "frees its place" in refused.next_step
    assert "Then repeat the same call." in refused.next_step
    assert "WAN_MCP_MAX_IN_FLIGHT" in refused.next_step
    assert refused.figures is not None
    assert refused.figures.blocking_job_ids == (sent.submission_id, running.job_id)
    assert (refused.retry_safe, refused.wait_seconds) == (False, None)


async def test_full_flight_names_five_jobs_at_most(store: Store) -> None:
    """The oldest are the likeliest to have ended. (ours)"""
    ledger = store.ledger(SpendingLimits(None, None, 7, None))
    records = []
    for number in range(7):
        store.now += timedelta(seconds=1)
        records.append(await brought(ledger, State.ACCEPTED, wanted(number)))
    refused = await refusal(ledger, wanted(8))

    named = [str(record.job_id) in refused.next_step for record in records]
    assert named == [True] * 5 + [False] * 2


async def test_flight_of_nothing_names_no_job(store: Store) -> None:
    """With a cap of 0 only the setting helps. (ours)"""
    refused = await refusal(store.ledger(SpendingLimits(None, None, 0, None)), WANTED)

    assert (refused.next_step, refused.retry_safe) == (LimitReached.advice, False)


async def test_jobs_in_flight_are_capped(store: Store) -> None:
    """A job that ended makes room for the next. (ours)"""
    ledger = store.ledger(SpendingLimits(None, None, 2, None))
    await brought(ledger, State.INTENT, wanted(1))
    record = await brought(ledger, State.ACCEPTED, wanted(2))
    refused = await refusal(ledger, wanted(3))
    await ledger.record_update(ME, told(JobStatus.FAILED, job_id=record.job_id))

    assert refused.setting == "WAN_MCP_MAX_IN_FLIGHT"
    assert (refused.limit, refused.used, refused.frees_at) == (2, 2, None)
    await claimed(ledger, wanted(3))


async def test_lost_answers_do_not_lock_the_account_for_good(store: Store) -> None:
    """An unknown outcome counts as in flight for an hour only. (ours)"""
    ledger = store.ledger(SpendingLimits(None, None, 1, None))
    await brought(ledger, State.UNKNOWN)
    store.now += timedelta(minutes=59)
    await refusal(ledger, wanted(1))
    store.now += timedelta(minutes=1)

    await claimed(ledger, wanted(1))


async def test_submits_a_minute_are_capped(store: Store) -> None:
    """Refused requests count, because they were sent; unsent ones do not. (ours)"""
    ledger = store.ledger(SpendingLimits(None, None, None, 2))
    for number, state in enumerate((State.NOT_SENT, State.REFUSED, State.NOT_SENT)):
        await brought(ledger, state, wanted(number))
    store.now += timedelta(seconds=20)
    await brought(ledger, State.REFUSED, wanted(4))
    refused = await refusal(ledger, wanted(5))
    store.now = START + timedelta(minutes=1)

    assert refused.setting == "WAN_MCP_MAX_SUBMITS_PER_MINUTE"
    assert (refused.limit, refused.used) == (2, 2)
    assert refused.frees_at == FreesAt(40, store.now)
    await claimed(ledger, wanted(5))


@pytest.mark.parametrize(
    ("limits", "told"),
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
async def test_cap_of_one_is_told_in_the_singular(
    store: Store, limits: SpendingLimits, told: str
) -> None:
    """A user is shown these words. (ours)"""
    ledger = store.ledger(limits)
    await claimed(ledger, wanted(1), 1)

    assert (await refusal(ledger, wanted(2))).what.startswith(told)


async def test_cap_holds_against_claims_at_once(store: Store) -> None:
    """The check and the insert are one: two processes cannot both take the last place. (ours)"""
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


async def test_joining_a_live_job_meets_no_cap(store: Store) -> None:
    """An equal call costs nothing, so no cap stands against it. (ours)"""
    ledger = store.ledger(SpendingLimits(2, 2, 1, 1))
    record = await claimed(ledger)
    again = await ledger.claim(ME, WANTED, generated_seed=1, estimate=None)

    assert (again.created, again.record) == (False, record)


# Waiting on the winner


async def test_loser_wakes_when_the_winner_settles(ledger: Ledger) -> None:
    """In one process the news comes at once, without looking again. (ours)"""
    record = await brought(ledger, State.SENDING)
    seen: list[Record] = []

    async def wait() -> None:
        seen.append(await ledger.settled(record.submission_id, 60))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await ledger.find(ME, record.submission_id)  # by then the waiter has looked
            accepted = await ledger.accept(record, told())

    assert seen == [accepted]


async def test_loser_in_another_process_finds_the_news_by_looking(
    store: Store, ledger: Ledger
) -> None:
    """The ledger is the only thing the two share. (ours)"""
    record = await brought(ledger, State.SENDING)
    other = store.ledger(look_seconds=0)
    seen: list[Record] = []

    async def wait() -> None:
        seen.append(await other.settled(record.submission_id, 60))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await other.find(ME, record.submission_id)
            accepted = await ledger.accept(record, told())

    assert seen == [accepted]


async def test_waiting_for_a_settled_row_ends_at_once(ledger: Ledger) -> None:
    """An unknown outcome is settled too: nothing more is on the way. (ours)"""
    record = await brought(ledger, State.UNKNOWN)
    with anyio.fail_after(5):
        assert await ledger.settled(record.submission_id, 60) == record


async def test_waiting_ends_with_the_time(ledger: Ledger) -> None:
    """Time up is no error: the row as it is. (ours)"""
    record = await brought(ledger, State.SENDING)
    with anyio.fail_after(5):
        assert await ledger.settled(record.submission_id, 0) == record


async def test_waiting_on_a_dead_winner_ends(store: Store, ledger: Ledger) -> None:
    """A winner that died will never settle its row, so the waiter does. (ours)"""
    record = await brought(ledger, State.SENDING)
    other = store.ledger(look_seconds=0)
    await other.find(ME, record.submission_id)
    await store.end(ledger)
    with anyio.fail_after(5):
        assert (await other.settled(record.submission_id, 60)).state is State.UNKNOWN


# Recovery


@pytest.mark.parametrize(
    ("left", "becomes"),
    [(State.INTENT, State.NOT_SENT), (State.SENDING, State.UNKNOWN)],
)
async def test_rows_of_an_ended_process_are_settled_at_the_next_start(
    store: Store, ledger: Ledger, left: State, becomes: State
) -> None:
    """Before the commit point nothing was sent; after it nobody knows. (ours)"""
    record = await brought(ledger, left)
    await store.end(ledger)
    settled = await store.ledger().find(ME, record.submission_id)

    assert settled is not None
    assert settled.state is becomes
    assert settled.error
    assert settled.next_check_at == (START if becomes is State.UNKNOWN else None)


@pytest.mark.parametrize("left", [State.INTENT, State.SENDING])
async def test_recovery_leaves_living_processes_alone(
    store: Store, ledger: Ledger, left: State
) -> None:
    """A slow submit is not a dead one. (ours)"""
    record = await brought(ledger, left)

    assert await store.ledger().recover() == []
    assert await ledger.recover() == []
    assert await ledger.find(ME, record.submission_id) == record


async def test_two_recoveries_at_once_settle_each_row_once(store: Store, ledger: Ledger) -> None:
    """Several servers may start together after a crash. (ours)"""
    others = [store.ledger() for _ in range(4)]
    await opened(*others)
    records = [await brought(ledger, State.SENDING, wanted(number)) for number in range(5)]
    await store.end(ledger)
    settled = await asyncio.gather(*(other.recover() for other in others))

    submission_ids = [record.submission_id for records in settled for record in records]
    assert sorted(submission_ids) == sorted(record.submission_id for record in records)


async def test_claim_goes_past_the_intent_of_a_dead_process(store: Store, ledger: Ledger) -> None:
    """A process that runs on need not be restarted to repeat a call that died unsent. (ours)"""
    other = store.ledger()
    await other.recover()
    record = await brought(ledger, State.INTENT)
    await store.end(ledger)
    again = await claimed(other)

    assert again.submission_id != record.submission_id


async def test_settled_rows_outlive_their_process(store: Store, ledger: Ledger) -> None:
    """Accepted and ended jobs are as they were after a restart, the film's URL whole. (ours)"""
    accepted = await brought(ledger, State.ACCEPTED, wanted(1))
    record = await brought(ledger, State.SENDING, wanted(2))
    ended = await ledger.accept(record, told(JobStatus.COMPLETED, video_url=FILM))
    await store.end(ledger)

    assert await store.ledger().recent(ME) == [ended, accepted]
    assert ended.video_url == FILM


# Reads


async def test_row_is_found_by_either_id(ledger: Ledger) -> None:
    """Every tool takes the handle or the job id. (ours)"""
    record = await brought(ledger, State.ACCEPTED)
    assert record.job_id is not None

    assert record.public_id == record.job_id
    assert (
        await ledger.find(ME, record.submission_id)
        == await ledger.find(ME, record.job_id)
        == record
    )
    assert await ledger.find(ME, "job-none") is None


async def test_recent_rows_come_newest_first_with_all_live_ones(
    store: Store, ledger: Ledger
) -> None:
    """The limit cuts ended jobs only: what may still cost something is never hidden. (ours)"""
    records = []
    states = (State.UNKNOWN, State.ACCEPTED, State.FAILED, State.COMPLETED, State.FAILED)
    for number, state in enumerate(states):
        records.append(await brought(ledger, state, wanted(number)))
        store.now += timedelta(minutes=number % 2)
    unknown, accepted, failed, completed, last = records

    assert await ledger.recent(ME) == [last, completed, failed, accepted, unknown]
    assert await ledger.recent(ME, limit=1) == [last, accepted, unknown]
    assert await ledger.recent(ME, frozenset({State.COMPLETED}), 5) == [
        completed,
        accepted,
        unknown,
    ]


async def test_unknown_is_due_until_its_checks_say_otherwise(store: Store, ledger: Ledger) -> None:
    """Due at once, then when the last check said; None ends the automatic ones only. (ours)"""
    record = await brought(ledger, State.UNKNOWN)
    assert record.next_check_at == store.now
    record = await ledger.record_check(record, "not in the list yet", 15)
    assert record.next_check_at == store.now + timedelta(seconds=15)
    record = await ledger.record_check(record, "the list does not show seeds", None)

    assert record.next_check_at is None
    assert await ledger.unknowns(ME) == [record]
    assert (record.checks, record.findings) == (2, "the list does not show seeds")


async def test_check_of_a_known_outcome_is_fenced(ledger: Ledger) -> None:
    """A reconciliation that comes too late changes nothing. (ours)"""
    record = await brought(ledger, State.ACCEPTED)
    with pytest.raises(Fenced, match="of request sub_"):
        await ledger.record_check(record, "x", None)


# Cancelling


async def test_cancelled_caller_still_gets_what_was_done(ledger: Ledger) -> None:
    """A cancel during the commit cannot separate the caller from its row. (ours)"""
    record = await claimed(ledger)
    with anyio.CancelScope() as scope:
        scope.cancel()
        record = await ledger.conclude(record, State.NOT_SENT, "no net")

    assert record.state is State.NOT_SENT


async def test_call_begun_is_finished_after_its_task_is_cancelled(ledger: Ledger) -> None:
    """Even asyncio's own cancel, with other calls still in the queue, drops no write. (ours)"""
    record = await brought(ledger, State.SENDING)
    calls: list[Awaitable[object]] = [
        *(ledger.record_update(ME, told(job_id=f"other-{number}")) for number in range(20)),
        ledger.accept(record, told()),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await anyio.lowlevel.checkpoint()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    found = await ledger.find(ME, record.submission_id)

    assert all(task.cancelled() for task in tasks)
    assert found is not None
    assert found.state is State.ACCEPTED
    assert len(await ledger.recent(ME, limit=0)) == 21


async def test_servers_on_one_ledger_share_a_secret_for_each_purpose(store: Store) -> None:
    """What one replica has signed, another has to accept (ours)."""
    here, there = store.ledger(), store.ledger()

    assert await here.secret("a question") == await there.secret("a question")
    assert await here.secret("a question") != await here.secret("something else")
    assert len(await here.secret("a question")) == 32
