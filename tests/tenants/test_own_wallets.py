"""Wallets that users make themselves: whose they are, and which key may follow which."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ledger.stores import PostgresStore, claimed, reported
from tests.tenants.team import BASE, KEY, Blue, operator_of, ring, rows
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.tenants.administration import users, wallets
from wan_mcp.tenants.administration.acts import ActRefused, Operator
from wan_mcp.tenants.audit import entries
from wan_mcp.tenants.own_wallets import OwnWallets

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
        pytest.raises(ActRefused, match="An operator of this server removed your wallet"),
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
    ):
        with pytest.raises(LedgerUnavailable):
            await act
