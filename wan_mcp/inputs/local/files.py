"""Finds the files of this computer that a call names, and provides their content."""

import errno
import io
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from anyio.abc import TaskGroup

from wan_mcp.errors import InvalidArguments, NotSent, Refused
from wan_mcp.inputs.file_types import FileType, MediaType, file_type_of
from wan_mcp.inputs.local.folders import AllowedFolders, InputFolders, WrongPlace
from wan_mcp.inputs.local.hashes import Hashes, StillReading
from wan_mcp.inputs.local.opening import (
    Changed,
    Identity,
    OpenFile,
    Unfit,
    opened,
    opened_again,
)
from wan_mcp.inputs.local.references import FileReference, Fragment, reference
from wan_mcp.inputs.verdict import Role, UnusableInput
from wan_mcp.storage.delivery import Content

LOCATE_SECONDS = 2.5
"""How long a call waits for a file to be read: a fast disk reads 1 GB in this time (ours)."""
HEAD_BYTES = 4_096
"""How many bytes of a file show what it is."""
AGAIN_SECONDS = 5.0
"""After this time it makes sense to repeat a call for a file that is still being read (ours)."""


@dataclass(frozen=True)
class LocalFile:
    """A file of this computer that may be an input, and has been read once.

    Attributes:
        path: its full path, without a link in it.
        size: how many bytes it has.
        sha256: the hash of its bytes, 64 hex digits.
        media_type: its MIME type by its bytes, such as `video/mp4`.
        suffix: the usual suffix of such a file, such as `.mp4`, whatever its name is.
        file_type: the type that its bytes show.
        identity: the state in which it was read.
    """

    path: Path
    size: int
    sha256: str
    media_type: str
    suffix: str
    file_type: FileType
    identity: Identity


