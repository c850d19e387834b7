"""Renders one video from a job's inputs, in a process of its own (see `render_queue`).

The order arrives as JSON on standard input: the job's `body`; `samples`, the files of those inputs
that are samples; a `folder` for the inputs that must be fetched, and the `fetch_seconds` for each;
and the paths `result` and `reason`. The video is written to `result`. If an input cannot be used,
a sentence that says why is written to `reason` instead.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, groupby, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.sandbox.videos.composition import Look, composed
from wan_mcp.sandbox.videos.inputs import (
    Unusable,
    audio_frames,
    fetch,
    fraction,
    opened,
    video_frames,
    video_stream,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import OutputContainer
    from av.filter.graph import Graph
    from av.packet import Packet
    from av.video.frame import VideoFrame

_MAX_RATE = Fraction(30)
_UNKNOWN_RATE = Fraction(24)
_SAMPLE_RATE = 48_000
_AAC_FRAME_SAMPLES = 1024
_SAMPLES = "sample_fmts=fltp:channel_layouts=stereo"
_X264 = {"preset": "veryfast", "crf": "23"}


def main() -> None:
    """Carry out the order on standard input."""
    order = json.loads(sys.stdin.buffer.read())
    try:
        video, image = _input(order, "video", "video"), _input(order, "character_image", "image")
        render(video, image, order["body"], Path(order["result"]))
    except Unusable as exc:
        Path(order["reason"]).write_text(str(exc))


def _input(order: Mapping[str, Any], name: str, label: str) -> Path:
    """The file of an input, fetched unless it is a sample."""
    if name in order["samples"]:
        return Path(order["samples"][name])
    target = Path(order["folder"]) / name
    return fetch(order["body"][name], target, label, seconds=order["fetch_seconds"])


def render(video: Path, image: Path, body: Mapping[str, Any], target: Path) -> None:
    """Render the video that a job's body asks for. Equal inputs and bodies give equal bytes.

    Args:
        video: the source video.
        image: the character image.
        body: as in the schema, with a `resolution` and a `seed`.
        target: where to write the MP4 file.

    Raises:
        Unusable: an input cannot be read.
    """
    import av

    character = next(video_frames(image, "image"))
    frames = video_frames(video, "video")
    first = next(frames)
    look, aspect = _look(video, body)
    finished = composed(chain([first], frames), _still(character), aspect, look)
    # bitexact: neither versions nor times in the file. faststart: its index comes first.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(target, "w", format="mp4", options=options) as output:
        count = max(1, round(body["video_duration"] * look.rate))
        packets = _video_packets(output, islice(finished, count), look.rate)
        if body.get("merge_audio", True):
            seconds = len(packets) / look.rate
            start = (first.pts or 0) * fraction(first.time_base)
            packets += _audio_packets(output, _audio(video, start, seconds))
        output.mux(sorted(packets, key=_decoding_time))


def _look(video: Path, body: Mapping[str, Any]) -> tuple[Look, Fraction]:
    """What all frames have in common, and the shape of the source's pixels."""
    with opened(video, "video") as source:
        stream = video_stream(source, "video")
        rate = fraction(stream.average_rate or stream.guessed_rate) or _UNKNOWN_RATE
        aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    own_rate = max(Fraction(1), min(_MAX_RATE, rate)).limit_denominator(1001)
    notes = [f"REFS {body['refert_num']}"] if "refert_num" in body else []
    notes += ["FAST"] if body.get("go_fast") else []
    look = Look(
        height=int(body["resolution"]),
        rate=Fraction(body.get("frames_per_second", own_rate)),
        seed=body["seed"],
        notes=tuple(notes),
    )
    return look, aspect


def _still(frame: "VideoFrame") -> "VideoFrame":
    """An image as a frame at the very beginning, whatever its file says about time."""
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    return frame


def _audio(video: Path, start: Fraction, seconds: Fraction) -> "Iterator[AudioFrame]":
    """A source's audio as AAC needs it, with silence in its gaps; nothing if it has no audio.

    Args:
        video: the source.
        start: when the video begins, in the source's own time, in seconds.
        seconds: the video's length.

    Raises:
        Unusable: the audio cannot be read.
    """
    timely = takewhile(
        lambda frame: frame.time is None or frame.time <= start + seconds,
        audio_frames(video, "video"),
    )
    for first in islice(frames := _resampled(timely), 1):
        graph = _graph(
            first,
            ("asetpts", f"PTS-({start})/TB"),
            ("atrim", f"start=0:end={float(seconds)}"),
            ("aresample", f"{_SAMPLE_RATE}:async=1:first_pts=0"),
            ("aformat", _SAMPLES),
        )
        graph.set_audio_frame_size(_AAC_FRAME_SAMPLES)
        yield from _pulled(graph, chain([first], frames))


def _resampled(frames: "Iterator[AudioFrame]") -> "Iterator[AudioFrame]":
    """The frames in one format and rate, even if the source changes its own in between."""
    for _, group in groupby(frames, _kind):
        alike = iter(group)
        first = next(alike)
        graph = _graph(first, ("aresample", f"{_SAMPLE_RATE}"), ("aformat", _SAMPLES))
        yield from _pulled(graph, chain([first], alike))


def _kind(frame: "AudioFrame") -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _pulled(graph: "Graph", frames: "Iterable[AudioFrame]") -> "Iterator[AudioFrame]":
    for frame in chain(frames, [None]):
        graph.push(frame)
        yield from _ready(graph)


def _graph(first: "AudioFrame", *steps: tuple[str, str]) -> "Graph":
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=first.sample_rate,
        format=first.format,
        layout=first.layout,
        time_base=first.time_base,
    )
    filters = [graph.add(*step) for step in (*steps, ("abuffersink", ""))]
    graph.link_nodes(source, *filters).configure()
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


def _video_packets(
    output: "OutputContainer", frames: "Iterator[VideoFrame]", rate: Fraction
) -> "list[Packet[Any]]":
    import av
    from av.video.stream import VideoStream

    first = next(frames)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = output.add_stream(codec, rate=rate, options=_X264 if codec == "libx264" else {})
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
    stream.codec_context.colorspace = first.colorspace
    stream.codec_context.color_range = first.color_range
    # x264's output depends on the number of threads, so it is the same on every machine.
    stream.thread_count = 2
    return list(_encoded(stream, chain([first], frames)))


def _audio_packets(
    output: "OutputContainer", frames: "Iterator[AudioFrame]"
) -> "list[Packet[Any]]":
    first = next(frames, None)
    if first is None:
        return []
    stream = output.add_stream("aac", rate=_SAMPLE_RATE, layout="stereo")
    return list(_encoded(stream, chain([first], frames)))


def _encoded(stream: Any, frames: "Iterable[VideoFrame | AudioFrame]") -> "Iterator[Packet[Any]]":
    for frame in frames:
        if hasattr(frame, "pict_type"):
            frame.pict_type = 0  # the encoder chooses key frames itself
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _decoding_time(packet: "Packet[Any]") -> Fraction:
    return (packet.dts or 0) * fraction(packet.time_base)


if __name__ == "__main__":
    main()
