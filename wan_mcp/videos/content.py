"""Reads what a saved video contains, and decodes it to its last frame.

This runs in a process of its own with limits (see `inputs.decoder_process`), because the video
comes from elsewhere. It answers two kinds of questions. `{"path": ...}` reads the whole container
without decoding: what it has, and how long it is. `{"decode": 32}` decodes the pictures in the next
32 packets. So the time limit for one answer applies to one portion, however long the video is, and
what the container has is known even if decoding hangs.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.inputs.decoder_limits import answer_questions
from wan_mcp.inputs.probe import any_titles, fraction
from wan_mcp.videos.own_files import NotOurs, open_ours

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

MODULE = "wan_mcp.videos.content"
"""Runs `main` in a process of its own."""
CPU_SECONDS = 180
"""Processor time for one video; the longest that can be ordered, 15 s with 30 frames a second and
720 lines, takes 3 s (measured)."""
MAX_PACKETS = 20_000
"""Of a file with more packets, the rest is not read. The longest video that can be ordered, 15 s,
has 450 packets of pictures and about 700 of sound (ours)."""
FLAT_SPREAD = 8
"""On a scale of brightness from 0 to 255: a frame whose values differ by no more than this shows
one plain colour. The noise of an encoder is smaller (ours)."""

_FORMATS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}
"""Some other formats of FFmpeg are lists of files and addresses, which it would open."""
_ROW_STEP, _COLUMN_STEP = 5, 7
"""Every fifth row and every seventh pixel is compared: a whole frame takes 30 times as long."""


@dataclass(frozen=True)
class Content:
    """The contents of a video's container; nothing was decoded.

    Attributes:
        has_pictures: whether there is a video stream with at least one picture; a cover is none.
        has_sound: whether there is an audio stream with at least one packet.
        width: the width of the pictures in pixels, as they are stored.
        height: their height, likewise.
        seconds: from the first picture to the end of the last one; None if that is not known.
        rates: frames per second, by each way of working them out.
        is_cut: whether the file ends before all pictures that its index lists.
    """

    has_pictures: bool
    has_sound: bool
    width: int = 0
    height: int = 0
    seconds: float | None = None
    rates: tuple[float, ...] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Decoded:
    """The results of decoding so far.

    Times are in seconds from the first picture.

    Attributes:
        frames: how many pictures came out.
        until: when the last of them is shown.
        damaged_at: when the first picture that cannot be decoded completely is shown; None if
            there was none so far.
        is_flat: whether every picture so far shows one plain colour.
    """

    frames: int = 0
    until: float = 0.0
    damaged_at: float | None = None
    is_flat: bool = True


class TooLong(Exception):
    """The file has more packets than a result of PixelDojo can have."""


class NoDecoder(Exception):
    """FFmpeg, as it is installed here, cannot decode these pictures."""


def main() -> None:
    """Answer questions on standard input, in a process of its own with a low priority."""
    if hasattr(os, "nice"):
        os.nice(10)
    answer_questions(Reader().answer, cpu_seconds=CPU_SECONDS)


class Reader:
    """Answers the questions about one video."""

    def __init__(self) -> None:
        self._path = ""
        self._decoding: Iterator[Decoded] = iter(())
        self._seen = Decoded()

    def answer(self, question: dict[str, Any], parts: list[bytes]) -> dict[str, Any]:
        """The answer to one question; `damaged` or `failed` where there is none."""
        import av

        try:
            if "path" in question:
                self._path = question["path"]
                self._decoding = decoded(self._path)
                return {"content": asdict(content(self._path))}
            portion = list(islice(self._decoding, question["decode"]))
            self._seen = [self._seen, *portion][-1]
            return {"decoded": asdict(self._seen), "ended": len(portion) < question["decode"]}
        except TooLong:
            return {"failed": "it has more frames than any job makes"}
        except FileNotFoundError:
            return {"failed": "it is no longer where it was saved"}
        except NotOurs:
            return {"failed": "in its place there is a link now, or a file of another user"}
        except NoDecoder:
            return {"failed": "there is no decoder for it here"}
        except (av.InvalidDataError, av.EOFError):
            return {"damaged": True}


def content(path: str) -> Content:
    """The contents of the container. Only for the process of its own, and for tests.

    Raises:
        OSError: the file cannot be opened.
        NotOurs: it is a link or a file of another user.
        av.InvalidDataError, av.EOFError: it is not a video, or its index is missing or broken.
        TooLong: it has too many packets.
    """
    with _opened(path) as video:
        pictures = _pictures(video)
        packets, broke_off = _packets(video, [*pictures, *video.streams.audio])
        own = [packet for packet in packets if packet.stream in pictures]
        has_sound = len(own) < len(packets)
        if not own:
            return Content(has_pictures=False, has_sound=has_sound, is_cut=broke_off)
        (stream,) = pictures
        context = _context(stream)
        is_indexed = "mov" in video.format.name
        missing = len(stream.index_entries) - len(own) if is_indexed else 0
        seconds, rate = _length(own, stream)
        stated = [float(fraction(r)) for r in (stream.average_rate, stream.base_rate)]
        return Content(
            has_pictures=True,
            has_sound=has_sound,
            width=context.width,
            height=context.height,
            seconds=seconds,
            rates=tuple(each for each in (rate, *stated) if each),
            # A few empty pictures may be listed only so that another one is shown longer.
            is_cut=broke_off or missing > 2,
        )


def decoded(path: str) -> Iterator[Decoded]:
    """Decode the pictures. Yields after each packet what has been seen so far.

    Raises:
        OSError, NotOurs, av.FFmpegError: the file cannot be opened.
        NoDecoder: the pictures cannot be decoded here.
    """
    with _opened(path) as video:
        (stream,) = _pictures(video)
        _context(stream).thread_count = 1  # each thread keeps frames, and memory is limited
        began: int | None = None
        seen = Decoded()
        for packet in _until_broken(video.demux(stream)):
            began = packet.pts if began is None else began
            frames, damaged = _frames(packet)
            times = [_after(frame.pts, began, stream) for frame in frames]
            damaged_at = seen.damaged_at
            if damaged_at is None and damaged:
                damaged_at = _after(damaged[0], began, stream)
            seen = Decoded(
                frames=seen.frames + len(frames),
                until=max([seen.until, *times]),
                damaged_at=damaged_at,
                is_flat=seen.is_flat and all(map(_is_flat, frames)),
            )
            yield seen


def _context(stream: "VideoStream") -> Any:
    """The stream's decoder. Raises NoDecoder: then the context is None, although PyAV denies it."""
    context: Any = stream.codec_context
    if context is None:
        raise NoDecoder
    return context


