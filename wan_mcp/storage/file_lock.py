"""A lock on an open file that the operating system drops when its process ends, even at kill -9."""

import os
import sys

BEHIND_CONTENT = 1 << 30
"""An offset beyond the end of all our files, to lock a file that others must still read."""

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int, offset: int) -> None:
        os.lseek(file, offset, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int, offset: int) -> None:
        # flock, not lockf: it belongs to the open file. So it also keeps two users in one process
        # apart, and closing another descriptor of the same file does not drop it.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(file: int, *, offset: int = 0) -> bool:
    """Lock a file for as long as it stays open, without waiting.

    Args:
        file: a descriptor that is open for reading and writing; its position may move.
        offset: the byte that is locked on Windows, where no other process can read it then. All
            users of a file must name the same one. Elsewhere the whole file is locked.

    Returns:
        False while another open file, of this process or of another one, holds the lock.

    Raises:
        OSError: the file system has no locks, for example.
    """
    try:
        _lock(file, offset)
    except (BlockingIOError, PermissionError):  # what POSIX and Windows raise for a held lock
        return False
    return True
