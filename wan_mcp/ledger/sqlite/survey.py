"""Looks at a ledger file for the person who owns it: does it open, and what is in it?"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from wan_mcp.ledger.history.survey import AccountKey, Survey, surveyed
from wan_mcp.ledger.sqlite import connection as database
from wan_mcp.ledger.sqlite.engine import FILE, OWNERS, Now, SQLiteEngine
from wan_mcp.ledger.sqlite.guard import Guard
from wan_mcp.ledger.sqlite.places import FOLDER

BUSY_SECONDS = 2.0
"""How long a look waits for another process that writes (ours)."""


def survey(
    data: Path, now: Now, filesystem: str | None = None, accounts: Iterable[AccountKey] = ()
) -> Survey | None:
    """Open the ledger of a data folder as a server does, and count what is in it.

    Nothing is created or settled; a ledger of an older version is brought to this one, as every
    server does at its start. None when there is no ledger yet.

    Args:
        now: gives the date and time, UTC.
        filesystem: a type of file system that the operator declares to be local.
        accounts: those whose last balance is wanted.

    Raises:
        LedgerUnavailable: a server could not buy anything with it; the text says why.
    """
    folder = data / FOLDER
    connect = partial(database.connect, busy_seconds=BUSY_SECONDS)
    engine = SQLiteEngine(folder, now, connect, filesystem)
    with engine.as_ledger_errors():
        if not (folder / FILE).exists():
            Guard(folder, folder / FILE, folder / OWNERS).before_opening()
            return None
        with ExitStack() as opening:
            session = engine.open(opening)
            with session.transaction(patient=False):
                pass  # nothing changes, but it can be locked
            return surveyed(session, accounts)
