"""The sound of a film: its source's, cut to the film's own length."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from wan_mcp.sandbox.videos.inputs import sounds

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.filter.graph import Graph

SAMPLE_RATE = 48_000
_AAC_FRAME = 1024


def sound(video: Path, start: Fraction, seconds: Fraction) -> "Iterator[AudioFrame]":
    """A source's sound as AAC wants it, silence where it pauses; nothing when it has none.

    Args:
        start: where the film begins, in the source's own time.
        seconds: the film's length.

    Raises:
        Unusable: the sound cannot be read.
    """
    graph = None
    for frame in sounds(video, "video"):
        if frame.time is not None and frame.time > start + seconds:
            break
        graph = graph or _graph(frame, start, seconds)
        graph.push(frame)
        yield from _ready(graph)
    if graph is not None:
        graph.push(None)
        yield from _ready(graph)


def _graph(first: "AudioFrame", start: Fraction, seconds: Fraction) -> "Graph":
    from av.filter import Graph

    graph = Graph()
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=first.sample_rate,
            format=first.format,
            layout=first.layout,
            time_base=first.time_base,
        ),
        graph.add("asetpts", f"PTS-({start})/TB"),
        graph.add("atrim", f"start=0:end={float(seconds)}"),
        graph.add("aresample", f"{SAMPLE_RATE}:async=1:first_pts=0"),
        graph.add("aformat", "sample_fmts=fltp:channel_layouts=stereo"),
        graph.add("abuffersink"),
    ).configure()
    graph.set_audio_frame_size(_AAC_FRAME)
    return graph


def _ready(graph: "Graph") -> "Iterator[AudioFrame]":
    from av.audio.frame import AudioFrame

    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame
