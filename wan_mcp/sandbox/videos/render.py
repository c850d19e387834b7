"""Makes one film from a job's inputs, in a process of its own (see `studio`).

An order comes as JSON on standard input: the job's `body`, the `samples` among its inputs that are
files here, a `folder` for the others, and the path of the `film` to be. When the inputs are of no
use, a sentence in the file `why` tells so instead.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wan_mcp.sandbox.videos.inputs import Unusable, fetch, opened, pictures
from wan_mcp.sandbox.videos.picture import Look, drawn
from wan_mcp.sandbox.videos.sound import SAMPLE_RATE, sound

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

_FASTEST = Fraction(30)
_UNKNOWN_RATE = Fraction(24)
_X264 = {"preset": "veryfast", "crf": "23"}


class _Ratio(Protocol):
    """A rate, ratio or time base of PyAV: a Fraction up to release 18, an AVRational from 19 on."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    folder, body, samples = Path(order["folder"]), order["body"], order["samples"]
    try:
        video, picture = (
            Path(samples[name]) if name in samples else fetch(body[name], folder / name, what)
            for name, what in (("video", "video"), ("character_image", "picture"))
        )
        make(video, picture, body, Path(order["film"]))
    except Unusable as no:
        Path(order["why"]).write_text(str(no))


def make(video: Path, picture: Path, body: Mapping[str, Any], target: Path) -> None:
    """Make the film that a job's body asks for; the same body and inputs give the same bytes.

    Args:
        body: as in the schema, with a `resolution` and a `seed`.

    Raises:
        Unusable: an input cannot be read.
    """
    import av

    character = next(pictures(picture, "picture"))
    frames = pictures(video, "video")
    first = next(frames)
    look, aspect = _look(video, body)
    shown = drawn(chain([first], frames), _still(character), aspect, look)
    # bitexact: neither versions nor times in the file. faststart: its index comes first.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(target, "w", format="mp4", options=options) as film:
        count = max(1, round(body["video_duration"] * look.rate))
        packets = _video(film, islice(shown, count), look.rate)
        if body.get("merge_audio", True):
            seconds = len(packets) / look.rate
            start = (first.pts or 0) * _fraction(first.time_base)
            packets += _audio(film, sound(video, start, seconds))
        film.mux(sorted(packets, key=_due))


def _look(video: Path, body: Mapping[str, Any]) -> tuple[Look, Fraction]:
    """How the film is to look, and the shape of its source's pixels."""
    with opened(video, "video") as source:
        stream = source.streams.video[0]
        rate = _fraction(stream.average_rate or stream.guessed_rate) or _UNKNOWN_RATE
        aspect = _fraction(stream.sample_aspect_ratio) or Fraction(1)
    own_rate = max(Fraction(1), min(_FASTEST, rate)).limit_denominator(1001)
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
    """A picture as from the film's beginning, whatever its own file says about time."""
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    return frame


def _video(
    film: "OutputContainer", frames: "Iterator[VideoFrame]", rate: Fraction
) -> "list[Packet[Any]]":
    import av
    from av.video.stream import VideoStream

    first = next(frames)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream = film.add_stream(codec, rate=rate, options=_X264 if codec == "libx264" else {})
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
    # The number of threads is part of what x264 writes: the same on every machine.
    stream.thread_count = 2
    return list(_encoded(stream, chain([first], frames)))


def _audio(film: "OutputContainer", pieces: "Iterator[AudioFrame]") -> "list[Packet[Any]]":
    first = next(pieces, None)
    if first is None:
        return []
    stream = film.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
    return list(_encoded(stream, chain([first], pieces)))


def _encoded(stream: Any, frames: "Iterable[VideoFrame | AudioFrame]") -> "Iterator[Packet[Any]]":
    for frame in frames:
        if hasattr(frame, "pict_type"):
            frame.pict_type = 0  # the source's key frames need not be the film's
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _due(packet: "Packet[Any]") -> Fraction:
    return (packet.dts or 0) * _fraction(packet.time_base)


def _fraction(value: _Ratio | None) -> Fraction:
    """Zero when FFmpeg does not know the value, which PyAV reports as None, 0/1 or 0/0."""
    return Fraction(value.numerator, value.denominator) if value else Fraction(0)


if __name__ == "__main__":
    main()
