"""A look at the inputs before anything is paid: nothing is bought for a file that cannot work.

Refused is only what is certain. PixelDojo fetches the files itself, from elsewhere and at another
time: what cannot be checked from here may well work there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from wan_mcp.errors import Refused
from wan_mcp.inputs.file_types import Kind
from wan_mcp.inputs.image_size import size_of
from wan_mcp.inputs.probe import Damaged, Film, Missing, available, probe
from wan_mcp.inputs.remote_file import Sample
from wan_mcp.inputs.verdict import FETCHABLE, IMAGE, VIDEO, Role, Unusable, judge
from wan_mcp.models import Replacement
from wan_mcp.web.fetch import Unreachable, Web

TOLERANCE = 0.1
"""Seconds that a clip may lack: of those cut to 5 s many are a frame or two shorter (ours)."""

SMALL_PICTURE = 256
"""Pixels of the shorter side, below which a face has next to none (ours)."""

FAR_APART = 3.0
"""Of two aspect ratios, the quotient: 16:9 beside 9:16 is 3.2, beside 2:3 it is 2.7 (ours)."""


class UnusableInput(Refused):
    """A file that is to be used cannot work; nothing was sent to PixelDojo."""

    code = "unusable_input"
    advice = "Correct the named inputs, then call again."


@dataclass
class _Found:
    """What the look brings.

    Attributes:
        shapes: width and height of an input, by its name.
        unseen: why an input could not be looked at, by its name.
    """

    wanted: Replacement
    problems: list[Unusable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    unseen: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys((VIDEO.name, IMAGE.name), "it took too long")
    )


_Check = Callable[[Sample, _Found, float], Awaitable[None]]


async def look(wanted: Replacement, web: Web, *, seconds: float = 5.0) -> list[str]:
    """What to tell of the inputs; nothing when all is well.

    Args:
        seconds: in all; what is not known by then is not checked.

    Raises:
        UnusableInput: certain trouble, every piece of it at once.
    """
    found = _Found(wanted)
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as both:
            for role, check, url in (
                (VIDEO, _look_at_video, wanted.video),
                (IMAGE, _look_at_image, wanted.character_image),
            ):
                sample = Sample(web, url, left=role.limiter)
                both.start_soon(_keep_trouble, role, check, sample, found, seconds / 2)
    if found.problems:
        raise _refusal(found.problems)
    # Both looks note as they come along; in a fixed order, the video's name first.
    notes = sorted(found.notes, reverse=True)
    return [*_notes_on_unseen(found.unseen), *notes, *_notes_on_shapes(found.shapes)]


async def _keep_trouble(
    role: Role, check: _Check, sample: Sample, found: _Found, seconds: float
) -> None:
    try:
        await check(sample, found, seconds)
        del found.unseen[role.name]
    except Unusable as problem:
        found.problems.append(problem)
    except Unreachable as exc:
        found.unseen[role.name] = exc.what
        if exc.everywhere:
            what = f"cannot be fetched: {exc.what}"
            found.problems.append(Unusable(role.name, what, FETCHABLE))


def _refusal(problems: list[Unusable]) -> UnusableInput:
    ordered = sorted(problems, key=lambda problem: problem.name, reverse=True)
    what = "; ".join(f"{problem.name} {problem.what}" for problem in ordered)
    remedies = dict.fromkeys(f"{problem.name}: {problem.remedy}." for problem in ordered)
    return UnusableInput(f"The inputs cannot be used: {what}.", next_step=" ".join(remedies))


async def _look_at_video(sample: Sample, found: _Found, seconds: float) -> None:
    await sample.start(seconds, whole_film=available())
    kind = judge(VIDEO, sample)
    if kind is None:
        return
    _note_kind(VIDEO, kind, found, "MP4")
    if kind.demuxer and available():
        film = await _film(sample, kind.demuxer)
        if film:
            _judge_film(film, found)


async def _film(sample: Sample, demuxer: str) -> Film | None:
    """What the header says; None where not enough of it could be read.

    The thread only ever looks at what is in memory, so that it cannot wait for a server; when a
    part is missing, that is fetched and the look begins anew, which takes milliseconds.
    """
    while True:
        try:
            return await anyio.to_thread.run_sync(
                probe, sample.pieces, demuxer, abandon_on_cancel=True
            )
        except Missing as missing:
            if missing.at is None or not await sample.more(missing.at):
                return None
        except Damaged:
            what = "is damaged or cut off, so that it cannot be opened"
            raise Unusable(VIDEO.name, what, "upload the clip again, whole") from None


def _judge_film(film: Film, found: _Found) -> None:
    wanted = found.wanted
    if not film.has_pictures:
        raise Unusable(VIDEO.name, "has no video stream, only sound", "give a clip with pictures")
    if film.seconds is not None and film.seconds < wanted.seconds - TOLERANCE:
        raise _too_short(film.seconds, wanted.seconds)
    if not film.has_sound and wanted.merge_audio is not False:
        found.notes.append("The clip has no sound, so merge_audio has none to keep.")
    source, asked = film.frames_per_second, wanted.frames_per_second
    if source and asked and asked > source + 0.5:
        found.notes.append(
            f"The clip has {source:.3g} frames per second, fewer than the {asked} asked for."
        )
    if film.size:
        _note_size(VIDEO, film.size, int(wanted.resolution or 480) // 2, found)


def _too_short(real: float, wanted: int) -> Unusable:
    whole = int(real + TOLERANCE)
    remedy = "give a longer clip"
    if whole:
        remedy = f"set video_duration to {whole} or less, or {remedy}"
    what = f"is {wanted}, but the clip is only {real:.3g} s long"
    return Unusable("video_duration", what, remedy)


async def _look_at_image(sample: Sample, found: _Found, seconds: float) -> None:
    await sample.start(seconds)
    kind = judge(IMAGE, sample)
    if kind is None:
        return
    _note_kind(IMAGE, kind, found, "JPEG or PNG")
    if size := size_of(sample.head):
        _note_size(IMAGE, size, SMALL_PICTURE, found)


def _note_kind(role: Role, kind: Kind, found: _Found, safest: str) -> None:
    if not kind.usual:
        found.notes.append(
            f"{role.name} is {kind.name}: PixelDojo documents no formats, {safest} is safest."
        )


def _note_size(role: Role, size: tuple[int, int], least: int, found: _Found) -> None:
    found.shapes[role.name] = size
    if min(size) < least:
        found.notes.append(f"{role.name} is only {size[0]} x {size[1]} pixels: expect little.")


def _notes_on_unseen(unseen: dict[str, str]) -> list[str]:
    return [f"{name} could not be looked at from here: {why}." for name, why in unseen.items()]


def _notes_on_shapes(shapes: dict[str, tuple[int, int]]) -> list[str]:
    if len(shapes) < 2:
        return []
    ratios = [width / height for width, height in shapes.values()]
    if max(ratios) / min(ratios) <= FAR_APART:
        return []
    (clip, picture) = (f"{w} x {h}" for w, h in (shapes[VIDEO.name], shapes[IMAGE.name]))
    return [f"The shapes are far apart: the clip is {clip}, the picture {picture} pixels."]
