"""Opens a file in an allowed folder so that no link, whenever it is made, can lead elsewhere.

Between a check of a path and its use, somebody may replace a folder or a file by a link. So nothing
is checked and then opened again: if the system can do so, each folder of the path is opened within
the one before, without following a link, down to the file. If there is a link on the way, it is
read, and its target must be in an allowed folder as well; then the walk begins again from there.
Everything about the file is read from the open file.

Windows cannot do this. There no link is followed at all, and the path of the open file is checked.
"""

import errno
import os
import stat
import sys
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wan_mcp.inputs.local.folders import AllowedFolders, Place, WrongPlace
from wan_mcp.inputs.local.system import (
    is_hidden,
    is_link,
    is_on_network,
    is_open_on_network,
    true_path,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINKS = 40
"""How many links are followed on the way to a file: as many as Linux does (documented)."""

# O_NONBLOCK: a pipe without a writer would stop the thread.
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FILE |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
_FILE |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


class Unfit(Exception):
    """Something in an allowed place cannot be an input.

    Attributes:
        what: the reason, as the rest of a sentence that begins with the argument's name.
        remedy: what the user can do.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class Changed(OSError):
    """The file is not the same, or not in the same state, as before."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "the file was changed")


@dataclass(frozen=True)
class Identity:
    """Which file it is, and in which state; equal as long as it holds the same bytes.

    For a moment after a change this is not certain, because the times in a file system are coarse.

    Attributes:
        modified_ns: when its content was last changed, in nanoseconds since 1970.
        changed_ns: when anything about it was last changed; on Windows, when it was created.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The identity of a file with this status."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class OpenFile(FileIO):
    """A regular file of this computer that is open for reading, and watched for changes.

    Attributes:
        path: where it is, without a link in it.
        identity: what it was when it was opened.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "rb")
        self.path = path
        self.identity = Identity.of(os.fstat(descriptor))

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As FileIO does. Raises Changed if the file was changed, like the two methods below."""
        read = super().readinto(buffer)
        self.check_unchanged()
        return read

    def read(self, size: int | None = -1, /) -> bytes:
        """As FileIO does."""
        found = super().read(size)
        self.check_unchanged()
        return found

    def readall(self) -> bytes:
        """As FileIO does."""
        found = super().readall()
        self.check_unchanged()
        return found

    def check_unchanged(self) -> None:
        """Raises Changed if it is not what it was when it was opened."""
        if Identity.of(os.fstat(self.fileno())) != self.identity:
            raise Changed


def opened(path: Path, allowed: AllowedFolders) -> OpenFile:
    """Open a file, if it lies in an allowed folder.

    Args:
        path: its full path.

    Raises:
        WrongPlace: it is in none of them, or is hidden; nothing there was looked at.
        Unfit: it is not a regular file, or is on another computer.
        OSError: it cannot be opened.
    """
    place = allowed.place(path)
    for _ in range(MAX_LINKS):
        found = _attempt(place)
        if isinstance(found, OpenFile):
            return _verified(found, allowed)
        place = allowed.place(found)
    raise OSError(errno.ELOOP, "links lead in a circle")


def opened_again(path: Path, identity: Identity) -> OpenFile:
    """Open a file that was opened before, just as safely.

    Args:
        path: the path of the open file; there was no link in it.

    Raises:
        OSError: it cannot be opened, or is no longer the same (Changed).
    """
    place = Place(path.parent, (path.name,))
    try:
        file = _attempt(place)
    except (Unfit, WrongPlace):
        raise Changed from None
    if not isinstance(file, OpenFile):
        raise Changed
    if file.identity != identity:
        file.close()
        raise Changed
    return file


def _verified(file: OpenFile, allowed: AllowedFolders) -> OpenFile:
    """The open file, after checking where it really is according to the system.

    That path may differ from the one that was opened if a disk accepts several names for a file.
    """
    try:
        if is_open_on_network(file.fileno()):
            raise _on_another_computer()
        if path := true_path(file.fileno()):
            allowed.place(path)
        elif sys.platform == "win32":
            raise WrongPlace
    except BaseException:
        file.close()
        raise
    return file


def _attempt(place: Place) -> OpenFile | Path:
    """The open file, or the full path to which a link on the way leads."""
    if is_on_network(place.path):
        raise _on_another_computer()
    if not place.parts:
        raise _not_regular(stat.S_IFDIR)
    return _open(place)


def _check_file(status: os.stat_result) -> None:
    if is_hidden(status):
        raise WrongPlace
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(status.st_mode)


def _open_checked(opened: int, path: Path) -> OpenFile:
    """The file of a descriptor, if it is a regular file; otherwise it is closed. Raises Unfit."""
    try:
        _check_file(os.fstat(opened))
    except BaseException:
        os.close(opened)
        raise
    return OpenFile(opened, path)


def _not_regular(mode: int) -> Unfit:
    if stat.S_ISDIR(mode):
        return Unfit("is a folder", "name one file in it")
    return Unfit("is no regular file", "name a file that is stored on a disk of this computer")


def _on_another_computer() -> Unfit:
    return Unfit(
        "is on another computer, whose files are not opened from here",
        "copy the file to a disk of this computer",
    )


if sys.platform == "win32":

    def _open(place: Place) -> OpenFile | Path:
        path = place.folder
        for name in place.parts:
            path /= name
            status = os.lstat(path)
            if is_link(status):
                raise Unfit("is reached by a link", "name the path to which the link leads")
            if is_hidden(status):
                raise WrongPlace
        _check_file(status)
        return _open_checked(os.open(path, _FILE), path)

else:
    # O_PATH needs no right to list a folder, only the right to pass through it. Where O_PATH is
    # missing, the walk begins at the allowed folder instead of at the root.
    _HAS_O_PATH = hasattr(os, "O_PATH")
    _FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    _FOLDER |= getattr(os, "O_PATH", os.O_RDONLY)
    _START = _FOLDER
    if sys.platform == "darwin":  # which refuses a link in any part of a path, and not both flags
        _START = _FOLDER & ~os.O_NOFOLLOW | os.O_NOFOLLOW_ANY

    def _open(place: Place) -> OpenFile | Path:
        start = Path("/") if _HAS_O_PATH else place.folder
        at = os.open(start, _START)
        try:
            for name in place.folder.relative_to(start).parts:
                at = _entered(name, at)
            way = place.folder
            for depth, name in enumerate(place.parts, 1):
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                if is_link(status):
                    return way.joinpath(os.readlink(name, dir_fd=at), *place.parts[depth:])
                if depth < len(place.parts):
                    if is_hidden(status):
                        raise WrongPlace
                    at, way = _entered(name, at), way / name
            _check_file(status)  # before it is opened, which a device may notice
            return _open_checked(os.open(name, _FILE, dir_fd=at), way / name)
        finally:
            os.close(at)

    def _entered(name: str, at: int) -> int:
        """Open a folder in the open folder `at`, and close `at`. A link is an error."""
        below = os.open(name, _FOLDER, dir_fd=at)
        os.close(at)
        return below
