"""Applies FFmpeg's filters to a few frames in memory."""

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame

Steps = tuple[tuple[str, str], ...]
"""A sequence of FFmpeg filters with their arguments."""


def filtered(frames: list["VideoFrame"], steps: Steps) -> "VideoFrame":
    """The one frame that filters make of several frames of the same size and kind.

    Args:
        frames: at least one; their times are overwritten.
        steps: applied one after the other.

    Raises:
        av.FFmpegError: a filter refuses them.
    """
    from av.filter import Graph

    first, graph = frames[0], Graph()
    graph.threads = 1
    options = {
        "video_size": f"{first.width}x{first.height}",
        "pix_fmt": first.format.name,
        "time_base": "1/1",
        "colorspace": f"{int(first.colorspace)}",
        "range": f"{int(first.color_range)}",
    }
    source = graph.add("buffer", ":".join(f"{name}={value}" for name, value in options.items()))
    last = [graph.add(*step) for step in (*steps, ("buffersink", ""))]
    graph.link_nodes(source, *last).configure()
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1)
        graph.vpush(frame)
    graph.vpush(None)
    return graph.vpull()
