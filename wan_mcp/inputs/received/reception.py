"""Takes files that come with a ticket: limited in size, number and time, and each is checked.

A file passes in blocks through an unnamed file on the disk of this computer: memory does not grow
with it, and nothing is left of it when the connection or the process ends. It is stored by one
request, after all of it has arrived and has been checked, so nobody ever sees a part of it.
"""

import hashlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from anyio.to_thread import run_sync

from wan_mcp.inputs.received.inspected import inspected
from wan_mcp.inputs.received.shelves import Shelves, StoredUpload
from wan_mcp.inputs.received.tickets import (
    SLOTS,
    TICKET_SECONDS,
    Ticket,
    in_order,
    new_number,
    sealed,
    shelf_of,
    unsealed,
)
from wan_mcp.inputs.verdict import Unusable
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.storage.unavailable import Unavailable
from wan_mcp.wording import megabytes

MOST_AT_ONCE = 8
"""How many uploads one server takes at the same time (ours): each may need room on its disk."""
MOST_OF_ONE = 2
"""How many of these may be of one workspace: both files of a call."""
MOST_FILES = 10
"""A workspace has room for this many files of the largest size (ours)."""
MOST_SMALL_FILES = 1_000
"""And for this many files of any size (ours): each upload goes through the list of them."""
RESERVE_BYTES = 256 * 10**6
"""How many bytes have to stay free on the disk of the server."""
AGAIN_SECONDS = 10.0
_BLOCK_BYTES = 1 << 20

_ASK_AGAIN = "Ask your assistant for a new one: it gets one by the same call as before."

Blocks = AsyncIterator[bytes]

logger = logging.getLogger(__name__)


