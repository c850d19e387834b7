"""What every engine of the ledger promises. A new engine is one line in `stores.STORES`."""

import asyncio
import itertools
import json
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import pytest

from tests.ledger import stores
from tests.ledger.stores import (
    HANG_SECONDS,
    ME,
    START,
    VIDEO_URL,
    WANTED,
    Store,
    claimed,
    confirmed,
    opened,
    record_in,
    reported,
    sent,
    wanted,
)
from wan_mcp.ledger import rules
from wan_mcp.ledger.contract import Fenced, Ledger
from wan_mcp.ledger.queueing.order import Order
from wan_mcp.ledger.queueing.rules import queued
from wan_mcp.ledger.record import LIVE, ListReading, Record, SentInputs, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.models import JobStatus
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.reply import Reply

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger

CHANGES = {
    State.QUEUED: {State.INTENT, State.SENDING},
    State.SENDING: {State.INTENT},
    State.ACCEPTED: {State.UNKNOWN},
    State.REFUSED: {State.SENDING},
    State.NOT_SENT: {State.INTENT, State.SENDING, State.UNKNOWN},
    State.UNKNOWN: {State.SENDING},
    State.LOST: {State.ACCEPTED},
}
"""Repeated here, so that a change of `rules.MAY_FOLLOW` is noticed."""


async def change(ledger: Ledger, record: Record, state: State) -> Record:
    if state is State.SENDING:
        return await sent(ledger, record)
    if state is State.ACCEPTED:
        return await ledger.match(record, reported(job_id=record.job_id or "job-1"))
    if state is State.QUEUED:
        return await ledger.queue.put_back(queued(record, Order(wanted=WANTED)))
    return await ledger.conclude(record, state, "the reason")


async def advance(ledger: Ledger, record: Record, state: State) -> None:
    """Take a record that is being sent to another state, as other processes would."""
    if state is State.REFUSED:
        await ledger.conclude(record, state, "refused")
    elif state not in (State.INTENT, State.SENDING):
        await ledger.conclude(record, State.UNKNOWN, "no answer")
        if state is State.NOT_SENT:
            await ledger.conclude(record, state, "no job in the list")
        elif state is not State.UNKNOWN:
            await ledger.match(record, reported(job_id="job-matched"))
        if state is State.LOST:
            await ledger.conclude(record, state, "404 three times")
        elif state in (State.COMPLETED, State.FAILED):
            await ledger.record_update(ME, reported(JobStatus(state), job_id="job-matched"))


# Claims


async def test_claim_records_what_will_be_sent(ledger: Ledger) -> None:
    """The record exists before anything is sent, with the generated seed (promises 2)."""
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
    """A seed of the caller is used instead of the generated one, however large it is."""
    record = await claimed(ledger, wanted(10**30))

    assert (record.seed, record.seed_generated) == (10**30, False)
    assert record.arguments["seed"] == 10**30


@pytest.mark.parametrize("state", sorted(LIVE))
async def test_equal_claim_gets_the_live_record(ledger: Ledger, state: State) -> None:
    """While a request is live in any state, an equal one gets its record (promises 8)."""
    record = await record_in(ledger, state)
    again = await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)

    assert (again.record, again.created, again.query_differs) == (record, False, False)


@pytest.mark.parametrize("state", [State.FAILED, State.REFUSED, State.NOT_SENT])
async def test_claim_after_an_end_without_a_video_is_new(ledger: Ledger, state: State) -> None:
    """After a failure, an equal call is a new paid request (promises 8)."""
    record = await record_in(ledger, state)
    again = await claimed(ledger)

    assert again.submission_id != record.submission_id


@pytest.mark.parametrize("end", [State.COMPLETED, State.LOST])
async def test_ended_job_answers_for_fifteen_minutes(
    store: Store, ledger: Ledger, end: State
) -> None:
    """An equal call soon after the end gets the same video, a later one is new (promises 8)."""
    store.now += timedelta(minutes=1)
    record = await record_in(ledger, end)
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
    """A date from a wrong clock must not make one video the answer for years."""
    store.now = START + timedelta(minutes=ahead)
    await record_in(ledger, State.COMPLETED)
    store.now = START
    again = await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)

    assert again.created is not joins


@pytest.mark.parametrize("state", [*sorted(LIVE), State.COMPLETED, State.LOST])
async def test_generated_seed_given_back_joins_its_job(ledger: Ledger, state: State) -> None:
    """The caller knows the generated seed; naming it is the same request (promises 8)."""
    record = await record_in(ledger, state)
    seen = await ledger.equal(ME, wanted(7))
    again = await ledger.claim(ME, wanted(7), generated_seed=8, estimate=2.0)
    other = await ledger.claim(ME, wanted(6), generated_seed=8, estimate=2.0)

    assert (again.record, again.created, again.query_differs) == (record, False, False)
    assert seen == record
    assert other.created


async def test_generated_seed_with_another_argument_is_a_new_request(ledger: Ledger) -> None:
    """Another length makes another video, and so may a link signed again after the end."""
    await record_in(ledger, State.COMPLETED)
    longer = wanted(7).model_copy(update={"seconds": 6})
    signed_again = wanted(7).model_copy(update={"video": "https://media.example/clip.mp4?sig=b"})

    assert (await claimed(ledger, longer)).seed == 7
    assert (await claimed(ledger, signed_again)).seed == 7


