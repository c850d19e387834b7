"""Keeps the films of completed jobs: their links die, and nobody may be looking when they end."""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import NotKept
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Account, Rota
from wan_mcp.ledger.record import Row

LEASE = 30.0
ROUND = 5.0
RETRY = 60.0
SETTLES = 600.0
"""Seconds after a job's end until a refusal of its film is believed (ours): one 404 of a storage
that is a moment late must not cost a film that was paid for."""
AT_ONCE = 3
"""Films that are saved at the same time; more would only share the line."""

logger = logging.getLogger(__name__)


class Kept(Protocol):
    """A film on this machine's disk."""

    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


class Archive(Protocol):
    """Where films are kept."""

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> Kept:
        """Save a film, unless it is there already. Raises NotKept."""


class Keeper:
    """Saves each film once: of all processes on the ledger, one at a time does."""

    def __init__(
        self, archive: Callable[[], Archive], rota: Rota, account: Account, clock: Clock
    ) -> None:
        self._open = archive
        self._rota = rota
        self._account = account
        self._clock = clock
        self._archive: Archive | None = None
        self._saving: set[str] = set()
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Save what is completed, for ever."""
        async with anyio.create_task_group() as tasks:
            while True:
                changed = self._rota.next_change()
                try:
                    await self._round(await self._account(), tasks)
                except LedgerUnavailable as exc:
                    logger.warning("films cannot be looked for: %s", exc.what)
                except Exception:
                    # A defect here must not end the server, in whose tasks payments run.
                    logger.exception("looking for films broke")
                await self._clock.wait(changed, ROUND)

    async def _round(self, account: str, tasks: TaskGroup) -> None:
        now = self._clock.monotonic()
        for row in await self._rota.unsaved(account):
            waits = row.handle in self._saving or now < self._not_before.get(row.handle, 0.0)
            if waits or len(self._saving) >= AT_ONCE:
                continue
            if not await self._rota.lead(f"{account} films", LEASE):
                return
            self._saving.add(row.handle)
            tasks.start_soon(self._save, row)

    async def _save(self, row: Row) -> None:
        # Before all else: whatever goes wrong, the next try is not at once.
        self._not_before[row.handle] = self._clock.monotonic() + RETRY
        try:
            await self._try(row)
        except LedgerUnavailable as exc:
            logger.warning("what became of a film could not be written down: %s", exc.what)
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("saving the film of job %s broke", row.job_id)
        finally:
            self._saving.discard(row.handle)

    async def _try(self, row: Row) -> None:
        try:
            film = await self._keep(row)
        except NotKept as exc:
            logger.warning("the film of job %s was not saved: %s", row.job_id, exc.what)
            if exc.final and self._has_settled(row):
                await self._rota.not_saved(row.handle, exc.what)
        else:
            await self._rota.saved(row.handle, str(film.path), film.sha256, film.size)

    def _has_settled(self, row: Row) -> bool:
        """Whether a dead link is dead for good: storage may be a moment behind the job's end."""
        age = self._clock.wall() - (row.ended_at or row.created_at)
        return abs(age.total_seconds()) >= SETTLES

    async def _keep(self, row: Row) -> Kept:
        if self._archive is None:
            self._archive = self._open()  # imports what start-up need not wait for
        assert row.job_id
        assert row.video_url
        return await self._archive.keep(
            row.job_id, row.video_url, made_at=row.created_at, expires_at=row.expires_at
        )
