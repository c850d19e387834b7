"""For how long films stay: when they are too much the oldest go, but none before a week is over."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.videos.partial import STEM, claimed, find_film, parsed

WEEK = 7 * 24 * 3600.0
"""Seconds that a film stays, however full the folder is."""

_FILM = re.compile(rf"({STEM})\.(?:mp4|webm|mov)")
_NOTE = re.compile(rf"\.({STEM})\.json")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Old:
    path: Path
    note: Path
    size: int
    age: float


def sweep(folder: Path, saved: Path, *, limit: float | None, now: float) -> None:
    """Remove our oldest films beyond the limit, and what was given up a week ago.

    Args:
        saved: the film that must stay whatever the limit says.
        limit: bytes; None for none.
        now: seconds since 1970.

    Raises:
        OSError: the folder cannot be read.
    """
    for note in _leftovers(folder, now):
        _remove(note, note.with_suffix(".part"))
    films = sorted(_ours(folder, now), key=lambda film: -film.age)
    excess = sum(film.size for film in films) - (float("inf") if limit is None else limit)
    for film in films:
        if excess > 0 and film.age >= WEEK and film.path != saved:
            excess -= film.size if _remove(film.note, film.path) else 0


def _ours(folder: Path, now: float) -> Iterator[_Old]:
    """The films that we saved: users name films by date, too, but leave no note of ours."""
    for path in folder.iterdir():
        name = _FILM.fullmatch(path.name)
        if name is None:
            continue
        note, facts = folder / f".{name[1]}.json", path.lstat()
        known = parsed(note.read_bytes()) if note.is_file() else None
        if known is not None and known.size == known.total == facts.st_size:
            yield _Old(path, note, facts.st_size, now - facts.st_mtime)


def _leftovers(folder: Path, now: float) -> list[Path]:
    """Notes of films that nobody has gone on with for a week (each block renews them)."""
    return [
        note
        for note in folder.iterdir()
        if (name := _NOTE.fullmatch(note.name))
        and now - note.lstat().st_mtime >= WEEK
        and find_film(folder, name[1]) is None
    ]


def _remove(note: Path, file: Path) -> bool:
    """Remove a film, or a part of one, and its note, unless somebody is at work on it."""
    try:
        lock = claimed(note)
        if lock is None:
            return False
        try:
            file.unlink(missing_ok=True)
            _unlink_note(note)
        finally:
            os.close(lock)
        if sys.platform == "win32":
            _unlink_note(note)
    except OSError as exc:
        logger.warning("%s could not be removed: %s", file.name, exc.strerror)
        return False
    logger.info("%s was removed from the archive", file.name)
    return True


def _unlink_note(note: Path) -> None:
    with suppress(PermissionError):  # Windows removes no open file
        note.unlink(missing_ok=True)
