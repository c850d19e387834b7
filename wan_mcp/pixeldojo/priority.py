"""How urgent each request is, and the rate limiter that lets it through.

PixelDojo counts all requests of a key together.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.reply import Reply


class Priority(IntEnum):
    """What a request is for; the most urgent has the lowest number."""

    SUBMIT = 0
    STATUS = 1
    """A caller asked for it just now."""
    POLL = 2
    LIST = 3
    RECONCILE = 4
    IDLE = 5
    """A poll for a job that nobody waits for."""


class RateLimiter(Protocol):
    """Limits the requests of one key. Pages that need no key are not counted (assumed)."""

    async def acquire(self, priority: Priority) -> None:
        """Count a request that is about to be sent.

        Raises:
            Busy: a read must wait, for `retry_after` seconds; a submit is never refused.
        """

    async def observe(self, reply: "Reply", *, paid: bool) -> None:
        """Learn from an answer how many requests the key may make. Never raises.

        Args:
            paid: whether it answers a submit: then this must not wait for anything, because the
                job's id must be written down first.
        """