@pytest.mark.parametrize("end", [State.FAILED, State.REFUSED, State.NOT_SENT])
async def test_generated_seed_of_a_failed_job_is_a_new_request(ledger: Ledger, end: State) -> None:
    """After a failure, an equal call is new, with its seed named too (promises 8)."""
    await record_in(ledger, end)

    await claimed(ledger, wanted(7))


async def test_seed_of_the_caller_is_not_taken_for_a_generated_one(ledger: Ledger) -> None:
    """A call without a seed asks for any video, so it does not join a chosen one."""
    await record_in(ledger, State.ACCEPTED, wanted(7))

    await claimed(ledger, WANTED)


async def test_url_signed_again_joins_the_live_job_only(ledger: Ledger) -> None:
    """Another query is the same link while the job is live, and maybe not later (promises 8)."""
    signed_again = WANTED.model_copy(update={"video": "https://media.example/clip.mp4?sig=b"})
    record = await record_in(ledger, State.ACCEPTED)
    joined = await ledger.claim(ME, signed_again, generated_seed=8, estimate=2.0)
    await ledger.record_update(ME, reported(JobStatus.COMPLETED, job_id=record.job_id))
    after = await ledger.claim(ME, signed_again, generated_seed=8, estimate=2.0)

    assert (joined.record, joined.created, joined.query_differs) == (record, False, True)
    assert after.created


async def test_link_in_another_spelling_joins_the_job(ledger: Ledger) -> None:
    """While it is live, and for fifteen minutes after its end where no link has a query."""
    signed = WANTED.model_copy(update={"video": "https://media.example/./%63lip.mp4?sig=b"})
    plain = WANTED.model_copy(update={"video": "https://media.example/clip.mp4"})
    spelt = WANTED.model_copy(update={"video": "https://media.example/./%63lip.mp4"})
    record = await claimed(ledger, plain)
    joined = await ledger.claim(ME, spelt, generated_seed=8, estimate=2.0)
    signed_too = await ledger.claim(ME, signed, generated_seed=8, estimate=2.0)
    await ledger.accept(await sent(ledger, record), reported(JobStatus.COMPLETED, job_id="job-1"))
    after = await ledger.claim(ME, spelt, generated_seed=8, estimate=2.0)
    signed_after = await ledger.claim(ME, signed, generated_seed=8, estimate=2.0)

    assert (joined.record, joined.created, joined.query_differs) == (record, False, False)
    assert (signed_too.created, signed_too.query_differs) == (False, True)
    assert (after.created, after.record.job_id) == (False, "job-1")
    assert signed_after.created


async def test_generated_seed_in_another_spelling_joins_its_job(ledger: Ledger) -> None:
    """The seed that we reported is given back with the link as another program writes it."""
    spelt = WANTED.model_copy(update={"video": "https://media.example/./clip.mp4"})
    record = await record_in(ledger, State.ACCEPTED)
    again = spelt.model_copy(update={"seed": record.seed})
    other = spelt.model_copy(update={"seed": (record.seed or 0) + 1})

    assert not (await ledger.claim(ME, again, generated_seed=8, estimate=2.0)).created
    assert (await ledger.claim(ME, other, generated_seed=8, estimate=2.0)).created


async def test_old_job_in_another_spelling_is_not_the_answer(store: Store, ledger: Ledger) -> None:
    """As with an equal spelling, another video is wanted after a while."""
    plain = WANTED.model_copy(update={"video": "https://media.example/clip.mp4"})
    spelt = WANTED.model_copy(update={"video": "https://media.example/./clip.mp4"})
    record = await sent(ledger, await claimed(ledger, plain))
    await ledger.accept(record, reported(JobStatus.COMPLETED, job_id="job-1"))
    store.now += timedelta(minutes=16)

    assert (await ledger.claim(ME, spelt, generated_seed=8, estimate=2.0)).created


async def test_another_seed_is_another_request(ledger: Ledger) -> None:
    """A caller gets another video by another seed (promises 8)."""
    assert (await claimed(ledger, wanted(1))).submission_id != (
        await claimed(ledger, wanted(2))
    ).submission_id


async def test_accounts_do_not_see_each_other(ledger: Ledger) -> None:
    """An equal request, a submission id and a job id are found in their own account only."""
    created = await record_in(ledger, State.ACCEPTED)
    theirs = await ledger.claim("another", WANTED, generated_seed=7, estimate=2.0)
    recorded = await ledger.record_update(
        "another", reported(JobStatus.FAILED, job_id=created.job_id)
    )

    assert theirs.created
    assert recorded.record.submission_id != created.submission_id
    assert await ledger.find(ME, created.submission_id) == created
    assert await ledger.find("another", created.submission_id) is None
    assert await ledger.recent(ME) == [created]


