"""The watermark on the sandbox's own videos. It has its own font, because PyAV brings none."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_Rows = list[list[bool]]
"""A black-and-white image, row by row; all rows have the same length."""

_WIDTH, _HEIGHT = 5, 7
# Each glyph has one number for each row of dots, with the leftmost dot in bit 4.
_GLYPHS: dict[str, tuple[int, ...]] = {
    " ": (0, 0, 0, 0, 0, 0, 0),
    "-": (0, 0, 0, 14, 0, 0, 0),
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (14, 17, 1, 6, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "X": (17, 17, 10, 4, 10, 17, 17),
}


def watermark(lines: Sequence[str], background: bytes) -> "VideoFrame":
    """A small image, one pixel for each dot of the font: a large title, and smaller lines below it.

    Args:
        lines: the title first.
        background: three bytes, red, green and blue; the text is white.

    Raises:
        KeyError: the font has no such character.
    """
    from av.video.frame import VideoFrame

    title, *notes = lines
    dots = _dots(title, notes)
    white, ground = b"\xff\xff\xff\xff", background + b"\xff"
    pixels = b"".join(white if dot else ground for row in dots for dot in row)
    frame = VideoFrame.from_bytes(pixels, len(dots[0]), len(dots))
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    return frame


def _dots(title: str, notes: Sequence[str]) -> _Rows:
    """The lines with a margin of two dots around each of them."""
    lines = [_line(title, 2), *(_line(note, 1) for note in notes)]
    width = max(len(line[0]) for line in lines) + 4
    blank = [False] * width
    rows = [blank, blank]
    for line in lines:
        rows += [[False, False, *row, *blank[len(row) + 2 :]] for row in line]
        rows += [blank, blank]
    return rows


def _line(text: str, size: int) -> _Rows:
    return [list(_row(text, row, size)) for row in range(_HEIGHT) for _ in range(size)]


def _row(text: str, row: int, size: int) -> Iterator[bool]:
    for character in text:
        bits = _GLYPHS[character][row] << 1  # the gap after the character
        for column in reversed(range(_WIDTH + 1)):
            yield from [bool(bits >> column & 1)] * size
