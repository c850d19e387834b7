"""Checks the character image: its type, its size and its end."""

from wan_mcp.inputs.findings import Findings
from wan_mcp.inputs.image_headers import LAST_BYTES, End, end_of, image_size
from wan_mcp.inputs.verdict import IMAGE, InputFile, Unusable, judge

MIN_IMAGE_PIXELS = 256
"""If the shorter side of an image is below this, a face has too few pixels (ours)."""

LEAST_IMAGE_PIXELS = 16
"""If the shorter side is below this, the image is a placeholder or a tracking pixel (ours)."""
MOST_IMAGE_PIXELS = 178_956_970
"""Width times height; Pillow, with which most Python programs open images, refuses more as a
decompression bomb (documented)."""


async def check_image(file: InputFile, found: Findings, seconds: float) -> None:
    """Check the image, and add the results to `found`.

    Args:
        seconds: limit for the read.

    Raises:
        Unusable: it certainly cannot be used.
        Unreachable: there is no answer.
    """
    await file.read_start(seconds, whole=True)
    file_type = judge(IMAGE, file)
    if file_type is None:
        return
    found.note_type(IMAGE, file_type, "JPEG or PNG")
    if size := image_size(file.head):
        _refuse_size(*size)
        found.note_size(IMAGE, size, MIN_IMAGE_PIXELS)
    found.unchecked.pop(IMAGE.name, None)
    await _check_end(file, found)


async def _check_end(file: InputFile, found: Findings) -> None:
    end, total = end_of(file.content), file.content.total
    if end is End.UNREAD and total is not None:
        await file.read_at(max(len(file.head), total - LAST_BYTES))
        end = end_of(file.content)
    if end is End.MISSING:
        raise Unusable(IMAGE.name, "is cut off: its end is missing", "give it again, whole")
    if end is End.DOUBTFUL:
        found.notes.append(
            f"{IMAGE.name} has no end mark in its last bytes: if it is cut off, give it again, "
            "whole."
        )


def _refuse_size(width: int, height: int) -> None:
    what = f"is {width} x {height} pixels"
    if min(width, height) < LEAST_IMAGE_PIXELS:
        raise Unusable(
            IMAGE.name, f"{what}, on which nobody can be seen", "give the picture in full size"
        )
    if width * height > MOST_IMAGE_PIXELS:
        raise Unusable(
            IMAGE.name, f"{what}, which common programs refuse", "make the picture smaller"
        )
