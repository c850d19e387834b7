"""Looks at a ledger in PostgreSQL for its operator: may it be written, and what is in it?"""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.history.survey import AccountKey, Survey, surveyed
from wan_mcp.ledger.postgres.connection import Link
from wan_mcp.ledger.postgres.engine import PostgresEngine
from wan_mcp.ledger.sqlite.places import FOLDER

_MAY_WRITE = b"""
SELECT has_table_privilege('jobs', 'INSERT') AND has_table_privilege('jobs', 'UPDATE')
"""


def survey(
    link: Link,
    url: str,
    listen_url: str,
    data: Path | None,
    accounts: Iterable[AccountKey] = (),
) -> Survey:
    """Open the ledger as a server does that is about to pay, and count what is in it.

    No request is changed or settled. What a server writes at its start is written and taken back:
    the row by which others see that it is alive.

    Args:
        link: leads to the same database.
        url, listen_url: its addresses, as for `PostgresLedger`.
        data: the data folder of this computer; None if it has none.
        accounts: those whose last balance is wanted.

    Raises:
        LedgerUnavailable: a server could not buy anything with it; the text says why.
    """
    engine = PostgresEngine(url, listen_url, None, data and data / FOLDER)
    with engine.as_ledger_errors(), ExitStack() as opening:
        session = engine.open(opening)
        with session.transaction():
            pass  # nothing changes, but it has been begun and committed
        if link.run((_MAY_WRITE, None))[-1] != [(True,)]:
            raise LedgerUnavailable(
                "This user of the database may not write the table of requests (jobs).",
                next_step="Ask the operator to let this user read, add, change and delete rows.",
            )
        return surveyed(session, accounts)
