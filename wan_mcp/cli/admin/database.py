"""The database of a team, as the commands of its operator open it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.settings import Settings

if TYPE_CHECKING:
    from wan_mcp.ledger.postgres.connection import Link


def missing(settings: Settings) -> LedgerUnavailable | None:
    """What is missing for a connection; None if nothing is. It imports nothing."""
    if not settings.ledger_url.get_secret_value():
        return LedgerUnavailable(
            "WAN_MCP_LEDGER_URL is not set.",
            next_step="Set it to the address of the database: "
            "postgresql://user:password@host/database.",
        )
    if find_spec("psycopg") is None:
        return LedgerUnavailable(
            "The driver of PostgreSQL is not installed.",
            next_step="Install it: pip install 'wan-mcp[postgres]'.",
        )
    return None


@contextmanager
def database_of(settings: Settings) -> "Iterator[Link]":
    """A connection to the database of the settings. Raises LedgerUnavailable, also in its block."""
    if why := missing(settings):
        raise why
    from wan_mcp.ledger.postgres.connection import as_ledger_errors, connect

    with as_ledger_errors(), connect(settings.ledger_url.get_secret_value()) as connection:
        yield connection