async def test_many_tasks_claiming_at_once_have_one_winner(ledger: Ledger) -> None:
    """Of equal calls at the same moment in one process, one sends (promises 9)."""
    claims = await asyncio.gather(
        *(ledger.claim(ME, WANTED, generated_seed=seed, estimate=2.0) for seed in range(20))
    )

    assert sum(claim.created for claim in claims) == 1
    assert len({claim.record.submission_id for claim in claims}) == 1


async def test_four_ledgers_claiming_at_once_have_one_winner_for_each_request(store: Store) -> None:
    """Each ledger has its own thread and connection (promises 9)."""
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
async def test_only_listed_changes_of_state_pass_the_fence(ledger: Ledger, state: State) -> None:
    """Any other change raises Fenced and changes nothing (promises 9)."""
    for number, (target, before) in enumerate(CHANGES.items()):
        record = await record_in(ledger, state, wanted(number))
        if state in before:
            assert (await change(ledger, record, target)).state is target
            continue
        with pytest.raises(Fenced, match=f"Request .* is {state}"):
            await change(ledger, record, target)
        assert await ledger.find(ME, record.submission_id) == record


@pytest.mark.parametrize("state", [State.INTENT, State.SENDING])
async def test_only_its_owner_changes_an_unsettled_record(
    store: Store, ledger: Ledger, state: State
) -> None:
    """No other process changes a request that is under way (promises 9)."""
    record = await record_in(ledger, state)
    other = store.ledger()
    for target in CHANGES:
        with pytest.raises(Fenced):
            await change(other, record, target)

    assert await ledger.find(ME, record.submission_id) == record


LOCAL = WANTED.model_copy(
    update={"video": "file:///home/ana/dance.mov#t=12,17", "video_sha256": "ab" * 32}
)
SENT = SentInputs({"video": "https://s3.example/inputs/x.mp4?signature=secret"}, "It was cut.")


async def test_the_commit_point_records_how_an_input_was_sent(ledger: Ledger) -> None:
    """The reconciler recognises the job by it. The signature of the link is not kept."""
    record = await claimed(ledger, LOCAL)

    await ledger.commit_sending(record, SENT)

    found = await ledger.find(ME, record.submission_id)
    assert found is not None
    assert found.state is State.SENDING
    assert found.arguments == {
        **record.arguments,
        "sent_video": "https://s3.example/inputs/x.mp4",
        "sent_notes": "It was cut.",
    }


async def test_what_is_sent_is_not_recorded_behind_the_commit_point(ledger: Ledger) -> None:
    """Only the first commit says what left this computer."""
    record = await claimed(ledger, LOCAL)
    await ledger.commit_sending(record)

    with pytest.raises(Fenced):
        await ledger.commit_sending(record, SENT)

    found = await ledger.find(ME, record.submission_id)
    assert found is not None
    assert found.arguments == record.arguments


@pytest.mark.parametrize("state", [State.INTENT, State.SENDING, State.COMPLETED])
async def test_a_moved_copy_of_a_file_joins_the_request(ledger: Ledger, state: State) -> None:
    """One file is paid for once, whatever it is called by now."""
    record = await record_in(ledger, state, LOCAL, video_url=VIDEO_URL)
    moved = LOCAL.model_copy(update={"video": "file:///mnt/stick/copy.mov#t=12,17"})

    claim = await ledger.claim(ME, moved, generated_seed=8, estimate=2.0)

    assert not claim.created
    assert claim.record.submission_id == record.submission_id


@pytest.mark.parametrize("state", State)
async def test_the_answer_to_a_sent_request_is_recorded_in_every_state(
    ledger: Ledger, state: State
) -> None:
    """Another process may have taken the payer for dead, but the job is paid for."""
    record = await record_in(ledger, State.INTENT)
    await ledger.commit_sending(record)
    await advance(ledger, record, state)

    accepted = await ledger.accept(record, reported(job_id="job-paid"))

    found = await ledger.find(ME, "job-paid")
    assert found == accepted
    assert found is not None
    assert not found.from_elsewhere
    assert (await ledger.find(ME, record.submission_id)) is not None


async def test_an_answer_whose_record_is_missing_restores_the_record(
    store: Store, ledger: Ledger
) -> None:
    """A store may lose its last commits, but the payer still has the record."""
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    store.forget(record.submission_id)

    accepted = await ledger.accept(record, reported())

    assert accepted.submission_id == record.submission_id
    assert accepted.arguments == record.arguments
    assert await ledger.find(ME, "job-1") == accepted


async def test_an_answer_that_comes_after_an_equal_claim_is_listed_beside_it(
    ledger: Ledger,
) -> None:
    """Both are paid, so both are listed and count. An equal call joins the second."""
    first = await claimed(ledger)
    await ledger.commit_sending(first)
    await ledger.conclude(first, State.UNKNOWN, "no answer")
    await ledger.conclude(first, State.NOT_SENT, "no job in the list")
    second = await claimed(ledger)

    late = await ledger.accept(first, reported())

    assert late.job_id == "job-1"
    assert {record.submission_id for record in await ledger.recent(ME)} == {
        first.submission_id,
        second.submission_id,
    }
    joined = await ledger.claim(ME, WANTED, generated_seed=9, estimate=2.0)
    assert (joined.created, joined.record.submission_id) == (False, second.submission_id)