def _after(time: int | None, began: int | None, stream: "VideoStream") -> float:
    since = 0 if time is None or began is None else time - began
    return max(0.0, float(since * fraction(stream.time_base)))


@contextmanager
def _opened(path: str) -> "Iterator[InputContainer]":
    import av

    with (
        open_ours(Path(path)) as file,
        av.open(file, "r", options=_FORMATS, **any_titles()) as video,
    ):
        yield video


def _pictures(video: "InputContainer") -> "list[VideoStream]":
    """The first stream of pictures that is no cover."""
    from av.stream import Disposition

    cover = Disposition.attached_pic
    return [each for each in video.streams.video if not each.disposition & cover][:1]


def _packets(
    video: "InputContainer", streams: "Sequence[Stream]"
) -> "tuple[list[Packet[Any]], bool]":
    """All packets that have content, and whether the file breaks off within one of them."""
    packets: list[Packet[Any]] = []
    if not streams:  # FFmpeg would take that as "all streams"
        return packets, False
    for packet in _until_broken(video.demux(*streams)):
        if packet.size:
            packets.append(packet)
        if len(packets) > MAX_PACKETS:
            raise TooLong
    return packets, any(packet.is_corrupt for packet in packets)


def _until_broken(packets: "Iterator[Packet[Any]]") -> "Iterator[Packet[Any]]":
    """The packets up to the first point from which the container cannot be read."""
    import av

    try:
        yield from packets
    except (av.InvalidDataError, av.EOFError):
        return


def _length(packets: "Sequence[Packet[Any]]", stream: "VideoStream") -> tuple[float | None, float]:
    """Seconds from the first picture to the end of the last one, and frames per second."""
    shown = [packet for packet in packets if not packet.is_discard]
    times = [packet.pts for packet in shown if packet.pts is not None]
    if not times:
        return None, 0.0
    span = float((max(times) - min(times)) * fraction(stream.time_base))
    if span <= 0:
        rate = float(fraction(stream.average_rate))
        return (1 / rate if rate else None), rate
    rate = (len(times) - 1) / span
    return span + 1 / rate, rate


def _frames(packet: "Packet[VideoStream]") -> "tuple[list[VideoFrame], list[int | None]]":
    """The frames that come out of a packet, and the times of those that are not whole."""
    import av

    try:
        frames = packet.decode()
    except av.FFmpegError:
        return [], [packet.pts]
    if packet.is_corrupt:
        return frames, [packet.pts]
    # A frame often comes out of a later packet than the one that holds it.
    return frames, [frame.pts for frame in frames if frame.is_corrupt]


def _is_flat(frame: "VideoFrame") -> bool:
    plane = frame.planes[0]
    brightness, length = memoryview(plane), plane.line_size  # longer than a row of pixels
    starts = range(0, length * frame.height, length * _ROW_STEP)
    samples = [brightness[start : start + frame.width : _COLUMN_STEP] for start in starts]
    return max(map(max, samples)) - min(map(min, samples)) <= FLAT_SPREAD


if __name__ == "__main__":
    main()