class LocalFiles:
    """The files that may be inputs.

    Args:
        folders: the folders that the operator allows.
        max_bytes: how large a file may be.
        tasks: where reading a file goes on when a call cannot wait for it.
        now_ns: the time in nanoseconds since 1970, to compare with the dates of files.
    """

    def __init__(
        self,
        folders: InputFolders,
        max_bytes: int,
        tasks: TaskGroup,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folders = folders
        self._max_bytes = max_bytes
        self._roots: tuple[Path, ...] = ()
        self._hashes = Hashes(tasks, now_ns)

    async def locate(
        self,
        uri: str,
        role: Role,
        *,
        roots: Sequence[Path] = (),
        seconds: float = LOCATE_SECONDS,
    ) -> LocalFile:
        """The file that an input names.

        Args:
            uri: as `references.reference` takes it.
            role: what it is to be used for: `verdict.VIDEO` or `verdict.IMAGE`.
            roots: the folders that the client declares. They count if the operator says so, and
                then also for later calls without any.
            seconds: how long to wait until it has been read.

        Raises:
            InvalidArguments: it is in a wrong place; nothing there was looked at.
            UnusableInput: it certainly cannot be used.
            NotSent: it is still being read, or written by another program; call again.
        """
        file, file_type = await self.opened(uri, role, roots=roots)
        path, identity = file.path, file.identity
        try:
            sha256 = await self._hashes.of(file, seconds)
        except StillReading as exc:
            raise _still_reading(role, exc) from None
        except Changed:
            raise _being_written(role) from None
        except OSError as exc:
            raise _unusable(role, *_reason(exc)) from exc
        return LocalFile(
            path,
            identity.size,
            sha256,
            file_type.mime_type or "application/octet-stream",
            file_type.suffix,
            file_type,
            identity,
        )

    async def opened(
        self, uri: str, role: Role, *, roots: Sequence[Path] = ()
    ) -> tuple[OpenFile, FileType]:
        """The open file that an input names, and its type; for args and errors see `locate`."""
        found = reference(uri)
        if not isinstance(found, FileReference):
            raise InvalidArguments(f"{role.name} names no file of this computer.")
        if role.media_type is not MediaType.VIDEO and found.fragment != Fragment():
            raise InvalidArguments(f"{role.name} has a fragment of time, as only a video can have.")
        if roots:
            self._roots = tuple(roots)
        folders = self._folders.folders + (self._roots if self._folders.takes_roots else ())
        path = Path(found.path)
        return await anyio.to_thread.run_sync(partial(self._opened, path, folders, role))

    def content(self, file: LocalFile) -> Content:
        """The bytes of a file, to be sent as they are.

        Opening and reading it raise OSError if it is no longer the same file or was changed. The
        hash of what was read must still be compared: on file systems with coarse times, nothing
        else shows a quick change.
        """
        return Content(
            partial(_reopened, file), file.size, file.sha256, file.suffix, file.media_type
        )

    def _opened(self, path: Path, folders: Sequence[Path], role: Role) -> tuple[OpenFile, FileType]:
        try:
            file = opened(path, AllowedFolders(folders))
        except WrongPlace:
            raise self._wrong_place(role) from None
        except Unfit as exc:
            raise _unusable(role, exc.what, exc.remedy) from None
        except OSError as exc:
            raise _unusable(role, *_reason(exc)) from exc
        try:
            return file, self._checked(file, role)
        except BaseException:
            file.close()
            raise

    def _checked(self, file: OpenFile, role: Role) -> FileType:
        size = file.identity.size
        if size == 0:
            raise _unusable(role, "is an empty file", f"give {role.noun}")
        if size > self._max_bytes:
            raise _unusable(
                role,
                f"has {size / 1e6:,.1f} MB, more than WAN_MCP_MAX_INPUT_MB allows "
                f"({self._max_bytes / 1e6:,.0f})",
                "give a shorter or smaller one, or ask the user to raise that setting",
            )
        try:
            file_type = file_type_of(file.read(HEAD_BYTES) or b"", "")
            file.seek(0)
        except Changed:
            raise _being_written(role) from None
        except OSError as exc:
            raise _unusable(role, *_reason(exc)) from exc
        if file_type is None:
            raise _unusable(
                role,
                f"is not {role.noun} by its bytes, whatever its name is",
                "check that it is the right file, and complete",
            )
        if file_type.media_type not in (role.media_type, MediaType.ANIMATION):
            raise _unusable(role, f"is {file_type.name}, not {role.noun}", _remedy(role, file_type))
        return file_type

    def _wrong_place(self, role: Role) -> Refused:
        return InvalidArguments(
            f"{role.name} is outside the folders whose files this server may send, or is hidden. "
            f"Nothing there was looked at. Allowed are: {self._folders}.",
            next_step="Ask the user to copy the file into one of these folders, or to list its "
            "folder, with all others that are to stay allowed, in WAN_MCP_INPUT_DIRS in this "
            "server's configuration and to restart the client; then call again.",
        )


def _reopened(file: LocalFile) -> BinaryIO:
    return io.BufferedReader(opened_again(file.path, file.identity))


def _remedy(role: Role, file_type: FileType) -> str:
    if file_type.media_type in (MediaType.VIDEO, MediaType.IMAGE):
        return f"give {role.noun}; if the two were swapped, this file belongs in {role.other}"
    return f"give {role.noun}"


def _unusable(role: Role, what: str, remedy: str) -> UnusableInput:
    return UnusableInput(
        f"The inputs cannot be used: {role.name} {what}.", next_step=f"{role.name}: {remedy}."
    )


def _reason(error: OSError) -> tuple[str, str]:
    """Why a file of an allowed folder cannot be opened or read, and what to do."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist", "check the name of the file and of its folder"
    if isinstance(error, PermissionError):
        return (
            "may not be read by the program that runs this server",
            "ask the user to allow that (on macOS in System Settings, Privacy & Security)",
        )
    if error.errno == errno.ELOOP:
        return "is reached by a link that was made just now, or by a circle of links", "name a file"
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    return f"cannot be read ({why})", "check the file and the disk it is on"


def _still_reading(role: Role, state: StillReading) -> NotSent:
    error = NotSent(
        f"{role.name} is still being read ({state.read / 1e6:,.0f} of {state.size / 1e6:,.0f} MB), "
        "which goes on. Nothing was sent, and nothing is charged.",
        next_step="Repeat the same call in a few seconds.",
    )
    error.retry_after = AGAIN_SECONDS
    return error


def _being_written(role: Role) -> NotSent:
    error = NotSent(
        f"{role.name} was changed while it was read: another program may still be writing it. "
        "Nothing was sent, and nothing is charged.",
        next_step="Repeat the same call when the file is complete.",
    )
    error.retry_after = AGAIN_SECONDS
    return error
