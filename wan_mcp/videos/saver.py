"""Saves the videos of completed jobs: their links expire, and perhaps nobody asks in time."""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSaved
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Account, Coordination
from wan_mcp.ledger.record import Record

LEASE_SECONDS = 30.0
ROUND_SECONDS = 5.0
RETRY_SECONDS = 60.0
SETTLE_SECONDS = 600.0
"""How long after a job's end a refusal of its video is not final (ours): the storage may be late,
and one 404 must not lose a video that was paid for."""
MAX_AT_ONCE = 3
"""Videos that are saved at the same time; more would only share the bandwidth (ours)."""

logger = logging.getLogger(__name__)


class SavedVideo(Protocol):
    """A video on this machine's disk."""

    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


class Archive(Protocol):
    """Where videos are saved."""

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> SavedVideo:
        """Save a video, unless it is saved already. Raises NotSaved."""


class VideoSaver:
    """Saves each video once: only one of the processes that share a ledger does it at a time."""

    def __init__(
        self,
        archive: Callable[[], Archive],
        coordination: Coordination,
        account: Account,
        clock: Clock,
    ) -> None:
        self._open = archive
        self._coordination = coordination
        self._account = account
        self._clock = clock
        self._archive: Archive | None = None
        self._saving: set[str] = set()
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Save the videos of completed jobs until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                changed = self._coordination.next_change()
                try:
                    await self._round(await self._account(), tasks)
                except LedgerUnavailable as exc:
                    logger.warning(
                        "the ledger could not be searched for unsaved videos: %s", exc.what
                    )
                except Exception:
                    # A defect here must not end the server, in whose tasks payments run.
                    logger.exception("the search for unsaved videos failed")
                await self._clock.wait(changed, ROUND_SECONDS)

    async def _round(self, account: str, tasks: TaskGroup) -> None:
        now = self._clock.monotonic()
        for record in await self._coordination.unsaved(account):
            waits = record.submission_id in self._saving or now < self._not_before.get(
                record.submission_id, 0.0
            )
            if waits or len(self._saving) >= MAX_AT_ONCE:
                continue
            if not await self._coordination.lead(f"{account} films", LEASE_SECONDS):
                return
            self._saving.add(record.submission_id)
            tasks.start_soon(self._save, record)

    async def _save(self, record: Record) -> None:
        # First of all, so that after any failure the next try has to wait.
        self._not_before[record.submission_id] = self._clock.monotonic() + RETRY_SECONDS
        try:
            await self._try(record)
        except LedgerUnavailable as exc:
            logger.warning("the result of saving a video could not be recorded: %s", exc.what)
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("saving the video of job %s failed", record.job_id)
        finally:
            self._saving.discard(record.submission_id)

    async def _try(self, record: Record) -> None:
        try:
            video = await self._save_video(record)
        except NotSaved as exc:
            logger.warning("the video of job %s was not saved: %s", record.job_id, exc.what)
            if exc.final and self._has_settled(record):
                await self._coordination.not_saved(record.submission_id, exc.what)
        else:
            await self._coordination.saved(
                record.submission_id, str(video.path), video.sha256, video.size
            )

    def _has_settled(self, record: Record) -> bool:
        """Whether the storage has had enough time to provide the video."""
        age = self._clock.wall() - (record.ended_at or record.created_at)
        return abs(age.total_seconds()) >= SETTLE_SECONDS

    async def _save_video(self, record: Record) -> SavedVideo:
        if self._archive is None:
            self._archive = self._open()  # imports httpx, for which the start-up should not wait
        assert record.job_id
        assert record.video_url
        return await self._archive.keep(
            record.job_id, record.video_url, made_at=record.created_at, expires_at=record.expires_at
        )