async def test_a_paid_job_beside_its_equal_is_joined_once_the_equal_is_over(
    ledger: Ledger,
) -> None:
    """A third request would be paid although an equal job is running (promises 8)."""
    first = await claimed(ledger)
    await ledger.commit_sending(first)
    await ledger.conclude(first, State.UNKNOWN, "no answer")
    await ledger.conclude(first, State.NOT_SENT, "no job in the list")
    second = await claimed(ledger)
    await ledger.commit_sending(second)
    late = await ledger.accept(first, reported())
    await ledger.conclude(second, State.REFUSED, "no credits")

    joined = await ledger.claim(ME, WANTED, generated_seed=9, estimate=2.0)
    assert (joined.created, joined.record) == (False, late)


@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED, State.LOST])
async def test_an_answer_that_comes_after_the_end_of_its_job_changes_no_end(
    ledger: Ledger, end: State
) -> None:
    """The reconciler may find the job, and the job may end, before the answer is recorded."""
    record = await record_in(ledger, State.SENDING)
    await ledger.conclude(record, State.UNKNOWN, "no answer")
    found = await ledger.match(record, reported())
    if end is State.LOST:
        ended = await ledger.conclude(found, end, "404 three times")
    else:
        job = reported(JobStatus(end), video_url=VIDEO_URL)
        ended = await confirmed(ledger, job)

    assert (await ledger.accept(record, reported())).state is end
    assert await ledger.find(ME, "job-1") == ended


async def test_an_answer_that_is_recorded_again_makes_no_second_record(ledger: Ledger) -> None:
    """A commit whose success was not seen is repeated; its job must count as spending once."""
    record = await record_in(ledger, State.SENDING)
    await ledger.conclude(record, State.UNKNOWN, "no answer")
    await ledger.match(record, reported(job_id="job-of-another"))
    first = await ledger.accept(record, reported())
    again = await ledger.accept(record, reported())

    assert again.submission_id == first.submission_id
    assert len(await ledger.recent(ME)) == 2


async def test_recovery_settles_the_records_of_every_account(store: Store, ledger: Ledger) -> None:
    """A claim settles its own account, and `recover` all of them (promises 9)."""
    accounts = [ME, "another"]
    for account in accounts:
        claim = await ledger.claim(account, WANTED, generated_seed=7, estimate=2.0)
        await ledger.commit_sending(claim.record)
    other = store.ledger()
    await other.recover()
    await store.end(ledger)

    settled = await other.recover()
    assert {record.account for record in settled} == set(accounts)
    assert {record.state for record in settled} == {State.UNKNOWN}


async def test_any_process_may_settle_an_unknown_outcome(store: Store, ledger: Ledger) -> None:
    """The reconciler of another process finds the job, and the record becomes accepted."""
    record = await record_in(ledger, State.UNKNOWN)
    found = await store.ledger().match(record, reported())

    assert (found.state, found.job_id, found.error) == (State.ACCEPTED, "job-1", None)
    assert found.next_check_at is None


@pytest.mark.parametrize("state", [State.INTENT, State.SENDING, State.COMPLETED])
async def test_request_cannot_be_concluded_in_other_states(ledger: Ledger, state: State) -> None:
    """These states have methods of their own."""
    record = await claimed(ledger)
    with pytest.raises(ValueError, match="cannot be concluded"):
        await ledger.conclude(record, state, "x")


async def test_unknown_submission_id_is_fenced(ledger: Ledger) -> None:
    """A request without a record cannot be sent (promises 2)."""
    missing = (await claimed(ledger)).model_copy(update={"submission_id": "sub_none"})
    with pytest.raises(Fenced, match="no request"):
        await ledger.commit_sending(missing)


async def test_each_step_is_dated(store: Store, ledger: Ledger) -> None:
    """A record has the dates of its creation, sending, acceptance and end."""
    record = await claimed(ledger)
    store.now += timedelta(seconds=1)
    await ledger.commit_sending(record)
    store.now += timedelta(seconds=1)
    await ledger.accept(record, reported())
    store.now += timedelta(seconds=1)
    record = (await ledger.record_update(ME, reported(JobStatus.COMPLETED))).record

    dates = (record.created_at, record.sent_at, record.accepted_at, record.ended_at)
    assert dates == tuple(START + timedelta(seconds=seconds) for seconds in range(4))


async def test_request_answered_with_a_finished_job_is_completed(ledger: Ledger) -> None:
    """The answer to the request may already contain the video (assumed)."""
    record = await record_in(ledger, State.SENDING)
    record = await ledger.accept(record, reported(JobStatus.COMPLETED, video_url=VIDEO_URL))

    assert (record.state, record.video_url) == (State.COMPLETED, VIDEO_URL)


# Withdrawals


async def test_request_that_nobody_else_waits_for_is_withdrawn_before_it_is_sent(
    ledger: Ledger,
) -> None:
    """Its payer must not send it any more, and an equal claim is a new request (promises 9)."""
    record = await claimed(ledger)
    withdrawn = await ledger.withdraw(record)

    assert (withdrawn.state, withdrawn.withdrawn) == (State.NOT_SENT, True)
    assert await ledger.find(ME, record.submission_id) == withdrawn
    with pytest.raises(Fenced):
        await ledger.commit_sending(record)
    assert (await ledger.claim(ME, WANTED, generated_seed=8, estimate=2.0)).created


