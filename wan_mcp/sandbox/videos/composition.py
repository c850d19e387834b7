"""The frames of a job's own video: the source's, scaled, with the character and a watermark."""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

from wan_mcp.sandbox.videos.watermark import watermark

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.filter.graph import Graph
    from av.video.frame import VideoFrame

Steps = Sequence[tuple[str, str]]
"""A sequence of FFmpeg filters with their arguments."""

_MAX_WIDTH = 4096
_MAX_SD_HEIGHT = 576
_BT_709, _BT_601 = 1, 6
_CONVERTIBLE = {_BT_709, 4, 5, _BT_601, 7, 9}
"""Codings of colours, by their numbers in ISO/IEC 23091-2, that FFmpeg converts (documented)."""
_LIMITED, _FULL = 1, 2
_UNKNOWN_TO_PYAV_18 = range(28, 32)
"""Types of FFmpeg's side data; the last is EXIF, which a photo has (documented)."""
_COLOURS = "out_color_matrix=bt709:out_range=limited"
"""One coding for everything that is laid over each other; the video is marked with it."""


@dataclass(frozen=True)
class Look:
    """What all frames of one video have in common.

    Attributes:
        height: in pixels; the width follows from the source.
        rate: frames per second.
        seed: any whole number. It decides on the character's corner and on the watermark's color,
            and it is part of the watermark, so that no two seeds give the same video.
        notes: further lines of the watermark.
    """

    height: int
    rate: Fraction
    seed: int
    notes: tuple[str, ...]

    @property
    def _random_bytes(self) -> bytes:
        return hashlib.sha256(str(self.seed).encode()).digest()

    @property
    def corner(self) -> tuple[bool, bool]:
        """Whether the character stands on the right, and whether at the bottom."""
        return bool(self._random_bytes[0] & 1), bool(self._random_bytes[0] & 2)

    @property
    def watermark(self) -> "VideoFrame":
        """The watermark, with a dark background."""
        lines = ["SANDBOX", f"SEED {self.seed}"[:25], *self.notes]
        return watermark(lines, bytes(part // 2 for part in self._random_bytes[1:4]))


def composed(
    frames: "Iterator[VideoFrame]", character: "VideoFrame", aspect: Fraction, look: Look
) -> "Iterator[VideoFrame]":
    """The video's frames, at a constant rate.

    Args:
        frames: the source's; their size may change on the way.
        character: an image of any size.
        aspect: the shape of the source's pixels, width by height.
        look: what all frames have in common.
    """
    first = next(frames)
    graph = _graph(_coloured(first), _coloured(character), aspect, look)
    for frame in chain([first], frames):
        graph.vpush(_coloured(frame), at=0)
        yield from _ready(graph)
    graph.vpush(None, at=0)
    yield from _ready(graph)


def _ready(graph: "Graph") -> "Iterator[VideoFrame]":
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        yield frame


def _graph(first: "VideoFrame", character: "VideoFrame", aspect: Fraction, look: Look) -> "Graph":
    from av.filter import Graph

    graph = Graph()
    size = _size(first, aspect, look.height)
    mark = look.watermark
    main = _row(graph, _buffer(graph, first), _fitted(first, size, look.rate))
    inset = _row(graph, _buffer(graph, character), _inset(character, size))
    text = _row(graph, _buffer(graph, mark), _enlarged(mark, size))
    right, bottom = look.corner
    with_character = _overlaid(graph, main, inset, look.height, right=right, bottom=bottom)
    # At the opposite end of the frame, so that neither covers the other.
    with_mark = _overlaid(graph, with_character, text, look.height, right=False, bottom=not bottom)
    _row(graph, with_mark, [("format", "yuv420p"), ("buffersink", "")])
    graph.configure()
    for at, still in enumerate((character, mark), start=1):
        graph.vpush(still, at=at)
        graph.vpush(None, at=at)  # an overlay keeps the last frame of an input that has ended
    return graph


def _overlaid(
    graph: "Graph",
    main: "FilterContext",
    inset: "FilterContext",
    height: int,
    *,
    right: bool,
    bottom: bool,
) -> "FilterContext":
    margin = height // 40
    x = f"W-w-{margin}" if right else f"{margin}"
    y = f"H-h-{margin}" if bottom else f"{margin}"
    overlay = graph.add("overlay", f"x={x}:y={y}:eval=init")
    main.link_to(overlay)
    inset.link_to(overlay, input_idx=1)
    return overlay


def _row(graph: "Graph", first: "FilterContext", steps: Steps) -> "FilterContext":
    last = first
    for name, arguments in steps:
        step = graph.add(name, arguments)
        last.link_to(step)
        last = step
    return last


def _buffer(graph: "Graph", frame: "VideoFrame") -> "FilterContext":
    options = {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "time_base": f"{frame.time_base}",
        "pixel_aspect": "1/1",
        "colorspace": f"{int(frame.colorspace)}",
        "range": f"{int(frame.color_range)}",
    }
    return graph.add("buffer", ":".join(f"{name}={value}" for name, value in options.items()))


def _size(first: "VideoFrame", aspect: Fraction, height: int) -> tuple[int, int]:
    """The video's size: the requested height, and an even width that keeps the source's shape."""
    shape = Fraction(first.width, first.height) * aspect
    if _on_its_side(first):
        shape = 1 / shape
    return min(max(2, 2 * round(height * shape / 2)), _MAX_WIDTH), height


def _turn(frame: "VideoFrame") -> Steps:
    """The filters that turn a frame as its display matrix asks: phones often do that."""
    a, b, c, d = _matrix(frame)
    on_its_side = _on_its_side(frame)
    across, down = (c, b) if on_its_side else (a, d)
    steps = [("transpose", "cclock_flip")] if on_its_side else []
    steps += [("hflip", "")] if across < 0 else []
    return [*steps, ("vflip", "")] if down < 0 else steps


def _on_its_side(frame: "VideoFrame") -> bool:
    a, b, c, d = _matrix(frame)
    return abs(b) + abs(c) > abs(a) + abs(d)


def _matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """What a player does with the point (x, y): it is shown at (ax + cy, bx + dy)."""
    try:
        data = _display_matrix(frame)
    except ValueError:
        data = _display_matrix(_without_newer_data(frame))
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data)) if data else (1, 0, 0, 0, 1)
    return a, b, c, d


