"""Several users on one wallet: what each of them sees, whose limits count, and whose turn it is."""

import asyncio
from dataclasses import replace

import pytest

from tests.ledger import stores
from tests.ledger.stores import ME, WANTED, Store, claimed, opened, reported, sent, wanted
from wan_mcp.ledger.contract import Claim, Fenced, Ledger
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import LimitReached, PriceRose, SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import JobStatus, Replacement

pytestmark = pytest.mark.anyio

store, ledger = stores.store, stores.ledger

WALLET = "the-wallet"
ANN, BEN, EVE = (Workspace(name, WALLET) for name in ("ann", "ben", "eve"))
NUMBERED = (1, ANN), (2, BEN)
NONE = SpendingLimits(None, None, None, None)
ONE_AT_A_TIME = SpendingLimits(None, 100, 1, None, queued=9)


def own(workspace: Workspace, limits: SpendingLimits) -> Quota:
    return Quota(limits, "your own", frozenset({workspace.name}))


def of_team(limits: SpendingLimits, *members: Workspace) -> Quota:
    return Quota(limits, "of the team Blue", frozenset(member.name for member in members))


def of_wallet(limits: SpendingLimits) -> Quota:
    return Quota(limits, "of the PixelDojo key that you share")


async def asked(
    ledger: Ledger,
    workspace: Workspace,
    request: Replacement = WANTED,
    *quotas: Quota,
    estimate: float | None = 2.0,
    agreed: float | None = None,
) -> Claim:
    return await ledger.claim(
        workspace, request, generated_seed=7, estimate=estimate, quotas=quotas, agreed=agreed
    )


async def running(ledger: Ledger, workspace: Workspace, number: int, job_id: str) -> Record:
    record = await sent(ledger, (await asked(ledger, workspace, wanted(number))).record)
    return await ledger.accept(record, reported(job_id=job_id))


async def refusal(ledger: Ledger, workspace: Workspace, *quotas: Quota) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await asked(ledger, workspace, wanted(99), *quotas)
    return caught.value


async def test_a_workspace_finds_and_lists_its_own_requests_only(ledger: Ledger) -> None:
    """Not by a submission id, not by a job id, not in a list, and not as an equal one. (ours)"""
    record = await running(ledger, ANN, 1, "job-ann")

    assert [each.submission_id for each in await ledger.recent("ann")] == [record.submission_id]
    assert await ledger.find("ann", "job-ann") == record
    for name in ("ben", WALLET):
        assert await ledger.recent(name) == []
        assert await ledger.find(name, "job-ann") is None
        assert await ledger.find(name, record.submission_id) is None
        assert await ledger.equal(name, wanted(1)) is None
        page = await ledger.page(name, None, 10, None)
        assert page is not None
        assert (page.records, page.totals.jobs) == ([], 0)


async def test_equal_requests_of_two_users_are_two_requests(ledger: Ledger) -> None:
    first, second = await asked(ledger, ANN), await asked(ledger, BEN)
    again = await asked(ledger, ANN)

    assert (first.created, second.created, again.created) == (True, True, False)
    assert again.record.submission_id == first.record.submission_id
    assert second.record.workspace == BEN


async def test_the_wallet_has_the_requests_of_all_its_workspaces(
    store: Store, ledger: Ledger
) -> None:
    """One key: its poller, reconciler and saver work for all. (ours)"""
    ids = {(await running(ledger, each, 1, f"job-{each.name}")).job_id for each in (ANN, BEN)}
    lost = await ledger.conclude(
        await sent(ledger, (await asked(ledger, EVE)).record), State.UNKNOWN, "lost"
    )

    assert {each.job_id for each in await ledger.coordination.live(WALLET)} == ids
    assert [each.submission_id for each in await ledger.unknowns(WALLET)] == [lost.submission_id]
    assert {each.account for each in await ledger.in_wallet(WALLET, 0)} == {"ann", "ben", "eve"}
    assert await ledger.coordination.live("another wallet") == []

    for id in sorted(ids, key=str):
        video = reported(JobStatus.COMPLETED, job_id=id, video_url="https://a.example/v")
        await ledger.record_update(WALLET, video)
    assert {each.job_id for each in await ledger.coordination.unsaved(WALLET)} == ids


