"""Answers the requests of upload pages, in words for the user who has one open."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from wan_mcp.errors import WanError
from wan_mcp.inputs.received.reception import AlreadyUploaded, UploadRefused
from wan_mcp.inputs.received.tickets import SLOTS, Ticket
from wan_mcp.models import UPLOADS
from wan_mcp.surface.player import upload_page
from wan_mcp.wording import megabytes

if TYPE_CHECKING:
    from wan_mcp.inputs.received.reception import Reception

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """The answer to a request, as `transports.uploads.Reply`."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None


class UploadDesk:
    """Answers with what a reception decides.

    Args:
        reception: takes the files.
    """

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def page(self, ticket: str, nonce: str) -> tuple[int, str]:
        """The page of a ticket, or one that says why there is none."""
        try:
            opened = await self._reception.ticket(ticket)
        except UploadRefused as refused:
            return refused.status, upload_page(nonce, [], f"{refused.what} {refused.next_step}")
        except WanError as failure:
            return 503, upload_page(nonce, [], failure.what)
        most = self._reception.max_bytes
        return 200, upload_page(nonce, opened.slots, limit=megabytes(most), max_bytes=most)

    async def look(self, ticket: str, slot: str, size: int) -> Reply:
        """Whether a file would be taken now."""
        return await self._answered(self._look(ticket, slot, size))

    async def receive(
        self, ticket: str, slot: str, size: int, blocks: AsyncIterator[bytes]
    ) -> Reply:
        """Take a file, and say what to do with it."""
        return await self._answered(self._receive(ticket, slot, size, blocks))

    async def _look(self, ticket: str, slot: str, size: int) -> Reply:
        await self._reception.look(await self._reception.ticket(ticket), slot, size)
        return Reply(200, {"message": "The file can be sent."})

    async def _receive(
        self, ticket: str, slot: str, size: int, blocks: AsyncIterator[bytes]
    ) -> Reply:
        opened = await self._reception.ticket(ticket)
        accepted = await self._reception.receive(opened, slot, size, blocks)
        stored = accepted.stored
        logger.info("an upload of %s was stored: %s", megabytes(stored.size), opened.id(slot))
        return Reply(
            201,
            {
                "message": " ".join([f"Uploaded as {accepted.uri}.", *accepted.notes]),
                "uri": accepted.uri,
                "size": stored.size,
                "sha256": stored.sha256,
                "next": _next(opened, slot),
            },
        )

    async def _answered(self, answer: Awaitable[Reply]) -> Reply:
        try:
            return await answer
        except UploadRefused as refused:
            body = {"error": refused.what, "next": refused.next_step}
            if isinstance(refused, AlreadyUploaded):
                body["uri"] = refused.uri
            return Reply(refused.status, body, refused.retry_after)
        except WanError as failure:
            return Reply(503, {"error": failure.what, "next": "Try again in a while."})


def _next(ticket: Ticket, slot: str) -> str:
    return (
        f'Go back to your assistant: {SLOTS[slot].name} is "{UPLOADS}{ticket.id(slot)}". It can be '
        "used for a day, and is deleted after two."
    )
