"""Removes from the ledger's files what changes and deletions have left in them.

SQLite removes a value by no longer pointing at it. The bytes stay: in the unused room within a
page, in free pages, and in the log, which is used again from its beginning and not emptied. Usually
VACUUM and a truncated log would be the way. But a running server takes a file that became shorter
for one that was cut from outside, and pays no more (see `identity`). So nothing here makes a file
shorter: the table is written anew within the file, and the log is overwritten.
"""

import os
import sqlite3
from pathlib import Path

from wan_mcp.ledger.sqlite.connection import transaction

TRIES = 2
"""How often the log is overwritten: another process may begin it anew in between (ours)."""
CHUNK_PAGES = 64
"""How many pages one write to the log has. The database grows by so many, once (ours)."""
_FRAME_BYTES, _HEADER_BYTES = 24, 32
"""What the log stores beside each page, and at its beginning (documented)."""


def erase_remains(connection: sqlite3.Connection, file: Path) -> bool:
    """Remove what is no longer in any row. Other processes may go on using the ledger.

    Args:
        connection: open on the file for writing. It overwrites what it deletes from now on.

    Returns:
        False if the log could not be overwritten, because others were reading all the time.

    Raises:
        sqlite3.Error, OSError: the file cannot be written. No row is lost.
    """
    connection.execute("PRAGMA temp_store = MEMORY")  # no copy in a temporary file
    connection.execute("PRAGMA secure_delete = ON")
    _rewrite(connection)
    # A checkpoint in between would begin the log anew, and leave the end of it as it is.
    [(automatic,)] = connection.execute("PRAGMA wal_autocheckpoint").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        return any(_overwrite_log(connection, Path(f"{file}-wal")) for _ in range(TRIES))
    finally:
        connection.execute(f"PRAGMA wal_autocheckpoint = {automatic}")


def _rewrite(connection: sqlite3.Connection) -> None:
    """Write the table of jobs anew, and fill every free page, in one transaction.

    The pages that the table had become free all at once, and are overwritten with zeros. A change
    of one row alone would leave the older versions that lie in the rest of its page.
    """
    with transaction(connection):
        [(free,)] = connection.execute("PRAGMA freelist_count").fetchall()
        _fill(connection, free, "zeroblob")
        connection.execute("CREATE TEMP TABLE rewritten AS SELECT * FROM jobs ORDER BY number")
        connection.execute("DELETE FROM jobs")
        connection.execute("INSERT INTO jobs SELECT * FROM rewritten")
        connection.execute("DROP TABLE rewritten")
        connection.execute("DELETE FROM erasure")


def _overwrite_log(connection: sqlite3.Connection, log: Path) -> bool:
    """Write the log from its beginning to its end. Returns whether all of it was written."""
    # The next write begins the log anew, unless another process still reads something in it.
    [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    if is_busy:
        return False
    size = os.path.getsize(log)
    chunk = CHUNK_PAGES * (_page_bytes(connection) + _FRAME_BYTES)
    for _ in range(size // chunk + 1):
        with transaction(connection):
            connection.execute("DELETE FROM erasure")
            _fill(connection, CHUNK_PAGES, "randomblob")  # what is equal would not be written
    with transaction(connection):
        connection.execute("DELETE FROM erasure")
    [(_, frames, _)] = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    written: int = _HEADER_BYTES + frames * (_page_bytes(connection) + _FRAME_BYTES)
    return written >= size


def _fill(connection: sqlite3.Connection, pages: int, function: str) -> None:
    size = pages * _page_bytes(connection)
    connection.execute(f"INSERT INTO erasure VALUES ({function}(?))", (size,))


def _page_bytes(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_size").fetchone()[0])
