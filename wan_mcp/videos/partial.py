"""One film on its way into the archive: its name, its lock, and how far it is whole.

Beside each film `2026-11-23_job_1.mp4` lies a note, `.2026-11-23_job_1.json`. While the film is on
its way the note is the lock, and says up to which byte `.2026-11-23_job_1.part` is known to be
whole; afterwards it proves that the film is ours, and may be deleted when the folder is full.
Everything here blocks, and runs in worker threads.
"""

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wan_mcp.models import JOB_ID

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        # Far behind the text, because what is locked there nobody else can even read.
        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        # flock, not lockf: it also keeps two tasks of one process apart.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


Suffix = Literal[".mp4", ".webm", ".mov"]
Algorithm = Literal["sha256", "md5"]

SUFFIXES: tuple[Suffix, ...] = (".mp4", ".webm", ".mov")
STEM = rf"\d{{4}}-\d\d-\d\d_{JOB_ID}(?:\.[0-9a-f]{{8}})?"
"""What a film's name looks like without its suffix."""

_BLOCK = 1 << 20
# A link that somebody planted under one of our names is not followed.
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Damaged(Exception):
    """What lies on the disk is not what was sent."""


class Note(BaseModel):
    """What is known of a film, or of the part of it that is there.

    Attributes:
        etag: the storage's strong name for these very bytes, without which no part is resumed.
        total: length of the whole in bytes, once it is known.
        digests: of the whole, in hex, as far as the storage tells them.
        size: how many bytes are there.
        sha256: of those bytes; after a power failure a file may be as long as before, but empty.
    """

    model_config = ConfigDict(frozen=True)

    etag: str | None = None
    total: int | None = None
    suffix: Suffix = ".mp4"
    digests: dict[Algorithm, str] = {}
    size: Annotated[int, Field(ge=0)] = 0
    sha256: str = hashlib.sha256().hexdigest()


def stem_of(job_id: str, made_at: datetime) -> str:
    """The name of a job's film without its suffix; its date is in UTC.

    It starts with a digit, so that it is none of Windows's reserved names.

    Args:
        made_at: with its time zone.

    Raises:
        ValueError: the id could lead out of the folder.
    """
    if not re.fullmatch(JOB_ID, job_id):
        raise ValueError("not a job id")
    stem = f"{made_at.astimezone(UTC).date().isoformat()}_{job_id}"
    if job_id == job_id.lower():
        return stem
    # Windows and macOS would take job_A and job_a for one film.
    return f"{stem}.{hashlib.sha256(job_id.encode()).hexdigest()[:8]}"


def find_film(folder: Path, stem: str) -> Path | None:
    """The finished film of that name, if it is there."""
    return next((p for suffix in SUFFIXES if (p := folder / f"{stem}{suffix}").is_file()), None)


class Partial:
    """One film on its way to the disk, filled by one task of one process at a time.

    The part has a fixed name and a lock. With a random name for each process two could never
    meet, but after a kill nobody could tell a part to be resumed from one that still grows.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._part_path = folder / f".{stem}.part"
        self._note_path = folder / f".{stem}.json"
        self._part = self._lock = -1
        self._hash = hashlib.sha256()
        self.note = Note()

    @property
    def complete(self) -> bool:
        """Whether the last byte is there."""
        return self.note.size > 0 and self.note.size == self.note.total

    def claim(self) -> bool:
        """Take the lock; false while somebody else has it. Raises: OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = claimed(self._note_path)
        self._lock = -1 if lock is None else lock
        return lock is not None

    def resume(self) -> None:
        """Open what an earlier try left, as far as it is whole. Raises: OSError."""
        self._part = os.open(self._part_path, _OPEN, 0o600)
        os.lseek(self._lock, 0, os.SEEK_SET)
        self.note = parsed(os.read(self._lock, _BLOCK)) or Note()
        self._hash = hashlib.sha256()
        for block in _blocks(self._part, self.note.size):
            self._hash.update(block)
        if self._hash.hexdigest() != self.note.sha256:
            self.restart(Note())
        os.ftruncate(self._part, self.note.size)

    def restart(self, note: Note) -> None:
        """Throw away what is there and begin another film. Raises: OSError."""
        os.ftruncate(self._part, 0)
        self._hash = hashlib.sha256()
        self._write_note(note)

    def append(self, block: bytes) -> None:
        """Write the next bytes. Raises: OSError, and then the note still tells what is whole."""
        os.lseek(self._part, self.note.size, os.SEEK_SET)
        _write(self._part, block)
        self._hash.update(block)
        size = self.note.size + len(block)
        self._write_note(
            self.note.model_copy(update={"size": size, "sha256": self._hash.hexdigest()})
        )

    def learn_total(self, total: int) -> None:
        """Keep the length of the whole. Raises: OSError."""
        if total != self.note.total:
            self._write_note(self.note.model_copy(update={"total": total}))

    def finish(self) -> Path:
        """Compare the disk with what was sent, and give the film its name.

        Raises:
            Damaged: they differ; what was there is thrown away.
            OSError: it could not be read or renamed.
        """
        os.fsync(self._part)
        os.fsync(self._lock)
        received: dict[Algorithm, str] = {"sha256": self.note.sha256}
        wanted = received | self.note.digests
        if wanted != _digests(self._part, wanted):
            self.restart(Note())
            raise Damaged
        self._part = _closed(self._part)  # Windows renames no open file
        path = self._folder / f"{self._stem}{self.note.suffix}"
        os.replace(self._part_path, path)
        _sync_folder(self._folder)
        return path

    def release(self) -> None:
        """Close the files, and with the note its lock."""
        self._part = _closed(self._part)
        self._lock = _closed(self._lock)

    def _write_note(self, note: Note) -> None:
        # In place: a note that a crash tears is no note, and the film begins again.
        text = note.model_dump_json().encode()
        os.lseek(self._lock, 0, os.SEEK_SET)
        _write(self._lock, text)
        os.ftruncate(self._lock, len(text))
        self.note = note


def claimed(note: Path) -> int | None:
    """The note, opened and locked; None while somebody else holds it."""
    file = os.open(note, _OPEN, 0o600)
    try:
        _lock(file)
        # A sweep may have removed it between these lines: then the lock is on nothing.
        if sys.platform == "win32" or os.path.samestat(os.fstat(file), os.stat(note)):
            return file
    except (BlockingIOError, PermissionError, FileNotFoundError):  # POSIX, Windows, a sweep
        pass
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def parsed(text: bytes) -> Note | None:
    try:
        return Note.model_validate_json(text)
    except ValidationError:
        return None


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _blocks(file: int, size: int) -> Iterator[bytes]:
    os.lseek(file, 0, os.SEEK_SET)
    while size and (block := os.read(file, min(size, _BLOCK))):
        size -= len(block)
        yield block


def _digests(file: int, names: Iterable[Algorithm]) -> dict[Algorithm, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    for block in _blocks(file, os.fstat(file).st_size):
        for one in hashes.values():
            one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}


def _sync_folder(folder: Path) -> None:
    """Make the new name outlive a power failure."""
    with suppress(OSError):  # Windows opens no folder, and some network disks sync none
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _closed(file: int) -> int:
    if file >= 0:
        with suppress(OSError):  # a network disk tells of lost bytes only now: resume() sees it
            os.close(file)
    return -1