async def test_a_reading_is_recorded_in_the_workspace_that_the_job_belongs_to(
    ledger: Ledger,
) -> None:
    record = await running(ledger, ANN, 1, "job-ann")

    done = reported(JobStatus.COMPLETED, job_id="job-ann", video_url="https://a.example/v")
    recorded = await ledger.record_update(WALLET, done)

    assert recorded.record.submission_id == record.submission_id
    assert (await ledger.recent("ann"))[0].state is State.COMPLETED
    assert len(await ledger.in_wallet(WALLET, 9)) == 1


async def test_a_reading_shows_each_user_their_own_record(ledger: Ledger) -> None:
    """PixelDojo has never answered two requests with one id; if it does, none sees the other's
    request (ours)."""
    records = [await running(ledger, each, number, "job-of-both") for number, each in NUMBERED]
    shown = [
        await ledger.record_update(each, reported(job_id="job-of-both")) for _, each in NUMBERED
    ]

    assert [each.record.account for each in shown] == [each.account for each in records]


async def test_a_wallet_is_open_while_there_is_something_to_do_for_it(ledger: Ledger) -> None:
    """A request, a queued one, or a video to be saved (ours)."""
    wallets = ledger.coordination.open_wallets
    found = [await wallets()]
    record = await running(ledger, ANN, 1, "job-ann")
    queued = await asked(ledger, BEN, wanted(2), of_wallet(ONE_AT_A_TIME))
    found.append(await wallets())
    await ledger.conclude(record, State.LOST, "gone")
    found.append(await wallets())
    await ledger.queue.cancel(queued.record)
    found.append(await wallets())
    await running(ledger, BEN, 3, "job-ben")
    done = reported(JobStatus.COMPLETED, job_id="job-ben", video_url="https://a.example/v")
    saved = (await ledger.record_update(BEN, done)).record
    found.append(await wallets())
    await ledger.coordination.saved(saved.submission_id, "/videos/v.mp4", "0" * 64, 1)
    found.append(await wallets())

    assert queued.record.state is State.QUEUED
    assert found == [[], [WALLET], [WALLET], [], [WALLET], []]


async def test_a_full_queue_of_one_user_is_not_full_for_another(ledger: Ledger) -> None:
    """The limits of the wallet leave it to those of each user how many may wait (ours)."""
    of_all = of_wallet(replace(ONE_AT_A_TIME, queued=None))
    limits = {each: (own(each, replace(NONE, queued=1)), of_all) for each in (ANN, BEN)}
    await asked(ledger, EVE, wanted(0), of_all)
    states = [(await asked(ledger, ANN, wanted(1), *limits[ANN])).record.state]
    full = await refusal(ledger, ANN, *limits[ANN])
    states.append((await asked(ledger, BEN, wanted(2), *limits[BEN])).record.state)

    assert states == [State.QUEUED] * 2
    assert full.setting == "WAN_MCP_MAX_QUEUED"
    assert "your own" in full.what


async def test_a_job_that_no_workspace_owns_belongs_to_nobody(ledger: Ledger) -> None:
    await asked(ledger, ANN)

    await ledger.record_update(WALLET, reported(job_id="nobodys"))

    for name in ("ann", "ben"):
        assert await ledger.find(name, "nobodys") is None
    assert "nobodys" in {each.job_id for each in await ledger.in_wallet(WALLET, 9)}


async def test_a_job_of_one_user_is_never_given_to_the_lost_request_of_another(
    ledger: Ledger,
) -> None:
    await running(ledger, BEN, 1, "job-ben")
    lost = await sent(ledger, (await asked(ledger, ANN)).record)
    await ledger.conclude(lost, State.UNKNOWN, "lost")

    with pytest.raises(Fenced):
        await ledger.match(lost, reported(job_id="job-ben"))


