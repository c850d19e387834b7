"""Inputs of this computer in the user's own bucket, under links that expire.

An object is named by the hash of its content, so the same file is uploaded once, and no table has
to record which files are there. Objects are deleted by age alone: an input whose object is older
than a day is uploaded again, and a link works for six hours, so no job needs an object that is two
days old.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeGuard

import anyio
import anyio.to_thread

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSent, StepBy
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.object_store import ObjectStore, StoredObject
from wan_mcp.storage.old_objects import delete_old
from wan_mcp.storage.unavailable import Reason, Unavailable, unavailable

LINK_SECONDS = 6 * 3600.0
_REUSED = timedelta(days=1)
_FOLDER = "inputs"
_OURS = re.compile(rf"{_FOLDER}/[0-9a-f]{{64}}(\.[A-Za-z0-9]{{1,8}})?")
"""The names of the objects that may be deleted."""

Report = Callable[[int], None]


@dataclass
class _UnderWay:
    """One upload, and the calls that wait for it."""

    turn: anyio.Lock = field(default_factory=anyio.Lock)
    reports: list[Report] = field(default_factory=list)

    def report(self, sent: int) -> None:
        for each in self.reports:
            each(sent)


class Uploads:
    """Delivers inputs through a bucket; implements `Delivery`.

    Args:
        store: the bucket, or a part of it; also an attribute.
        clock: tells the age of objects and when credentials end.
    """

    uploads = True

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self._under_way: dict[str, _UnderWay] = {}

    async def link(
        self, content: Content, submission_id: str, name: str, report: Callable[[int], None]
    ) -> str:
        """A link that lives six hours, or as long as the credentials. Uploads a missing file.

        Two calls for the same content at the same time upload it once.
        """
        try:
            return await self._link(content, report)
        except Unavailable as exc:
            failed = exc
        # Not above: there the other error would be chained, with what the storage answered.
        raise NotSent(
            failed.what,
            transient=failed.transient,
            next_step=failed.next_step,
            step_by=None if failed.reason is Reason.CHANGED else StepBy.OPERATOR,
        )

    async def release(self, submission_id: str) -> None:
        """Do nothing: another request may use the same object, which is deleted by its age."""

    async def delete_old(self) -> int:
        """Delete the inputs that are older than two days by the storage's own clock.

        Only objects below `inputs/` whose names have the form that this class gives are deleted.

        Returns:
            The number of deleted objects.

        Raises:
            Unavailable: the storage cannot be used.
        """
        return await delete_old(self.store, _FOLDER, _OURS)

    async def _link(self, content: Content, report: Report) -> str:
        seconds = self.store.link_seconds(LINK_SECONDS, self._clock.wall())
        name = f"{_FOLDER}/{content.sha256}{content.suffix}"
        async with self._turn(name, report) as under_way:
            if await self._is_there(name, content):
                report(content.size)
            else:
                await self._upload(name, content, under_way.report)
        return await self.store.sign(name, seconds)

    @asynccontextmanager
    async def _turn(self, name: str, report: Report) -> AsyncIterator[_UnderWay]:
        under_way = self._under_way.setdefault(name, _UnderWay())
        under_way.reports.append(report)
        try:
            async with under_way.turn:
                yield under_way
        finally:
            under_way.reports.remove(report)
            if not under_way.reports:
                del self._under_way[name]

    async def _is_there(self, name: str, content: Content) -> bool:
        """Whether the object will stay for long enough; a small error of the clock is harmless."""
        try:
            found = await self.store.head(name)
        except Unavailable as exc:
            # S3 says so of an object that does not exist, if listing is not allowed (documented).
            if exc.reason is not Reason.NOT_ALLOWED:
                raise
            return False
        return _is_whole(found, content) and self._clock.wall() - found.modified < _REUSED

    async def _upload(self, name: str, content: Content, report: Report) -> None:
        try:
            file = await anyio.to_thread.run_sync(content.open)
        except OSError:
            file = None
        if file is None:
            raise unavailable(Reason.CHANGED, self.store.url)
        with file:
            size, digest = content.size, content.sha256
            await self.store.put(name, file, size, digest, content.media_type, report)
        if not _is_whole(await self.store.head(name), content):
            await self.store.delete(name)
            raise unavailable(Reason.CUT, self.store.url)


def _is_whole(found: StoredObject | None, content: Content) -> TypeGuard[StoredObject]:
    return found is not None and found.size == content.size
