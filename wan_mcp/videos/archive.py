"""The archive: a finished film is saved before its link dies, and is there wholly or not at all."""

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wan_mcp.errors import NotSaved
from wan_mcp.videos.download import Clock, Download, on_disk
from wan_mcp.videos.partial import Partial, find_film, stem_of
from wan_mcp.videos.retention import sweep
from wan_mcp.web.fetch import Web

MAX_BYTES = 4 << 30
"""A film is some megabytes; what is longer than this is something else (ours)."""
LOCK_POLL = 1.0
LOCK_WAIT = 600.0
"""Seconds to wait for somebody else who is saving the same film."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Film:
    """A film on this machine's disk.

    Attributes:
        path: absolute.
        sha256: in hex, of what was read back from the disk.
        size: bytes.
    """

    path: Path
    sha256: str
    size: int


class Archive:
    """Saves films into one folder, which several processes may do at once.

    Args:
        folder: made when it is needed, for this user only; one that exists is left as it is.
        limit_gb: how many 10^9 bytes of films may stay; None for no limit.
        max_bytes: what is longer is refused.
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
        self._limit = None if limit_gb is None else limit_gb * 1e9
        self._max_bytes = max_bytes

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> Film:
        """Save a job's film, unless it is there already, and tell where.

        It takes as long as the storage needs; cancelled, it leaves what the next call goes on
        with.

        Args:
            made_at: when the job was made, which becomes part of the name.
            expires_at: when the link dies. One try is made even afterwards, because PixelDojo
                does not say what its `expiresAt` means.

        Raises:
            NotKept: it could not be saved.
        """
        try:
            stem = stem_of(job_id, made_at)
        except ValueError:
            raise NotSaved("The job's id cannot be a file name.", final=True) from None
        film = await on_disk(_found, self._folder, stem)
        return film or await self._save(stem, url, expires_at)

    async def _save(self, stem: str, url: str, expires_at: datetime | None) -> Film:
        part = Partial(self._folder, stem)
        try:
            await self._claim(part)
            # Whoever had the lock before may have done it all.
            if film := await on_disk(_found, self._folder, stem):
                return film
            await on_disk(part.resume)
            path = await Download(
                part,
                url,
                web=self._web,
                clock=self._clock,
                expires_at=expires_at,
                max_bytes=self._max_bytes,
            ).run()
        finally:
            part.release()
        await on_disk(self._sweep, path)
        return Film(path, part.note.sha256, part.note.size)

    async def _claim(self, part: Partial) -> None:
        until = self._clock.monotonic() + LOCK_WAIT
        while not await on_disk(part.claim):
            if self._clock.monotonic() >= until:
                raise NotSaved("Another server has been saving the film for long.", final=False)
            await self._clock.sleep(LOCK_POLL)

    def _sweep(self, saved: Path) -> None:
        try:
            sweep(self._folder, saved, limit=self._limit, now=self._clock.wall().timestamp())
        except OSError as exc:
            logger.warning("the archive could not be tidied: %s", exc.strerror)


def _found(folder: Path, stem: str) -> Film | None:
    path = find_film(folder, stem)
    if path is None:
        return None
    with path.open("rb") as film:
        return Film(path, hashlib.file_digest(film, "sha256").hexdigest(), film.tell())
