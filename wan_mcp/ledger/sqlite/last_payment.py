"""A small file beside the ledger's folder that names the last request that was sent.

It survives when the ledger is restored from a backup or replaced. A ledger that does not have that
request is an older one, or another one. After a power failure this file may be older than the
ledger, never newer: it is written after the ledger, and not forced to the disk.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from wan_mcp.ledger.sqlite.folder import give_to_owner_of

_LENGTH_BYTES = 120
"""The file always has this many bytes, so that a shorter text replaces all of a longer one."""


class Sent(NamedTuple):
    """A request that was sent.

    Attributes:
        ledger: what identifies the ledger, see `ledger_id`.
        inode: that of the database.
        at: when, as a text: 2026-11-29 03:10 UTC.
    """

    submission_id: str
    ledger: str
    inode: str
    at: str


class LastPayment:
    """The file of one ledger.

    Args:
        folder: the ledger's own. The file lies beside it: it must not be restored with it.
    """

    def __init__(self, folder: Path) -> None:
        self._ledger = folder
        self.path = folder.with_name(f"{folder.name}-last-payment")

    def read(self) -> Sent | None:
        """The last request that was sent; None if there is no file, or nothing usable in it.

        Raises:
            OSError: there is a file, and it cannot be read.
        """
        try:
            text = self.path.read_bytes().decode("ascii", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        words = text.strip().split(" ", 3)
        return Sent(*words) if len(words) == 4 and words[0].startswith("sub_") else None

    def write(self, submission_id: str, ledger: str, inode: str, now: datetime) -> None:
        """Name a request that is about to be sent.

        Raises:
            OSError: the file cannot be written.
        """
        text = f"{submission_id} {ledger} {inode} {now:%Y-%m-%d %H:%M} UTC"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{text:<{_LENGTH_BYTES - 1}}\n".encode("ascii"))
        finally:
            os.close(file)
        give_to_owner_of(self._ledger, self.path)
