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
from wan_mcp.tenants.own_wallets import OwnWallet, OwnWallets

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


async def with_job(database: str, user: str, found: OwnWallet) -> str:
    """A completed payment of the user; the id of its job."""
    ledger = PostgresStore(database).ledger()
    record = await claimed(ledger)
    await ledger.commit_sending(record)
    await ledger.accept(record, reported())
    await ledger.aclose()
    with operator_of(database) as operator:
        [(id,)] = operator.rows(
            b"UPDATE jobs SET account = %(mine)s RETURNING job_id",
            mine=f"{found.account}/{user}",
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
    id = await with_job(database, blue.ann, first)
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

    assert again == found._replace(has_key=True)


async def test_key_of_another_wallet_is_refused_and_the_audit_says_by_whom(
    blue: Blue, own: OwnWallets
) -> None:
    """A wallet of the team that a user stored as theirs would be polled twice (ours)."""
    with (
        audited(blue.operator, (blue.ann, "wallet.add", "refused")),
        pytest.raises(ActRefused, match="the same PixelDojo key"),
    ):
        await own.store(blue.ann, KEY, BASE, None)


async def test_user_whose_wallet_was_removed_makes_another(blue: Blue, own: OwnWallets) -> None:
    await own.store(blue.ann, OWN_KEY, BASE, None)
    found = await own.find(blue.ann, OWN_KEY)
    assert found
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
