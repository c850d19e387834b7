"""Whether a ledger is a copy of another one that still exists on this computer.

A copy knows every payment from before it was made, and none of the later ones, so each of the two
would let the jobs of the other be paid again. Therefore a ledger contains its own path. When it is
opened elsewhere, and the ledger is no longer at that path, it was moved: then it takes the new one.
"""

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.sqlite.connection import connect, transaction


def ledger_id(connection: sqlite3.Connection) -> str:
    """The id of a ledger. Its copies have the same one."""
    (key,) = connection.execute(sql.coordination.SECRET.sqlite).fetchone()
    return hashlib.sha256(b"ledger " + bytes(key)).hexdigest()[:16]


def original_of(connection: sqlite3.Connection, file: Path) -> Path | None:
    """The ledger that this one was copied from, a full path; None if there is none any more.

    Args:
        connection: open on the file, and writable.
        file: where it lies.

    Raises:
        sqlite3.Error: the file cannot be used.
    """
    here = Path(os.path.realpath(file))
    row = connection.execute("SELECT path FROM home").fetchone()
    kept = None if row is None else Path(os.fsdecode(row[0]))
    if kept == here:
        return None
    if kept is not None and _is_the_same_ledger(kept, here, ledger_id(connection)):
        return kept
    with transaction(connection):
        connection.execute("DELETE FROM home")
        connection.execute("INSERT INTO home VALUES (?)", (os.fsencode(here),))
    return None


def _is_the_same_ledger(kept: Path, here: Path, id: str) -> bool:
    """Whether there are two files of one ledger. What cannot be read is no evidence."""
    try:
        # One file may have two paths. Not the device: two containers may number it differently.
        if kept.stat().st_ino == here.stat().st_ino:
            return False
        with closing(connect(kept, writable=False)) as other:
            return ledger_id(other) == id
    except (OSError, sqlite3.Error, LedgerUnavailable, TypeError):
        return False
