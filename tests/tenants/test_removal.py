"""The key of a wallet is removed: no request begins on it meanwhile, and none later."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import anyio.from_thread
import anyio.to_thread
import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.crash.databases import LIMITS
from tests.ledger.stores import HANG_SECONDS, WANTED, PostgresStore
from tests.ledger.test_ledger_postgres import WAITS_FOR_LOCK, until
from tests.postgres.server import Server
from tests.tenants.team import Blue
from tests.tenants.test_administration import leave_work
from wan_mcp.ledger.contract import Claim, Ledger, QuotasChanged
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.tenants.administration import wallets
from wan_mcp.tenants.administration.acts import Act
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.seat import NoWallet, workspace_of

pytestmark = pytest.mark.anyio

NONE = Quota(SpendingLimits(None, None, None, None))


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Ledger]:
    """A server's ledger."""
    made = PostgresStore(database).ledger()
    yield made
    await made.aclose()


async def version(directory: StoredDirectory, blue: Blue) -> int:
    """That of the people, as a payment of Ann learns it."""
    return (await directory.seat(blue.ann, fresh=True)).as_of


def anns(blue: Blue) -> Workspace:
    """What Ann has of the wallet of her team."""
    return Workspace(workspace_of(blue.ann, blue.wallet), blue.wallet)


async def test_request_that_comes_after_the_look_waits_for_the_removal_and_does_not_begin(
    blue: Blue,
    ledger: Ledger,
    directory: StoredDirectory,
    database: str,
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be paid with a key that nobody has who asks for its job (ours)."""
    for limit in LIMITS:  # on a busy computer both may have to wait long
        monkeypatch.setattr(f"wan_mcp.ledger.{limit}", HANG_SECONDS)
    look = wallets._require_idle
    claims = list[asyncio.Task[Claim]]()
    limits = [replace(NONE, as_of=await version(directory, blue))]

    async def begin() -> bool:
        asked = ledger.claim(anns(blue), WANTED, generated_seed=7, estimate=2.0, quotas=limits)
        claims.append(asyncio.create_task(asked))
        waits = asyncio.create_task(until(postgres, database, WAITS_FOR_LOCK))
        await asyncio.wait([*claims, waits], return_when=asyncio.FIRST_COMPLETED)
        had_to_wait = not claims[0].done()
        await asyncio.gather(waits) if had_to_wait else waits.cancel()
        return had_to_wait

    def looked(act: Act, wallet: wallets._Found) -> None:
        look(act, wallet)
        assert anyio.from_thread.run(begin)

    monkeypatch.setattr(wallets, "_require_idle", looked)
    await anyio.to_thread.run_sync(partial(wallets.remove, blue.operator, "blue wallet"))
    with pytest.raises(QuotasChanged) as refused:
        await claims[0]

    assert refused.value.charged == "no"
    assert await ledger.recent(anns(blue).name) == []
    with pytest.raises(NoWallet):
        await version(directory, blue)


async def test_refused_removal_closes_nothing(blue: Blue, ledger: Ledger, database: str) -> None:
    """The wallet goes on, also for what is ordered next (ours)."""
    await leave_work(blue, database, "running")
    with pytest.raises(wallets.WalletBusy) as refused:
        wallets.remove(blue.operator, "blue wallet")
    seed = WANTED.model_copy(update={"seed": 8})
    claim = await ledger.claim(anns(blue), seed, generated_seed=7, estimate=2.0)

    assert (refused.value.jobs, refused.value.videos) == (1, 0)
    assert claim.created
