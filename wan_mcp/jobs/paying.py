"""The one place that decides to send, or to send again, a request that costs credits."""

import logging
from typing import TYPE_CHECKING

from wan_mcp.errors import NotSent, RateLimited, Rejected, WanError
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.schedule import retry_delay
from wan_mcp.models import Job, Replacement

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

MAX_CONNECTS = 3
CONNECT_WINDOW = 10.0
"""Seconds in which a request that never left may be tried again."""
MAX_RATE_LIMIT_WAIT = 10.0

logger = logging.getLogger(__name__)


class Payment:
    """One paid request until it is accepted, refused for good, or possibly sent.

    Three refusals allow one more POST, because each proves that the last one bought nothing:
    nothing left this machine; PixelDojo asked to slow down; PixelDojo disliked the type of
    `resolution`, which its documentation leaves open. Everything else is final.

    Attributes:
        may_have_landed: a POST has begun to leave and was not proven to have bought nothing.
    """

    def __init__(self, vendor: "PixelDojo", clock: Clock, wanted: Replacement) -> None:
        self._vendor = vendor
        self._clock = clock
        self._wanted = wanted
        self._connects = 0
        self._may_slow_down = True
        self._may_retype = wanted.resolution is not None
        self._as_number = False
        self.may_have_landed = False

    async def run(self) -> Job:
        """Pay once. Raises Refused, NotSent or OutcomeUnknown."""
        self._as_number = await self._resolution_is_number()
        started = self._clock.monotonic()
        while True:
            try:
                return await self._vendor.submit(self._wanted, resolution_as_number=self._as_number)
            except (NotSent, RateLimited, Rejected) as refusal:
                pause = self._pause(refusal, self._clock.monotonic() - started)
                if pause is None:
                    raise
                await self._clock.sleep(pause)

    async def _before_sending(self) -> None:
        self.may_have_landed = True

    async def _resolution_is_number(self) -> bool:
        if self._wanted.resolution is None:
            return False
        try:
            return await self._vendor.resolution_is_number()
        except WanError as exc:
            # The schema page is a courtesy; without it the string goes first.
            logger.info("the vendor's schema could not be read: %s", exc.what)
            return False

    def _pause(self, refusal: WanError, elapsed: float) -> float | None:
        """Seconds before the one more POST that this refusal allows; None when it allows none."""
        match refusal:
            case NotSent(passing=True):
                self._connects += 1
                pause = retry_delay(self._connects, self._clock.chance())
                within = elapsed + pause < CONNECT_WINDOW
                return pause if within and self._connects < MAX_CONNECTS else None
            case RateLimited(retry_after=float(wait)) if wait <= MAX_RATE_LIMIT_WAIT:
                allowed, self._may_slow_down = self._may_slow_down, False
                return wait if allowed else None
            case Rejected(field="resolution"):
                allowed, self._may_retype = self._may_retype, False
                self._as_number = not self._as_number
                return 0.0 if allowed else None
        return None