@pytest.mark.parametrize("state", sorted(set(State) - {State.INTENT}))
async def test_request_is_withdrawn_only_before_its_commit_point(
    ledger: Ledger, state: State
) -> None:
    """After it a charge is possible (promises 2)."""
    record = await record_in(ledger, state)
    with pytest.raises(Fenced):
        await ledger.withdraw(record)

    assert await ledger.find(ME, record.submission_id) == record


async def test_request_of_another_process_is_not_withdrawn(store: Store, ledger: Ledger) -> None:
    """Only its owner knows whether it is being sent (promises 9)."""
    record = await claimed(ledger)
    with pytest.raises(Fenced):
        await store.ledger().withdraw(record)

    assert await ledger.find(ME, record.submission_id) == record


@pytest.mark.parametrize("how", ["equal claim", "wait"])
async def test_request_that_another_caller_waits_for_is_not_withdrawn(
    store: Store, ledger: Ledger, how: str
) -> None:
    """Also if the other caller is in another process, and only for that request (ours)."""
    record, other = await claimed(ledger), await claimed(ledger, wanted(2))
    elsewhere = store.ledger()
    if how == "wait":
        await elsewhere.join(record)
        await elsewhere.join(record)
    else:
        await elsewhere.claim(ME, WANTED, generated_seed=8, estimate=2.0)

    with pytest.raises(Fenced):
        await ledger.withdraw(record)
    await ledger.commit_sending(record)
    assert (await ledger.withdraw(other)).withdrawn


async def test_withdrawal_and_commit_at_the_same_moment_have_one_winner(ledger: Ledger) -> None:
    """Either it is sent, or it is withdrawn (promises 9)."""
    for number in range(10):
        record = await claimed(ledger, wanted(number))
        attempts = [ledger.commit_sending(record), ledger.withdraw(record)]
        if number % 2:
            attempts.reverse()
        ends = await asyncio.gather(*attempts, return_exceptions=True)
        found = await ledger.find(ME, record.submission_id)

        assert sum(isinstance(end, Fenced) for end in ends) == 1
        assert found is not None
        assert (found.state is State.SENDING) is not found.withdrawn


# Readings of jobs


async def test_everything_reported_about_a_job_is_kept(ledger: Ledger) -> None:
    """The record gives the job back as PixelDojo reported it."""
    await record_in(ledger, State.ACCEPTED)
    job = reported(
        JobStatus.COMPLETED,
        vendor_status="succeeded",
        video_url=VIDEO_URL,
        expires_at=datetime(9999, 12, 31, tzinfo=UTC),
        credit_cost=2.5,
        credits_remaining=97.25,
        note="an output was left out",
    )
    recorded = await ledger.record_update(ME, job)
    record = await ledger.find(ME, "job-1")

    assert record == recorded.record
    assert record is not None
    assert record.job == job


async def test_reading_with_fewer_fields_erases_nothing(ledger: Ledger) -> None:
    """Only the answer to the request contains the balance; a later reading keeps it."""
    record = await record_in(ledger, State.SENDING)
    await ledger.accept(record, reported(credit_cost=2, credits_remaining=98))
    record = (await ledger.record_update(ME, reported(vendor_status="processing"))).record

    assert (record.credit_cost, record.credits_remaining) == (2, 98)
    assert record.vendor_status == "processing"


@pytest.mark.parametrize("end", [JobStatus.COMPLETED, JobStatus.FAILED])
@pytest.mark.parametrize("later", JobStatus)
async def test_end_of_a_job_is_final(ledger: Ledger, end: JobStatus, later: JobStatus) -> None:
    """A later reading that contradicts the end is ignored, and the caller sees that it was."""
    record = await record_in(ledger, State(end))
    recorded = await ledger.record_update(ME, reported(later, job_id=record.job_id))

    assert recorded.record.state is State(end)
    assert recorded.ignored is (later is not end)
    assert recorded.record.ended_at == record.ended_at


async def test_an_end_is_confirmed_across_restarts_and_by_another_process(store: Store) -> None:
    """The first report is in the ledger, so the next process needs only one reading."""
    first = store.ledger()
    record = await record_in(first, State.ACCEPTED)
    failed = reported(JobStatus.FAILED, job_id=record.job_id)
    once = (await first.record_update(ME, failed)).record
    await store.end(first, killed=True)
    store.later(rules.CONFIRM_SECONDS)
    second = store.ledger()
    joined = await second.claim(ME, WANTED, generated_seed=1, estimate=2)
    twice = (await second.record_update(ME, failed)).record

    assert (once.state, joined.created) == (State.ACCEPTED, False)
    assert (twice.state, twice.ended_at) == (State.FAILED, store.now)


