"""The frames of a job's own video: the source's, scaled, with the character and a watermark."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

from wan_mcp.sandbox.videos.watermark import watermark

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.filter.graph import Graph
    from av.video.frame import VideoFrame

Steps = Sequence[tuple[str, str]]
"""A sequence of FFmpeg filters with their arguments."""

_UPRIGHT: dict[int, Steps] = {
    90: [("transpose", "cclock")],
    -90: [("transpose", "clock")],
    180: [("hflip", ""), ("vflip", "")],
    -180: [("hflip", ""), ("vflip", "")],
}
_MAX_WIDTH = 4096


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
    graph = _graph(first, character, aspect, look)
    for frame in chain([first], frames):
        graph.vpush(frame, at=0)
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


def _rotation(frame: "VideoFrame") -> int:
    """The degrees, counterclockwise, by which a player turns the frame: phones often ask for it."""
    return 90 * round(frame.rotation / 90)


def _on_its_side(frame: "VideoFrame") -> bool:
    return abs(_rotation(frame)) == 90


def _fitted(first: "VideoFrame", size: tuple[int, int], rate: Fraction) -> Steps:
    width, height = reversed(size) if _on_its_side(first) else size
    return [
        ("setpts", "PTS-STARTPTS"),
        ("fps", f"{rate}"),
        ("scale", f"{width}:{height}"),
        *_UPRIGHT.get(_rotation(first), ()),
        ("setsar", "1"),
        ("format", "yuv420p"),
    ]


def _inset(character: "VideoFrame", size: tuple[int, int]) -> Steps:
    width, height = size
    box = f"{width // 2}:{height // 3}:force_original_aspect_ratio=decrease"
    return [
        *_UPRIGHT.get(_rotation(character), ()),
        ("scale", box),
        ("setsar", "1"),
        ("format", "yuva420p"),
    ]


def _enlarged(mark: "VideoFrame", size: tuple[int, int]) -> Steps:
    width, height = size
    times = max(1, min(height // 160, (width - height // 20) // mark.width))
    scale = f"{mark.width * times}:{mark.height * times}:flags=neighbor"
    return [("scale", scale), ("format", "yuva420p")]
