"""Writes down who has bought what. No payment waits for it, and none fails because of it."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import anyio

from wan_mcp.tenants.audit import Entry
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.current import current_caller
from wan_mcp.tenants.seat import user_of

if TYPE_CHECKING:
    from wan_mcp.clock import Clock
    from wan_mcp.payments.acts import PaidAct
    from wan_mcp.tenants.directory import StoredDirectory

MOST_UNWRITTEN = 10_000
"""Acts that wait for the database (ours). Of more, the log has the only record."""
LAST_SECONDS = 1.0
"""How long a server that stops goes on writing (ours)."""

logger = logging.getLogger(__name__)


class Audit:
    """The paid acts of this process on their way into the database.

    What cannot be written is in the log, and is tried again until it is written or the process
    ends.
    """

    def __init__(self, directory: StoredDirectory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._unwritten: deque[Entry] = deque()
        self._more = anyio.Event()

    def note(self, act: PaidAct) -> None:
        """Have a paid act written down. Its outcome is recorded already."""
        try:
            entry = _entry(act)
            if len(self._unwritten) >= MOST_UNWRITTEN:
                logger.error("an act is not in the audit: %s", entry.said)
                return
            self._unwritten.append(entry)
            self._more.set()
        except Exception:
            logger.exception("an act could not be noted for the audit")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._more = anyio.Event()
            pause = await self._write()
            if pause is None:
                await self._more.wait()
            else:
                await self._clock.sleep(pause)

    async def aclose(self) -> None:
        """Write for a short time what is left, when no payment goes on any more."""
        with anyio.move_on_after(LAST_SECONDS, shield=True):
            await self._write()
        for entry in self._unwritten:
            logger.error("an act is not in the audit: %s", entry.said)

    async def _write(self) -> float | None:
        """Write what there is. Returns the pause before the next try; None if all is written."""
        while self._unwritten:
            try:
                await self._directory.write(self._unwritten[0])
            except IdentityUnknown as exc:
                logger.warning("the audit waits: %s; %s", self._unwritten[0].said, exc)
                return exc.retry_after
            except Exception:
                logger.exception("an act is not in the audit: %s", self._unwritten[0].said)
            self._unwritten.popleft()
        return None


def _entry(act: PaidAct) -> Entry:
    """The row of an act. Whose it is, its workspace says; a caller only how they signed in."""
    user, caller = user_of(act.record.account), current_caller()
    vouched_by = caller.vouched_by if caller is not None and caller.user == user else None
    request = None if act.id == act.record.submission_id else act.record.submission_id
    detail = {
        "credits": act.credits,
        "wallet": act.record.workspace.wallet,
        "request": request,
        "signed_in": vouched_by,
    }
    return Entry.new(user, act.action, act.id, act.result, detail)
