"""A team whose database is reached through PgBouncer in transaction mode, as docs/teams.md says."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.bouncer import bouncer_to
from tests.postgres.server import Server
from tests.tenants.commands import typed
from tests.tenants.company import FOR_EVER, Company
from tests.tenants.team import Time, operator_of, rows
from wan_mcp.sandbox import Sandbox

pytestmark = pytest.mark.anyio

COMMANDS = (
    "team add Green",
    "user add Gil --team Green",
    "user add Hal --team Green",
    "wallet add green --team Green --key-file key.txt",
    "limits set --user Gil --credits-per-day 15",
)


@pytest.fixture
async def pooled(
    database: str, postgres: Server, worker_database: str, tmp_path: Path
) -> AsyncIterator[Company]:
    """A company of which everything, its operator too, reaches the database through PgBouncer."""
    jobs_time = Time()
    with bouncer_to(postgres) as folder:
        url = postgres.url(worker_database, folder)
        with operator_of(url) as operator:
            async with Sandbox(FOR_EVER, clock=jobs_time) as sandbox:
                yield Company(operator, url, sandbox, jobs_time, tmp_path)


async def test_team_made_by_commands_signs_in_pays_and_keeps_its_limits_behind_pgbouncer(
    pooled: Company, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And stores a key: each transaction may have another connection there (docs/teams.md)."""
    greens_key, hals_key = pooled.sandbox.open_account(), pooled.sandbox.open_account()

    async def type(command: str) -> str:
        words = ["admin", *command.split()]
        base = pooled.sandbox.api_base
        await typed(words, pooled.database, tmp_path, greens_key, PIXELDOJO_API_BASE=base)
        return capsys.readouterr().out

    for command in COMMANDS:
        await type(command)
    gils, hals = [(await type(f"token add {name}")).split()[0] for name in ("Gil", "Hal")]
    page = "http://127.0.0.1/key"
    async with pooled.served(key_page=page):
        async with pooled.holder("Gil", gils) as gil:
            paid, refused = await gil.order(1), await gil.order(2)
        async with httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS) as http:
            form = {"token": hals, "key": hals_key}
            stored = await http.post(pooled.url.replace("/mcp", "/key"), data=form)
        async with pooled.holder("Hal", hals) as hal:
            own = await hal.order(1)

    assert (paid["charged"], own["charged"]) == ("yes", "yes")
    assert (refused["code"], refused["charged"]) == ("limit_reached", "no")
    assert stored.status_code == 303
    charges = [(charge.key, charge.job_id) for charge in pooled.sandbox.charges]
    assert charges == [(greens_key, paid["job_id"]), (hals_key, own["job_id"])]
    bought = "SELECT target, result FROM audit WHERE action = 'job.buy' ORDER BY at"
    assert rows(pooled.operator.link, bought) == [
        (paid["job_id"], "accepted"),
        (own["job_id"], "accepted"),
    ]
