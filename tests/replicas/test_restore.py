"""A restored database where nobody signs in, as docs/teams-operations.md says."""

from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.connected import connected
from tests.postgres.backup import backup
from tests.postgres.server import Server
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.postgres import engine
from wan_mcp.ledger.postgres.engine import PostgresLedger

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)
BUYS_NOTHING = {"WAN_MCP_MAX_CREDITS_PER_DAY": "0"}


@pytest.fixture(autouse=True)
def virtual_dates(time: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dates in the ledger are those of the test, and not those of the database server."""
    monkeypatch.setattr(engine, "PostgresLedger", partial(PostgresLedger, now=time.wall))


async def test_job_that_was_paid_after_the_backup_is_brought_back_and_would_be_paid_again(
    time: VirtualTime, tmp_path: Path, postgres: Server, database: str
) -> None:
    """With a limit of 0 it is not, and a look at its id puts it into the list (ours)."""
    bring_back = backup(postgres, database, tmp_path)
    given = {"WAN_MCP_LEDGER_URL": database}
    async with connected(time, tmp_path / "before", settings=given) as lost:
        paid = await lost.start(seed=1)
        given = {"WAN_MCP_LEDGER_URL": bring_back()}
        order = {
            "video": lost.sandbox.source_video_url,
            "character_image": lost.sandbox.image_url,
            "seed": 1,
        }
        settings = {**given, **BUYS_NOTHING}
        async with connected(time, tmp_path / "after", beside=lost, settings=settings) as host:
            listed = (await host.call("list_jobs"))["jobs"]
            looked = await host.call("get_job_status", job_id=paid)
            now_listed = (await host.call("list_jobs"))["jobs"]
            refused = await host.call("replace_character", **order)
            charges = len(lost.sandbox.charges)
        async with connected(time, tmp_path / "later", beside=lost, settings=given) as host:
            again = await host.call("replace_character", **order)

    assert listed == []
    assert looked["status"] == "running"
    assert [each["job_id"] for each in now_listed] == [paid]
    assert (refused["code"], refused["charged"], charges) == ("limit_reached", "no", 1)
    assert (again["charged"], len(lost.sandbox.charges)) == ("yes", 2)
