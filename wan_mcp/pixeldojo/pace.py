"""What each request is for, and who lets it leave: the vendor counts them all in one budget."""

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.reply import Reply


class Use(IntEnum):
    """What a request is for, most urgent first."""

    SUBMIT = 0
    STATUS = 1
    """Somebody asked for it just now."""
    POLL = 2
    LIST = 3
    RECONCILE = 4


class Pace(Protocol):
    """The request budget of one key. Pages that need no key are not counted (assumed)."""

    async def enter(self, use: Use) -> None:
        """Count a request that leaves now.

        Raises:
            Busy: a read has to wait, `retry_after` seconds; a submit is never refused.
        """

    async def heed(self, reply: "Reply") -> None:
        """Learn from an answer how many requests the key may make."""