def _display_matrix(frame: "VideoFrame") -> Any:
    """Raises ValueError if PyAV does not know the type of something beside the frame."""
    return frame.side_data.get("DISPLAYMATRIX")


def _without_newer_data(frame: "VideoFrame") -> "VideoFrame":
    from av.filter import Graph

    graph = Graph()
    steps = [("sidedata", f"mode=delete:type={number}") for number in _UNKNOWN_TO_PYAV_18]
    _row(graph, _buffer(graph, frame), [*steps, ("buffersink", "")])
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()


def _coloured(frame: "VideoFrame") -> "VideoFrame":
    """The frame, in colours that FFmpeg can convert.

    What it does not say of them, and what FFmpeg does not know, is decided as ffplay does.
    """
    if frame.format.is_rgb:
        return frame
    if frame.color_range not in (_LIMITED, _FULL):
        frame.color_range = _FULL if frame.format.name.startswith("yuvj") else _LIMITED
    if frame.colorspace not in _CONVERTIBLE:
        lines = frame.width if _on_its_side(frame) else frame.height
        is_hd = frame.color_range == _LIMITED and lines > _MAX_SD_HEIGHT
        frame.colorspace = _BT_709 if is_hd else _BT_601
    return frame


def _fitted(first: "VideoFrame", size: tuple[int, int], rate: Fraction) -> Steps:
    width, height = reversed(size) if _on_its_side(first) else size
    return [
        ("setpts", "PTS-STARTPTS"),
        ("fps", f"{rate}"),
        ("scale", f"{width}:{height}:{_COLOURS}"),
        *_turn(first),
        ("setsar", "1"),
        ("format", "yuv420p"),
    ]


def _inset(character: "VideoFrame", size: tuple[int, int]) -> Steps:
    width, height = size
    box = f"{width // 2}:{height // 3}:force_original_aspect_ratio=decrease"
    return [
        *_turn(character),
        ("scale", f"{box}:{_COLOURS}"),
        ("setsar", "1"),
        ("format", "yuva420p"),
    ]


def _enlarged(mark: "VideoFrame", size: tuple[int, int]) -> Steps:
    width, height = size
    times = max(1, min(height // 160, (width - height // 20) // mark.width))
    scale = f"{mark.width * times}:{mark.height * times}:flags=neighbor:{_COLOURS}"
    return [("scale", scale), ("format", "yuva420p")]
