"""Saves the videos of completed jobs, whose links may expire before any call asks for them.

One process at a time does this: the one that holds the role and renews its lease. A process that is
stopped (SIGSTOP, a computer that sleeps) cannot renew it, so another one takes over after half a
minute, and starts from the beginning. If the first one goes on later, both save into files of their
own, and the first complete file gets the name of the video (see `unfinished`).
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import LedgerUnavailable, VideoPolicy
from wan_mcp.ledger.coordination import Account, Coordination, Role
from wan_mcp.ledger.record import Record
from wan_mcp.models import Difference
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.videos.paths import path_of

LEASE_SECONDS = 30.0
ROUND_SECONDS = 5.0
RETRY_SECONDS = 60.0
SETTLE_SECONDS = 600.0
"""For this long after a job's end, a refusal of its video is not final (ours): the storage may be
late, and one 404 must not lose a video that was paid for."""
MAX_AT_ONCE = 3
"""How many videos are downloaded at once; more would only share the bandwidth (ours)."""
TURN_SECONDS = 60.0
"""A download that takes longer goes on, and no longer counts among MAX_AT_ONCE (ours)."""
MAX_ALTOGETHER = 12
"""How many downloads there may be, including those that take longer than TURN_SECONDS (ours)."""
INSPECTION_SECONDS = 3.0
"""How long the report of a saved video waits for its inspection (ours). Most take a second."""

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
    """Where videos are saved: a folder, or object storage that receives them from a folder."""

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> SavedVideo:
        """Save a video to this machine's disk, unless it is there already. Raises NotSaved."""

    async def place(self, job_id: str, video: SavedVideo) -> str:
        """Bring a video to where it stays, and return that place as a record names it.

        Raises:
            NotSaved: it could not be moved, and is still where `keep` has saved it.
        """

    async def recorded(self, video: SavedVideo, inspection: anyio.Event) -> None:
        """Delete what was needed only until the ledger knew the place, which it now does.

        Args:
            inspection: set when the video has been inspected, or if it will not be.
        """

    async def remove(self, job_id: str, video: SavedVideo) -> None:
        """Remove a video that its user no longer wants. Raises NotSaved."""


Inspect = Callable[[Path, Record], Awaitable[Sequence[Difference]]]
"""Reports how a saved video differs from its order. It raises nothing."""