async def test_what_a_dead_process_left_is_settled_for_every_user(store: Store) -> None:
    ledger = store.ledger()
    for each in (ANN, BEN):
        await asked(ledger, each)
    await store.end(ledger, killed=True)

    settled = await store.ledger().in_wallet(WALLET, 9)

    assert {each.account for each in settled} == {"ann", "ben"}
    assert {each.state for each in settled} == {State.NOT_SENT}


async def test_a_paid_job_whose_request_was_lost_is_one_of_the_wallet_again(
    store: Store, ledger: Ledger
) -> None:
    """As after a failover to a standby that had nothing of this user yet. (ours)"""
    record = await sent(ledger, (await asked(ledger, ANN)).record)
    store.forget(record.submission_id)
    await stores.change(ledger, "DELETE FROM workspaces")
    await ledger.accept(record, reported(job_id="job-ann"))

    (found,) = await ledger.coordination.live(WALLET)
    assert (found.account, found.job_id) == ("ann", "job-ann")


async def test_whoever_has_a_key_alone_is_stored_as_before(ledger: Ledger) -> None:
    record = await claimed(ledger)

    assert record.wallet is None
    assert record.workspace == Workspace(ME, ME)


async def test_the_limits_of_the_ledger_count_for_all_users_together(store: Store) -> None:
    ledger = store.ledger(SpendingLimits(None, None, 1, None))
    await asked(ledger, ANN)

    refused = await refusal(ledger, BEN)

    assert (refused.setting, refused.used) == ("WAN_MCP_MAX_IN_FLIGHT", 1)
    assert (await asked(ledger, Workspace("zoe", "another wallet"))).created


