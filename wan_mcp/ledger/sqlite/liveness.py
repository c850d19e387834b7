"""Who is alive: each process holds a lock that the kernel drops with it, even at kill -9.

A process id would not do: it is used again, and means nothing to another container.
"""

import os
import secrets
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from wan_mcp.file_lock import try_lock


class ProcessLock:
    """This process, as long as the object lives, under a random name that is never used again.

    Args:
        folder: where the lock files of all processes lie.

    Raises:
        OSError: the folder takes no lock file.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self.name, self._file = _new_lock(folder)
        _drop_in_forks(self)

    def dead(self, name: str) -> bool:
        """Whether the process of that name has ended. Once true, it stays true."""
        return name != self.name and _free(self._folder / name)

    def sweep(self) -> None:
        """Remove the lock files of dead processes: a missing file says dead just as well."""
        for path in self._folder.iterdir():
            if path.name != self.name:
                _free(path, remove=True)

    def release(self) -> None:
        """End the ownership."""
        self.drop_inherited()
        _remove(self._folder / self.name)

    def drop_inherited(self) -> None:
        """In a forked child: close the copy of the lock, which would outlive its owner."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _new_lock(folder: Path) -> tuple[str, int]:
    while True:
        name = secrets.token_hex(16)
        file = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Between these lines a sweep may take the new file for a dead one: then try another.
        if try_lock(file) and (folder / name).exists():
            return name, file
        os.close(file)


def _free(path: Path, *, remove: bool = False) -> bool:
    """Whether nobody holds that lock; its file is removed while we hold it, if wanted."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False  # on Windows, a file that is being removed: whoever does it knows
    try:
        free = try_lock(file)
        if free and remove:
            _remove(path)
    finally:
        os.close(file)
    if free and remove and sys.platform == "win32":
        _remove(path)  # an open file cannot be removed there, not even by us, nor a live owner's
    return free


def _remove(path: Path) -> None:
    with suppress(PermissionError):  # on Windows while another process has it open
        path.unlink(missing_ok=True)


def _drop_in_forks(owner: ProcessLock) -> None:
    register: Callable[..., None] | None = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=partial(_drop, weakref.ref(owner)))


def _drop(owner: "weakref.ref[ProcessLock]") -> None:
    held = owner()
    if held is not None:
        held.drop_inherited()
