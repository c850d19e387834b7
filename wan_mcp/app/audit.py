"""Has the audit say who has bought what. No payment waits for it, and none fails because of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.current import current_caller
from wan_mcp.tenants.paid_acts import OWN_SECONDS
from wan_mcp.tenants.seat import user_of

if TYPE_CHECKING:
    from wan_mcp.clock import Clock
    from wan_mcp.ledger.record import Record
    from wan_mcp.tenants.directory import StoredDirectory

LOOK_SECONDS = 10.0
"""How often a server looks for what another one has left without a row (ours)."""
LAST_SECONDS = 1.0
"""How long a server that stops goes on writing (ours). Another one writes what is left."""

logger = logging.getLogger(__name__)


class Audit:
    """Writes the rows of paid acts: see `tenants.paid_acts`.

    What cannot be written is tried again, here and by every other server, and in the log.
    """

    def __init__(self, directory: StoredDirectory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._signed_in: dict[str, tuple[str | None, float]] = {}
        self._more = anyio.Event()

    def note(self, record: Record) -> None:
        """Remember how the user of a request has signed in that has ended, and write its row."""
        caller = current_caller()
        is_theirs = caller is not None and caller.user == user_of(record.account)
        how = caller.vouched_by if caller is not None and is_theirs else None
        self._signed_in[record.submission_id] = how, self._clock.monotonic() + OWN_SECONDS
        self._more.set()

    async def run(self) -> None:
        """Write what is missing until cancelled."""
        while True:
            self._more = anyio.Event()
            if pause := await self._write():
                await self._clock.sleep(pause)
            else:
                await self._clock.wait(self._more.wait, LOOK_SECONDS)

    async def aclose(self) -> None:
        """Write for a short time what is left, when no payment goes on any more."""
        with anyio.move_on_after(LAST_SECONDS, shield=True):
            await self._write()

    async def _write(self) -> float | None:
        """Write what there is. Returns the pause before the next try; None if all is written."""
        now = self._clock.monotonic()
        self._signed_in = {id: how for id, how in self._signed_in.items() if now < how[1]}
        try:
            known = {id: how for id, (how, _) in self._signed_in.items()}
            while await self._directory.write_paid_acts(known):
                pass
        except IdentityUnknown as exc:
            logger.warning("rows of the audit are not written yet: %s", exc)
            return exc.retry_after
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("writing the audit broke")
            return LOOK_SECONDS
        return None
