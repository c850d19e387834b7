"""Reads length, size and streams of a video, with PyAV (the extra `media`).

The files may be hostile to libav. So it runs in a process with limits (see `decoder_process`), and
gets only bytes that we fetched, only the demuxers of MP4, MOV, WebM and Matroska, no decoder, no
protocol and no playlist.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from wan_mcp.inputs.boxes import ClaimsTooMuch, Index, Track, read_index
from wan_mcp.inputs.byte_ranges import ByteRanges
from wan_mcp.inputs.decoder_limits import answer_questions
from wan_mcp.inputs.decoder_process import NotLookedAt
from wan_mcp.inputs.ebml import pictures_are_encrypted

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

MODULE = "wan_mcp.inputs.probe"
"""Runs `main` in a process of its own."""

LIBAV_OPTIONS = {
    # A whitelist must not be empty, because libav takes that as "everything".
    "protocol_whitelist": "none",
    "codec_whitelist": "none",
    # Only the header matters; with higher values, libav would read on for details of the codec.
    "analyzeduration": "0",
    "probesize": "32",
}
_HDR_TRANSFERS = {16, 18}
"""PQ and HLG in ISO/IEC 23091-2 (documented)."""


class _Rational(Protocol):
    """What Fraction and PyAV's own number type have in common."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


class BytesMissing(Exception):
    """A part of the file that has not been read is needed.

    Attributes:
        offset: where the part begins; None if it is at the end of a file of unknown length.
    """

    def __init__(self, offset: int | None) -> None:
        super().__init__()
        self.offset = offset


class DamagedVideo(Exception):
    """No program can play the video: its index is missing or broken."""


@dataclass(frozen=True)
class VideoHeader:
    """What a video says about itself; None for what it does not say.

    Attributes:
        has_video: whether there is a video stream; a cover image does not count.
        has_audio: whether there is an audio stream.
        sound_from: when its sound begins, in seconds; 0 if the header does not say that. None if
            there is none, or if the index lists no part of it.
        seconds: length of the video stream by its header; in WebM and Matroska, which have no
            such field, the length of the whole file.
        indexed_seconds: length of the video stream by the index of an MP4 or MOV.
        counted_seconds: length of the pictures that are in the file, which is known if it has
            been read to its end, or if its index lists pictures beyond the end.
        size: width and height in pixels, as displayed.
        turned_degrees: how a player turns the pictures, clockwise: 0, 90, 180 or 270.
        is_hdr: whether the header says that the brightness is coded as PQ or HLG.
        is_encrypted: whether the pictures are encrypted.
    """

    has_video: bool
    has_audio: bool
    sound_from: float | None = None
    seconds: float | None = None
    indexed_seconds: float | None = None
    counted_seconds: float | None = None
    size: tuple[int, int] | None = None
    frames_per_second: float | None = None
    turned_degrees: int = 0
    is_hdr: bool = False
    is_encrypted: bool = False


def available() -> bool:
    """Whether videos can be read: whether the extra `media` is installed."""
    return importlib.util.find_spec("av") is not None


def main() -> None:
    """Answer questions on standard input, as `question` asks and `header_of` reads them."""
    answer_questions(_answer)


def question(
    content: ByteRanges, demuxer: str, *, count: bool
) -> tuple[dict[str, Any], list[bytes]]:
    """The question to the process, and the bytes that are sent with it."""
    starts, parts = [start for start, _ in content.runs], [part for _, part in content.runs]
    asked = {"demuxer": demuxer, "total": content.total, "starts": starts, "count": count}
    return asked, parts


