"""Removes from the ledger's files what changes and deletions have left in them.

SQLite removes a value by no longer pointing at it. The bytes stay: in the unused room within a
page, in free pages, and in the log, which is used again from its beginning and not emptied. VACUUM
and a truncated log would be the usual way. But a running server takes a file that became shorter
for one that was cut from outside, and stops paying (see `identity`). So nothing here makes a file
shorter: the tables are written anew within the file, and the log is overwritten.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import sleep

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.sqlite.connection import connect, patience, transaction

TRIES = 8
"""How often overwriting the log is tried, which fails while another process reads (ours)."""
TRY_AGAIN_SECONDS = 0.5
"""How long to wait before the next try (ours)."""
TURN_SECONDS = 0.01
"""How long other processes may write after each part of the log. A waiting one tries every 0.1 s
(observed): without a gap it would find the ledger locked until the whole log is written."""
CHUNK_PAGES = 64
"""How many pages one write to the log has (ours). The database grows by this many, once."""
_FRAME_BYTES, _HEADER_BYTES = 24, 32
"""How many bytes the log stores beside each page, and at its beginning (documented)."""
_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' "
    "AND name <> 'erasure' AND name NOT LIKE 'sqlite%'"
)


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
    # A checkpoint in between could begin the log anew, and leave the end of it as it is.
    [(automatic,)] = connection.execute("PRAGMA wal_autocheckpoint").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        return any(_overwrite_log(connection, file) for _ in _tries())
    finally:
        connection.execute(f"PRAGMA wal_autocheckpoint = {automatic}")


def _tries() -> Iterator[None]:
    yield
    for _ in range(TRIES - 1):
        sleep(TRY_AGAIN_SECONDS)
        yield


def _rewrite(connection: sqlite3.Connection) -> None:
    """Write every table anew, and fill every free page, in one transaction.

    All pages of a table become free at once, and are overwritten with zeros. Changing one row alone
    would leave older versions of it in the rest of its page. The small tables are rewritten, too:
    they may have taken over a page of the jobs, with such remains in it.
    """
    with transaction(connection):
        [(free,)] = connection.execute("PRAGMA freelist_count").fetchall()
        _fill(connection, free, "zeroblob")
        for (table,) in connection.execute(_TABLES).fetchall():
            connection.execute(f"CREATE TEMP TABLE rewritten AS SELECT * FROM main.{table}")
            connection.execute(f"DELETE FROM main.{table}")
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM rewritten")
            connection.execute("DROP TABLE rewritten")
        connection.execute("DELETE FROM erasure")


def _overwrite_log(connection: sqlite3.Connection, file: Path) -> bool:
    """Write the log from its beginning to its end. Returns whether all of it was written."""
    # The next write begins the log anew, unless another process still reads something in it. The
    # restart keeps the others from writing while it works and while it waits for readers, so the
    # work is done before, and the wait is short.
    [(_, frames, merged)] = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    if merged < frames:
        return False
    with patience(connection, False):
        [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    if is_busy:
        return False
    size = os.path.getsize(f"{file}-wal")
    chunk = CHUNK_PAGES * (_page_bytes(connection) + _FRAME_BYTES)
    with closing(connect(file, writable=False)) as reader:
        for _ in range(size // chunk + 1):
            with transaction(connection):
                connection.execute("DELETE FROM erasure")
                _fill(connection, CHUNK_PAGES, "randomblob")  # equal content would not be written
            if not reader.in_transaction:  # while it reads, nobody begins the log anew
                reader.execute("BEGIN")
                reader.execute(sql.coordination.SECRET.sqlite).fetchone()
            sleep(TURN_SECONDS)
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
