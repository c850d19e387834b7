"""A restored database of a team, as docs/teams-operations.md says: what is back in it, and what
the operator has to do before people call."""

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.ledger.stores import HANG_SECONDS
from tests.postgres.backup import backup, commands
from tests.postgres.server import Server
from tests.tenants.commands import typed

if TYPE_CHECKING:
    from tests.tenants.company import Company
    from wan_mcp.tenants.tokens import Issued

pytestmark = pytest.mark.anyio

TAKEN_AWAY = """
SELECT 'limit ' || credits_per_day FROM limits UNION ALL SELECT key_account FROM wallet_keys
ORDER BY 1
"""
BUYS_NOTHING = {"WAN_MCP_MAX_CREDITS_PER_DAY": "0"}


async def is_let_in(company: "Company", token: "Issued") -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=HANG_SECONDS) as client:
        headers = {"authorization": f"Bearer {token.text}"}
        answer = await client.post(company.url, json={}, headers=headers)
    assert answer.status_code in (400, 401, 403)  # 400: it is no message of MCP
    return answer.status_code == 400


class Lost:
    """What happens to the company after the backup, and is not in it.

    Attributes:
        stolen: a token of Ann, which is revoked.
        bobs: a token of Bob, who is disabled.
        eves_key: the new key of Eve's wallet.
    """

    def __init__(self, company: "Company") -> None:
        self.stolen, self.bobs = company.token(company.ann), company.token(company.bob)
        self.eves_key = company.sandbox.open_account()

    def take_away(self, company: "Company") -> None:
        from tests.tenants.team import ring
        from wan_mcp.tenants.administration import allowances, tokens, users, wallets
        from wan_mcp.tenants.limits import Kind

        tokens.revoke(company.operator, self.stolen.id)
        users.disable(company.operator, "Bob")
        allowances.set_limits(company.operator, Kind.USER, "Ann", {"credits_per_day": 10})
        wallets.set_key(company.operator, ring(), "Eve's", self.eves_key)

    async def take_away_again(self, database: str, folder: Path) -> None:
        """Type what the page has, each word of it with what it stands for."""
        names = {"ID": self.stolen.id, "bob": "Bob", "ann": "Ann", "eve": "Eve's"}
        for command in commands("What is back in a restored database"):
            words = [names.get(word, word) for word in command.removeprefix("wan-mcp ").split()]
            await typed(words, database, folder, self.eves_key)

    async def let_in(self, company: "Company") -> list[bool]:
        return [await is_let_in(company, each) for each in (self.stolen, self.bobs)]


def limits_and_keys(database: str) -> list[tuple[object, ...]]:
    from tests.tenants.team import operator_of, rows

    with operator_of(database) as operator:
        return rows(operator.link, TAKEN_AWAY)


async def test_restored_database_forgets_payments_and_what_operators_took_away(
    company: "Company", postgres: Server, database: str, tmp_path: Path
) -> None:
    """The commands of the page take it away again, and until then nothing is paid (ours)."""
    lost, anns = Lost(company), company.token(company.ann).text
    bring_back = backup(postgres, database, tmp_path)
    async with company.served():
        async with company.holder(company.ann, anns) as ann:
            paid = await ann.order()
        lost.take_away(company)
        company.time.now += 60
        let_in = [await lost.let_in(company)]
    limits = [limits_and_keys(database)]

    company.database = bring_back()
    limits.append(limits_and_keys(company.database))
    async with company.served(settings=BUYS_NOTHING):
        let_in.append(await lost.let_in(company))
        async with company.holder(company.ann, anns) as ann:
            status = await ann.call("get_job_status", job_id=paid["job_id"])
            refused = await ann.order()
    charges = len(company.sandbox.charges)

    await lost.take_away_again(company.database, tmp_path)
    limits.append(limits_and_keys(company.database))
    async with company.served():
        let_in.append(await lost.let_in(company))
        async with company.holder(company.ann, anns) as ann:
            again = await ann.order()

    assert let_in == [[False, False], [True, True], [False, False]]
    assert limits[0] == limits[2] != limits[1]
    assert status["code"] == "not_found"
    assert (refused["code"], refused["charged"], charges) == ("limit_reached", "no", 1)
    assert (again["charged"], len(company.sandbox.charges)) == ("yes", 2)
