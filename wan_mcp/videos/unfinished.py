"""A video on its way into the archive: its name, and the file that receives it.

While the video `2026-11-23_job_1.mp4` is being saved, its bytes go to a file of another name,
`.2026-11-23_job_1.0123456789abcdef.part`. Each server that saves the video has such a file of its
own, so a server that was stopped damages nothing if it goes on after another one has taken over.
The name of the video is given once, to a complete file. Afterwards the note
`.2026-11-23_job_1.json` says that a server saved the video, so that it may be deleted when the
folder is full. All functions here block, and run in worker threads.
"""

import glob
import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from wan_mcp.models import JOB_ID
from wan_mcp.storage.file_lock import BEHIND_CONTENT, try_lock
from wan_mcp.videos.containers import Ending, ending_of
from wan_mcp.videos.own_files import NotOurs, Unusable, check_folder, create, open_ours

Suffix = Literal[".mp4", ".webm", ".mov", ".mkv", ".avi"]
Algorithm = Literal["sha256", "md5"]
Free = Callable[[Path], int | None]
"""The bytes that this user may still write in a folder; None if the file system does not tell."""

SUFFIXES: tuple[Suffix, ...] = get_args(Suffix)
STEM = rf"\d{{4}}-\d\d-\d\d_{JOB_ID}(?:\.[0-9a-f]{{8}})?"
"""Matches the name of a video without its suffix."""
PART_NAME = re.compile(rf"\.{STEM}\.[0-9a-f]{{16}}\.part")
RESERVE_BYTES = 32 << 20
"""How many bytes a video leaves free on its disk (ours). Without room the ledger cannot record a
payment, and refuses requests. It writes a few kilobytes for each request, and its log of changes
grows to 4 MB before it is merged into its file. The reserve is left on every disk: folders that
seem to be on different ones may share the room (btrfs, APFS, quotas)."""

_BLOCK_BYTES = 1 << 20
"""How much is read at once, and how much is written before the free room is checked again."""
_CREATE_TRIES = 3

logger = logging.getLogger(__name__)


class Damaged(Exception):
    """The file on the disk differs from what the storage sent."""


class Note(BaseModel):
    """What the archive remembers about a video that it saved.

    Attributes:
        size: in bytes.
        sha256: in hex.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    sha256: str


@dataclass(frozen=True)
class SavedVideo:
    """A video on this machine's disk.

    Attributes:
        path: absolute.
        sha256: in hex, of what was read back from the disk.
        size: in bytes.
    """

    path: Path
    sha256: str
    size: int


def stem_of(job_id: str, made_at: datetime) -> str:
    """The name of a job's video without its suffix; its date is in UTC.

    It starts with a digit, so it is never one of the names that Windows reserves.

    Args:
        made_at: when the job was made, with a time zone.

    Raises:
        ValueError: the job id could lead out of the folder.
    """
    if not re.fullmatch(JOB_ID, job_id):
        raise ValueError("not a job id")
    stem = f"{made_at.astimezone(UTC).date().isoformat()}_{job_id}"
    if job_id == job_id.lower():
        return stem
    # On Windows and macOS job_A and job_a would be the same file.
    return f"{stem}.{hashlib.sha256(job_id.encode()).hexdigest()[:8]}"


def find_video(folder: Path, stem: str) -> SavedVideo | None:
    """The saved video of that name, if there is one.

    Raises:
        NotOurs: a file that is not ours has this name.
        OSError: it cannot be read.
    """
    for suffix in SUFFIXES:
        path = folder / f"{stem}{suffix}"
        with suppress(FileNotFoundError), _open_video(path, stem) as file:
            return SavedVideo(path, hashlib.file_digest(file, "sha256").hexdigest(), file.tell())
    return None


def _open_video(path: Path, stem: str) -> BufferedReader:
    """Open a saved video. Raises NotOurs and OSError."""
    try:
        return open_ours(path)
    except NotOurs:
        # In a folder that a group shares, a second name makes a file suspect. A server that was
        # killed while it gave the video its name may have left one.
        _remove_first_names(path, stem)
        return open_ours(path)


def _remove_first_names(path: Path, stem: str) -> None:
    """Remove the names under which this video was received, now that it has its own.

    Only names are removed: whatever the file is, it stays under every other name. Raises OSError.
    """
    for other in list(path.parent.glob(f".{glob.escape(stem)}.*.part")):
        with suppress(FileNotFoundError):  # another process was faster
            if PART_NAME.fullmatch(other.name) and os.path.samestat(other.lstat(), path.lstat()):
                other.unlink()


def has_video(folder: Path, stem: str) -> bool:
    """Whether anything has the name of that video."""
    return any(os.path.lexists(folder / f"{stem}{suffix}") for suffix in SUFFIXES)


def free_bytes(folder: Path) -> int | None:
    """See `Free`. Raises OSError."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else None


