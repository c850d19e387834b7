"""Checks both inputs before anything is paid: nothing is bought for a file that cannot work.

An input is refused only if it certainly cannot be used. PixelDojo fetches the files itself, from
elsewhere and at another time: what cannot be checked from here may well work there.
"""

import logging
from collections.abc import Awaitable, Callable

import anyio

from wan_mcp.inputs.decoder_process import NotLookedAt
from wan_mcp.inputs.findings import Findings
from wan_mcp.inputs.image_check import check_image
from wan_mcp.inputs.remote_file import RemoteFile
from wan_mcp.inputs.verdict import CHECK_LINK, IMAGE, VIDEO, Role, Unusable, UnusableInput
from wan_mcp.inputs.video_check import check_video
from wan_mcp.models import InputReport, Replacement
from wan_mcp.web.fetch import Unreachable, Web

logger = logging.getLogger(__name__)


_Check = Callable[[RemoteFile, Findings, float], Awaitable[None]]


async def check_inputs(wanted: Replacement, web: Web, *, seconds: float = 5.0) -> InputReport:
    """Notes on both inputs, and what is known of the source clip.

    Args:
        seconds: limit for both inputs; what is not known by then is not checked.

    Raises:
        UnusableInput: an input certainly cannot be used; the error names all problems at once.
    """
    found = Findings(wanted)
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for role, check, url in (
                (VIDEO, check_video, wanted.video),
                (IMAGE, check_image, wanted.character_image),
            ):
                file = RemoteFile(web, url, bytes_left=role.max_read_bytes)
                tasks.start_soon(_collect_problems, role, check, file, found, seconds / 2)
    if found.problems:
        raise _refusal(found.problems)
    return InputReport(tuple(found.all_notes()), found.source)


async def _collect_problems(
    role: Role, check: _Check, file: RemoteFile, found: Findings, seconds: float
) -> None:
    try:
        await check(file, found, seconds)
        found.unchecked.pop(role.name, None)
    except Unusable as problem:
        found.problems.append(problem)
    except NotLookedAt as exc:
        found.unchecked[role.name] = exc.why
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