async def test_a_video_after_a_failure_is_saved_and_found_by_the_equal_call(
    ledger: Ledger,
) -> None:
    """The job is paid: its video is still to be saved, and nobody pays for it again."""
    record = await record_in(ledger, State.FAILED)
    job = reported(JobStatus.COMPLETED, job_id=record.job_id, video_url=VIDEO_URL)
    completed = (await ledger.record_update(ME, job)).record
    again = await ledger.claim(ME, WANTED, generated_seed=1, estimate=2)

    assert (completed.state, completed.video_url) == (State.COMPLETED, VIDEO_URL)
    assert await ledger.coordination.unsaved(ME) == [completed]
    assert (again.created, again.record) == (False, completed)


async def test_a_failure_that_was_read_before_the_answer_came_is_no_second_reading(
    ledger: Ledger,
) -> None:
    """The record of the reading is merged into that of the request, and the report with it."""
    record = await record_in(ledger, State.SENDING)
    await ledger.record_update(ME, reported(JobStatus.FAILED, error="no face"))
    merged = await ledger.accept(record, reported())

    assert (merged.state, merged.end_is_unconfirmed) == (State.ACCEPTED, True)
    assert await ledger.recent(ME) == [merged]


async def test_video_reported_after_the_end_is_added(ledger: Ledger) -> None:
    """A completed job without a usable link is read again, and the link is kept."""
    record = await record_in(ledger, State.COMPLETED)
    recorded = await ledger.record_update(
        ME, reported(JobStatus.COMPLETED, job_id=record.job_id, video_url=f"{VIDEO_URL}#t=1")
    )

    assert (recorded.record.video_url, recorded.ignored) == (VIDEO_URL, False)


@pytest.mark.parametrize("word", [JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED])
async def test_lost_job_is_revived_only_by_its_end(ledger: Ledger, word: JobStatus) -> None:
    """`lost` is our conclusion: a completed or failed job replaces it, a running one does not."""
    record = await record_in(ledger, State.LOST)
    if word is JobStatus.FAILED:
        await confirmed(ledger, reported(word, job_id=record.job_id))
    recorded = await ledger.record_update(ME, reported(word, job_id=record.job_id))

    assert recorded.ignored is (word is JobStatus.RUNNING)
    assert recorded.record.state == (State.LOST if recorded.ignored else word)


async def test_job_from_elsewhere_is_kept_without_spending(store: Store) -> None:
    """A job that was submitted without this ledger is recorded, and uses up no limit."""
    ledger = store.ledger(SpendingLimits(None, 2, 1, 1))
    record = (await ledger.record_update(ME, reported(credit_cost=50))).record

    assert (record.state, record.from_elsewhere, record.arguments) == (State.ACCEPTED, True, {})
    assert record.public_id == "job-1"
    assert (
        await ledger.record_update(ME, reported(JobStatus.FAILED))
    ).record.submission_id == record.submission_id
    await claimed(ledger)


async def test_charges_are_those_of_submitted_jobs_newest_first(
    store: Store, ledger: Ledger
) -> None:
    """Jobs without a cost, and jobs from elsewhere, whose size is unknown, are not among them."""
    await ledger.record_update(ME, reported(job_id="elsewhere", credit_cost=50))
    for number, cost in enumerate((7, None, 0, 60)):
        record = await sent(ledger, await claimed(ledger, wanted(number)))
        await ledger.accept(
            record, reported(JobStatus.COMPLETED, job_id=f"job-{number}", credit_cost=cost)
        )
        store.now += timedelta(minutes=1)

    assert [credits for _, credits in await ledger.charges(ME)] == [60, 7]
    assert [arguments["seed"] for arguments, _ in await ledger.charges(ME)] == [3, 0]


@pytest.mark.parametrize("known", [JobStatus.RUNNING, JobStatus.COMPLETED])
async def test_job_read_before_its_request_was_answered_has_one_record(
    ledger: Ledger, known: JobStatus
) -> None:
    """The job list may show a job, even its end, before the answer comes. Both records merge."""
    record = await record_in(ledger, State.SENDING)
    read = (await ledger.record_update(ME, reported(known, video_url=VIDEO_URL))).record
    record = await ledger.accept(record, reported(video_url=VIDEO_URL, credit_cost=2))

    assert (record.state, record.video_url, record.credit_cost) == (read.state, VIDEO_URL, 2)
    assert await ledger.recent(ME) == [record]


async def test_one_job_id_for_two_requests_keeps_both_records(ledger: Ledger) -> None:
    """If PixelDojo gave one id twice, no record is lost and both get the end (assumed)."""
    for number in range(2):
        record = await record_in(ledger, State.SENDING, wanted(number))
        await ledger.accept(record, reported())
    await confirmed(ledger, reported(JobStatus.FAILED, error="no face"))

    assert [(record.state, record.error) for record in await ledger.recent(ME)] == [
        (State.FAILED, "no face"),
        (State.FAILED, "no face"),
    ]