class UploadRefused(Exception):
    """A file is not taken.

    Attributes:
        status: the status of the HTTP answer.
        what: what happened, in a sentence.
        next_step: what to do, in a sentence.
        retry_after: after how many seconds the same upload makes sense; None if it never does.
    """

    def __init__(
        self, status: int, what: str, next_step: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.next_step = next_step
        self.retry_after = retry_after


class AlreadyUploaded(UploadRefused):
    """There is a file under this id already.

    Attributes:
        uri: the URI by which a call names it.
    """

    uri = ""


@dataclass(frozen=True)
class Accepted:
    """An upload that was stored.

    Attributes:
        uri: the URI by which a call names it.
        notes: what its user should know about the file, in sentences.
    """

    uri: str
    stored: StoredUpload
    notes: list[str]


class Reception:
    """Issues tickets, and takes the files that come with them.

    Args:
        store: where the files are stored.
        secret: the key that seals tickets, the same for all servers of the ledger. It may raise
            WanError.
        folder: where a file is until it is stored, and copies of files until they are sent.
        max_bytes: how large a file may be.
        now: gives the date and time.
        page: the address below which tickets are, without a slash at its end.

    Attributes:
        shelves: the files in the store.
        folder, max_bytes, now: as given.
    """

    def __init__(
        self,
        store: ObjectStore,
        secret: Callable[[], Awaitable[bytes]],
        folder: Path,
        max_bytes: int,
        now: Callable[[], datetime],
        page: str,
    ) -> None:
        self.shelves = Shelves(store)
        self.folder = folder
        self.max_bytes = max_bytes
        self.now = now
        self._page = page
        self._secret = secret
        self._known_key: bytes | None = None
        self._under_way: Counter[str] = Counter()
        self._promised = 0

    def address(self, ticket: str) -> str:
        """The address of the page of a ticket."""
        return f"{self._page}/{ticket}"

    async def shelf(self, workspace: str) -> str:
        """The name of the shelf with the files of a workspace."""
        return shelf_of(workspace, await self._key())

    async def offer(
        self, workspace: str, slots: tuple[str, ...], number: str = ""
    ) -> tuple[Ticket, str]:
        """A ticket for a workspace, and its text.

        Args:
            slots: what it takes, see `tickets.SLOTS`.
            number: the number of an earlier ticket, whose missing uploads it takes; "" for none.
        """
        key = await self._key()
        ends = int(self.now().timestamp() + TICKET_SECONDS)
        number = number or new_number()
        ticket = Ticket(shelf_of(workspace, key), number, in_order(slots), ends)
        return ticket, sealed(ticket, key)

    async def ticket(self, text: str) -> Ticket:
        """The ticket of a text. Raises UploadRefused if it is not valid, or has expired."""
        ticket = unsealed(text, await self._key())
        if ticket is None:
            raise UploadRefused(404, "There is no such upload page.", _ASK_AGAIN)
        if self.now().timestamp() >= ticket.expires_at:
            raise UploadRefused(410, "The time for this upload is over.", _ASK_AGAIN)
        return ticket

    async def look(self, ticket: Ticket, slot: str, size: int) -> None:
        """Check that a file of `size` bytes would be taken now. Raises UploadRefused."""
        if slot not in ticket.slots:
            raise UploadRefused(404, "This ticket does not take such a file.", _ASK_AGAIN)
        if size <= 0:
            raise UploadRefused(400, "The file is empty.", "Choose another file.")
        if size > self.max_bytes:
            most = megabytes(self.max_bytes)
            what = f"The file has {megabytes(size)}, and at most {most} are taken."
            raise UploadRefused(413, what, "Choose a shorter or smaller one.")
        try:
            await self._require_room(ticket, slot, size)
        except Unavailable as exc:
            failed = exc
        else:
            return
        raise _unavailable(failed)  # not above: there the storage's answer would be chained

    async def receive(self, ticket: Ticket, slot: str, size: int, blocks: Blocks) -> Accepted:
        """Take a file.

        Args:
            size: how many bytes it has, as its sender announces.
            blocks: its bytes. Whatever this raises ends the upload, and nothing is left of it.

        Raises:
            UploadRefused: it is not taken.
        """
        with self._place(ticket):
            await self.look(ticket, slot, size)
            try:
                return await self._received(ticket, slot, size, blocks)
            except Unavailable as exc:
                failed = exc
            except TimeoutError:  # the sender is too slow; this is an OSError, too
                raise
            except OSError as error:
                logger.warning("an upload could not be kept: %s", error.strerror)
                raise _not_now("The server could not keep the file.") from error
            raise _unavailable(failed)

    async def _received(self, ticket: Ticket, slot: str, size: int, blocks: Blocks) -> Accepted:
        with self._room_on_disk(size), await run_sync(_unnamed_file, self.folder) as file:
            sha256 = await _spooled(file, size, blocks)
            try:
                file_type, notes = await inspected(file, SLOTS[slot])
            except Unusable as problem:
                what, remedy = f"The file {problem.what}.", problem.remedy
                next_step = f"{remedy[0].upper()}{remedy[1:]}."
                raise UploadRefused(415, what, next_step) from None
            id = ticket.id(slot)
            stored = await self.shelves.put(ticket.shelf, id, file, size, sha256, file_type)
        await self._require_alone(ticket, slot, stored)
        return Accepted(f"wan://uploads/{id}", stored, notes)

    async def _require_room(self, ticket: Ticket, slot: str, size: int) -> None:
        if await self.shelves.find(ticket.shelf, ticket.id(slot)):
            raise _used(ticket, slot)
        room = MOST_FILES * self.max_bytes
        files = await self.shelves.all_of(ticket.shelf)
        if len(files) >= MOST_SMALL_FILES:
            raise _full(f"You have {len(files):,} uploaded files, and no more are kept.")
        if sum(each.size for each in files) + size > room:
            raise _full(
                f"Your uploads have {megabytes(room)} together, which is all the room there is."
            )

    async def _require_alone(self, ticket: Ticket, slot: str, stored: StoredUpload) -> None:
        """Of two files that arrive at once under one id, neither may be taken for the other."""
        found = await self.shelves.find(ticket.shelf, ticket.id(slot))
        if any(each.name != stored.name for each in found):
            await self.shelves.delete(stored)
            raise UploadRefused(
                409,
                "Two different files came at the same time, and this one was not kept.",
                "Send it again, alone. If the page has a file by then, ask your assistant for a "
                "new page.",
            )

    @contextmanager
    def _place(self, ticket: Ticket) -> Iterator[None]:
        """Occupy one of the places for uploads. Raises UploadRefused."""
        if self._under_way.total() >= MOST_AT_ONCE:
            raise _not_now("The server takes as many files as it can at the moment.")
        if self._under_way[ticket.shelf] >= MOST_OF_ONE:
            raise _not_now("Two of your files are on their way already.")
        self._under_way[ticket.shelf] += 1
        try:
            yield
        finally:
            self._under_way[ticket.shelf] -= 1
            if not self._under_way[ticket.shelf]:
                del self._under_way[ticket.shelf]

    @contextmanager
    def _room_on_disk(self, size: int) -> Iterator[None]:
        """Reserve room for a file, beside all others on their way. Raises UploadRefused."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < self._promised + size + RESERVE_BYTES:
            raise _not_now("The disk of the server has no room for the file at the moment.")
        self._promised += size
        try:
            yield
        finally:
            self._promised -= size

    async def _key(self) -> bytes:
        if self._known_key is None:
            self._known_key = await self._secret()
        return self._known_key


async def _spooled(file: BinaryIO, size: int, blocks: Blocks) -> str:
    """Write the blocks to a file. Returns their hash. Raises UploadRefused for a wrong size."""
    digest, held, come = hashlib.sha256(), bytearray(), 0
    async for block in blocks:
        come += len(block)
        held += block
        if come > size:
            break
        if len(held) >= _BLOCK_BYTES:
            await run_sync(_write, file, digest, bytes(held))
            held.clear()
    await run_sync(_write, file, digest, bytes(held))
    await run_sync(file.flush)
    if come != size:
        raise UploadRefused(400, "Not as many bytes came as were announced.", "Send it again.")
    return digest.hexdigest()


def _write(file: BinaryIO, digest: "hashlib._Hash", block: bytes) -> None:
    file.write(block)
    digest.update(block)


def _unnamed_file(folder: Path) -> BinaryIO:
    """A file that nobody else can open, and that disappears with this process."""
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


def _used(ticket: Ticket, slot: str) -> AlreadyUploaded:
    uri = f"wan://uploads/{ticket.id(slot)}"
    what = f"A file was uploaded here already: {uri}."
    used = AlreadyUploaded(409, what, "For another file ask your assistant for a new page.")
    used.uri = uri
    return used


def _full(what: str) -> UploadRefused:
    return UploadRefused(
        507, what, "They are deleted after two days. Try again then, or give a public link."
    )


def _not_now(what: str) -> UploadRefused:
    next_step = "Try again in a while. If it stays so, tell the operator of this server."
    return UploadRefused(503, what, next_step, retry_after=AGAIN_SECONDS)


def _unavailable(failed: Unavailable) -> UploadRefused:
    # Only the operator may know which storage it is, and which settings to change.
    logger.warning("uploads cannot be stored: %s %s", failed.what, failed.next_step)
    return _not_now("The file could not be stored.")
