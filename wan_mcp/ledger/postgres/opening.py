"""The ledger in PostgreSQL, or what is missing for it."""

from pathlib import Path

from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.places import FOLDER, NoLedger
from wan_mcp.ledger.threaded.ledger import ThreadedLedger


def ledger_in_database(
    url: str, listen_url: str, data: Path | None, limits: SpendingLimits
) -> ThreadedLedger:
    """The ledger at an address; without psycopg, one that says so in place of every answer.

    Args:
        listen_url: as for `PostgresLedger`; "" for none.
        data: the data folder of this computer; None if it has none. Paid jobs that cannot be
            written to the database are kept there.
    """
    try:
        from wan_mcp.ledger.postgres.engine import PostgresLedger
    except ImportError:
        missing = NoLedger(
            "The ledger is in PostgreSQL, and psycopg, which reads it, is not installed.",
            next_step="Ask the operator to install wan-mcp[postgres].",
        )
        return ThreadedLedger(missing, limits, poll_seconds=1.0)
    folder = data and data / FOLDER
    return PostgresLedger(url, listen_url=listen_url or url, limits=limits, folder=folder)
