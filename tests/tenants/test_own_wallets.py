"""Wallets that users make themselves: whose they are, and which key may follow which."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ledger.stores import VIDEO_URL, PostgresStore, claimed, record_in, reported, wanted
from tests.tenants.team import BASE, KEY, Blue, operator_of, ring, rows
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import State
from wan_mcp.tenants.administration import users, wallets
from wan_mcp.tenants.administration.acts import ActRefused, Operator
from wan_mcp.tenants.audit import NOW, entries
from wan_mcp.tenants.own_wallets import OwnWallets, Stored, stored_for
from wan_mcp.tenants.seat import workspace_of

pytestmark = pytest.mark.anyio
OWN_KEY = "pd_canary_own"
OTHER_KEY = "pd_canary_other"


@pytest.fixture
def own(database: str) -> OwnWallets:
    return OwnWallets(database, ring())


@contextmanager
def audited(operator: Operator, *expected: tuple[str, str, str]) -> Iterator[None]:
    """Within it, exactly these acts are done by exactly these people, and nothing says the key."""
    before = len(entries(operator.link, None, 0, 1_000))
    yield
    written = entries(operator.link, None, 0, 1_000)
    new = written[: len(written) - before][::-1]
    assert [(each.actor, each.action, each.result) for each in new] == list(expected)
    assert "canary" not in repr(written)


async def test_user_makes_a_wallet_and_pays_with_it(blue: Blue, own: OwnWallets) -> None:
    """It comes before that of the team, and nobody else uses it (ours)."""
    assert await own.find(blue.ann, OWN_KEY) is None
    with audited(blue.operator, (blue.ann, "wallet.add", "done")):
        await own.store(blue.ann, OWN_KEY, BASE, None)
    found = await own.find(blue.ann, OWN_KEY)
    listed = {wallet.name: wallet for wallet in wallets.wallets(blue.operator, ring())}
    [name] = listed.keys() - {"blue wallet"}

    assert found
    assert (found.api_base, found.has_key, found.jobs) == (BASE, True, frozenset())
    assert (listed[name].user_id, listed[name].key) == (blue.ann, "sealed")
    assert blue.ann in name
    payers = {user.name: user.wallet for user in users.users(blue.operator)}
    assert payers == {"Ann": name, "Bob": "blue wallet", "Eve": None}


async def test_same_key_once_more_changes_nothing(blue: Blue, own: OwnWallets) -> None:
    """Also when the answer to the first time was lost (ours)."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    with audited(blue.operator):
        await own.store(blue.ann, OWN_KEY, BASE, None)


async def with_job(database: str, user: str, wallet: str) -> str:
    """A payment of the user whose job is in progress; the id of the job."""
    ledger = PostgresStore(database).ledger()
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported())
    await ledger.aclose()
    with operator_of(database) as operator:
        [(id,)] = operator.rows(
            b"UPDATE jobs SET account = %(mine)s RETURNING job_id",
            mine=f"{wallet}/{user}",
        )
    return str(id)


