"""Opens a ledger in PostgreSQL for the commands of its operator, while servers run on it."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from wan_mcp.ledger.history.history import History
from wan_mcp.ledger.postgres.connection import as_ledger_errors
from wan_mcp.ledger.postgres.liveness import Lease
from wan_mcp.ledger.postgres.migrations import connect_to_current
from wan_mcp.ledger.postgres.session import PostgresSession

T = TypeVar("T")


def read(url: str, work: Callable[[History], T]) -> T:
    """Look at a ledger of this version, and change nothing.

    Raises:
        LedgerUnavailable: it cannot be read.
    """
    with as_ledger_errors():
        # Its lease is never begun: whoever only reads owns nothing, and the others do not see it.
        session = PostgresSession(
            partial(connect_to_current, url), Lease(), lambda: None, None, None
        )
        try:
            return work(History(session))
        finally:
            session.close()