def header_of(answer: Mapping[str, Any]) -> VideoHeader:
    """The header in an answer of the process.

    Raises:
        BytesMissing: more of the file is needed.
        DamagedVideo: everything that was needed is there, and it is not a valid video.
        NotLookedAt: the answer makes no sense.
    """
    if "missing" in answer:
        raise BytesMissing(answer["missing"])
    if "damaged" in answer:
        raise DamagedVideo
    try:
        header = VideoHeader(**answer["header"])
    except (KeyError, TypeError):
        raise NotLookedAt("reading it gave no result") from None
    size = header.size
    return header if size is None else VideoHeader(**asdict(header) | {"size": (size[0], size[1])})


def _answer(asked: dict[str, Any], parts: list[bytes]) -> dict[str, Any]:
    content = ByteRanges()
    content.total = asked["total"]
    for start, part in zip(asked["starts"], parts, strict=True):
        content.add(start, part)
    try:
        return {"header": asdict(probe(content, asked["demuxer"], count=asked["count"]))}
    except BytesMissing as missing:
        return {"missing": missing.offset}
    except DamagedVideo:
        return {"damaged": True}
    except ClaimsTooMuch:
        return {"failed": "its index claims more than any clip has"}


def probe(content: ByteRanges, demuxer: str, *, count: bool = False) -> VideoHeader:
    """The header of a video. Only for the process of its own, and for tests.

    Args:
        count: whether to read to the end, to find the length of what is really there.

    Raises:
        BytesMissing: more of the file is needed.
        DamagedVideo: everything that was needed is there, and it is not a valid video.
        ClaimsTooMuch: the index claims too much to be read.
        av.FFmpegError: libav cannot read it, which is no proof that the file is bad.
    """
    import av

    index = read_index(content) if demuxer == "mov" else Index(is_fragmented=True)
    file = _File(content)
    try:
        with av.open(file, "r", format=demuxer, options=LIBAV_OPTIONS, **any_titles()) as container:
            header = _header(container, content, index, count=count or content.is_whole)
    except av.InvalidDataError as exc:
        raise file.missing or DamagedVideo from exc
    except av.FFmpegError:
        if file.missing:
            raise file.missing from None
        raise
    if file.missing:
        raise file.missing
    if demuxer == "matroska" and header.has_video and pictures_are_encrypted(content):
        return replace(header, is_encrypted=True)
    return header


def any_titles() -> dict[str, Any]:
    """The arguments with which `av.open` accepts titles in any encoding.

    PyAV before version 19 raises an error for bytes that are not UTF-8; 19 has no such option.
    """
    import av

    before_19 = int(av.__version__.partition(".")[0]) < 19
    return {"metadata_errors": "replace"} if before_19 else {}