class UnfinishedVideo:
    """The file that receives one video. Only this object uses it, and locks it while it is open.

    Only the lock distinguishes it from the remains of a killed process.

    Args:
        free: looks up how much room there is.
    """

    def __init__(self, folder: Path, stem: str, free: Free = free_bytes) -> None:
        self._folder = folder
        self._stem = stem
        self._free = free
        self._path = self._new_path()
        self._file = -1
        self._size = 0
        self._sha256 = hashlib.sha256()

    @property
    def size(self) -> int:
        """How many bytes have been written since `begin`."""
        return self._size

    @property
    def received(self) -> Note:
        """Size and hash of what has been written since `begin`."""
        return Note(size=self._size, sha256=self._sha256.hexdigest())

    def begin(self, size: int | None = None) -> None:
        """Start with an empty file, whatever an earlier try left.

        Args:
            size: the size of the video in bytes; None if not known.

        Raises:
            Unusable: there is too little room, or the folder must not be used.
            OSError: the file cannot be created.
        """
        if self._file < 0:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._create()
            check_folder(self._folder, self._file)
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._size, self._sha256 = 0, hashlib.sha256()
        self._need_room(size or 0)

    def write(self, block: bytes) -> None:
        """Write the next bytes. Raises Unusable when there is too little room, and OSError."""
        if self._size // _BLOCK_BYTES != (self._size + len(block)) // _BLOCK_BYTES:
            self._need_room(len(block))
        _write(self._file, block)
        self._sha256.update(block)
        self._size += len(block)

    def ending(self) -> Ending:
        """How the container of what was written ends. Raises OSError."""
        return ending_of(self._read, self._size)

    def finish(self, suffix: Suffix, digests: dict[Algorithm, str]) -> SavedVideo:
        """Compare the file on the disk with what was sent, and give it its final name.

        If another server has saved the video meanwhile, its file counts and this one is deleted.

        Args:
            digests: the digests of the whole video in hex, as the storage declares them.

        Raises:
            Damaged: the file differs from what was sent.
            NotOurs: a file that is not ours has its name.
            OSError: the file could not be read or named.
        """
        os.fsync(self._file)
        received: dict[Algorithm, str] = {"sha256": self.received.sha256}
        expected = received | digests
        if expected != _digests(self._file, expected):
            raise Damaged
        path = self._folder / f"{self._stem}{suffix}"
        try:
            if saved := find_video(self._folder, self._stem):
                return saved
            self._place(path)
        except FileExistsError:  # at this moment
            if saved := find_video(self._folder, self._stem):
                return saved
            raise
        self._write_note()
        _sync_folder(self._folder)
        return SavedVideo(path, self.received.sha256, self.received.size)

    def discard(self) -> None:
        """Close the file, and remove it if the video was not saved."""
        self._close()
        with suppress(OSError):  # the next sweep of the folder tries again
            self._path.unlink(missing_ok=True)

    def _new_path(self) -> Path:
        return self._folder / f".{self._stem}.{secrets.token_hex(8)}.part"

    def _create(self) -> None:
        for _ in range(_CREATE_TRIES):
            self.discard()
            self._path = self._new_path()
            self._file = create(self._path)
            # A sweep may remove the file in the moment before it is locked.
            if _lock(self._file) and os.path.lexists(self._path):
                return

    def _need_room(self, size: int) -> None:
        free = self._free(self._folder)
        if free is not None and free - size < RESERVE_BYTES:
            raise Unusable(
                f"only {max(0, free) // 1_000_000:,} MB of the disk are free, and "
                f"{RESERVE_BYTES // 1_000_000} MB must stay free for the record of payments; "
                "make room"
            )

    def _read(self, start: int, size: int) -> bytes:
        os.lseek(self._file, start, os.SEEK_SET)
        return os.read(self._file, size)

    def _place(self, path: Path) -> None:
        """Give the file its name, unless another file has it. Raises NotOurs and OSError."""
        if sys.platform == "win32":
            self._close()  # Windows renames no open file
            os.rename(self._path, path)  # and never replaces another one
            return
        try:
            os.link(self._path, path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # a file system without a second name for a file
            if os.path.lexists(path):
                raise FileExistsError from None
            os.rename(self._path, path)
        else:
            with suppress(OSError):  # `discard` tries again
                self._path.unlink()
        if not os.path.samestat(os.fstat(self._file), path.lstat()):
            raise NotOurs
        self._close()

    def _write_note(self) -> None:
        """Write a note that the video is ours. Without the note it is never deleted."""
        path = self._folder / f".{self._stem}.json"
        try:
            path.unlink(missing_ok=True)
            note = create(path)
            try:
                _write(note, self.received.model_dump_json().encode())
            finally:
                os.close(note)
        except OSError as exc:
            logger.warning("%s could not be written: %s", path.name, exc.strerror)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):  # what counts was synchronized before
                os.close(file)


def remove_if_left(path: Path) -> None:
    """Remove the file of an `UnfinishedVideo` unless its owner lives. Raises NotOurs, OSError."""
    if sys.platform == "win32":
        with suppress(PermissionError):  # it removes no open file
            path.unlink(missing_ok=True)
        return
    with open_ours(path) as file:
        if try_lock(file.fileno(), offset=BEHIND_CONTENT):
            path.unlink(missing_ok=True)


def note_at(path: Path) -> Note | None:
    """The note, or None if it is missing, damaged or not ours. Raises OSError."""
    try:
        with open_ours(path) as file:
            return Note.model_validate_json(file.read(_BLOCK_BYTES))
    except (FileNotFoundError, NotOurs, ValidationError):
        return None


def _lock(file: int) -> bool:
    try:
        return try_lock(file, offset=BEHIND_CONTENT)
    except OSError:
        return True  # some network disks have no locks: there the age of a file decides


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _digests(file: int, names: Iterable[Algorithm]) -> dict[Algorithm, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    os.lseek(file, 0, os.SEEK_SET)
    while block := os.read(file, _BLOCK_BYTES):
        for one in hashes.values():
            one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power failure."""
    with suppress(OSError):  # Windows opens no folder, and some network disks cannot sync one
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
