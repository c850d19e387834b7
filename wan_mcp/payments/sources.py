"""Finds the inputs that PixelDojo cannot fetch itself: files, and the videos of earlier jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from wan_mcp.clock import Clock
from wan_mcp.errors import Code, InvalidArguments, NotFound, NotSent, Refused, StepBy
from wan_mcp.inputs.local.files import LocalFile, LocalFiles
from wan_mcp.inputs.local.references import (
    FileReference,
    Fragment,
    JobReference,
    Reference,
    UploadReference,
    reference,
)
from wan_mcp.inputs.preparing.prepare import Prepared, refuse_cut_without_media
from wan_mcp.inputs.received.own_uploads import OwnUploads
from wan_mcp.inputs.verdict import IMAGE, VIDEO, Role
from wan_mcp.ledger.fingerprint import INPUTS
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Replacement
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.storage.unavailable import Unavailable

Find = Callable[[str], Awaitable[Record | None]]
Sign = Callable[[str], Awaitable[str]]
"""Signs a link to the object with this URL. Raises Unavailable."""

LEAST_LIFE = timedelta(minutes=10)
"""A link that expires earlier is not sent on: PixelDojo may fetch it minutes later (ours)."""
MAX_REMEMBERED = 64
"""How many files that were found are remembered until they are sent (ours)."""

ROLES = {role.name: role for role in (VIDEO, IMAGE)}
"""The use of each input, by its name."""

_WITHOUT_VIDEO = {
    State.FAILED: "failed, so there is no video of it",
    State.LOST: "is no longer known to PixelDojo, so there is no video of it",
    State.QUEUED: "is queued and not started yet, so there is no video of it",
    State.NOT_SENT: "was never started, so there is no video of it",
    State.REFUSED: "was turned down, so there is no video of it",
}
_RECIPE = (
    "Three ways, the shortest first: 1. give a direct public https link of the file instead. "
    "2. For all files from now on: set WAN_MCP_STORAGE_URL to a bucket of the user's "
    "(s3://bucket/prefix, gs:// or az://) and install wan-mcp[storage]; files are uploaded there "
    "under links that die. 3. With a tunnel or proxy of the user's: set WAN_MCP_PUBLIC_URL to its "
    "address; the server lends the files through it. The user sets both in this server's "
    "configuration, and restarts the client."
)


class NoVideo(Refused):
    """An earlier job has no video that could be an input, at least not now."""

    code = Code.UNUSABLE_INPUT
    advice = "Give another clip, then call again."


@dataclass(frozen=True)
class Source:
    """One input that PixelDojo cannot fetch under the name that its caller gave.

    Attributes:
        role: which input of the request it is.
        fragment: the part of it that is meant.
        file: the file of this computer; None if there is only a link.
        content: its bytes.
        link: a public link that leads to it; "" if there is a file.
        copy: an uploaded file, copied to this computer for this request; None for all others.
        expires_at: when PixelDojo's own link expires; None if that is not known, or not soon.
    """

    role: Role
    fragment: Fragment
    file: LocalFile | None = None
    content: Content | None = None
    link: str = ""
    copy: Prepared | None = None
    expires_at: datetime | None = None

    def discard(self) -> None:
        """Delete the copy of an uploaded file. The content cannot be opened after that."""
        if self.copy is not None:
            self.copy.discard()


class Sources:
    """The files of this computer and the videos of the account's jobs, as inputs.

    Args:
        files: the files that may be inputs; None where the caller is on another computer.
        find: the account's record with that job id or submission id.
        stored_link: signs a link to a video in object storage, by the URL of its object.
        uploads: the files that the user uploads; None where files cannot be uploaded.
        delivers: whether a file can be made available to PixelDojo.
    """

    def __init__(
        self,
        files: LocalFiles | None,
        find: Find,
        clock: Clock,
        stored_link: Sign | None = None,
        uploads: OwnUploads | None = None,
        *,
        delivers: bool,
    ) -> None:
        self._files = files
        self._find = find
        self._clock = clock
        self._stored_link = stored_link
        self._uploads = uploads
        self._delivers = delivers
        self._found: dict[tuple[str, str], LocalFile] = {}

    async def located(self, wanted: Replacement, roots: Sequence[Path] = ()) -> Replacement:
        """The same request, each input in its canonical form, and with the hashes of files.

        Args:
            roots: the folders that the client declares.

        Raises:
            Refused: an input cannot be used, or cannot be delivered.
            NotSent: a file is still being read; call again.
        """
        await self._require_here(wanted)
        # Not a task group, because it would wrap the errors that either of them raises.
        found = await asyncio.gather(
            *(self._changes(wanted, name, roots) for name in INPUTS), return_exceptions=True
        )
        changes: dict[str, object] = {}
        for each in found:
            if isinstance(each, BaseException):
                raise each  # if both failed, always the error about the video
            changes |= each
        return wanted.model_copy(update=changes)

    async def readable(self, wanted: Replacement) -> Replacement:
        """The request with files and links alone, which is what the preflight can check."""
        changes = {}
        for name in INPUTS:
            found = _reference(wanted, name)
            if isinstance(found, JobReference):
                source = await self._of_job(found, name)
                file = source.file and FileReference(source.file.path, source.fragment).uri
                changes[name] = file or source.link
            if isinstance(found, UploadReference):
                changes[name] = await self._opened_uploads(name).link(found.id, name)
        return wanted.model_copy(update=changes)

    async def source(self, wanted: Replacement, name: str) -> Source | None:
        """An input of a request that was located; None if it is a link already.

        Raises:
            NotSent: another file has its name by now.
            Refused: it cannot be used any more.
        """
        match _reference(wanted, name):
            case FileReference() as found:
                sha256 = getattr(wanted, f"{name}_sha256")
                file = self._found.get((found.uri, sha256)) or await self._file(found, name)
                if file.sha256 != sha256:
                    raise NotSent(
                        f"The file for {name} was changed after this call was made.",
                        next_step="Repeat the same call when the file is complete.",
                    )
                return self._source(ROLES[name], found.fragment, file)
            case JobReference() as found:
                return await self._of_job(found, name)
            case UploadReference() as found:
                sha256 = getattr(wanted, f"{name}_sha256")
                copy = await self._opened_uploads(name).copy(found.id, name, sha256)
                return Source(ROLES[name], found.fragment, content=copy.content, copy=copy)
        return None

    async def _changes(
        self, wanted: Replacement, name: str, roots: Sequence[Path]
    ) -> dict[str, str]:
        match _reference(wanted, name):
            case FileReference() as found:
                file = await self._file(found, name, roots)
                refuse_cut_without_media(ROLES[name], found.fragment)
                self._remember(found.uri, file)
                return {name: found.uri, f"{name}_sha256": file.sha256}
            case JobReference() as found:
                record = await self._record(found)
                found = JobReference(record.job_id or found.job_id, found.fragment)
                await self._of_job(found, name)
                return {name: found.uri}
            case UploadReference() as found:
                refuse_cut_without_media(ROLES[name], found.fragment)
                upload = await self._opened_uploads(name).find(found.id, name)
                return {name: found.uri, f"{name}_sha256": upload.sha256}
        return {}

    async def _require_here(self, wanted: Replacement) -> None:
        """Raises UploadNeeded if files have to come from another computer first."""
        if self._files is None and self._uploads is not None:
            missing = [n for n in INPUTS if isinstance(_reference(wanted, n), FileReference)]
            if missing:
                raise await self._uploads.needed(missing)

    def _opened_uploads(self, name: str) -> OwnUploads:
        if self._uploads is None:
            raise InvalidArguments(
                f"{name} is an upload, and this server takes none.",
                next_step="Give the path of the file where the server runs on the user's computer, "
                "or a direct public https link.",
            )
        return self._uploads

    async def _file(self, found: FileReference, name: str, roots: Sequence[Path] = ()) -> LocalFile:
        if self._files is None:
            raise InvalidArguments(
                f"{name} is a file, and this server may be on another computer than it.",
                next_step="Give a direct public https link of it instead.",
            )
        if not self._delivers:
            raise InvalidArguments(
                f"{name} is a file of this computer, which PixelDojo cannot fetch, and this server "
                "has no way yet to make it available. Nothing was read, sent or charged.",
                next_step=_RECIPE,
                step_by=StepBy.OPERATOR,
            )
        return await self._files.locate(found.uri, ROLES[name], roots=roots)

    def _remember(self, uri: str, file: LocalFile) -> None:
        self._found[uri, file.sha256] = file
        while len(self._found) > MAX_REMEMBERED:
            del self._found[next(iter(self._found))]

    async def _of_job(self, found: JobReference, name: str) -> Source:
        """The saved video of a job; its link, if it is not saved here or cannot be delivered."""
        record = await self._record(found)
        file = await self._saved(record) if self._delivers else None
        if file is not None:
            return self._source(ROLES[name], found.fragment, file)
        expires_at = record.expires_at
        is_over = expires_at is not None and expires_at - self._clock.wall() < LEAST_LIFE
        link = None if is_over else record.video_url
        expires_at = expires_at if link else None
        link = link or await self._link_to_storage(record)
        if link is None:
            raise self._no_link(record)
        if found.fragment.start:
            raise NoVideo(
                f"The video of job {record.job_id} can only be sent as it is, from its first "
                "second on: it is not a file that this server can cut.",
                next_step="Leave the #t= out, or give a clip that begins at that second.",
            )
        return Source(ROLES[name], found.fragment, link=link, expires_at=expires_at)

    async def _link_to_storage(self, record: Record) -> str | None:
        """A signed link to a video in object storage; None if it is not there. Raises NoVideo."""
        if self._stored_link is None or not is_storage_url(record.saved_path or ""):
            return None
        try:
            return await self._stored_link(record.saved_path or "")
        except Unavailable as exc:
            raise NoVideo(
                f"PixelDojo's link to the video of job {record.job_id} has expired, and none to "
                f"the one in storage can be made. {exc.what}",
                next_step=exc.next_step,
                step_by=StepBy.OPERATOR,
            ) from None

    def _no_link(self, record: Record) -> NoVideo:
        id = record.job_id
        if not record.video_url:
            return NoVideo(
                f"The job {id} is completed, and PixelDojo has not sent a link to its video.",
                next_step=f'Call wait_for_job with job_id "{id}" in a minute, then call again.',
            )
        if record.saved_path and not self._delivers:
            # For users of other computers no setting makes the files of this one available.
            return NoVideo(
                f"The link to the video of job {id} has expired, and its saved file is on this "
                "computer, where PixelDojo cannot fetch it.",
                next_step=None if self._files is None else _RECIPE,
                step_by=StepBy.OPERATOR,
            )
        return NoVideo(f"The link to the video of job {id} has expired, and it is not saved here.")

    def _source(self, role: Role, fragment: Fragment, file: LocalFile) -> Source:
        assert self._files is not None  # it has found the file
        refuse_cut_without_media(role, fragment)
        return Source(role, fragment, file, self._files.content(file))

    async def _saved(self, record: Record) -> LocalFile | None:
        """The file in which a job's video was saved, if it still holds that video."""
        if self._files is None or record.saved_path is None:
            return None
        try:
            saved = reference(record.saved_path)
            if not isinstance(saved, FileReference):
                return None
            file = await self._files.locate(saved.uri, VIDEO)
        except (Refused, ValueError):
            return None  # it was moved, or lies where inputs are not allowed: the link must do
        return file if file.sha256 == record.sha256 else None  # another file has its name now

    async def _record(self, found: JobReference) -> Record:
        """The record of a completed job. Raises NoVideo or NotFound, with what to do."""
        id = found.job_id
        record = await self._find(id)
        if record is None:
            raise NotFound(
                f"No job of this account is known here as {id}.",
                next_step=f'Call get_job_status with job_id "{id}" first: if PixelDojo knows it, '
                "it is known here afterwards. list_jobs shows the ids.",
            )
        if record.is_forgotten:
            raise NoVideo(f"The user had the video of job {id} removed.")
        if record.state in _WITHOUT_VIDEO:
            raise NoVideo(f"The job {id} {_WITHOUT_VIDEO[record.state]}.")
        if record.state is not State.COMPLETED:
            raise _not_ended(record)
        return record


def _reference(wanted: Replacement, name: str) -> Reference | None:
    try:
        return reference(getattr(wanted, name))
    except ValueError as malformed:
        raise InvalidArguments(f"{name} {malformed}.") from None


def _not_ended(record: Record) -> NoVideo:
    id = record.public_id
    if record.state is State.UNKNOWN:
        return NoVideo(
            f"The outcome of {id} is not known, so there is no video of it yet.",
            next_step=f'Call get_job_status with job_id "{id}": it looks for the job.',
        )
    return NoVideo(
        f"The job {id} has not ended, so there is no video of it yet.",
        next_step=f'Call wait_for_job with job_id "{id}" until it is completed, then make this '
        "call again.",
    )
