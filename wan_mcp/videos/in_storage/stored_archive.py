"""Saves videos into object storage, by way of a folder on this computer.

A video is downloaded and checked like any other, into a folder of its own. That file is inspected
and uploaded, and deleted only when the storage shows an object of its size and the ledger names it.
So a crash loses nothing: the next server finds the file, and uploads it again under the same name.
A file that could never be uploaded stays.

Directly before the ledger is written, the file gets a mark. A server that ends at that moment
leaves a file that no other server uploads again; the mark shows that it may be deleted after a day.
"""

import logging
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.storage.unavailable import Unavailable
from wan_mcp.videos.archive import LEFTOVER_AGE_SECONDS, Archive
from wan_mcp.videos.download import SUFFIX_OF_TYPE, on_disk
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.videos.own_files import NotOurs, create, open_ours
from wan_mcp.videos.removal import remove_video
from wan_mcp.videos.unfinished import STEM, SUFFIXES

if TYPE_CHECKING:
    from wan_mcp.videos.saver import SavedVideo

_MARK_NAME = re.compile(rf"\.({STEM})\.uploaded")
_TYPE_OF_SUFFIX: dict[str, str] = {suffix: kind for kind, suffix in SUFFIX_OF_TYPE.items()}

logger = logging.getLogger(__name__)

Show = Callable[[Path, str], Awaitable[object]]
"""Makes what is shown of a video from its file, before that is deleted; the text is its place."""


def object_name(job_id: str, file: Path) -> str:
    """The name of the object that a file is uploaded to."""
    return f"{job_id}{file.suffix}"


class StoredArchive:
    """Saves videos into one folder of object storage; several processes may do so at once.

    Args:
        folder: where a video is until it is uploaded.
        on_disk: saves videos there.
        store: the storage that receives them.
        show: awaited before a video is uploaded.
    """

    def __init__(
        self, folder: Path, on_disk: Archive, store: ObjectStore, clock: Clock, show: Show
    ) -> None:
        self._folder = folder
        self._on_disk = on_disk
        self._store = store
        self._clock = clock
        self._show = show

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> "SavedVideo":
        """Save a job's video to the disk, unless it is there already. Raises NotSaved."""
        await on_disk(_remove_uploaded, self._folder, self._clock.wall().timestamp())
        return await self._on_disk.keep(job_id, url, made_at=made_at, expires_at=expires_at)

    async def place(self, job_id: str, video: "SavedVideo") -> str:
        """Upload a video, and return the URL of its object once the storage shows all of it.

        Raises:
            NotSaved: it is only on the disk of this computer.
        """
        name = object_name(job_id, video.path)
        url = f"{self._store.url}/{name}"
        await self._show(video.path, url)
        failed = None
        try:
            await self._upload(name, video)
        except Unavailable as exc:
            failed = exc
        if failed:  # not above: a chained error would repeat what the storage answered
            raise _not_uploaded(failed.what, failed.next_step)
        await on_disk(_mark, video.path)
        return url

    async def recorded(self, video: "SavedVideo", inspection: anyio.Event) -> None:
        """Delete the file once it has been inspected, now that the ledger knows the place."""
        await inspection.wait()
        try:
            await on_disk(remove_upload, video.path)
        except NotSaved as exc:  # the mark is there for this
            logger.info("the file of an uploaded video was not removed: %s", exc.what)

    async def remove(self, job_id: str, video: "SavedVideo") -> None:
        """Remove a video from the storage and from the disk. Raises Unavailable, NotSaved."""
        await self._store.delete(object_name(job_id, video.path))
        await on_disk(remove_upload, video.path)

    async def _upload(self, name: str, video: "SavedVideo") -> None:
        media_type = _TYPE_OF_SUFFIX[video.path.suffix]
        with await on_disk(open_ours, video.path) as file:
            sent = partial(self._store.put, name, file, video.size, video.sha256, media_type)
            await sent(lambda _: None)
        found = await self._store.head(name)
        if found is None or found.size != video.size:
            shown = "no object" if found is None else f"{found.size:,} bytes"
            raise _not_uploaded(
                f"After the upload of {video.size:,} bytes the storage shows {shown}."
            )


def _not_uploaded(why: str, step: str = "") -> NotSaved:
    saved = "The video is saved on the server's computer, and not yet in the storage."
    return NotSaved(f"{saved} {why}", final=False, step=step)


def _mark_of(file: Path) -> Path:
    return file.with_name(f".{file.stem}.uploaded")


def _mark(file: Path) -> None:
    """Mark a file as uploaded. Raises OSError."""
    mark = _mark_of(file)
    mark.unlink(missing_ok=True)
    os.close(create(mark))


def uploads_of(folder: Path, stem: str) -> list[Path]:
    """The files of that name that were uploaded, or still have to be. Raises OSError."""
    files = (folder / f"{stem}{suffix}" for suffix in SUFFIXES)
    return [file for file in files if os.path.lexists(file)]


def remove_upload(file: Path) -> None:
    """Remove an uploaded file and what lies beside it. Raises NotOurs, OSError."""
    remove_video(file.parent, file.stem)
    _mark_of(file).unlink(missing_ok=True)


def _remove_uploaded(folder: Path, now: float) -> None:
    """Remove uploaded files that a server left when it ended.

    Raises:
        OSError: the folder cannot be read.
    """
    with suppress(FileNotFoundError):  # no video was saved yet
        for mark in list(folder.iterdir()):
            name = _MARK_NAME.fullmatch(mark.name)
            try:
                if name and now - mark.lstat().st_mtime >= LEFTOVER_AGE_SECONDS:
                    remove_upload(folder / f"{name[1]}.mp4")
            except (NotOurs, OSError) as exc:
                logger.info("%s was not removed: %s", mark.name, exc)
