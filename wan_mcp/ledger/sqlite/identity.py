"""Whether the files that this process has open are still the ledger that other servers would open.

A ledger is three files that belong together: the database, its write-ahead log (-wal), and the
index of the log (-shm). When one of them is moved, replaced or cut short under a running server,
SQLite goes on with the files that it has open. Then each server has a ledger of its own, and the
same job is paid twice. While a process has the database open, SQLite itself replaces none of the
three and makes none of them shorter (documented), so such a change is always from outside.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

_LOG, _INDEX = "-wal", "-shm"
_DATABASE = ""
_NAMES = {_DATABASE: "ledger.db", _LOG: "ledger.db-wal", _INDEX: "ledger.db-shm"}


@dataclass
class _File:
    """What identifies a file while somebody has it open, and the size that it had last."""

    device: int
    inode: int
    size: int

    @classmethod
    def at(cls, path: str) -> "_File":
        about = os.stat(path)
        return cls(about.st_dev, about.st_ino, about.st_size)


class LedgerFiles:
    """The three files as this process opened them. A check costs three calls of stat.

    Args:
        path: the database, which is open in this process and has been read.

    Raises:
        OSError: one of the files is not there.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._paths = {suffix: f"{path}{suffix}" for suffix in _NAMES}
        self._seen = {suffix: _File.at(name) for suffix, name in self._paths.items()}
        self._cut = ""
        self._read = self._written = os.stat(path).st_mtime_ns

    def change(self) -> str | None:
        """What has happened to the files, in a sentence; None if nothing has.

        A file that was cut short stays that, even if it has grown again since.
        """
        for suffix, path in self._paths.items():
            try:
                now = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return self._missing(suffix)
            except OSError as exc:
                return f"The file {_NAMES[suffix]} cannot be looked at any more: {exc.strerror}."
            before = self._seen[suffix]
            if now.st_ino != before.inode or now.st_dev != before.device:
                return f"Another file has taken the place of {_NAMES[suffix]}."
            if now.st_size < before.size:
                self._cut = self._cut or f"The file {_NAMES[suffix]} was cut short."
            else:
                before.size = now.st_size
            if suffix == _DATABASE:
                self._written = now.st_mtime_ns
        return self._cut or None

    @property
    def was_cut(self) -> bool:
        """Whether a file was cut short, as of the last check.

        Then it must not be written: what follows a hole in the log would be copied into the
        database together with the hole.
        """
        return bool(self._cut)

    @property
    def inode(self) -> str:
        """The inode of the database, as `inode_of` returns it."""
        return str(self._seen[_DATABASE].inode)

    @property
    def was_written(self) -> bool:
        """Whether the database was written, by a checkpoint or a copy, as of the last check.

        That is, since `has_been_read`, or since it was opened.
        """
        return self._written != self._read

    def has_been_read(self) -> None:
        """Note that the database, as it was at the last check, was found to be the right one."""
        self._read = self._written

    def _missing(self, suffix: str) -> str:
        if not os.path.isdir(self._folder):
            return "The ledger's folder was moved away or deleted."
        return f"The file {_NAMES[suffix]} was moved away or deleted."


def inode_of(path: Path) -> str:
    """What identifies the database, for as long as a process has it open.

    "" if there is none. Not the device: another container may see it under another number.
    """
    try:
        return str(os.stat(path).st_ino)
    except FileNotFoundError:
        return ""


def is_orphaned_log(path: Path) -> bool:
    """Whether there is a log with content, and no database for it.

    SQLite deletes such a log when it opens an empty database (observed), and the paid requests in
    it are lost.
    """
    return not _size(path) and has_log(path)


def has_log(path: Path) -> bool:
    """Whether there is a log with content."""
    return bool(_size(Path(f"{path}{_LOG}")))


def is_missing(path: Path) -> bool:
    """Whether there is no database, or an empty file in its place."""
    return not _size(path)


def _size(path: Path) -> int:
    try:
        about = path.stat()
    except FileNotFoundError:
        return 0
    return about.st_size if S_ISREG(about.st_mode) else 0
