"""Which processes are alive: each one holds a lock, which the kernel releases when it ends.

That is true after kill -9 too. A process id would not be enough: the system uses it again, and it
has no meaning in another container.
"""

import os
import secrets
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from wan_mcp.ledger.sqlite.folder import give_to_owner_of
from wan_mcp.storage.file_lock import try_lock

LOOKS = 3
LOOK_GAP_SECONDS = 0.01
"""How often, and how far apart, a lock must be found held to show that its process lives (ours)."""


class ProcessLock:
    """The lock of this process. Its random name is never used again.

    It is held until `release`, or until the process ends.

    Args:
        folder: contains the lock files of all processes. It is created if it is missing.
        store: what this process has open, for `lives_elsewhere`.

    Attributes:
        name: the name of the lock file, under which this process owns records.

    Raises:
        OSError: a lock file cannot be created in the folder.
    """

    def __init__(self, folder: Path, store: str = "") -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self.name, self._file = _new_lock(folder)
        os.write(self._file, store.encode())
        give_to_owner_of(folder.parent, folder, folder / self.name)
        _drop_in_forks(self)

    def dead(self, name: str) -> bool:
        """Whether the process of that name has ended. Once true, it stays true."""
        return name != self.name and _free(self._folder / name)

    def sweep(self) -> None:
        """Remove the lock files of dead processes. A missing file means the same: dead."""
        for path in self._folder.iterdir():
            if path.name != self.name:
                _free(path, remove=True)

    def release(self) -> None:
        """Release the lock: from now on the other processes see this one as dead."""
        self.drop_inherited()
        _remove(self._folder / self.name)

    def drop_inherited(self) -> None:
        """In a forked child: close the copy of the lock, or a dead parent looks alive."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def lives_elsewhere(folder: Path, store: str) -> bool:
    """Whether a living process has a store open that is not this one.

    A process of an older version does not say what it has open. On Windows no other process can
    read the lock file, but an open database can be neither moved nor replaced there. A process that
    checks at the same moment holds the lock of a dead one for an instant, so one try is not enough.
    """
    found = [path for path in _locks(folder) if _content(path) not in ("", store)]
    for _ in range(LOOKS):
        found = [path for path in found if not _free(path)]
        if not found:
            return False
        time.sleep(LOOK_GAP_SECONDS)
    return True


def anyone_lives(folder: Path) -> bool:
    """Whether any process is alive, this one included."""
    return any(not _free(path) for path in _locks(folder))


def _locks(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _content(path: Path) -> str:
    """The text that a process wrote into its lock file; "" if its lock cannot be tried."""
    try:
        with path.open("r+b") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _new_lock(folder: Path) -> tuple[str, int]:
    while True:
        name = secrets.token_hex(16)
        file = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Between these lines a sweep may take the new file for a dead one: then try another.
        if try_lock(file) and (folder / name).exists():
            return name, file
        os.close(file)


def _free(path: Path, *, remove: bool = False) -> bool:
    """Whether no process holds that lock.

    Args:
        remove: remove the file of a free lock, while this process holds it.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False  # on Windows, another process is removing the file: it reports the death
    try:
        free = try_lock(file)
        if free and remove:
            _remove(path)
    finally:
        os.close(file)
    if free and remove and sys.platform == "win32":
        _remove(path)  # Windows removes no open file, so a living owner keeps its lock file
    return free


def _remove(path: Path) -> None:
    with suppress(PermissionError):  # on Windows, another process has the file open
        path.unlink(missing_ok=True)


def _drop_in_forks(owner: ProcessLock) -> None:
    register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=partial(_drop, weakref.ref(owner)))


def _drop(owner: "weakref.ref[ProcessLock]") -> None:
    held = owner()
    if held is not None:
        held.drop_inherited()