async def test_lost_answer_cannot_take_the_job_of_another_request(ledger: Ledger) -> None:
    """Two requests that share one job would hide that a second job may be paid."""
    first = await record_in(ledger, State.SENDING, wanted(1))
    lost = await record_in(ledger, State.UNKNOWN, wanted(2))
    await ledger.accept(first, reported())
    with pytest.raises(Fenced, match="belongs to another request"):
        await ledger.match(lost, reported())

    assert await ledger.find(ME, lost.submission_id) == lost


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59.9999999Z", "1970-12-31T23:59:59Z"])
async def test_date_that_means_never_keeps_the_job(ledger: Ledger, text: str) -> None:
    """A date that cannot be stored must not make the id of a paid job unstorable."""
    record = await record_in(ledger, State.SENDING)
    body = {"jobId": "job-1", "status": "pending", "expiresAt": text}
    record = await ledger.accept(record, wire.accepted(Reply(200, json.dumps(body).encode())))

    assert (record.job_id, record.expires_at) == ("job-1", None)


async def test_date_after_the_year_9999_reads_as_none(ledger: Ledger) -> None:
    """Rounding may pass the last date; the record must be readable all the same."""
    record = await record_in(ledger, State.SENDING)
    await ledger.accept(record, reported(expires_at=datetime.max.replace(tzinfo=UTC)))
    [record] = await ledger.recent(ME)

    assert (record.job_id, record.expires_at) == ("job-1", None)


async def test_text_that_is_not_utf8_is_kept_readable(ledger: Ledger) -> None:
    """Half a surrogate pair in PixelDojo's JSON must not make the answer unstorable."""
    record = await record_in(ledger, State.SENDING)
    record = await ledger.accept(record, reported(JobStatus.FAILED, error="bad \ud800 text"))

    assert record.error == "bad ? text"


# Accounts


async def test_account_name_does_not_contain_the_key(store: Store, ledger: Ledger) -> None:
    """One name for a key at an API address, in every process; another name for any other."""
    name = await ledger.account("https://pixeldojo.ai/api/v1", "pd_secret")
    same = await store.ledger().account("HTTPS://PixelDojo.ai:443/api/v1/", "pd_secret")
    other_key = await ledger.account("https://pixeldojo.ai/api/v1", "pd_other")
    sandbox = await ledger.account("http://127.0.0.1:8080/api/v1", "pd_secret")

    assert same == name
    assert len({name, other_key, sandbox}) == 3
    assert "pd_secret" not in name


# Waiting


