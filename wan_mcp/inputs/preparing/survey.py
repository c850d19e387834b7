"""Examines the part of a clip that is to be sent, and decides what has to be changed.

Times are counted in the clip's own units, as whole numbers, so that picture and sound stay in step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO

from wan_mcp.inputs.preparing.colours import HLG, PQ
from wan_mcp.inputs.preparing.display import Display, display_of
from wan_mcp.inputs.preparing.wanted import SLACK_SECONDS, Part
from wan_mcp.inputs.probe import any_titles, fraction

if TYPE_CHECKING:
    from av import AudioStream, VideoFrame, VideoStream
    from av.container import InputContainer

MAX_SIDE_PIXELS = 1_920
"""The longest side of what is sent: the largest result has 720 lines (ours)."""
ENOUGH_RATE = Fraction(2997, 100)
"""Frames per second: the fastest result has 30 (documented). Only every second or fourth picture is
encoded if that leaves at least this rate (ours)."""
REORDER_SECONDS = 1.0
"""How far a picture may be from its place in time: encoders move it by a few frames (ours)."""
PIXEL_FORMAT = "yuv420p"

_FORMATS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,gif"}
"""Some other formats of FFmpeg are lists of files and addresses, which it would open."""
_USUAL_RATES = [
    Fraction(*rate)
    for rate in (
        (24000, 1001),
        (24, 1),
        (25, 1),
        (30000, 1001),
        (30, 1),
        (50, 1),
        (60000, 1001),
        (60, 1),
    )
]
_EXACT, _ROUGH = Fraction(1, 200), Fraction(1, 50)
"""How near to a usual rate another rate counts as it: a gap may be known to a millisecond only."""
_SQUARE_TOLERANCE = 0.01
_NEVER_MISSED = 2
"""This many pictures at the ends of a clip may be left out without a reason that matters (ours)."""


class NoClip(Exception):
    """The part cannot be sent, because of one of the arguments.

    Attributes:
        name: the tool's name of the argument.
        what: the rest of a sentence that begins with that name.
        remedy: what the user can do.
    """

    def __init__(self, name: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.name, self.what, self.remedy = name, what, remedy


class NotDecodable(Exception):
    """FFmpeg, as it is installed here, cannot decode the pictures."""


@dataclass(frozen=True)
class Timing:
    """When the pictures of the part are shown, in units of the video stream.

    Attributes:
        first: when its first picture is shown.
        until: when the part ends; all its pictures are shown before that.
        rate: frames per second of the encoded part.
        is_constant: whether every picture is where that rate puts it.
        goes_on: whether the clip is longer than needed by more than SLACK_SECONDS.
        can_be_copied: whether it begins with a key frame, and every packet has its times.
        starts_the_clip: whether it begins with the first picture of the clip.
        hides: whether an edit list hides pictures, such as those that a phone's owner cut away.
    """

    first: int
    until: int
    rate: Fraction
    is_constant: bool
    goes_on: bool
    can_be_copied: bool
    starts_the_clip: bool
    hides: bool


@dataclass(frozen=True)
class Survey:
    """The facts about the part.

    Attributes:
        size: width and height of the pictures as they are sent.
        is_upright: whether they are stored as they are shown.
        is_square: whether their pixels are square.
        is_plain: whether every reader accepts their coding.
        transfer: how their brightness is coded, as a number of ISO/IEC 23091-2.
        coding: the name of their coding, with the number of bits if that is not 8.
        is_mp4: whether the container is an MP4 or a MOV.
        may_be_copied: whether packets of this container can be taken over as they are.
    """

    timing: Timing
    display: Display
    size: tuple[int, int]
    is_upright: bool
    is_square: bool
    is_plain: bool
    transfer: int
    coding: str
    is_mp4: bool
    may_be_copied: bool

    @property
    def is_hdr(self) -> bool:
        """Whether the brightness is coded as PQ or HLG."""
        return self.transfer in (PQ, HLG)

    @property
    def is_small(self) -> bool:
        """Whether no side is longer than MAX_SIDE_PIXELS."""
        return max(self.display.width, self.display.height) <= MAX_SIDE_PIXELS

    @property
    def must_be_encoded(self) -> bool:
        """Whether the pictures have to be encoded again."""
        kept = self.is_upright and self.is_square and self.is_plain and not self.is_hdr
        timing = self.timing
        fits = self.is_small and timing.is_constant and timing.can_be_copied
        return not (kept and fits and self.may_be_copied)

    def changes(self, part: Part) -> Iterator[str]:
        """The changes that are needed, in words that follow "was"."""
        timing, size = self.timing, self.display
        how = "" if self.must_be_encoded else " (without encoding it again)"
        start, length = f"{part.start:.6g} s", f"{part.until - part.start:.3g} s"
        smaller = "{:,.0f} x {:,.0f} to {:,} x {:,}".format(size.width, size.height, *self.size)
        is_cut = timing.goes_on or not timing.starts_the_clip
        for applies, change in (
            (is_cut, f"cut to the {length} that begin at {start}{how}"),
            (timing.hides, "freed of the pictures that were cut away from it"),
            (not self.is_upright, "turned upright"),
            (not self.is_square, "given square pixels"),
            (not self.is_small, f"made smaller ({smaller})"),
            (self.is_hdr, "turned from HDR into SDR"),
            (not timing.is_constant, f"given a constant frame rate ({float(timing.rate):.4g})"),
            (not self.is_plain, f"converted from {self.coding} to H.264"),
            (self.is_plain and not self.is_mp4, "put into an MP4"),
        ):
            if applies:
                yield change


@contextmanager
def opened(file: BinaryIO) -> "Iterator[InputContainer]":
    """The clip, opened only in formats that contain all that they show.

    Raises:
        av.FFmpegError: it has none of these formats, or is damaged.
    """
    import av

    file.seek(0)
    with av.open(file, "r", options=_FORMATS, **any_titles()) as video:
        yield video


def pictures_of(video: "InputContainer") -> "VideoStream":
    """The first stream of pictures that is not a cover.

    Raises:
        NotDecodable: there is no decoder for it.
        NoClip: there is no such stream.
    """
    from av.stream import Disposition

    cover = Disposition.attached_pic
    for stream in video.streams.video:
        if not stream.disposition & cover:
            context: Any = stream.codec_context  # None without a decoder, although PyAV denies it
            if context is None:
                raise NotDecodable
            if not context.is_open:
                context.thread_count = 1  # each thread keeps frames, and memory is limited
            return stream
    raise NoClip("video", "has no pictures", "give a clip with pictures")


def sound_of(video: "InputContainer") -> "AudioStream | None":
    """The sound that is sent; AAC is preferred, as phones add a second track in a new coding."""
    decodable: list[Any] = [s for s in video.streams.audio if _codec(s)]
    decodable.sort(key=lambda stream: _codec(stream) != "aac")
    return decodable[0] if decodable else None


def _codec(stream: "AudioStream") -> str:
    context: Any = stream.codec_context
    return context.name if context is not None else ""


def seek(video: "InputContainer", stream: "VideoStream", seconds: float) -> None:
    """Go to a key frame at least REORDER_SECONDS before a time, or to the beginning.

    Args:
        seconds: the time, from the first picture on.
    """
    unit = fraction(stream.time_base)
    before = seconds - REORDER_SECONDS
    ticks = int(before / unit) + (stream.start_time or 0) if before > 0 else stream.start_time
    video.seek(ticks or 0, stream=stream)


def survey(video: "InputContainer", part: Part) -> Survey:
    """Examine the part.

    Raises:
        NoClip: there is no such part.
        NotDecodable: its pictures cannot be decoded.
        av.FFmpegError: the clip is damaged.
    """
    stream = pictures_of(video)
    timing = _timing(video, stream, part)
    seek(video, stream, part.start)
    frame = _first_frame(video, stream)
    display = display_of(frame, stream)
    context: Any = stream.codec_context
    formats = video.format.name.split(",")
    bits = max(component.bits for component in frame.format.components)
    return Survey(
        timing=timing,
        display=display,
        size=_size(display),
        is_upright=not display.turn,
        is_square=_is_square(display, frame),
        is_plain=context.name == "h264" and frame.format.name == PIXEL_FORMAT,
        transfer=int(context.color_trc),
        coding=_NAMES.get(context.name, context.name) + (f" with {bits} bits" if bits > 8 else ""),
        is_mp4="mov" in formats,
        may_be_copied="mov" in formats or "matroska" in formats,
    )


_NAMES = {"hevc": "HEVC", "h264": "H.264", "vp9": "VP9", "vp8": "VP8", "mpeg4": "MPEG-4"}


def _first_frame(video: "InputContainer", stream: "VideoStream") -> "VideoFrame":
    import av

    for packet in video.demux(stream):
        try:
            for frame in packet.decode():
                return frame
        except av.InvalidDataError:
            continue  # the next key frame may be whole
    raise NotDecodable


def _is_square(display: Display, frame: "VideoFrame") -> bool:
    stored = (frame.height, frame.width) if display.swaps_axes else (frame.width, frame.height)
    ratio = display.width / display.height * stored[1] / stored[0]
    return abs(ratio - 1) < _SQUARE_TOLERANCE


def _size(display: Display) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE_PIXELS / max(display.width, display.height))
    width, height = (
        max(2, round(side * scale / 2) * 2) for side in (display.width, display.height)
    )
    return width, height


@dataclass(frozen=True)
class _Picture:
    at: int
    is_key: bool
    has_times: bool
    is_hidden: bool


def _timing(video: "InputContainer", stream: "VideoStream", part: Part) -> Timing:
    unit, zero = fraction(stream.time_base), stream.start_time or 0
    frame = Fraction(1) / (fraction(stream.average_rate) or 30)
    # A picture that is still shown for half of its time counts as the first one.
    earliest = zero + int((Fraction(part.start) - frame / 2) / unit)
    until = zero + int(Fraction(part.until) / unit)
    slack = until + int(Fraction(SLACK_SECONDS) / unit)
    seek(video, stream, part.start)
    read = list(_pictures(video, stream, slack + int(Fraction(REORDER_SECONDS) / unit)))
    visible = [each for each in read if not each.is_hidden]
    shown = sorted((each for each in visible if each.at >= earliest), key=lambda each: each.at)
    inside = [each for each in shown if each.at < until]
    _refuse_what_is_too_short([each.at for each in shown], stream, part)
    if not inside:
        raise NotDecodable
    first = inside[0]
    times = [each.at for each in inside]
    rate = _rate(times, unit, fraction(stream.average_rate))
    return Timing(
        first=first.at,
        until=until,
        rate=rate,
        is_constant=_is_constant(times),
        goes_on=shown[-1].at > slack,
        can_be_copied=first.is_key and all(each.has_times for each in inside),
        starts_the_clip=part.start <= frame and first.at == min(each.at for each in visible),
        hides=len(visible) < len(read) or _hidden_pictures(stream) > _NEVER_MISSED,
    )


def _hidden_pictures(stream: "VideoStream") -> int:
    """How many pictures of an MP4 its edit list leaves out."""
    listed = len(stream.index_entries)
    return stream.frames - listed if listed else 0


def _pictures(video: "InputContainer", stream: "VideoStream", end: int) -> Iterator[_Picture]:
    """The pictures up to `end`, in the order of their packets."""
    for packet in video.demux(stream):
        if packet.pts is None or not packet.size:
            continue
        has_times = packet.dts is not None
        yield _Picture(packet.pts, packet.is_keyframe, has_times, packet.is_discard)
        if packet.pts > end:
            return


def _refuse_what_is_too_short(times: Sequence[int], stream: "VideoStream", part: Part) -> None:
    """Refuse a part that lies beyond the end, or is shorter than what was ordered.

    Without a fragment, the preflight has judged the length of the clip.
    """
    if not part.start and part.end is None:
        return
    start = f"{part.start:.6g} s"
    if not times:
        what = f"has no picture at {start}, where its fragment begins: it ends before"
        raise NoClip("video", what, "begin the fragment earlier")
    unit = fraction(stream.time_base)
    frame = 1 / float(fraction(stream.average_rate) or 30)
    left = float((times[-1] - times[0]) * unit) + frame
    if part.end is not None:
        left = min(left, part.end - part.start)
    if left < part.ordered - TOLERANCE_SECONDS:
        what = f"is {part.ordered:g}, but the clip has only {left:.3g} s for that from {start} on"
        remedy = "begin the fragment earlier, or end it later"
        if longest := int(left + TOLERANCE_SECONDS):
            remedy = f"set video_duration to {longest} or less, or {remedy}"
        raise NoClip("video_duration", what, remedy)


TOLERANCE_SECONDS = 0.1
"""How much shorter than ordered the part may be, as in the preflight (ours)."""


def _is_constant(times: Sequence[int]) -> bool:
    """Whether no picture is more than half a frame from where a constant rate puts it."""
    if len(times) < 3:
        return True
    frame = Fraction(times[-1] - times[0], len(times) - 1)
    return all(abs(at - times[0] - n * frame) <= frame / 2 for n, at in enumerate(times))


def _rate(times: Sequence[int], unit: Fraction, average: Fraction) -> Fraction:
    """Frames per second: the mean if the rate is constant, otherwise by the usual gap."""
    gaps = [b - a for a, b in pairwise(times) if b > a]
    if not gaps:
        return average or Fraction(30)
    is_constant = _is_constant(times)
    gap = Fraction(sum(gaps), len(gaps)) if is_constant else Fraction(median(gaps))
    rate = 1 / (gap * unit)
    if average and abs(average / rate - 1) < _EXACT:
        rate = average
    usual = min(_USUAL_RATES, key=lambda each: abs(each - rate))
    is_usual = abs(usual / rate - 1) < (_EXACT if is_constant else _ROUGH)
    rate = usual if is_usual else rate.limit_denominator(1001)
    while rate / 2 >= ENOUGH_RATE:
        rate /= 2
    return rate
