"""What a clip's header says: its length, size and streams, through PyAV (the extra `media`).

libav reads hostile files here, so it gets only bytes that we fetched, only the demuxers of MP4,
MOV, WebM and Matroska, no decoder, no protocol and no playlist.
"""

import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wan_mcp.inputs.byte_ranges import Pieces

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_SAMPLES = 4_000_000
"""A header of 10 KB can claim 2**28 samples, for which libav takes gigabytes and minutes
(measured); 37 hours of pictures are enough. A minute and a half of raw sound is as many; a clip
with more of it is not looked into."""

OPTIONS = {
    # No whitelist may be empty, because libav reads that as "everything".
    "protocol_whitelist": "none",
    "codec_whitelist": "none",
    # The header is what matters: a packet more and it would read on for the codec's details.
    "analyzeduration": "0",
    "probesize": "32",
}
_CLAIMS = re.compile(rb"stsz.{4}(?!\0\0\0\0).{4}(.{4})|trun.{4}(.{4})", re.DOTALL)
_TRACK = re.compile(rb"tkhd(?:\0.{11}(.{4}).{8}|\x01.{19}(.{4}).{12}).{16}(.{36})", re.DOTALL)


class Missing(Exception):
    """A part of the file is needed that has not been read.

    Attributes:
        at: where it begins; None when it lies at the end of a file of unknown length.
    """

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at


class Damaged(Exception):
    """No program can play it: the index is missing or broken."""


@dataclass(frozen=True)
class Film:
    """What is known of a clip; None where the header does not say.

    Attributes:
        seconds: how long its pictures go on.
        size: width and height as they are shown.
        has_pictures: whether there is a video stream; a cover picture is none.
    """

    has_pictures: bool
    has_sound: bool
    seconds: float | None = None
    size: tuple[int, int] | None = None
    frames_per_second: float | None = None


def available() -> bool:
    """Whether clips and films can be looked into: whether the extra is installed."""
    return importlib.util.find_spec("av") is not None


def probe(pieces: Pieces, demuxer: str) -> Film | None:
    """The clip's header, or None when it cannot or should not be looked into.

    Blocking, and to be run in a thread; it never waits for the network.

    Raises:
        Missing: more of the file is needed.
        Damaged: all that was needed was there, and it makes no sense.
    """
    import av

    if not _is_modest(pieces):
        return None
    file = _File(pieces)
    try:
        with av.open(file, "r", format=demuxer, options=OPTIONS) as container:
            film = _film(container, pieces)
    except av.InvalidDataError as exc:
        raise file.missing or Damaged from exc
    except av.FFmpegError:
        film = None  # whatever libav stumbled over, it is not proof against the file
    if file.missing:
        raise file.missing
    return film


class _File:
    """The pieces as a file object, which is all that libav gets.

    Attributes:
        missing: the first place that was asked for and is not there. libav is told that the file
            ends there (PyAV prints exceptions), so that nothing it then says counts.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.missing: Missing | None = None
        self._pieces = pieces
        self._at = 0

    def read(self, size: int) -> bytes:
        data = self._pieces.read(self._at, size)
        if not data and self._at != self._pieces.total:
            self._lacks(self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        end = self._pieces.total
        if end is None:
            end = 0
            if whence == 2:
                self._lacks(None)
        self._at = max(0, (0, self._at, end)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def _lacks(self, at: int | None) -> None:
        if self._pieces.total is None or at is None or at < self._pieces.total:
            self.missing = self.missing or Missing(at)


def _is_modest(pieces: Pieces) -> bool:
    """Whether the header claims no more samples than libav can be asked to list."""
    claimed = 0
    for run in pieces.runs:
        if b"cmov" in run:
            return False  # a compressed header: nobody sees what it claims
        for claim in _CLAIMS.finditer(run):
            claimed += int.from_bytes(claim[1] or claim[2])
    return claimed <= MAX_SAMPLES


def _film(container: "InputContainer", pieces: Pieces) -> Film:
    from av.stream import Disposition

    streams = container.streams
    pictures = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        return Film(has_pictures=False, has_sound=bool(streams.audio))
    stream = pictures[0]
    rate = stream.average_rate
    return Film(
        has_pictures=True,
        has_sound=bool(streams.audio),
        seconds=_seconds(container, stream, pieces.total),
        size=_size(stream, pieces),
        frames_per_second=float(rate) if rate else None,
    )


def _seconds(container: "InputContainer", stream: "VideoStream", total: int | None) -> float | None:
    base = stream.time_base
    if not stream.duration or not base:
        return container.duration / 1_000_000 if container.duration else None
    entries = stream.index_entries
    if total and len(entries) and entries[-1].pos + entries[-1].size > total:
        # The file was cut off, and its index tells of pictures that are no longer there.
        gone = next(entry for entry in entries if entry.pos + entry.size > total)
        return float((gone.timestamp - entries[0].timestamp) * base)
    return float(stream.duration * base)


def _size(stream: "VideoStream", pieces: Pieces) -> tuple[int, int] | None:
    # Without a decoder for it there is no context, whatever PyAV's types say.
    context: object = stream.codec_context
    if context is None:
        return None
    width, height = stream.codec_context.width, stream.codec_context.height
    width = round(width * (stream.sample_aspect_ratio or 1))
    if min(width, height) < 1:
        return None
    for run in pieces.runs:
        for track in _TRACK.finditer(run):
            matrix = track[3]
            if int.from_bytes(track[1] or track[2]) == stream.id:
                # A phone that was held upright: a quarter turn swaps the axes.
                on_its_side = not any(matrix[0:4] + matrix[16:20])
                return (height, width) if on_its_side else (width, height)
    return width, height
