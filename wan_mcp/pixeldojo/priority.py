"""What each request is for, and who lets it leave: the vendor counts them all in one budget."""

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.reply import Reply


class Priority(IntEnum):
    """What a request is for, most urgent first."""

    SUBMIT = 0
    STATUS = 1
    """Somebody asked for it just now."""
    POLL = 2
    LIST = 3
    RECONCILE = 4
    IDLE = 5
    """Nobody waits for it."""


class RateLimiter(Protocol):
    """The request budget of one key. Pages that need no key are not counted (assumed)."""

    async def acquire(self, priority: Priority) -> None:
        """Count a request that leaves now.

        Raises:
            Busy: a read has to wait, `retry_after` seconds; a submit is never refused.
        """

    async def observe(self, reply: "Reply", *, paid: bool) -> None:
        """Learn from an answer how many requests the key may make. Never raises.

        Args:
            paid: it answered a submit, so that its job's id has to be kept first: nothing may be
                waited for.
        """
