"""Checks both inputs before anything is paid: nothing is bought for a file that cannot work.

An input is refused only if it certainly cannot be used. PixelDojo fetches the files itself, from
elsewhere and at another time: what cannot be checked from here may well work there.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from wan_mcp.errors import Refused
from wan_mcp.inputs.decoder_process import NotLookedAt
from wan_mcp.inputs.findings import Findings
from wan_mcp.inputs.image_check import check_image
from wan_mcp.inputs.local.files import LocalFiles
from wan_mcp.inputs.local.local_input import LocalInput
from wan_mcp.inputs.local.references import FileReference, reference
from wan_mcp.inputs.probe import available
from wan_mcp.inputs.remote_file import RemoteFile
from wan_mcp.inputs.verdict import (
    CHECK_LINK,
    IMAGE,
    VIDEO,
    InputFile,
    Role,
    Unusable,
    UnusableInput,
)
from wan_mcp.inputs.video_check import check_video
from wan_mcp.models import InputReport, Replacement
from wan_mcp.web.fetch import Unreachable, Web

logger = logging.getLogger(__name__)

_Check = Callable[[InputFile, Findings, float], Awaitable[None]]


async def check_inputs(
    wanted: Replacement, web: Web, *, files: LocalFiles | None = None, seconds: float = 5.0
) -> InputReport:
    """Check both inputs. Returns notes on them, and what is known of the source clip.

    Args:
        wanted: a request whose inputs are links, or files of this computer.
        files: the files that may be inputs; None if no files may be.
        seconds: limit for both inputs together; what is not known by then stays unchecked.

    Raises:
        UnusableInput: an input certainly cannot be used; the error names all problems at once.
    """
    found = _findings(wanted)
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for role, check, url in (
                (VIDEO, check_video, wanted.video),
                (IMAGE, check_image, wanted.character_image),
            ):
                opened = _opened(role, url, web, files, found)
                tasks.start_soon(_collect_problems, role, check, opened, found, seconds / 2)
    for refusal in found.refusals:
        raise refusal
    if found.problems:
        raise _refusal(found.problems)
    return InputReport(tuple(found.all_notes()), found.source)


def _findings(wanted: Replacement) -> Findings:
    clip = reference(wanted.video)
    return Findings(wanted) if clip is None else Findings(wanted, fragment=clip.fragment)


@asynccontextmanager
async def _opened(
    role: Role, url: str, web: Web, files: LocalFiles | None, found: Findings
) -> AsyncGenerator[InputFile, None]:
    """An input that can be read in parts; a file of this computer is closed at the end."""
    if files is None or not isinstance(reference(url), FileReference):
        yield RemoteFile(web, url, bytes_left=role.max_read_bytes)
        return
    file, file_type = await files.opened(url, role)
    with file:
        found.is_prepared[role.name] = available()
        yield LocalInput(file, file_type, bytes_left=role.max_read_bytes)


async def _collect_problems(
    role: Role,
    check: _Check,
    opened: AbstractAsyncContextManager[InputFile],
    found: Findings,
    seconds: float,
) -> None:
    try:
        async with opened as file:
            await check(file, found, seconds)
        found.unchecked.pop(role.name, None)
    except Unusable as problem:
        found.problems.append(problem)
    except NotLookedAt as exc:
        found.unchecked[role.name] = exc.why
    except Refused as exc:
        found.refusals.append(exc)
    except OSError as exc:
        found.unchecked[role.name] = f"it could not be read ({exc.strerror})"
    except Unreachable as exc:
        found.unchecked[role.name] = exc.what
        if exc.everywhere:
            what = f"cannot be fetched: {exc.what}"
            found.problems.append(Unusable(role.name, what, CHECK_LINK))
    except Exception as exc:
        # A part that fails says nothing about the file, and must not hide what the others found.
        logger.exception("the check of %s failed", role.name)
        found.unchecked[role.name] = f"the check itself failed ({type(exc).__name__})"


def _refusal(problems: list[Unusable]) -> UnusableInput:
    ordered = sorted(problems, key=lambda problem: problem.name, reverse=True)
    what = "; ".join(f"{problem.name} {problem.what}" for problem in ordered)
    remedies = dict.fromkeys(f"{problem.name}: {problem.remedy}." for problem in ordered)
    return UnusableInput(f"The inputs cannot be used: {what}.", next_step=" ".join(remedies))
