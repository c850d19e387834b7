"""The pictures of a film: its source's in the size and rate asked for, with character and mark."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

from wan_mcp.sandbox.videos.letters import label

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.filter.graph import Graph
    from av.video.frame import VideoFrame

Steps = Sequence[tuple[str, str]]
"""Filters of FFmpeg with their arguments, in a row."""

_UPRIGHT: dict[int, Steps] = {
    90: [("transpose", "cclock")],
    -90: [("transpose", "clock")],
    180: [("hflip", ""), ("vflip", "")],
    -180: [("hflip", ""), ("vflip", "")],
}
_WIDEST = 4096


@dataclass(frozen=True)
class Look:
    """What the pictures of one film have in common.

    Attributes:
        height: in pixels; the width follows from the source.
        rate: frames per second.
        seed: any whole number; it decides on the character's corner and the mark's colour, and
            stands in the mark, so that no two seeds give the same film.
        notes: further lines of the mark.
    """

    height: int
    rate: Fraction
    seed: int
    notes: tuple[str, ...]

    @property
    def _dice(self) -> bytes:
        return hashlib.sha256(str(self.seed).encode()).digest()

    @property
    def corner(self) -> tuple[bool, bool]:
        """Whether the character stands on the right, and whether at the bottom."""
        return bool(self._dice[0] & 1), bool(self._dice[0] & 2)

    @property
    def colour(self) -> bytes:
        """The mark's background; dark, for its letters are white."""
        return bytes(part // 2 for part in self._dice[1:4])


def drawn(
    frames: "Iterator[VideoFrame]", character: "VideoFrame", aspect: Fraction, look: Look
) -> "Iterator[VideoFrame]":
    """The film's pictures, at a constant rate.

    Args:
        frames: the source's; their size may change on the way.
        character: a picture of any size.
        aspect: of the source's pixels.
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
    right, bottom = look.corner
    margin = look.height // 40
    x = f"W-w-{margin}" if right else f"{margin}"
    low, high = f"H-h-{margin}", f"{margin}"
    mark = _mark(look, size[0])
    main = _row(graph, _buffer(graph, first), _fitted(first, size, look.rate))
    inset = _row(graph, _buffer(graph, character), _inset(character, size))
    text = _row(graph, _buffer(graph, mark), _enlarged(mark, size))
    with_character = graph.add("overlay", f"x={x}:y={low if bottom else high}:eval=init")
    # At the other end of the picture: the two never cover each other.
    with_mark = graph.add("overlay", f"x={margin}:y={high if bottom else low}:eval=init")
    main.link_to(with_character)
    inset.link_to(with_character, input_idx=1)
    with_character.link_to(with_mark)
    text.link_to(with_mark, input_idx=1)
    _row(graph, with_mark, [("format", "yuv420p"), ("buffersink", "")])
    graph.configure()
    for at, still in enumerate((character, mark), start=1):
        graph.vpush(still, at=at)
        graph.vpush(None, at=at)  # a picture without a successor stays
    return graph


def _row(graph: "Graph", first: "FilterContext", steps: Steps) -> "FilterContext":
    last = first
    for name, arguments in steps:
        step = graph.add(name, arguments)
        last.link_to(step)
        last = step
    return last


def _buffer(graph: "Graph", frame: "VideoFrame") -> "FilterContext":
    told = {
        "video_size": f"{frame.width}x{frame.height}",
        "pix_fmt": frame.format.name,
        "time_base": f"{frame.time_base}",
        "pixel_aspect": "1/1",
        "colorspace": f"{int(frame.colorspace)}",
        "range": f"{int(frame.color_range)}",
    }
    return graph.add("buffer", ":".join(f"{name}={value}" for name, value in told.items()))


def _size(first: "VideoFrame", aspect: Fraction, height: int) -> tuple[int, int]:
    """Of the film: the height asked for, and an even width as the source's shape has it."""
    shape = Fraction(first.width, first.height) * aspect
    if _stale_lists(first):
        shape = 1 / shape
    return min(max(2, 2 * round(height * shape / 2)), _WIDEST), height


def _turned(frame: "VideoFrame") -> int:
    """By how many degrees, counterclockwise, a player would turn it: phones film lying down."""
    return 90 * round(frame.rotation / 90)


def _stale_lists(frame: "VideoFrame") -> bool:
    return abs(_turned(frame)) == 90


def _fitted(first: "VideoFrame", size: tuple[int, int], rate: Fraction) -> Steps:
    width, height = reversed(size) if _stale_lists(first) else size
    return [
        ("setpts", "PTS-STARTPTS"),
        ("fps", f"{rate}"),
        ("scale", f"{width}:{height}"),
        *_UPRIGHT.get(_turned(first), ()),
        ("setsar", "1"),
        ("format", "yuv420p"),
    ]


def _inset(character: "VideoFrame", size: tuple[int, int]) -> Steps:
    width, height = size
    box = f"{width // 2}:{height // 3}:force_original_aspect_ratio=decrease"
    return [
        *_UPRIGHT.get(_turned(character), ()),
        ("scale", box),
        ("setsar", "1"),
        ("format", "yuva420p"),
    ]


def _mark(look: Look, width: int) -> "VideoFrame":
    from av.video.frame import VideoFrame

    dots = label("SANDBOX", [f"SEED {look.seed}"[:25], *look.notes])
    white, ground = b"\xff\xff\xff\xff", look.colour + b"\xff"
    pixels = b"".join(white if dot else ground for row in dots for dot in row)
    mark = VideoFrame.from_bytes(pixels, len(dots[0]), len(dots))
    mark.pts, mark.time_base = 0, Fraction(1, 1)
    return mark


def _enlarged(mark: "VideoFrame", size: tuple[int, int]) -> Steps:
    width, height = size
    times = max(1, min(height // 160, (width - height // 20) // mark.width))
    scale = f"{mark.width * times}:{mark.height * times}:flags=neighbor"
    return [("scale", scale), ("format", "yuva420p")]
