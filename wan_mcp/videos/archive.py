"""The archive saves a finished video before its link expires: whole, or not at all.

When the folder exceeds its limit, the oldest videos are removed, but none within its first week,
and none that its user keeps.
"""

import logging
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio

from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.videos.download import Download, on_disk
from wan_mcp.videos.kept import KeptVideos
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.videos.own_files import NotOurs
from wan_mcp.videos.paths import text_of
from wan_mcp.videos.removal import remove_video
from wan_mcp.videos.saver import SavedVideo as KeptVideo
from wan_mcp.videos.unfinished import (
    PART_NAME,
    STEM,
    SUFFIXES,
    Free,
    SavedVideo,
    UnfinishedVideo,
    find_video,
    free_bytes,
    has_video,
    note_at,
    remove_if_left,
    stem_of,
)
from wan_mcp.web.fetch import Web

MAX_BYTES = 4 << 30
"""The longest video. Videos have a few megabytes; a longer file is something else (ours)."""
MIN_AGE_SECONDS = 7 * 24 * 3600.0
"""A video is kept for a week, however full the folder is (ours)."""
LEFTOVER_AGE_SECONDS = 24 * 3600.0
"""After a day, no server saves a video any more. A file without a video by then was left by a
killed process (ours)."""

_VIDEO_NAME = re.compile(rf"({STEM})(?:{'|'.join(map(re.escape, SUFFIXES))})")
_NOTE_NAME = re.compile(rf"\.({STEM})\.json")

logger = logging.getLogger(__name__)


class Archive:
    """Saves videos into one folder; several processes may do so at the same time.

    Args:
        folder: created when it is needed, for this user only; an existing one is left as it is.
        limit_gb: how many 10^9 bytes of videos may stay; None for no limit.
        max_bytes: a longer video is refused.
        free: looks up how much room there is.
        kept: the videos that users have marked, so that the limit does not delete them; None
            where videos cannot be marked.
    """

    def __init__(
        self,
        folder: Path,
        web: Web,
        clock: Clock,
        *,
        limit_gb: float | None = None,
        max_bytes: int = MAX_BYTES,
        free: Free = free_bytes,
        kept: KeptVideos | None = None,
    ) -> None:
        self._kept = kept
        self._folder = folder.absolute()
        self._web = web
        self._clock = clock
        self._limit_bytes = None if limit_gb is None else limit_gb * 1e9
        self._max_bytes = max_bytes
        self._free = free

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
        saved = await on_disk(find_video, self._folder, stem)
        return saved or await self._save(stem, url, expires_at)

    async def place(self, job_id: str, video: KeptVideo) -> str:
        """The place where a video was saved and stays, as a record names it."""
        return text_of(video.path)

    async def recorded(self, video: KeptVideo, inspection: anyio.Event) -> None:
        """Do nothing, now that the ledger knows the place: nothing else was made for the video."""

    async def remove(self, job_id: str, video: KeptVideo) -> None:
        """Remove a video and what lies beside it. Raises NotSaved."""
        await on_disk(remove_video, video.path.parent, video.path.stem)

    async def _save(self, stem: str, url: str, expires_at: datetime | None) -> SavedVideo:
        await on_disk(self._tidy, _remove_leftovers)  # they may take the room that the video needs
        video = UnfinishedVideo(self._folder, stem, self._free)
        try:
            saved = await Download(
                video,
                url,
                web=self._web,
                clock=self._clock,
                expires_at=expires_at,
                max_bytes=self._max_bytes,
            ).run()
        finally:
            video.discard()
        if self._limit_bytes is not None:
            await self._remove_oldest(saved.path, self._limit_bytes)
        return saved

    async def _remove_oldest(self, just_saved: Path, limit_bytes: float) -> None:
        """Remove old videos, unless the ledger cannot tell which of them users keep."""
        try:
            kept = await self._kept.file_names() if self._kept else frozenset[str]()
        except LedgerUnavailable as exc:
            logger.warning("no old video was removed: %s", exc.what)
            return
        spared = kept | {just_saved.name}
        await on_disk(self._tidy, partial(_remove_oldest, spared, limit_bytes))

    def _tidy(self, remove: Callable[[Path, float], None]) -> None:
        try:
            if self._folder.exists():
                remove(self._folder, self._clock.wall().timestamp())
        except OSError as exc:
            logger.warning("the archive could not be tidied: %s", exc.strerror)


@dataclass(frozen=True)
class _Removable:
    path: Path
    note: Path
    size: int
    age: float


def _remove_leftovers(folder: Path, now: float) -> None:
    """Remove what a killed process left: unfinished files, and notes without a video.

    Raises:
        OSError: the folder cannot be opened.
    """
    for path in list(folder.iterdir()):
        name = _NOTE_NAME.fullmatch(path.name)
        try:
            if PART_NAME.fullmatch(path.name) and not _is_old(path, now):
                remove_if_left(path)
            elif PART_NAME.fullmatch(path.name):  # too old to be written still
                path.unlink()
            elif name and not has_video(folder, name[1]) and _is_old(path, now):
                path.unlink()
                (folder / f".{name[1]}.part").unlink(missing_ok=True)  # of an older version
        except FileNotFoundError:
            pass  # another process was faster
        except (NotOurs, OSError) as exc:
            logger.info("%s was not removed: %s", path.name, exc)


def _is_old(path: Path, now: float) -> bool:
    return now - path.lstat().st_mtime >= LEFTOVER_AGE_SECONDS


def _remove_oldest(spared: Set[str], limit_bytes: float, folder: Path, now: float) -> None:
    """Remove the oldest of our videos until the rest is within the limit.

    Args:
        spared: the names of the videos that stay in any case.
        now: seconds since 1970.

    Raises:
        OSError: the folder cannot be read.
    """
    videos = sorted(_our_videos(folder, now), key=lambda video: -video.age)
    excess = sum(video.size for video in videos) - limit_bytes
    for video in videos:
        if excess > 0 and video.age >= MIN_AGE_SECONDS and video.path.name not in spared:
            excess -= video.size if _remove(video.path, video.note) else 0


def _our_videos(folder: Path, now: float) -> Iterator[_Removable]:
    """The videos that the archive saved. Users may name theirs alike, but have no note from us."""
    for path in folder.iterdir():
        name = _VIDEO_NAME.fullmatch(path.name)
        if name is None:
            continue
        note_path, facts = folder / f".{name[1]}.json", path.lstat()
        note = note_at(note_path)
        if note is not None and note.size == facts.st_size:
            yield _Removable(path, note_path, facts.st_size, now - facts.st_mtime)


def _remove(path: Path, note_path: Path) -> bool:
    """Remove a file and its note; return False if it cannot be removed."""
    try:
        path.unlink(missing_ok=True)
        note_path.unlink(missing_ok=True)
    except OSError as exc:
        logger.warning("%s could not be removed: %s", path.name, exc.strerror)
        return False
    logger.info("%s was removed from the archive", path.name)
    return True
