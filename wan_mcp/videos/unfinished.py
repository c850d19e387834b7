"""A video on its way into the archive: its name, its lock, and its temporary file.

Beside each video `2026-11-23_job_1.mp4` lies a note, `.2026-11-23_job_1.json`. While the video is
being saved, the note is locked, and `.2026-11-23_job_1.part` receives the bytes. Afterwards the
note says that this server saved the video, so that it may be deleted when the folder is full.
All functions here block, and run in worker threads.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wan_mcp.file_lock import BEHIND_CONTENT, try_lock
from wan_mcp.models import JOB_ID

Suffix = Literal[".mp4", ".webm", ".mov"]
Algorithm = Literal["sha256", "md5"]

SUFFIXES: tuple[Suffix, ...] = (".mp4", ".webm", ".mov")
STEM = rf"\d{{4}}-\d\d-\d\d_{JOB_ID}(?:\.[0-9a-f]{{8}})?"
"""Matches the name of a video without its suffix."""

_BLOCK_BYTES = 1 << 20
# A symbolic link that somebody placed under one of our names is not followed.
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Damaged(Exception):
    """The file on the disk differs from what the storage sent."""


class Note(BaseModel):
    """What the archive remembers of a video that it saved.

    Attributes:
        size: in bytes.
        sha256: in hex.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    sha256: str


def stem_of(job_id: str, made_at: datetime) -> str:
    """The name of a job's video without its suffix; its date is in UTC.

    It starts with a digit, so it is never one of the names that Windows reserves.

    Args:
        made_at: with its time zone.

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


def find_video(folder: Path, stem: str) -> Path | None:
    """The saved video of that name, if there is one."""
    return next((p for suffix in SUFFIXES if (p := folder / f"{stem}{suffix}").is_file()), None)


class UnfinishedVideo:
    """The temporary file of one video, written by one task of one process at a time.

    The file has a fixed name and a lock. With a random name, nobody could distinguish the remains
    of a killed process from a file that is still being written.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._part_path = folder / f".{stem}.part"
        self._note_path = folder / f".{stem}.json"
        self._part = self._note = -1
        self._size = 0
        self._sha256 = hashlib.sha256()

    @property
    def received(self) -> Note:
        """Size and hash of what has been written since `begin`."""
        return Note(size=self._size, sha256=self._sha256.hexdigest())

    def claim(self) -> bool:
        """Take the lock; return False while somebody else has it. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = lock_note(self._note_path)
        self._note = -1 if note is None else note
        return note is not None

    def begin(self) -> None:
        """Start with an empty file, whatever an earlier try left. Raises OSError."""
        if self._part < 0:
            self._part = os.open(self._part_path, _OPEN, 0o600)
        os.ftruncate(self._part, 0)
        os.lseek(self._part, 0, os.SEEK_SET)
        self._size, self._sha256 = 0, hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Write the next bytes. Raises OSError."""
        _write(self._part, block)
        self._sha256.update(block)
        self._size += len(block)

    def is_whole_container(self) -> bool:
        """Whether the file is an MP4 or MOV video that ends where its last box ends.

        False also means that this cannot be seen, for example of WebM. Raises OSError.
        """
        names = list(_top_level_boxes(self._part, self._size))
        # A fragmented file may be cut between two fragments, unless its last index is there.
        fragmented = b"moof" in names and names[-1] != b"mfra"
        return {b"moov", b"mdat"} <= set(names) and None not in names and not fragmented

    def finish(self, suffix: Suffix, digests: dict[Algorithm, str]) -> Path:
        """Compare the file on the disk with what was sent, and give it its final name.

        Args:
            digests: of the whole video in hex, as the storage declares them.

        Raises:
            Damaged: they differ.
            OSError: the file could not be read or renamed.
        """
        os.fsync(self._part)
        received: dict[Algorithm, str] = {"sha256": self.received.sha256}
        expected = received | digests
        if expected != _digests(self._part, expected):
            raise Damaged
        os.ftruncate(self._note, 0)
        os.lseek(self._note, 0, os.SEEK_SET)
        _write(self._note, self.received.model_dump_json().encode())
        os.fsync(self._note)
        self._part = _closed(self._part)  # Windows renames no open file
        path = self._folder / f"{self._stem}{suffix}"
        os.replace(self._part_path, path)
        _sync_folder(self._folder)
        return path

    def release(self) -> None:
        """Free the lock; if the video was not saved, remove the temporary file and the note."""
        self._part = _closed(self._part)
        note, self._note = self._note, -1
        if note < 0:
            return
        if find_video(self._folder, self._stem) is not None:
            _closed(note)
            return
        with suppress(OSError):  # the next sweep of the folder tries again
            remove_with_note(self._part_path, self._note_path, note)


def lock_note(path: Path) -> int | None:
    """Open and lock a note; None while somebody else has the lock. Raises OSError."""
    file = os.open(path, _OPEN, 0o600)
    try:
        if try_lock(file, offset=BEHIND_CONTENT) and _is_at(path, file):
            return file
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def remove_with_note(path: Path, note_path: Path, note: int) -> None:
    """Remove a file and its note, and free the note's lock. Raises OSError.

    Args:
        note: the open note, whose lock is held.
    """
    try:
        path.unlink(missing_ok=True)
        _unlink_note(note_path)
    finally:
        os.close(note)
    if sys.platform == "win32":
        _unlink_note(note_path)


def parsed(text: bytes) -> Note | None:
    """The note, or None if it is empty or damaged."""
    try:
        return Note.model_validate_json(text)
    except ValidationError:
        return None


def _is_at(path: Path, file: int) -> bool:
    """Whether the open file still has this path: a lock on a removed note protects nothing."""
    if sys.platform == "win32":
        return True  # Windows removes no open file
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _unlink_note(path: Path) -> None:
    with suppress(PermissionError):  # Windows removes no open file
        path.unlink(missing_ok=True)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _top_level_boxes(file: int, size: int) -> Iterator[bytes | None]:
    """The names of an MP4 file's boxes, and None for one that does not end within the file."""
    offset = 0
    while offset < size:
        os.lseek(file, offset, os.SEEK_SET)
        header = os.read(file, 16)
        length = int.from_bytes(header[:4])
        if length == 1:
            length = int.from_bytes(header[8:16])
        if length < 8 or offset + length > size:
            yield None
            return
        yield header[4:8]
        offset += length


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


def _closed(file: int) -> int:
    if file >= 0:
        with suppress(OSError):  # only an unfinished file is closed without a check before
            os.close(file)
    return -1
