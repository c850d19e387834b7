"""The uploads of one workspace, as inputs of its jobs."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from wan_mcp.errors import InvalidArguments, NotFound, NotSent
from wan_mcp.inputs.file_types import file_type_of
from wan_mcp.inputs.local.files import HEAD_BYTES
from wan_mcp.inputs.preparing.prepare import Prepared, content_of, new_file
from wan_mcp.inputs.received.reception import Reception
from wan_mcp.inputs.received.shelves import StoredUpload
from wan_mcp.inputs.received.tickets import (
    SLOT_OF_ROLE,
    TICKET_SECONDS,
    Ticket,
    number_of,
    role_of,
)
from wan_mcp.models import UPLOADS
from wan_mcp.storage.unavailable import Unavailable
from wan_mcp.wording import megabytes, plural

USABLE = timedelta(days=1)
"""How long a call can use an upload (ours). Uploads are deleted after two days, and a request that
waits in the queue, and for its other input, takes some hours at most."""
FIND_SECONDS = 2.5
"""How long a call waits for the storage (ours); its own answer is due soon."""

logger = logging.getLogger(__name__)


class UploadNeeded(InvalidArguments):
    """The inputs of a call are on the user's computer, and have to be uploaded first."""


class NotUploaded(NotFound):
    """This workspace has no such upload, or no longer."""


class OwnUploads:
    """The uploads of one workspace.

    Args:
        reception: takes the files.
        workspace: returns its name.
    """

    def __init__(self, reception: Reception, workspace: Callable[[], Awaitable[str]]) -> None:
        self._reception = reception
        self._workspace = workspace

    async def needed(self, names: Sequence[str]) -> UploadNeeded:
        """The refusal of a call whose inputs are on the user's computer.

        Args:
            names: the arguments of the call that name them.
        """
        slots = tuple(SLOT_OF_ROLE[name] for name in names)
        ticket, text = await self._reception.offer(await self._workspace(), slots)
        subject = f"{' and '.join(names)} {'is a file' if len(names) == 1 else 'are files'}"
        error = UploadNeeded(
            f"{subject} of the user's computer, which this server cannot read. Nothing was sent, "
            "and nothing is charged.",
            next_step=self._advice(ticket, text),
        )
        error.upload_page = self._reception.address(text)
        return error

    async def find(self, id: str, name: str, age: timedelta | None = USABLE) -> StoredUpload:
        """The upload with that id.

        Args:
            name: the argument of the call that names it.
            age: how old it may be; None for one with which a request was accepted already.

        Raises:
            NotUploaded: this workspace has none, or it is too old.
            InvalidArguments: it is for the other argument.
            NotSent: the storage cannot be reached now, or two different files arrived at once.
        """
        role = role_of(id)
        if role.name != name:
            raise InvalidArguments(
                f"{name} is an upload for {role.name}.",
                next_step=f"Give {UPLOADS}{id} as {role.name}.",
            )
        found = await self._find(id, name)
        if len(found) > 1:
            raise NotSent(
                f"Two different files were uploaded for {name} at the same time.",
                transient=False,
                next_step="Nothing was charged. Call with the path of the file, for a new page.",
            )
        if not found or (age is not None and self._reception.now() - found[0].modified > age):
            raise await self._not_uploaded(id, is_old=bool(found))
        return found[0]

    async def link(self, id: str, name: str) -> str:
        """A link under which the upload of a request can be read. Raises as `find` does."""
        upload = await self.find(id, name, None)
        try:
            return await self._reception.shelves.link(upload)
        except Unavailable as exc:
            failed = exc
        raise _unavailable(failed)

    async def copy(self, id: str, name: str, sha256: str) -> Prepared:
        """A copy of an upload on this computer, for a request that was accepted with it.

        Args:
            sha256: the hash that it has to have.

        Raises:
            NotSent, NotUploaded: it cannot be copied, or is another file by now.
        """
        upload = await self.find(id, name, None)
        path = await run_sync(new_file, self._reception.folder)
        kept = False
        try:
            copy = await self._copied(upload, path)
            kept = copy.content.sha256 == sha256
        except (Unavailable, FileNotFoundError) as exc:
            failed = exc
        else:
            if not kept:
                raise NotSent(f"The upload for {name} is not the file that was received.")
            return copy
        finally:
            if not kept:
                path.unlink(missing_ok=True)
        if isinstance(failed, Unavailable):
            raise _unavailable(failed)
        raise await self._not_uploaded(id, is_old=True)

    async def _copied(self, upload: StoredUpload, path: Path) -> Prepared:
        with path.open("r+b") as file:
            await self._reception.shelves.copy(upload, file)
            file.seek(0)
            file_type = file_type_of(file.read(HEAD_BYTES), "")
        media_type = (file_type and file_type.mime_type) or "application/octet-stream"
        content = await run_sync(content_of, path, upload.suffix, media_type)
        return Prepared(content, (), path)

    async def _find(self, id: str, name: str) -> list[StoredUpload]:
        shelf = await self._reception.shelf(await self._workspace())
        try:
            with anyio.fail_after(FIND_SECONDS):
                return await self._reception.shelves.find(shelf, id)
        except TimeoutError:
            raise NotSent(f"The storage did not say in time whether {name} is there.") from None
        except Unavailable as exc:
            failed = exc
        raise _unavailable(failed)

    async def _not_uploaded(self, id: str, *, is_old: bool) -> NotUploaded:
        """The refusal, with a page that still takes the file."""
        slot = SLOT_OF_ROLE[role_of(id).name]
        number = "" if is_old else number_of(id)
        ticket, text = await self._reception.offer(await self._workspace(), (slot,), number)
        error = NotUploaded(
            f"There is no file of this user under {UPLOADS}{id}: it was not uploaded yet, or more "
            "than a day ago. Nothing is charged.",
            next_step=self._advice(ticket, text),
        )
        error.upload_page = self._reception.address(text)
        return error

    def _advice(self, ticket: Ticket, text: str) -> str:
        page, minutes = self._reception.address(text), int(TICKET_SECONDS // 60)
        most, count = megabytes(self._reception.max_bytes), len(ticket.slots)
        pronoun = "it" if count == 1 else "each"
        by_shell = "; ".join(
            f"curl --fail-with-body -T FILE {page}/{slot}" for slot in ticket.slots
        )
        values = " and ".join(
            f'{role_of(ticket.id(slot)).name} "{UPLOADS}{ticket.id(slot)}"' for slot in ticket.slots
        )
        return (
            f"Ask the user to open {page} in a browser and to drop the {plural('file', count)} "
            f"there: {pronoun} may have {most}, and the page takes {pronoun} for {minutes} min. "
            f"Where a shell has the {plural('file', count)}: {by_shell}. Then make the same call "
            f"with {values}."
        )


def _unavailable(failed: Unavailable) -> NotSent:
    # Only the operator may know which storage it is, and which settings to change.
    logger.warning("uploads cannot be used: %s %s", failed.what, failed.next_step)
    return NotSent(
        "The storage with the user's uploads cannot be used at the moment.",
        transient=failed.transient,
        next_step="Nothing was charged. Repeating the same call is safe. If it keeps failing, tell "
        "the user that the operator of this server has to look at its storage.",
    )
