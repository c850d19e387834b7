"""Checks an uploaded file before it is stored: is it what it is meant to be?

These are the checks that precede a job, with the same decoder process and its limits. Faults for
which a file cannot be refused here are found when a job needs it.
"""

import os
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread

from wan_mcp.inputs.decoder_process import NotLookedAt
from wan_mcp.inputs.file_types import FileType, MediaType, file_type_of
from wan_mcp.inputs.findings import Findings
from wan_mcp.inputs.image_check import check_image
from wan_mcp.inputs.local.files import HEAD_BYTES
from wan_mcp.inputs.local.local_input import LocalInput
from wan_mcp.inputs.local.opening import OpenFile
from wan_mcp.inputs.probe import available
from wan_mcp.inputs.verdict import VIDEO, Role, Unusable
from wan_mcp.inputs.video_check import check_video
from wan_mcp.models import Replacement

LOOK_SECONDS = 30.0
"""How long the check of a file may take (ours)."""
_ANY_JOB = Replacement(video="", character_image="", seconds=1)
_TOO_SHORT = "is shorter than a second, the least that a job makes"


async def inspected(file: BinaryIO, role: Role) -> tuple[FileType, list[str]]:
    """The type of an uploaded file, and what its user should know about it, in sentences.

    Raises:
        Unusable: no job can be made of it.
        OSError: it cannot be read.
    """
    file_type = file_type_of(await anyio.to_thread.run_sync(_head, file), "")
    _require(role, file_type)
    assert file_type is not None
    found = Findings(_ANY_JOB, is_prepared={role.name: available()})
    check = check_video if role is VIDEO else check_image
    with OpenFile(os.dup(file.fileno()), Path()) as opened, anyio.move_on_after(LOOK_SECONDS):
        looked_at = LocalInput(opened, file_type, bytes_left=role.max_read_bytes)
        try:
            await check(looked_at, found, LOOK_SECONDS)
        except NotLookedAt:
            return file_type, []
        except Unusable as problem:
            if problem.name == role.name:
                raise
            raise Unusable(role.name, _TOO_SHORT, "give a longer clip") from None
    return file_type, list(found.notes)


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _require(role: Role, file_type: FileType | None) -> None:
    if file_type is None:
        what = f"is not {role.noun} by its bytes, whatever its name is"
        raise Unusable(role.name, what, "check that it is the right file, and complete")
    if file_type.media_type not in (role.media_type, MediaType.ANIMATION):
        raise Unusable(role.name, f"is {file_type.name}, not {role.noun}", f"give {role.noun}")