LIMITS = {
    "a job": (SpendingLimits(1, None, None, None), "WAN_MCP_MAX_CREDITS_PER_JOB"),
    "a day": (SpendingLimits(None, 5, None, None), "WAN_MCP_MAX_CREDITS_PER_DAY"),
    "in flight": (SpendingLimits(None, None, 2, None), "WAN_MCP_MAX_IN_FLIGHT"),
    "a minute": (SpendingLimits(None, None, None, 2), "WAN_MCP_MAX_SUBMITS_PER_MINUTE"),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_the_limit_of_a_team_counts_its_members_and_nobody_else(
    store: Store, ledger: Ledger, limit: str
) -> None:
    """Two jobs of 2 credits each reach every one of these limits. (ours)"""
    limits, setting = LIMITS[limit]
    team, all_else = of_team(limits, ANN, BEN), of_wallet(NONE)
    for each in (ANN, EVE):
        await asked(ledger, each, wanted(1))
    if limit != "a job":
        assert (await asked(ledger, BEN, wanted(1), team, all_else)).created

    refused = await refusal(ledger, ANN, own(ANN, NONE), team, all_else)

    assert refused.setting == setting
    assert "This limit is of the team Blue." in refused.what
    assert (await asked(ledger, EVE, wanted(9), own(EVE, NONE), all_else)).created


@pytest.mark.parametrize("limit", ["a day", "in flight", "a minute"])
async def test_a_job_on_another_wallet_counts_for_its_user_and_not_for_this_wallet(
    ledger: Ledger, limit: str
) -> None:
    """Both limits are counted from one question about all of these jobs. (ours)"""
    limits, setting = LIMITS[limit]
    elsewhere = Workspace("ann elsewhere", "another wallet")
    both = frozenset({ANN.name, elsewhere.name})
    for each in (elsewhere, ANN):
        await asked(ledger, each, wanted(1))

    refused = await refusal(ledger, ANN, Quota(limits, "your own", both), of_wallet(NONE))
    allowed = await asked(ledger, ANN, wanted(2), Quota(NONE, "your own", both), of_wallet(limits))

    assert (refused.setting, refused.whose) == (setting, "your own")
    assert allowed.created


async def test_the_refusal_is_that_of_the_tightest_limit(store: Store, ledger: Ledger) -> None:
    """A limit in credits ends in a day, one a minute in a minute, and one in flight nobody knows.

    The one that lasts longest is named, so that nobody repeats the call in vain. (ours)
    """
    await asked(ledger, ANN)
    a_minute = SpendingLimits(None, None, None, 1)
    a_day = SpendingLimits(None, 3, None, None)

    for quotas, whose in (
        ([own(ANN, a_minute), of_team(a_day, ANN, BEN)], "of the team Blue"),
        ([own(ANN, a_day), of_wallet(a_minute)], "your own"),
        ([own(ANN, a_minute), of_wallet(replace(a_minute, in_flight=1))], "of the PixelDojo key"),
        ([own(ANN, a_day), of_wallet(a_day)], "your own"),
    ):
        assert f"This limit is {whose}" in (await refusal(ledger, ANN, *quotas)).what


async def test_nobody_is_asked_about_a_price_that_a_limit_of_somebody_else_refuses(
    ledger: Ledger,
) -> None:
    await asked(ledger, BEN)
    quotas = (own(ANN, NONE), of_wallet(SpendingLimits(None, None, 1, None)))

    with pytest.raises(LimitReached):
        await asked(ledger, ANN, WANTED, *quotas, estimate=5.0, agreed=4.0)
    with pytest.raises(PriceRose):
        await asked(ledger, ANN, WANTED, own(ANN, NONE), estimate=5.0, agreed=4.0)


async def test_a_refusal_names_no_job_of_another_user(ledger: Ledger) -> None:
    record = (await asked(ledger, ANN)).record
    await asked(ledger, BEN)

    refused = await refusal(ledger, BEN, of_wallet(SpendingLimits(None, None, 2, None)))

    assert refused.used == 2
    assert record.submission_id not in f"{refused.what} {refused.next_step}"
    assert record.submission_id not in refused.blocking_job_ids
    assert len(refused.blocking_job_ids) == 1


async def test_the_limit_of_a_wallet_counts_what_was_bought_before_it_was_shared(
    ledger: Ledger,
) -> None:
    """Those jobs have the name of the wallet itself. (ours)"""
    await asked(ledger, Workspace.of(WALLET), wanted(1))
    await asked(ledger, BEN, wanted(2))

    refused = await refusal(ledger, ANN, of_wallet(SpendingLimits(None, None, 2, None)))

    assert refused.used == 2


async def test_limits_of_the_wallet_hold_against_all_users_at_the_same_moment(
    store: Store,
) -> None:
    """Eight claims in eight processes by four users take the last three places. (promises 10)"""
    limits = SpendingLimits(None, None, 3, None)
    processes = [store.ledger(limits) for _ in range(8)]
    await opened(*processes)

    answers = await asyncio.gather(
        *(
            asked(process, Workspace(f"user-{number % 4}", WALLET), wanted(number))
            for number, process in enumerate(processes)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, Claim) for answer in answers) == 3
    assert sum(isinstance(answer, LimitReached) for answer in answers) == 5


def members_of_blue(time: int, limits: SpendingLimits) -> tuple[list[Workspace], Quota]:
    """Eight users who pay with wallets of their own, and the limits of their team."""
    members = [Workspace(f"user-{time}-{n}", f"wallet-{time}-{n}") for n in range(8)]
    return members, replace(of_team(limits, *members), across=f"blue {time}")


async def test_limits_of_a_team_hold_against_all_its_wallets_at_the_same_moment(
    store: Store,
) -> None:
    """Eight claims in eight processes on eight wallets take the last three places, three times
    over. (promises 10)"""
    processes = [store.ledger(NONE) for _ in range(8)]
    await opened(*processes)
    for time in range(3):
        members, quota = members_of_blue(time, SpendingLimits(None, None, 3, None))

        answers = await asyncio.gather(
            *(asked(*each, WANTED, quota) for each in zip(processes, members, strict=True)),
            return_exceptions=True,
        )

        assert sum(isinstance(answer, Claim) for answer in answers) == 3
        assert sum(isinstance(answer, LimitReached) for answer in answers) == 5


async def test_limits_of_a_team_hold_against_the_queues_of_all_its_wallets_at_the_same_moment(
    store: Store,
) -> None:
    """One job is in flight, and of seven in the queues of seven wallets three are sent."""
    processes = [store.ledger(NONE) for _ in range(8)]
    await opened(*processes)
    for time in range(3):
        members, one = members_of_blue(time, ONE_AT_A_TIME)
        four = replace(one, limits=replace(one.limits, in_flight=4))
        _, *queued = [(await asked(processes[0], each, WANTED, one)).record for each in members]

        answers = await asyncio.gather(
            *(
                process.queue.dispatch(record, 2.0, [four])
                for process, record in zip(processes[1:], queued, strict=True)
            )
        )

        assert sum(answer is not None for answer in answers) == 3


async def test_what_a_user_spent_is_theirs_and_the_balance_is_that_of_the_key(
    ledger: Ledger,
) -> None:
    record = await sent(ledger, (await asked(ledger, ANN)).record)
    await ledger.accept(record, reported(credit_cost=2.0, credits_remaining=40.0))
    quotas = (
        own(BEN, SpendingLimits(None, 10, None, None)),
        of_wallet(SpendingLimits(None, 50, None, None)),
    )

    credits = await ledger.credits(BEN, 2.0, quotas)

    assert (credits.spent.jobs, credits.spent.credits) == (0, 0)
    assert credits.balance is not None
    assert credits.balance.credits == 40
    a_day = {each.whose: each.used for each in credits.limits if each.setting.endswith("PER_DAY")}
    assert a_day == {"your own": 0, "of the PixelDojo key that you share": 2}


# The queue of a wallet.


async def queue_of(ledger: Ledger, *order: tuple[Workspace, int]) -> list[Record]:
    """One job of Eve in flight, and these requests behind it."""
    await asked(ledger, EVE, wanted(100))
    claims = [await asked(ledger, who, wanted(number)) for who, number in order]
    assert all(claim.record.state is State.QUEUED for claim in claims)
    return [claim.record for claim in claims]


async def end_running(ledger: Ledger) -> None:
    """Whatever is in flight is refused, so that its place is free."""
    for record in await ledger.in_wallet(WALLET, 0):
        if record.state is State.INTENT:
            await ledger.conclude(await sent(ledger, record), State.REFUSED, "no")


async def dispatched(ledger: Ledger) -> Record:
    following = await ledger.queue.next(WALLET)
    assert following is not None
    record = await ledger.queue.dispatch(following.record, 2.0)
    assert record is not None
    return record


async def test_users_of_one_wallet_take_turns_and_each_keeps_an_order(store: Store) -> None:
    """Whoever asks for twenty does not keep the others waiting for all of them. (ours)"""
    ledger = store.ledger(ONE_AT_A_TIME)
    await queue_of(ledger, (ANN, 1), (ANN, 2), (ANN, 3), (BEN, 4), (BEN, 5))
    expected = [("ann", 1), ("ben", 4), ("ann", 2), ("ben", 5), ("ann", 3)]

    waiting = await ledger.queue.waiting(WALLET)
    turns = []
    for _ in expected:
        await end_running(ledger)
        store.later(1)
        record = await dispatched(ledger)
        turns.append((record.account, record.seed))

    assert [(each.account, each.seed) for each in waiting] == expected
    assert turns == expected


async def test_whoever_was_served_last_waits_for_the_others(store: Store) -> None:
    """Also if that was a request which did not have to wait. (ours)"""
    ledger = store.ledger(ONE_AT_A_TIME)
    await asked(ledger, ANN, wanted(100))
    store.later(1)
    await asked(ledger, ANN, wanted(1))
    await asked(ledger, BEN, wanted(2))

    assert [each.account for each in await ledger.queue.waiting(WALLET)] == ["ben", "ann"]


async def test_a_date_in_the_future_takes_nobodys_turn_away(store: Store) -> None:
    """A clock that was wrong dated a request of Ann; it is not her last turn until then. (ours)"""
    ledger = store.ledger(ONE_AT_A_TIME)
    store.later(600)
    await asked(ledger, ANN, wanted(100))
    store.later(-600)
    await asked(ledger, ANN, wanted(1))
    await asked(ledger, BEN, wanted(2))

    assert [each.account for each in await ledger.queue.waiting(WALLET)] == ["ann", "ben"]


async def test_a_user_without_room_delays_nobody(store: Store, ledger: Ledger) -> None:
    """Ann may have one job at once, and the wallet two. (ours)"""
    everybody = of_wallet(replace(ONE_AT_A_TIME, in_flight=2))
    quotas = {each.name: (own(each, ONE_AT_A_TIME), everybody) for each in (ANN, BEN)}
    await asked(ledger, ANN, wanted(1), *quotas["ann"])
    first = await asked(ledger, ANN, wanted(2), *quotas["ann"])
    behind = await asked(ledger, BEN, wanted(3), *quotas["ben"])
    assert (first.record.state, behind.record.state) == (State.QUEUED, State.QUEUED)

    following = await ledger.queue.next(WALLET, quotas)

    assert following is not None
    assert (following.record.account, following.wait) == ("ben", 0)
    assert await ledger.queue.dispatch(first.record, 2.0, quotas["ann"]) is None
    assert await ledger.queue.dispatch(behind.record, 2.0, quotas["ben"]) is not None
    assert await ledger.queue.next(WALLET, {}) is None


async def test_nobody_overtakes_the_queue_of_another_user(store: Store) -> None:
    """The free place belongs to whose turn it is, and a dispatcher gives it a moment later."""
    ledger = store.ledger(ONE_AT_A_TIME)
    await queue_of(ledger, (ANN, 1))
    await end_running(ledger)

    assert (await asked(ledger, BEN, wanted(2))).record.state is State.QUEUED


async def test_a_place_in_the_queue_counts_everybody_and_shows_nobody_else(store: Store) -> None:
    ledger = store.ledger(ONE_AT_A_TIME)
    first, second, third = await queue_of(ledger, (ANN, 1), (ANN, 2), (BEN, 3))

    of_ann = await ledger.queue.places(ANN, 60.0)
    of_ben = await ledger.queue.places(BEN, 60.0)

    assert {id: place.position for id, place in of_ann.items()} == {
        first.submission_id: 1,
        second.submission_id: 3,
    }
    assert {id: (place.position, place.starts_in) for id, place in of_ben.items()} == {
        third.submission_id: (2, 120.0)
    }
    assert await ledger.queue.places(EVE, 60.0) == {}


async def test_each_user_may_queue_only_so_many(store: Store, ledger: Ledger) -> None:
    quotas = own(ANN, replace(ONE_AT_A_TIME, queued=1)), of_wallet(ONE_AT_A_TIME)
    for number in (1, 2):
        await asked(ledger, ANN, wanted(number), *quotas)

    refused = await refusal(ledger, ANN, *quotas)

    assert (refused.setting, refused.used) == ("WAN_MCP_MAX_QUEUED", 1)
    assert "This limit is your own." in refused.what


async def test_what_refuses_a_key_ends_the_queue_of_all_its_users(store: Store) -> None:
    ledger = store.ledger(ONE_AT_A_TIME)
    await queue_of(ledger, (ANN, 1), (BEN, 2))

    ended = await ledger.queue.end_all(WALLET, "The key was revoked.")

    assert {each.account for each in ended} == {"ann", "ben"}
    assert await ledger.queue.waiting(WALLET) == []