class VideoSaver:
    """Saves each video once: one process at a time does it for all that share the ledger.

    Each video is saved where the submitter of its job wanted, whatever the settings of this
    process are.

    A video that belongs in object storage is saved to the disk first, like any other. From there it
    is inspected and uploaded, and once its place is in the ledger, the file is deleted.

    A saved video is inspected at once. If that takes no longer than INSPECTION_SECONDS, its result
    is recorded together with the place of the video, and otherwise afterwards. If this process ends
    in between, the next one that saves videos inspects it, within a day of the job's end, unless
    the video is in object storage by then. A video is saved whether it is inspected or not.

    Args:
        open_archive: opens a folder for videos.
        own: what this process wants done with videos; used for jobs that were submitted by a
            version that did not record it.
        inspect: compares a saved video with its order; None to compare none.
    """

    def __init__(
        self,
        open_archive: Callable[[VideoPolicy], Archive],
        own: VideoPolicy | None,
        coordination: Coordination,
        account: Account,
        clock: Clock,
        inspect: Inspect | None = None,
    ) -> None:
        self._open = open_archive
        self._own = own
        self._coordination = coordination
        self._account = account
        self._clock = clock
        self._inspect = inspect
        self._archives: dict[VideoPolicy, Archive] = {}
        self._saving: dict[str, float] = {}  # since when
        self._inspecting: dict[str, anyio.Event] = {}  # which is set at the end
        self._last_try: dict[str, float] = {}
        self._last_look: dict[str, float] = {}

    async def run(self) -> None:
        """Save the videos of completed jobs, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                changes = self._coordination.own_changes
                try:
                    await self._round(await self._account(), tasks)
                except LedgerUnavailable as exc:
                    logger.warning("unsaved videos could not be searched for: %s", exc.what)
                except Exception:
                    # A defect here must not end the server, in whose tasks payments run.
                    logger.exception("the search for unsaved videos failed")
                await self._clock.wait(
                    partial(self._coordination.next_change, changes), ROUND_SECONDS
                )

    async def _round(self, account: str, tasks: TaskGroup) -> None:
        due = [record for record in await self._coordination.unsaved(account) if self._may(record)]
        missed = await self._missed_inspections(account)
        if not (due or missed or self._saving or self._inspecting):
            return
        if not await self._coordination.lead(account, Role.SAVER, LEASE_SECONDS):
            return
        for record in sorted(due, key=self._urgency)[: self._free_places()]:
            self._saving[record.submission_id] = self._clock.monotonic()
            tasks.start_soon(self._save, record, tasks)
        for record in missed:
            self._begin_inspection(record, path_of(record.saved_path or ""), tasks)

    def _may(self, record: Record) -> bool:
        """Whether a video is wanted, is not being saved, and was not tried a moment ago."""
        id = record.submission_id
        waits = id in self._saving or self._is_recent(self._last_try, id)
        return not waits and self._policy_of(record) is not None

    async def _missed_inspections(self, account: str) -> list[Record]:
        """Saved videos that were not inspected: their saver ended first, or has no decoder."""
        if self._inspect is None:
            return []
        return [
            record
            for record in await self._coordination.uninspected(account)
            if self._policy_of(record) is not None
            and not is_storage_url(record.saved_path or "")  # only a file can be inspected
            and record.submission_id not in self._saving
            and record.submission_id not in self._inspecting
            and not self._is_recent(self._last_look, record.submission_id)
        ]

    def _is_recent(self, times: dict[str, float], id: str) -> bool:
        return self._clock.monotonic() < times.get(id, -inf) + RETRY_SECONDS

    def _urgency(self, record: Record) -> tuple[float, float]:
        """The order of saving: the longest untried first, then the link that expires first."""
        ends = inf if record.expires_at is None else record.expires_at.timestamp()
        return self._last_try.get(record.submission_id, -inf), ends

    def _free_places(self) -> int:
        now = self._clock.monotonic()
        in_turn = sum(now - since < TURN_SECONDS for since in self._saving.values())
        return max(0, min(MAX_AT_ONCE - in_turn, MAX_ALTOGETHER - len(self._saving)))

    def _policy_of(self, record: Record) -> VideoPolicy | None:
        folder = record.video_folder
        policy = self._own if folder is None else VideoPolicy(folder, record.video_limit_gb)
        return policy if policy and policy.folder else None

    async def _save(self, record: Record, tasks: TaskGroup) -> None:
        id = record.submission_id
        try:
            await self._try(record, tasks)
        except LedgerUnavailable as exc:
            logger.warning("the result of saving a video could not be recorded: %s", exc.what)
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("saving the video of job %s failed", record.job_id)
        finally:
            self._last_try[id] = self._clock.monotonic()
            self._saving.pop(id, None)

    async def _try(self, record: Record, tasks: TaskGroup) -> None:
        id, archive = record.submission_id, self._archive_of(record)
        assert record.job_id
        try:
            video = await self._kept(record, archive)
            inspection = await self._inspected(record, video.path, tasks)
            place = await archive.place(record.job_id, video)
        except NotSaved as exc:
            why = " ".join(filter(None, [exc.what, exc.step]))
            logger.warning("the video of job %s was not saved: %s", record.job_id, why)
            if not record.workspace.is_alone:  # its user is not the operator
                why = exc.what
            if exc.final and self._has_settled(record):
                await self._coordination.not_saved(id, why)
            elif why != record.last_save_error:
                await self._coordination.not_saved_yet(id, why)
            return
        if await self._coordination.saved(id, place, video.sha256, video.size):
            await archive.recorded(video, inspection)
        else:  # its user had the job forgotten while the video was on its way
            await archive.remove(record.job_id, video)

    async def _inspected(self, record: Record, path: Path, tasks: TaskGroup) -> anyio.Event:
        """Wait a short time for the inspection, which continues afterwards."""
        inspection = self._begin_inspection(record, path, tasks)
        await self._clock.wait(inspection.wait, INSPECTION_SECONDS)
        return inspection

    def _begin_inspection(self, record: Record, path: Path, tasks: TaskGroup) -> anyio.Event:
        """Begin to inspect a saved video. The event is set at the end, or at once if none is."""
        id = record.submission_id
        if id in self._inspecting:
            return self._inspecting[id]
        done = anyio.Event()
        if self._inspect is None or record.inspection is not None:
            done.set()
        else:
            self._inspecting[id] = done
            tasks.start_soon(self._look, self._inspect, record, path, done)
        return done

    async def _look(self, inspect: Inspect, record: Record, path: Path, done: anyio.Event) -> None:
        id = record.submission_id
        try:
            await self._coordination.inspected(id, await inspect(path, record))
        except LedgerUnavailable as exc:
            logger.warning("the inspection of a video could not be recorded: %s", exc.what)
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("inspecting the video of job %s failed", record.job_id)
        finally:
            self._last_look[id] = self._clock.monotonic()
            self._inspecting.pop(id, None)
            done.set()

    def _has_settled(self, record: Record) -> bool:
        """Whether the storage has had enough time to provide the video."""
        age = self._clock.wall() - (record.ended_at or record.created_at)
        return abs(age.total_seconds()) >= SETTLE_SECONDS

    def _archive_of(self, record: Record) -> Archive:
        policy = self._policy_of(record)
        assert policy is not None
        if policy not in self._archives:
            # This imports modules for which start-up need not wait.
            self._archives[policy] = self._open(policy)
        return self._archives[policy]

    async def _kept(self, record: Record, archive: Archive) -> SavedVideo:
        assert record.job_id
        assert record.video_url
        return await archive.keep(
            record.job_id, record.video_url, made_at=record.created_at, expires_at=record.expires_at
        )