class _File:
    """The bytes that were read of a file, as the file object that libav reads from.

    Attributes:
        missing: the first part that libav needed and that was not read. For libav the file ends
            at that point, because PyAV prints exceptions; so its later results do not count.
    """

    def __init__(self, content: ByteRanges) -> None:
        self.missing: BytesMissing | None = None
        self._content = content
        self._offset = 0

    def read(self, size: int) -> bytes:
        data = self._content.read(self._offset, size)
        if not data and self._offset != self._content.total:
            self._note_missing(self._offset)
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        end = self._content.total
        if end is None:
            end = 0
            if whence == 2:
                self._note_missing(None)
        self._offset = max(0, (0, self._offset, end)[whence] + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def _note_missing(self, offset: int | None) -> None:
        total = self._content.total
        if total is None or offset is None or offset < total:
            self.missing = self.missing or BytesMissing(offset)


def _header(
    container: "InputContainer", content: ByteRanges, index: Index, *, count: bool
) -> VideoHeader:
    from av.stream import Disposition

    streams = container.streams
    videos = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        return VideoHeader(has_video=False, has_audio=bool(streams.audio))
    stream = videos[0]
    track = next((track for track in index.tracks if track.id == stream.id), Track())
    indexed = counted = None
    if not index.is_fragmented:
        indexed, counted = _indexed_seconds(stream, content.total)
    elif count:
        counted = _counted_seconds(container, stream)
    return VideoHeader(
        has_video=True,
        has_audio=bool(streams.audio),
        sound_from=_sound_from(streams.audio, index),
        seconds=_stated_seconds(container, stream),
        indexed_seconds=indexed,
        counted_seconds=counted,
        size=_displayed_size(stream, track),
        frames_per_second=float(fraction(stream.average_rate)) or None,
        turned_degrees=track.turned_degrees,
        is_hdr=_is_hdr(stream),
        is_encrypted=track.is_encrypted,
    )


def fraction(rate: _Rational | None) -> Fraction:
    """A rate of PyAV as a Fraction; 0 if it is not known.

    Up to version 18, PyAV gives a Fraction or None. Since version 19 it gives a number type of
    its own, whose arithmetic is approximate and whose denominator may be 0.
    """
    if rate is None or not rate.denominator:
        return Fraction(0)
    return Fraction(rate.numerator, rate.denominator)


def _stated_seconds(container: "InputContainer", stream: "VideoStream") -> float | None:
    time_base = fraction(stream.time_base)
    if stream.duration and time_base:
        return float(stream.duration * time_base)
    return container.duration / 1_000_000 if container.duration else None


def _indexed_seconds(stream: "VideoStream", total: int | None) -> tuple[float | None, float | None]:
    """The length by the index, and the length of what is there if the file has been cut off."""
    time_base, entries = fraction(stream.time_base), stream.index_entries
    if not len(entries) or not time_base:
        return None, None
    first, last = entries[0].timestamp, entries[-1].timestamp
    frame = _one_frame(last - first, len(entries), stream, time_base)
    counted = None
    if total is not None and entries[-1].pos + entries[-1].size > total:
        lost = next(entry for entry in entries if entry.pos + entry.size > total)
        counted = float((lost.timestamp - first) * time_base)
    return float((last - first) * time_base) + frame, counted


def _counted_seconds(container: "InputContainer", stream: "VideoStream") -> float | None:
    """The length from the first picture to the end of the last one, read to the end of the file."""
    time_base, first, last, pictures, duration = fraction(stream.time_base), None, 0, 0, 0
    for packet in container.demux(stream):
        if packet.pts is None or not packet.size:
            continue
        pictures += 1
        first = packet.pts if first is None else min(first, packet.pts)
        if packet.pts >= last:
            last, duration = packet.pts, packet.duration or 0
    if first is None or not time_base:
        return None
    frame = float(duration * time_base) or _one_frame(last - first, pictures, stream, time_base)
    return float((last - first) * time_base) + frame


def _one_frame(span: int, frames: int, stream: "VideoStream", time_base: Fraction) -> float:
    """How long the last frame is shown, in seconds: as the average of the others."""
    if frames > 1:
        return float(span * time_base) / (frames - 1)
    rate = fraction(stream.average_rate)
    return float(1 / rate) if rate else 0.0


def _sound_from(streams: "Sequence[AudioStream]", index: Index) -> float | None:
    """When the sound begins; phones write an empty track when they may not record any."""
    for stream in streams:
        if index.is_fragmented or len(stream.index_entries):
            return float((stream.start_time or 0) * fraction(stream.time_base))
    return None


def _displayed_size(stream: "VideoStream", track: Track) -> tuple[int, int] | None:
    # If libav has no decoder for the stream, the context is None, although PyAV's types deny it.
    context: object = stream.codec_context
    if context is None:
        return None
    width, height = stream.codec_context.width, stream.codec_context.height
    width = round(width * (fraction(stream.sample_aspect_ratio) or 1))
    if min(width, height) < 1:
        return None
    # A phone that was held upright stores a quarter turn, which swaps the axes.
    return (height, width) if track.turned_degrees in (90, 270) else (width, height)


def _is_hdr(stream: "VideoStream") -> bool:
    context: Any = stream.codec_context
    return getattr(context, "color_trc", None) in _HDR_TRANSFERS


if __name__ == "__main__":
    main()