async def test_waiter_in_the_same_process_is_woken(ledger: Ledger) -> None:
    """In one process the change arrives at once, without another look."""
    record = await record_in(ledger, State.SENDING)
    seen: list[Record] = []

    async def wait() -> None:
        seen.append(await ledger.settled(record.submission_id, 60))

    with anyio.fail_after(HANG_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await ledger.find(ME, record.submission_id)  # by then the waiter has looked
            accepted = await ledger.accept(record, reported())

    assert seen == [accepted]


async def test_waiter_in_another_process_sees_the_change_by_looking(
    store: Store, ledger: Ledger
) -> None:
    """The ledger is all that the two processes share."""
    record = await record_in(ledger, State.SENDING)
    other = store.ledger(poll_seconds=0)
    seen: list[Record] = []

    async def wait() -> None:
        seen.append(await other.settled(record.submission_id, 60))

    with anyio.fail_after(HANG_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await other.find(ME, record.submission_id)
            accepted = await ledger.accept(record, reported())

    assert seen == [accepted]


async def test_waiting_for_a_settled_record_ends_at_once(ledger: Ledger) -> None:
    """An unknown outcome is settled too: nothing more is under way."""
    record = await record_in(ledger, State.UNKNOWN)
    with anyio.fail_after(HANG_SECONDS):
        assert await ledger.settled(record.submission_id, 60) == record


async def test_waiting_ends_with_the_time(ledger: Ledger) -> None:
    """A wait that is over is no error: it returns the record as it is."""
    record = await record_in(ledger, State.SENDING)
    with anyio.fail_after(HANG_SECONDS):
        assert await ledger.settled(record.submission_id, 0) == record


async def test_waiting_for_a_dead_process_ends(store: Store, ledger: Ledger) -> None:
    """A dead process never settles its record, so the waiter does (promises 9)."""
    record = await record_in(ledger, State.SENDING)
    other = store.ledger(poll_seconds=0)
    await other.find(ME, record.submission_id)
    await store.end(ledger)
    with anyio.fail_after(HANG_SECONDS):
        assert (await other.settled(record.submission_id, 60)).state is State.UNKNOWN


# Recovery


@pytest.mark.parametrize(
    ("left", "becomes"),
    [(State.INTENT, State.NOT_SENT), (State.SENDING, State.UNKNOWN)],
)
async def test_records_of_an_ended_process_are_settled_at_the_next_start(
    store: Store, ledger: Ledger, left: State, becomes: State
) -> None:
    """Before the commit point nothing was sent; after it the outcome is unknown (promises 9)."""
    record = await record_in(ledger, left)
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
    """A slow request is not the request of a dead process."""
    record = await record_in(ledger, left)

    assert await store.ledger().recover() == []
    assert await ledger.recover() == []
    assert await ledger.find(ME, record.submission_id) == record


async def test_recoveries_at_the_same_moment_settle_each_record_once(
    store: Store, ledger: Ledger
) -> None:
    """Several servers may start together after a crash."""
    others = [store.ledger() for _ in range(4)]
    await opened(*others)
    records = [await record_in(ledger, State.SENDING, wanted(number)) for number in range(5)]
    await store.end(ledger)
    settled = await asyncio.gather(*(other.recover() for other in others))

    submission_ids = [record.submission_id for records in settled for record in records]
    assert sorted(submission_ids) == sorted(record.submission_id for record in records)


async def test_claim_ignores_the_intent_of_a_dead_process(store: Store, ledger: Ledger) -> None:
    """A running server can repeat a call that another one never sent, without a restart."""
    other = store.ledger()
    await other.recover()
    record = await record_in(ledger, State.INTENT)
    await store.end(ledger)
    again = await claimed(other)

    assert again.submission_id != record.submission_id


async def test_settled_records_outlive_their_process(store: Store, ledger: Ledger) -> None:
    """Accepted and ended jobs are the same after a restart, with the whole link to the video."""
    accepted = await record_in(ledger, State.ACCEPTED, wanted(1))
    record = await record_in(ledger, State.SENDING, wanted(2))
    ended = await ledger.accept(record, reported(JobStatus.COMPLETED, video_url=VIDEO_URL))
    await store.end(ledger)

    assert await store.ledger().recent(ME) == [ended, accepted]
    assert ended.video_url == VIDEO_URL


# Reads


async def test_record_is_found_by_either_id(ledger: Ledger) -> None:
    """Every tool accepts the submission id and the job id."""
    record = await record_in(ledger, State.ACCEPTED)
    assert record.job_id is not None

    assert record.public_id == record.job_id
    assert (
        await ledger.find(ME, record.submission_id)
        == await ledger.find(ME, record.job_id)
        == record
    )
    assert await ledger.find(ME, "job-none") is None


async def test_recent_records_come_newest_first_with_all_live_ones(
    store: Store, ledger: Ledger
) -> None:
    """The limit applies to ended jobs only: what may still cost credits is always listed."""
    records = []
    states = (State.UNKNOWN, State.ACCEPTED, State.FAILED, State.COMPLETED, State.FAILED)
    for number, state in enumerate(states):
        records.append(await record_in(ledger, state, wanted(number)))
        store.now += timedelta(minutes=number % 2)
    unknown, accepted, failed, completed, last = records

    assert await ledger.recent(ME) == [last, completed, failed, accepted, unknown]
    assert await ledger.recent(ME, limit=1) == [last, accepted, unknown]
    assert await ledger.recent(ME, frozenset({State.COMPLETED}), 5) == [
        completed,
        accepted,
        unknown,
    ]


async def test_unknown_outcome_is_due_when_its_last_check_says(
    store: Store, ledger: Ledger
) -> None:
    """It is due at once, then after `next_in` seconds, and with None only on demand."""
    record = await record_in(ledger, State.UNKNOWN)
    assert record.next_check_at == store.now
    record = await ledger.record_check(record, "not in the list yet", 15, ListReading.INCONCLUSIVE)
    assert record.next_check_at == store.now + timedelta(seconds=15)
    record = await ledger.record_check(
        record, "the list does not show seeds", None, ListReading.INCONCLUSIVE
    )

    assert record.next_check_at is None
    assert await ledger.unknowns(ME) == [record]
    assert (record.checks, record.findings) == (2, "the list does not show seeds")


async def test_check_of_a_known_outcome_is_fenced(ledger: Ledger) -> None:
    """A reconciler that comes too late changes nothing (promises 9)."""
    record = await record_in(ledger, State.ACCEPTED)
    with pytest.raises(Fenced, match="of request sub_"):
        await ledger.record_check(record, "x", None, ListReading.INCONCLUSIVE)


# Cancelling


async def test_cancelled_caller_still_gets_the_result(ledger: Ledger) -> None:
    """A cancellation during the commit cannot separate the caller from its record."""
    record = await claimed(ledger)
    with anyio.CancelScope() as scope:
        scope.cancel()
        record = await ledger.conclude(record, State.NOT_SENT, "no net")

    assert record.state is State.NOT_SENT


async def test_change_that_was_begun_is_finished_after_its_task_is_cancelled(
    ledger: Ledger,
) -> None:
    """Even asyncio's own cancellation, with other calls in the queue, drops no change."""
    record = await record_in(ledger, State.SENDING)
    calls: list[Awaitable[object]] = [
        *(ledger.record_update(ME, reported(job_id=f"other-{number}")) for number in range(20)),
        ledger.accept(record, reported()),
    ]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await anyio.lowlevel.checkpoint()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await ledger.recover()  # a change is made after all earlier ones
    found = await ledger.find(ME, record.submission_id)

    assert all(task.cancelled() for task in tasks)
    assert found is not None
    assert found.state is State.ACCEPTED
    assert len(await ledger.recent(ME, limit=0)) == 21


async def test_servers_on_one_ledger_share_a_secret_for_each_purpose(store: Store) -> None:
    """A server must accept what another server on the ledger has signed."""
    here, there = store.ledger(), store.ledger()

    assert await here.secret("a question") == await there.secret("a question")
    assert await here.secret("a question") != await here.secret("something else")
    assert len(await here.secret("a question")) == 32
