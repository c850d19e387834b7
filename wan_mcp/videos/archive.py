"""The archive saves a finished video before its link expires: whole, or not at all.

When the folder exceeds its limit, the oldest videos are removed, but none within its first week.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSaved
from wan_mcp.videos.download import Download, on_disk
from wan_mcp.videos.unfinished import (
    STEM,
    UnfinishedVideo,
    find_video,
    lock_note,
    parsed,
    remove_with_note,
    stem_of,
)
from wan_mcp.web.fetch import Web

MAX_BYTES = 4 << 30
"""A video has some megabytes; a longer file is something else (ours)."""
LOCK_POLL_SECONDS = 1.0
LOCK_WAIT_SECONDS = 600.0
"""How long to wait while another process saves the same video (ours)."""
MIN_AGE_SECONDS = 7 * 24 * 3600.0
"""A video stays for a week, however full the folder is (ours)."""

_VIDEO_NAME = re.compile(rf"({STEM})\.(?:mp4|webm|mov)")
_NOTE_NAME = re.compile(rf"\.({STEM})\.json")

logger = logging.getLogger(__name__)


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


class Archive:
    """Saves videos into one folder; several processes may do so at the same time.

    Args:
        folder: created when it is needed, for this user only; an existing one is left as it is.
        limit_gb: how many 10^9 bytes of videos may stay; None for no limit.
        max_bytes: a longer video is refused.
    """

    def __init__(
        self,
        folder: Path,
        web: Web,
        clock: Clock,
        *,
        limit_gb: float | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._folder = folder.absolute()
        self._web = web
        self._clock = clock
        self._limit_bytes = None if limit_gb is None else limit_gb * 1e9
        self._max_bytes = max_bytes

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> SavedVideo:
        """Save a job's video, unless it is saved already, and return where it is.

        This takes as long as the storage needs. When it is cancelled, nothing unfinished is left.

        Args:
            made_at: when the job was created, which becomes part of the name.
            expires_at: when the link expires. One try is made even afterwards, because PixelDojo
                does not document what its `expiresAt` means.

        Raises:
            NotSaved: the video could not be saved.
        """
        try:
            stem = stem_of(job_id, made_at)
        except ValueError:
            raise NotSaved("The job's id cannot be a file name.", final=True) from None
        saved = await on_disk(_found, self._folder, stem)
        return saved or await self._save(stem, url, expires_at)

    async def _save(self, stem: str, url: str, expires_at: datetime | None) -> SavedVideo:
        video = UnfinishedVideo(self._folder, stem)
        try:
            await self._claim(video)
            # The previous holder of the lock may have saved it.
            if saved := await on_disk(_found, self._folder, stem):
                return saved
            path = await Download(
                video,
                url,
                web=self._web,
                clock=self._clock,
                expires_at=expires_at,
                max_bytes=self._max_bytes,
            ).run()
        finally:
            video.release()
        await on_disk(self._sweep, path)
        return SavedVideo(path, video.received.sha256, video.received.size)

    async def _claim(self, video: UnfinishedVideo) -> None:
        until = self._clock.monotonic() + LOCK_WAIT_SECONDS
        while not await on_disk(video.claim):
            if self._clock.monotonic() >= until:
                raise NotSaved(
                    "Another server has been saving the film for a long time.", final=False
                )
            await self._clock.sleep(LOCK_POLL_SECONDS)

    def _sweep(self, just_saved: Path) -> None:
        now = self._clock.wall().timestamp()
        try:
            _remove_oldest(self._folder, just_saved, limit_bytes=self._limit_bytes, now=now)
            _remove_leftovers(self._folder)
        except OSError as exc:
            logger.warning("the archive could not be tidied: %s", exc.strerror)


def _found(folder: Path, stem: str) -> SavedVideo | None:
    path = find_video(folder, stem)
    if path is None:
        return None
    with path.open("rb") as file:
        return SavedVideo(path, hashlib.file_digest(file, "sha256").hexdigest(), file.tell())


@dataclass(frozen=True)
class _Removable:
    path: Path
    note: Path
    size: int
    age: float


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left: temporary files, and notes without a video.

    Raises:
        OSError: the folder or a note cannot be opened.
    """
    for path in list(folder.iterdir()):
        name = _NOTE_NAME.fullmatch(path.name)
        if name and find_video(folder, name[1]) is None:
            leftover = UnfinishedVideo(folder, name[1])
            if leftover.claim():
                leftover.release()


def _remove_oldest(
    folder: Path, just_saved: Path, *, limit_bytes: float | None, now: float
) -> None:
    """Remove the oldest of our videos until the rest is within the limit.

    Args:
        just_saved: the video that stays in any case.
        now: seconds since 1970.

    Raises:
        OSError: the folder cannot be read.
    """
    if limit_bytes is None:
        return
    videos = sorted(_our_videos(folder, now), key=lambda video: -video.age)
    excess = sum(video.size for video in videos) - limit_bytes
    for video in videos:
        if excess > 0 and video.age >= MIN_AGE_SECONDS and video.path != just_saved:
            excess -= video.size if _remove(video.path, video.note) else 0


def _our_videos(folder: Path, now: float) -> Iterator[_Removable]:
    """The videos that the archive saved: users also name videos by date, but without our note."""
    for path in folder.iterdir():
        name = _VIDEO_NAME.fullmatch(path.name)
        if name is None:
            continue
        note_path, facts = folder / f".{name[1]}.json", path.lstat()
        note = parsed(note_path.read_bytes()) if note_path.is_file() else None
        if note is not None and note.size == facts.st_size:
            yield _Removable(path, note_path, facts.st_size, now - facts.st_mtime)


def _remove(path: Path, note_path: Path) -> bool:
    """Remove a file and its note; return False if it is in use or cannot be removed."""
    try:
        note = lock_note(note_path)
        if note is None:
            return False
        remove_with_note(path, note_path, note)
    except OSError as exc:
        logger.warning("%s could not be removed: %s", path.name, exc.strerror)
        return False
    logger.info("%s was removed from the archive", path.name)
    return True
