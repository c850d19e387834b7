"""Checks both inputs before anything is paid: nothing is bought for a file that cannot work.

An input is refused only if it certainly cannot be used. PixelDojo fetches the files itself, from
elsewhere and at another time: what cannot be checked from here may well work there.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from wan_mcp.errors import Refused
from wan_mcp.inputs.file_types import FileType, image_size
from wan_mcp.inputs.probe import BytesMissing, DamagedVideo, VideoHeader, available, probe
from wan_mcp.inputs.remote_file import RemoteFile
from wan_mcp.inputs.verdict import CHECK_LINK, IMAGE, VIDEO, Role, Unusable, judge
from wan_mcp.models import Replacement
from wan_mcp.web.fetch import Unreachable, Web

TOLERANCE_SECONDS = 0.1
"""How much shorter a video may be: many that were cut to 5 s lack a frame or two (ours)."""

MIN_IMAGE_PIXELS = 256
"""Length of an image's shorter side, below which a face has too few pixels (ours)."""

MAX_ASPECT_QUOTIENT = 3.0
"""Quotient of two aspect ratios: 16:9 and 9:16 have 3.2, 16:9 and 2:3 have 2.7 (ours)."""


logger = logging.getLogger(__name__)


class UnusableInput(Refused):
    """An input certainly cannot be used; nothing was sent to PixelDojo."""

    code = "unusable_input"
    advice = "Correct the named inputs, then call again."


@dataclass
class _Findings:
    """What is known of both inputs.

    Attributes:
        sizes: width and height in pixels, by the argument's name.
        unchecked: why an input could not be checked, by the argument's name.
    """

    wanted: Replacement
    problems: list[Unusable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    unchecked: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys((VIDEO.name, IMAGE.name), "it took too long")
    )


_Check = Callable[[RemoteFile, _Findings, float], Awaitable[None]]


async def check_inputs(wanted: Replacement, web: Web, *, seconds: float = 5.0) -> list[str]:
    """Return notes on the inputs, as sentences; an empty list means that all is well.

    Args:
        seconds: limit for both inputs; what is not known by then is not checked.

    Raises:
        UnusableInput: an input certainly cannot be used; the error names all problems at once.
    """
    found = _Findings(wanted)
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for role, check, url in (
                (VIDEO, _check_video, wanted.video),
                (IMAGE, _check_image, wanted.character_image),
            ):
                file = RemoteFile(web, url, bytes_left=role.max_read_bytes)
                tasks.start_soon(_collect_problems, role, check, file, found, seconds / 2)
    if found.problems:
        raise _refusal(found.problems)
    # Both checks add notes as they find them; the order of the answer is fixed, video first.
    notes = sorted(found.notes, reverse=True)
    return [*_notes_on_unchecked(found.unchecked), *notes, *_notes_on_sizes(found.sizes)]


async def _collect_problems(
    role: Role, check: _Check, file: RemoteFile, found: _Findings, seconds: float
) -> None:
    try:
        await check(file, found, seconds)
        del found.unchecked[role.name]
    except Unusable as problem:
        found.problems.append(problem)
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


async def _check_video(file: RemoteFile, found: _Findings, seconds: float) -> None:
    await file.read_start(seconds, whole_video=available())
    file_type = judge(VIDEO, file)
    if file_type is None:
        return
    _note_type(VIDEO, file_type, found, "MP4")
    if file_type.demuxer and available():
        header = await _video_header(file, file_type.demuxer)
        if header:
            _judge_header(header, found)


async def _video_header(file: RemoteFile, demuxer: str) -> VideoHeader | None:
    """The header of the video; None if not enough of the file could be read.

    The thread only reads from memory, so it never waits for a server. When it needs a part that
    is missing, that part is fetched and the header is read again, which takes milliseconds.
    """
    while True:
        try:
            return await anyio.to_thread.run_sync(
                probe, file.content, demuxer, abandon_on_cancel=True
            )
        except BytesMissing as missing:
            if missing.offset is None or not await file.read_at(missing.offset):
                return None
        except DamagedVideo:
            what = "is damaged or cut off, so that it cannot be opened"
            raise Unusable(VIDEO.name, what, "upload the clip again, whole") from None


def _judge_header(header: VideoHeader, found: _Findings) -> None:
    wanted = found.wanted
    if not header.has_video:
        raise Unusable(VIDEO.name, "has no video stream, only sound", "give a clip with pictures")
    if header.seconds is not None and header.seconds < wanted.seconds - TOLERANCE_SECONDS:
        raise _too_short(header.seconds, wanted.seconds)
    if not header.has_audio and wanted.merge_audio is not False:
        found.notes.append("The clip has no sound, so merge_audio has none to keep.")
    rate, wanted_rate = header.frames_per_second, wanted.frames_per_second
    if rate and wanted_rate and wanted_rate > rate + 0.5:
        found.notes.append(
            f"The clip has {rate:.3g} frames per second, fewer than the {wanted_rate} asked for."
        )
    if header.size:
        _note_size(VIDEO, header.size, int(wanted.resolution or 480) // 2, found)


def _too_short(actual: float, wanted: int) -> Unusable:
    longest = int(actual + TOLERANCE_SECONDS)
    remedy = "give a longer clip"
    if longest:
        remedy = f"set video_duration to {longest} or less, or {remedy}"
    what = f"is {wanted}, but the clip is only {actual:.3g} s long"
    return Unusable("video_duration", what, remedy)


async def _check_image(file: RemoteFile, found: _Findings, seconds: float) -> None:
    await file.read_start(seconds)
    file_type = judge(IMAGE, file)
    if file_type is None:
        return
    _note_type(IMAGE, file_type, found, "JPEG or PNG")
    if size := image_size(file.head):
        _note_size(IMAGE, size, MIN_IMAGE_PIXELS, found)


def _note_type(role: Role, file_type: FileType, found: _Findings, safest: str) -> None:
    if not file_type.common:
        found.notes.append(
            f"{role.name} is {file_type.name}: PixelDojo documents no formats, {safest} is safest."
        )


def _note_size(role: Role, size: tuple[int, int], min_side: int, found: _Findings) -> None:
    found.sizes[role.name] = size
    if min(size) < min_side:
        found.notes.append(f"{role.name} is only {size[0]} x {size[1]} pixels: expect little.")


def _notes_on_unchecked(unchecked: dict[str, str]) -> list[str]:
    return [f"{name} could not be looked at from here: {why}." for name, why in unchecked.items()]


def _notes_on_sizes(sizes: dict[str, tuple[int, int]]) -> list[str]:
    if len(sizes) < 2:
        return []
    ratios = [width / height for width, height in sizes.values()]
    if max(ratios) / min(ratios) <= MAX_ASPECT_QUOTIENT:
        return []
    (video, image) = (f"{w} x {h}" for w, h in (sizes[VIDEO.name], sizes[IMAGE.name]))
    return [f"The shapes are far apart: the clip is {video}, the picture {image} pixels."]
