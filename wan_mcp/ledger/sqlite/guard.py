"""Checks before each payment that the ledger is still the one that all servers share."""

import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path

from wan_mcp.errors import shows_no_files_left
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import LedgerChanged
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.session import KeptJob
from wan_mcp.ledger.sqlite import identity
from wan_mcp.ledger.sqlite.connection import connect
from wan_mcp.ledger.sqlite.copies import ledger_id, original_of
from wan_mcp.ledger.sqlite.kept_jobs import KeptJobs
from wan_mcp.ledger.sqlite.last_payment import LastPayment, Sent
from wan_mcp.ledger.sqlite.liveness import anyone_lives, lives_elsewhere
from wan_mcp.models import Job

_PUT_BACK = (
    "Tell the user. Ask them to close every program that uses wan-mcp, to put ledger.db back (and "
    "ledger.db-wal, if it was there: the two belong together) and to start the programs again. "
    "What wan-mcp has open can still be read."
)
_GIVE_UP = (
    " If that ledger is gone for good: ask them to look at their recent jobs on pixeldojo.ai, and "
    "then to delete {names} in the folder above the ledger's; then paid calls work again."
)

_ONE_OF_TWO = (
    "Tell the user. Ask them which of the two is to be used: to set WAN_MCP_DATA_DIR accordingly "
    "for every assistant, or to move the other one out of the way, and to restart the assistants. "
    "Neither must be deleted before its jobs have been looked at: it says which jobs were paid for."
)
_READABLE = (
    "Tell the user. Ask them to make that file readable for the user of this program: it is in the "
    "folder above the ledger's, and another user may have run wan-mcp here."
)

logger = logging.getLogger(__name__)


class Guard:
    """Watches over the ledger in one folder.

    Args:
        folder: the ledger's own.
        file: the database in it.
        owners: the folder with the lock files of the processes.
    """

    def __init__(self, folder: Path, file: Path, owners: Path) -> None:
        self._file = file
        self._owners = owners
        self._last_payment = LastPayment(folder)
        self._kept = KeptJobs(folder)
        self._files: identity.LedgerFiles | None = None
        self._ledger = ""

    def before_opening(self) -> None:
        """Check before anything is created, and before SQLite merges a log that may be another's.

        Raises:
            LedgerChanged: the ledger that payments were recorded in is not here.
            sqlite3.Error: the file cannot be read.
        """
        sent = self._last_sent()
        if identity.is_orphaned_log(self._file):
            raise self._changed(
                "The ledger's log (ledger.db-wal) is here, and its database (ledger.db) is not.",
                "ledger.db-wal in the ledger's folder, and " if sent is None else "",
            )
        if sent is not None and identity.is_missing(self._file):
            raise self._changed(
                "The ledger file (ledger.db) is missing or empty, and payments were recorded in it "
                f"until {sent.at}."
            )
        if lives_elsewhere(self._owners, identity.inode_of(self._file)):
            raise LedgerChanged(
                "A server that is running has another file open as the ledger than the one that is "
                "here now: it was replaced.",
                next_step=_PUT_BACK,
            )
        if sent is not None:
            self._require_last_payment(sent)

    def opened(self, connection: sqlite3.Connection) -> None:
        """Remember the files that were opened just now.

        Raises:
            LedgerChanged: they are a copy of a ledger that is still there.
        """
        if original := original_of(connection, self._file):
            shown = os.fsencode(original).decode(errors="replace")
            raise LedgerChanged(
                f"This ledger is a copy of {shown}, which is still there: what is paid for in one "
                "of them is not known in the other.",
                next_step=_ONE_OF_TWO,
            )
        self._ledger = ledger_id(connection)
        self._files = identity.LedgerFiles(self._file)

    def before_reading(self) -> None:
        """Raises LedgerChanged when a reading would destroy what is left of the ledger."""
        if identity.is_orphaned_log(self._file):
            self.before_opening()

    def change(self) -> LedgerChanged | None:
        """What has happened to the files since they were opened; None if nothing has."""
        if self._files is None or (what := self._files.change()) is None:
            return None
        return LedgerChanged(what, next_step=_PUT_BACK)

    def before_writing(self) -> None:
        """Raises LedgerChanged when a change would destroy what is left of a file."""
        changed = self.change()
        if changed and self._files is not None and self._files.was_cut:
            raise changed

    def before_payment(self) -> None:
        """Raises LedgerChanged when the ledger is not what it was."""
        if changed := self.change():
            raise changed
        if self._files is None or not self._files.was_written:
            return
        # A checkpoint, or a copy over the file.
        if sent := self._last_sent():
            self._require_last_payment(sent)
        self._files.has_been_read()

    def commit_point(self, submission_id: str, now: datetime) -> None:
        """Check once more, and note beside the ledger which request is sent now."""
        self.before_payment()
        inode = "" if self._files is None else self._files.inode
        try:
            self._last_payment.write(submission_id, self._ledger, inode, now)
        except OSError as exc:
            logger.warning("the last payment could not be noted beside the ledger: %s", exc)

    def keep(self, record: Record, job: Job) -> bool:
        """Keep a paid job on disk beside the ledger's folder. Returns whether that was possible."""
        return self._kept.keep(record, job, self._ledger)

    def kept(self) -> Iterable[KeptJob]:
        """The jobs that are kept for it, unless this process has lost the ledger itself."""
        return () if self.change() else self._kept.all(self._ledger)

    def remove_kept(self, record: Record) -> None:
        """Remove what is kept of a forgotten request beside the folder. Raises OSError."""
        self._kept.remove(record)

    def _last_sent(self) -> Sent | None:
        try:
            return self._last_payment.read()
        except OSError as exc:
            if shows_no_files_left(exc):
                raise  # this says nothing about that file, and does not last
            raise LedgerChanged(
                f"The file {self._last_payment.path.name} cannot be read ({exc.strerror}). It says "
                "which payment was the last, so an older ledger would not be noticed.",
                next_step=_READABLE,
            ) from exc

    def _require_last_payment(self, sent: Sent) -> None:
        """Raises LedgerChanged if the file does not have that request.

        This takes a new connection, because the open one may answer from memory what it has read
        before. It is read-only, so closing it merges no log into the file.
        """
        is_replaced = sent.inode != identity.inode_of(self._file)
        # A log that a killed server left may lie beside another file than its own.
        suspect = identity.has_log(self._file) and (is_replaced or not anyone_lives(self._owners))
        with closing(connect(self._file, writable=False)) as reading:
            if not _has(reading, sent):
                raise self._changed(
                    "The ledger does not have the last request that was sent "
                    f"({sent.submission_id}, {sent.at}): it is an older copy, or another ledger."
                )
            if suspect and not _is_whole(reading):
                raise self._changed("The ledger's log (ledger.db-wal) belongs to another file.")

    def _changed(self, what: str, others: str = "") -> LedgerChanged:
        names = f"{others}the file {self._last_payment.path.name}"
        return LedgerChanged(what, next_step=_PUT_BACK + _GIVE_UP.format(names=names))


def _has(connection: sqlite3.Connection, sent: Sent) -> bool:
    try:
        found = connection.execute(
            sql.records.HAS_REQUEST.sqlite, {"submission_id": sent.submission_id}
        )
        return found.fetchone() is not None and ledger_id(connection) == sent.ledger
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # it has no such table
            return False
        raise


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Whether tables and indexes agree. The check takes a second for 100,000 jobs."""
    return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
