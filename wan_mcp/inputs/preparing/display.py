"""How a player shows a frame: upright, with square pixels, and in which colours.

A file stores pictures as its camera made them. It also stores how they are turned, how wide their
pixels are and how their colours are coded, and a player applies that before it shows anything. What
the file leaves open is decided as in ffplay.
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wan_mcp.inputs.preparing.filters import Steps, filtered

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream

MAX_SD_HEIGHT = 576
"""Up to this many lines, colours of unspecified coding are BT.601, and above that BT.709: ffplay
leaves the choice to SDL, which does so (documented)."""

_RGB, _BT_709, _BT_601 = 0, 1, 6
_KNOWN_COLORSPACES = {_RGB, _BT_709, 4, 5, _BT_601, 7, 9}
"""Numbers of ISO/IEC 23091-2 that FFmpeg can convert (documented)."""
_LIMITED, _FULL = 1, 2
_UNKNOWN_TO_PYAV_18 = range(28, 32)
"""Types of FFmpeg's side data; the last is EXIF, which a picture of JPEG may have (documented)."""


@dataclass(frozen=True)
class Display:
    """The way in which one frame is shown.

    Attributes:
        width: the width of the upright picture, in square pixels.
        height: its height, likewise.
        turn: the filters that turn and mirror the stored picture.
        swaps_axes: whether the turn makes the stored width the height.
        colorspace: the coding of the colours, as a number of ISO/IEC 23091-2.
        color_range: 1 for 16 to 235, 2 for 0 to 255, as in FFmpeg.
    """

    width: float
    height: float
    turn: Steps
    swaps_axes: bool
    colorspace: int
    color_range: int


def display_of(frame: "VideoFrame", stream: "VideoStream") -> Display:
    """How a player shows a decoded frame of this stream."""
    turn, swaps_axes = turn_of(_matrix(frame))
    width, height = frame.width * _pixel_width(stream), float(frame.height)
    if swaps_axes:
        width, height = height, width
    lines = frame.width if swaps_axes else frame.height
    color_range = _color_range(frame)
    return Display(
        width=width,
        height=height,
        turn=turn,
        swaps_axes=swaps_axes,
        colorspace=_colorspace(frame, color_range, lines),
        color_range=color_range,
    )


def turn_of(matrix: tuple[int, int, int, int]) -> tuple[Steps, bool]:
    """The filters that apply a display matrix, and whether they swap the axes.

    Args:
        matrix: its numbers a, b, c and d: the point (x, y) is shown at (ax + cy, bx + dy), with y
            downwards. An angle between two quarter turns becomes the nearer one.
    """
    a, b, c, d = matrix
    swaps_axes = abs(b) + abs(c) > abs(a) + abs(d)
    to_left, to_top = (c, b) if swaps_axes else (a, d)
    steps = [
        ("transpose", "cclock_flip") if swaps_axes else None,  # x and y change places
        ("hflip", "") if to_left < 0 else None,
        ("vflip", "") if to_top < 0 else None,
    ]
    return tuple(step for step in steps if step), swaps_axes


def _matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    try:
        data = _display_matrix(frame)
    except ValueError:
        steps = (("sidedata", f"mode=delete:type={number}") for number in _UNKNOWN_TO_PYAV_18)
        data = _display_matrix(filtered([frame], tuple(steps)))
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data)) if data else (1, 0, 0, 0, 1)
    return a, b, c, d


def _display_matrix(frame: "VideoFrame") -> Any:
    """Raises ValueError if PyAV does not know the type of something beside the frame."""
    return frame.side_data.get("DISPLAYMATRIX")


def _pixel_width(stream: "VideoStream") -> float:
    """The width of a pixel as a multiple of its height; 1 if the file does not say."""
    ratio = stream.sample_aspect_ratio
    if ratio is None or ratio.numerator <= 0 or ratio.denominator <= 0:
        return 1.0
    return ratio.numerator / ratio.denominator


def _color_range(frame: "VideoFrame") -> int:
    stated = int(frame.color_range)
    if stated in (_LIMITED, _FULL):
        return stated
    is_full = frame.format.is_rgb or frame.format.name.startswith("yuvj")
    return _FULL if is_full else _LIMITED


def _colorspace(frame: "VideoFrame", color_range: int, lines: int) -> int:
    if frame.format.is_rgb:
        return _RGB
    if (stated := int(frame.colorspace)) in _KNOWN_COLORSPACES - {_RGB}:
        return stated
    # The full range comes from JPEG, whose colours are always BT.601.
    is_hd = color_range == _LIMITED and lines > MAX_SD_HEIGHT
    return _BT_709 if is_hd else _BT_601
