"""Reads length, size and streams from a video's header, with PyAV (the extra `media`).

libav may meet hostile files here. So it gets only bytes that we fetched, only the demuxers of
MP4, MOV, WebM and Matroska, no decoder, no protocol and no playlist.
"""

import importlib.util
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from wan_mcp.inputs.remote_file import ByteRanges

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_SAMPLES = 4_000_000
"""A header of 10 KB can claim 2**28 samples, for which libav takes gigabytes and minutes
(measured). The limit allows 37 hours of frames, or 90 seconds of raw audio; a video with more is
not probed."""

LIBAV_OPTIONS = {
    # A whitelist must not be empty, because libav takes that as "everything".
    "protocol_whitelist": "none",
    "codec_whitelist": "none",
    # Only the header matters; with more, libav would read on for details of the codec.
    "analyzeduration": "0",
    "probesize": "32",
}
_SAMPLE_COUNTS = re.compile(rb"stsz.{4}(?!\0\0\0\0).{4}(.{4})|trun.{4}(.{4})", re.DOTALL)
_TRACK_HEADER = re.compile(
    rb"tkhd(?:\0.{11}(.{4}).{8}|\x01.{19}(.{4}).{12}).{16}(.{36})", re.DOTALL
)


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
    """What the header of a video says; None for what it does not say.

    Attributes:
        has_video: whether there is a video stream; a cover image does not count.
        has_audio: whether there is an audio stream.
        seconds: length of the video stream.
        size: width and height in pixels, as displayed.
    """

    has_video: bool
    has_audio: bool
    seconds: float | None = None
    size: tuple[int, int] | None = None
    frames_per_second: float | None = None


def available() -> bool:
    """Whether videos can be read: whether the extra `media` is installed."""
    return importlib.util.find_spec("av") is not None


def probe(content: ByteRanges, demuxer: str) -> VideoHeader | None:
    """The header of a video, or None if it cannot be read, or claims too much to be read safely.

    This blocks and must run in a thread; it never waits for the network.

    Raises:
        BytesMissing: more of the file is needed.
        DamagedVideo: everything that was needed is there, and it is not a valid video.
    """
    import av

    if not _is_modest(content):
        return None
    file = _File(content)
    try:
        with av.open(file, "r", format=demuxer, options=LIBAV_OPTIONS) as container:
            header = _header(container, content)
    except av.InvalidDataError as exc:
        raise file.missing or DamagedVideo from exc
    except av.FFmpegError:
        header = None  # any other error of libav is no proof that the file is bad
    if file.missing:
        raise file.missing
    return header


class _File:
    """What was read of a remote file, as the file object that libav reads from.

    Attributes:
        missing: the first part that libav needed and that is not there. For libav the file ends
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


def _is_modest(content: ByteRanges) -> bool:
    """Whether the header claims no more samples than libav can list without harm."""
    claimed = 0
    for run in content.runs:
        if b"cmov" in run:
            return False  # a compressed header hides what it claims
        for claim in _SAMPLE_COUNTS.finditer(run):
            claimed += int.from_bytes(claim[1] or claim[2])
    return claimed <= MAX_SAMPLES


def _header(container: "InputContainer", content: ByteRanges) -> VideoHeader:
    from av.stream import Disposition

    streams = container.streams
    videos = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        return VideoHeader(has_video=False, has_audio=bool(streams.audio))
    stream = videos[0]
    return VideoHeader(
        has_video=True,
        has_audio=bool(streams.audio),
        seconds=_seconds(container, stream, content.total),
        size=_displayed_size(stream, content),
        frames_per_second=float(_fraction(stream.average_rate)) or None,
    )


def _fraction(rate: _Rational | None) -> Fraction:
    """A rate of PyAV as a Fraction; 0 if it is not known.

    Up to version 18, PyAV gives a Fraction or None. Since version 19 it gives a number type of
    its own, whose arithmetic is approximate and whose denominator may be 0.
    """
    if rate is None or not rate.denominator:
        return Fraction(0)
    return Fraction(rate.numerator, rate.denominator)


def _seconds(container: "InputContainer", stream: "VideoStream", total: int | None) -> float | None:
    time_base = _fraction(stream.time_base)
    if not stream.duration or not time_base:
        return container.duration / 1_000_000 if container.duration else None
    entries = stream.index_entries
    if total and len(entries) and entries[-1].pos + entries[-1].size > total:
        # The file was cut off, and its index lists frames that are no longer there.
        lost = next(entry for entry in entries if entry.pos + entry.size > total)
        return float((lost.timestamp - entries[0].timestamp) * time_base)
    return float(stream.duration * time_base)


def _displayed_size(stream: "VideoStream", content: ByteRanges) -> tuple[int, int] | None:
    # If libav has no decoder for the stream, the context is None, although PyAV's types deny it.
    context: object = stream.codec_context
    if context is None:
        return None
    width, height = stream.codec_context.width, stream.codec_context.height
    width = round(width * (_fraction(stream.sample_aspect_ratio) or 1))
    if min(width, height) < 1:
        return None
    for run in content.runs:
        for track in _TRACK_HEADER.finditer(run):
            matrix = track[3]
            if int.from_bytes(track[1] or track[2]) == stream.id:
                # A phone that was held upright stores a quarter turn, which swaps the axes.
                is_turned = not any(matrix[0:4] + matrix[16:20])
                return (height, width) if is_turned else (width, height)
    return width, height