async def test_another_key_follows_only_if_it_was_proven_to_be_of_the_same_account(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    """Under another account the jobs of the wallet could not be found again (ours)."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    first = await own.find(blue.ann, OTHER_KEY)
    assert first
    assert not first.has_key
    assert not first.is_shown_by(["job-1"])  # nothing was paid, so nothing proves it
    id = await with_job(database, blue.ann, first.account)
    found = await own.find(blue.ann, OTHER_KEY)
    assert found
    assert found.jobs == {id}
    assert not found.is_shown_by(["job-of-somebody-else"])
    assert found.is_shown_by(["job-of-somebody-else", id])
    with pytest.raises(ActRefused, match="somebody else"):
        await own.store(blue.ann, OTHER_KEY, BASE, None)
    with audited(blue.operator, (blue.ann, "wallet.set-key", "done")):
        await own.store(blue.ann, OTHER_KEY, BASE, found.account)
    again = await own.find(blue.ann, OTHER_KEY)

    assert again == found._replace(has_key=True, knows_key=True)
    first_again = await own.find(blue.ann, OWN_KEY)
    assert first_again == found._replace(has_key=False, knows_key=True)


async def test_key_of_another_wallet_is_refused_and_the_audit_says_by_whom(
    blue: Blue, own: OwnWallets
) -> None:
    """A wallet of the team that a user stored as theirs would be polled twice (ours)."""
    with (
        audited(blue.operator, (blue.ann, "wallet.add", "refused")),
        pytest.raises(ActRefused, match="the same PixelDojo key"),
    ):
        await own.store(blue.ann, KEY, BASE, None)


async def test_refusal_of_another_key_names_no_wallet_and_no_user(
    blue: Blue, own: OwnWallets
) -> None:
    """The operator made those names, and reads them in the audit (ours)."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    found = await own.find(blue.ann, KEY)
    assert found
    with pytest.raises(ActRefused) as refused:
        await own.store(blue.ann, KEY, BASE, found.account)
    [written] = entries(blue.operator.link, blue.ann, 0, 1)

    assert "the same PixelDojo key" in str(refused.value)
    assert "blue wallet" not in str(refused.value)
    assert "blue wallet" in str(written.detail)


def open_workspace(blue: Blue, wallet: str) -> None:
    """Let Ann have worked with a wallet."""
    blue.operator.rows(
        b"INSERT INTO user_workspaces VALUES (%(name)s, %(user)s, %(wallet)s, 0) RETURNING name",
        name=f"{wallet}/{blue.ann}",
        user=blue.ann,
        wallet=wallet,
    )


STATES = {
    "queued": "state = 'not_sent', queued_until = 1e12",
    **{state: f"state = '{state}'" for state in ("intent", "sending", "accepted", "unknown")},
}


@pytest.mark.parametrize("state", STATES)
async def test_first_key_waits_until_nothing_is_in_progress_on_the_wallet_of_the_team(
    blue: Blue, own: OwnWallets, database: str, state: str
) -> None:
    """A job that its user does not see any more would be paid a second time (ours)."""
    open_workspace(blue, blue.wallet)
    await with_job(database, blue.ann, blue.wallet)
    rows(blue.operator.link, f"UPDATE jobs SET {STATES[state]} RETURNING 1")
    refusals = ((blue.ann, "wallet.own-key", "refused"),) * 2
    with audited(blue.operator, *refusals):
        for act in (own.find(blue.ann, OWN_KEY), own.store(blue.ann, OWN_KEY, BASE, None)):
            with pytest.raises(ActRefused, match="Wait until they have ended"):
                await act
    assert await own.find(blue.bob, OWN_KEY) is None
    rows(blue.operator.link, "UPDATE jobs SET state = 'failed', queued_until = NULL RETURNING 1")
    await own.store(blue.ann, OWN_KEY, BASE, None)
    rows(blue.operator.link, f"UPDATE jobs SET {STATES[state]} RETURNING 1")
    found = await own.find(blue.ann, OWN_KEY)

    assert found
    assert found.has_key


async def test_key_that_the_ring_does_not_open_is_sealed_anew(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    """Otherwise the page says stored, and nothing can be paid (ours)."""
    await OwnWallets(database, ring("lost")).store(blue.ann, OWN_KEY, BASE, None)
    closed = await own.find(blue.ann, OWN_KEY)
    other = await own.find(blue.ann, OTHER_KEY)
    assert closed
    assert other
    with audited(blue.operator, (blue.ann, "wallet.set-key", "done")):
        await own.store(blue.ann, OWN_KEY, BASE, closed.account)
    states = {each.user_id: each.key for each in wallets.wallets(blue.operator, ring())}

    assert (closed.has_key, closed.knows_key) == (False, True)
    assert (other.has_key, other.knows_key) == (False, False)
    assert states[blue.ann] == "sealed"
    assert await own.find(blue.ann, OWN_KEY) == closed._replace(has_key=True)


async def test_key_of_a_removed_wallet_is_refused_as_that(blue: Blue, own: OwnWallets) -> None:
    """An operator forgot it for good, and no name of a wallet is the reason (ours)."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    found = await own.find(blue.ann, OWN_KEY)
    assert found
    wallets.remove(blue.operator, found.account)
    with (
        audited(blue.operator, (blue.ann, "wallet.own-key", "refused")),
        pytest.raises(ActRefused, match="was removed from this server"),
    ):
        await own.store(blue.ann, OWN_KEY, BASE, None)


async def test_user_whose_wallet_was_removed_makes_another(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    """What was in progress on it never ends, and is no reason to wait (ours)."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    found = await own.find(blue.ann, OWN_KEY)
    assert found
    open_workspace(blue, found.account)
    await with_job(database, blue.ann, found.account)
    wallets.remove(blue.operator, found.account)
    assert await own.find(blue.ann, OTHER_KEY) is None
    await own.store(blue.ann, OTHER_KEY, BASE, None)
    second = await own.find(blue.ann, OTHER_KEY)

    assert second
    assert second.account != found.account


async def test_refused_key_is_in_the_audit(blue: Blue, own: OwnWallets) -> None:
    with audited(blue.operator, (blue.ann, "wallet.own-key", "refused")):
        await own.refuse(blue.ann, "PixelDojo does not accept it")


async def test_no_column_has_the_key(blue: Blue, own: OwnWallets) -> None:
    """A copy of the database pays nothing (ours)."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    everything = [
        rows(blue.operator.link, f"SELECT * FROM {name}")
        for (name,) in rows(blue.operator.link, names)
    ]

    assert len(everything) > 8
    assert "canary" not in repr(everything)


async def test_database_that_is_away_is_named_as_such() -> None:
    away = OwnWallets("postgresql:///wan_mcp?host=/nowhere", ring())
    for act in (
        away.find("u1", OWN_KEY),
        away.store("u1", OWN_KEY, BASE, None),
        away.refuse("u1", "it is none"),
        away.remove("u1"),
    ):
        with pytest.raises(LedgerUnavailable):
            await act


# Removing


async def stored_wallet(blue: Blue, own: OwnWallets) -> str:
    """The account of a wallet that Ann has made, and has worked with."""
    await own.store(blue.ann, OWN_KEY, BASE, None)
    found = await own.find(blue.ann, OWN_KEY)
    assert found
    open_workspace(blue, found.account)
    return found.account


async def with_work(database: str, user: str, wallet: str, state: State, seed: int = 1) -> None:
    """A request of the user on their own wallet, in this state."""
    ledger = PostgresStore(database).ledger()
    await record_in(ledger, state, wanted(seed), VIDEO_URL)
    await ledger.aclose()
    with operator_of(database) as operator:
        names = {"mine": workspace_of(user, wallet), "wallet": wallet}
        operator.rows(
            b"UPDATE jobs SET account = %(mine)s, wallet = %(wallet)s WHERE account <> %(mine)s "
            b"RETURNING 1",
            **names,
        )
        operator.rows(
            f"UPDATE jobs SET ended_at = {NOW} WHERE ended_at IS NOT NULL RETURNING 1".encode()
        )
        operator.rows(
            b"INSERT INTO workspaces VALUES (%(wallet)s, %(mine)s) ON CONFLICT DO NOTHING "
            b"RETURNING 1",
            **names,
        )


async def test_user_removes_a_key_and_pays_with_that_of_the_team_again(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    """Once more changes nothing, and the key is nowhere in the database (ours)."""
    account = await stored_wallet(blue, own)
    with operator_of(database) as operator:
        before = stored_for(operator, blue.ann)
        with audited(blue.operator, (blue.ann, "wallet.remove", "done")):
            await own.remove(blue.ann, "the-token")
            await own.remove(blue.ann, "the-token")
        after = [stored_for(operator, each)[0] for each in (blue.ann, blue.bob, "unknown")]
    [written] = entries(blue.operator.link, account, 0, 1)
    found = rows(
        blue.operator.link,
        "SELECT key_sealed, key_account, removed_at IS NULL FROM wallet_keys "
        f"WHERE account = '{account}'",
    )

    assert before == (Stored.BY_USER, account)
    assert after == [Stored.NOTHING] * 3
    assert written.detail == {"signed_in": "the-token"}
    assert found == [(None, None, False)]
    payers = {user.name: user.wallet for user in users.users(blue.operator)}
    assert payers == {"Ann": "blue wallet", "Bob": "blue wallet", "Eve": None}


WAITS = {
    State.QUEUED: r"1 job of yours is .*cancel what is in the queue",
    State.INTENT: "1 job of yours is in progress",
    State.SENDING: "1 job of yours is in progress",
    State.ACCEPTED: "1 job of yours is in progress",
    State.UNKNOWN: "of unknown outcome: your key is needed",
    State.COMPLETED: r"^1 video of yours is still to be saved.*Wait until that is done\. Then",
}


@pytest.mark.parametrize("state", WAITS)
async def test_key_stays_while_it_is_needed_and_the_refusal_says_for_how_much(
    blue: Blue, own: OwnWallets, database: str, state: State
) -> None:
    """A job could not be followed, and a lost answer not be looked up, without it (ours)."""
    account = await stored_wallet(blue, own)
    await with_work(database, blue.ann, account, state)
    with (
        audited(blue.operator, (blue.ann, "wallet.remove", "refused")),
        pytest.raises(ActRefused, match=WAITS[state]) as refused,
    ):
        await own.remove(blue.ann)
    kept = await own.find(blue.ann, OWN_KEY)
    rows(
        blue.operator.link,
        "UPDATE jobs SET state = 'failed', queued_until = NULL, video_url = NULL RETURNING 1",
    )
    await own.remove(blue.ann)

    assert kept
    assert kept.has_key
    assert "--force" not in str(refused.value)
    assert "own key of" not in str(refused.value)


async def test_refusal_counts_all_jobs_and_all_videos(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    account = await stored_wallet(blue, own)
    states = (State.ACCEPTED, State.UNKNOWN, State.COMPLETED, State.LOST)
    for seed, state in enumerate(states):
        await with_work(database, blue.ann, account, state, seed)
    with pytest.raises(ActRefused) as refused:
        await own.remove(blue.ann)

    assert str(refused.value).startswith(
        "2 jobs of yours are in progress, in the queue or of unknown outcome, and 1 video of yours "
        "is still to be saved: your key is needed for that."
    )


async def test_work_of_others_and_with_the_key_of_the_team_keeps_no_key(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    await stored_wallet(blue, own)
    await with_work(database, blue.ann, blue.wallet, State.ACCEPTED)
    await own.remove(blue.ann)
    with operator_of(database) as operator:
        assert stored_for(operator, blue.ann) == (Stored.NOTHING, "")


async def test_key_that_an_operator_has_stored_is_removed_by_operators_only(
    blue: Blue, own: OwnWallets, database: str
) -> None:
    """The team would pay for the user again, against what the operator has decided (ours)."""
    wallets.add(blue.operator, ring(), "Ann's", "pd_ann", BASE, user=blue.ann)
    with (
        audited(blue.operator, (blue.ann, "wallet.remove", "refused")),
        pytest.raises(ActRefused, match="only an operator can remove it"),
    ):
        await own.remove(blue.ann)
    with operator_of(database) as operator:
        assert stored_for(operator, blue.ann)[0] is Stored.BY_OPERATOR


async def test_disabled_user_removes_nothing(blue: Blue, own: OwnWallets, database: str) -> None:
    """They may not act here any more; an operator can (ours)."""
    account = await stored_wallet(blue, own)
    users.disable(blue.operator, blue.ann)
    with audited(blue.operator):
        await own.remove(blue.ann)
    states = {each.account: each.key for each in wallets.wallets(blue.operator, ring())}

    assert states[account] == "sealed"


async def test_key_that_somebody_else_removes_at_the_same_moment_is_named_as_that(
    blue: Blue, own: OwnWallets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the name of the wallet, and without a word on what was removed (ours)."""
    account = await stored_wallet(blue, own)
    remove = wallets.remove

    def late(operator: Operator, typed: str) -> None:
        remove(blue.operator, typed)
        remove(operator, typed)

    monkeypatch.setattr(wallets, "remove", late)
    with pytest.raises(ActRefused, match="changed by somebody else") as refused:
        await own.remove(blue.ann)

    assert account[:8] not in str(refused.value)
