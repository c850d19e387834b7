"""Files that belong to this user, in a folder into which other users may be able to write.

The name of a video can be guessed. Another user who can write into the folder could place a link to
a private file of this user under that name, and the server would read and show that file, or write
to it. So a file is opened without following a link, and read only when it is a plain file of this
user. A folder into which every user can write is not used at all.

On Windows none of this is checked: links need a special right there, and a folder in the user's
profile is closed to others. On file systems without permissions (FAT, and the disks of Windows
within WSL) every file seems to belong to the user, so only links and special files are refused.
"""

import errno
import os
import stat
import sys
from io import BufferedReader
from pathlib import Path

# O_NONBLOCK: a named pipe without a writer would stop the thread.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_READ |= getattr(os, "O_BINARY", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_CREATE |= getattr(os, "O_BINARY", 0)
_IS_A_LINK = {errno.ELOOP, errno.EMLINK, errno.ENXIO}
"""The errors of opening a link without following it (EMLINK on FreeBSD), or a socket."""


class Unusable(Exception):
    """A file or a folder must not be used.

    Attributes:
        why: the reason and what to do, as the rest of a sentence about a video, without a path.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NotOurs(Unusable):
    """The file of this name was not made by this user, or leads elsewhere."""

    def __init__(self) -> None:
        super().__init__(
            "in its folder a link, or a file of another user, has the video's name; remove it"
        )


def open_ours(path: Path) -> BufferedReader:
    """Open a file to read it.

    Raises:
        NotOurs: it is a link, no plain file, or does not belong to this user alone.
        OSError: it cannot be opened; FileNotFoundError when there is none.
    """
    try:
        file = os.open(path, _READ)
    except OSError as exc:
        if exc.errno in _IS_A_LINK:
            raise NotOurs from exc
        raise
    try:
        if not _is_ours(os.fstat(file), path.parent):
            raise NotOurs
    except BaseException:
        os.close(file)
        raise
    return os.fdopen(file, "rb")


def create(path: Path) -> int:
    """Create a file that only this user can read. Raises FileExistsError, OSError."""
    return os.open(path, _CREATE, 0o600)


def check_folder(folder: Path, own_file: int) -> None:
    """Refuse a folder into which every user can write, and a link that another user has made.

    A group may share a folder. Root may have made the link, as on systems that move folders.

    Args:
        own_file: the descriptor of a file that was just created in it for this user alone. If
            others have rights to it all the same, the file system has no permissions, and those
            of the folder mean nothing.

    Raises:
        Unusable: the folder is refused.
        OSError: the folder cannot be examined.
    """
    if sys.platform == "win32":
        return
    link = folder.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
        raise Unusable(
            "the folder for videos is a link that another user has made; remove it, or name "
            "another folder in WAN_MCP_VIDEO_DIR for the next jobs"
        )
    knows_rights = not os.fstat(own_file).st_mode & 0o077
    if knows_rights and folder.stat().st_mode & stat.S_IWOTH:
        raise Unusable(
            "every user of this computer can write into the folder for videos; take that right "
            "away (chmod o-w), or name another folder in WAN_MCP_VIDEO_DIR for the next jobs"
        )


def _is_ours(file: os.stat_result, folder: Path) -> bool:
    if not stat.S_ISREG(file.st_mode):
        return False
    if sys.platform == "win32":
        return True
    # A hard link to a private file of this user is a plain file of this user, too.
    return file.st_uid == os.geteuid() and (file.st_nlink == 1 or _is_closed(folder.stat()))


def _is_closed(folder: os.stat_result) -> bool:
    """Whether only this user and root can place files in a folder."""
    is_open = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return sys.platform != "win32" and not is_open and folder.st_uid in (0, os.geteuid())
