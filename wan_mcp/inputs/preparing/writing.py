"""Writes the part of a clip that is sent, as an MP4: each stream copied or encoded again.

Picture and sound are moved by the same time, so that they stay in step. Sound begins with the
packet in which the first picture is shown, or with the next one: at most 23 ms off in the file, and
exact in time, because an MP4 says when each stream begins.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wan_mcp.inputs.preparing.colours import cube
from wan_mcp.inputs.preparing.display import Display
from wan_mcp.inputs.preparing.survey import (
    PIXEL_FORMAT,
    NotDecodable,
    Survey,
    pictures_of,
    seek,
    sound_of,
)
from wan_mcp.inputs.probe import fraction

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer
    from av.filter import Graph

X264_OPTIONS = {
    # Visually lossless; noise is held to 20 Mbit/s, so that five seconds never need 20 MB (ours).
    "crf": "16",
    "maxrate": "20M",
    "bufsize": "20M",
    # Few pictures wait in the encoder, which keeps 11 MB for each (measured); the file grows by a
    # tenth or so, which costs less than time and memory here (ours).
    "preset": "veryfast",
    "bf": "0",
    "rc-lookahead": "4",
    "profile": "high",
}
SOUND_BITS_PER_SECOND = 192_000
MAX_SOUND_RATE = 48_000
_BT_709, _LIMITED = 1, 1
_GAP_SECONDS = 2.0
"""Streams are interleaved in a file: reading stops at sound this long after the end of the part."""


class _Lane(Protocol):
    """One stream on its way from the clip to the file."""

    is_done: bool

    def packets(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        """The packets that are written for a packet of the clip."""
        ...

    def rest(self) -> "Iterator[Packet[Any]]":
        """The packets that are written at the end."""
        ...


def write(video: "InputContainer", survey: Survey, target: Path) -> Iterator[float]:
    """Write the part. Yields now and then the share that is done, from 0 to 1.

    Args:
        target: an empty file. For HDR, a second file is written beside it, with `.cube` added.

    Raises:
        NotDecodable: no picture could be decoded.
        av.FFmpegError, OSError: a part is damaged, or the file cannot be written.
    """
    import av

    stream, sound = pictures_of(video), sound_of(video)
    unit, timing = fraction(stream.time_base), survey.timing
    begin, end = timing.first * unit, timing.until * unit
    options = {"movflags": "faststart", "fflags": "bitexact"}
    with av.open(str(target), "w", format="mp4", options=options) as file:
        lanes: dict[int, _Lane] = {stream.index: _picture_lane(file, stream, survey, target)}
        if sound is not None:
            lanes[sound.index] = _sound_lane(file, sound, survey, begin, end)
        seek(video, stream, float(begin) - float((stream.start_time or 0) * unit))
        for packet in video.demux(*(each for each in (stream, sound) if each is not None)):
            lane = lanes[packet.stream.index]
            if not lane.is_done:
                file.mux([*lane.packets(packet)])
            if all(each.is_done for each in lanes.values()) or _is_past(packet, end):
                break
            if packet.stream is stream and packet.pts is not None:
                yield min(max(float((packet.pts * unit - begin) / (end - begin)), 0.0), 1.0)
        for lane in lanes.values():
            file.mux([*lane.rest()])


def _is_past(packet: "Packet[Any]", end: Fraction) -> bool:
    if packet.dts is None:
        return False
    return float(packet.dts * fraction(packet.stream.time_base) - end) > _GAP_SECONDS


def _picture_lane(
    file: "OutputContainer", stream: "VideoStream", survey: Survey, target: Path
) -> _Lane:
    timing = survey.timing
    if survey.must_be_encoded:
        return _Encoder(file, stream, survey, target)
    return _Copier(file, stream, timing.first, timing.until)


def _sound_lane(
    file: "OutputContainer", sound: "AudioStream", survey: Survey, begin: Fraction, end: Fraction
) -> _Lane:
    if sound.codec_context.name == "aac" and survey.may_be_copied:
        unit = fraction(sound.time_base)
        return _Copier(file, sound, round(begin / unit), round(end / unit))
    return _SoundEncoder(file, sound, begin, end)


class _Copier:
    """Copies packets as they are, with shifted times.

    It copies pictures from the key frame on, in the order of decoding, up to the last one that is
    shown within the part: a picture that is shown later but stored before may be needed for it.
    """

    def __init__(self, file: "OutputContainer", stream: Any, first: int, until: int) -> None:
        self.is_done = False
        self._stream = file.add_stream_from_template(stream, opaque=True)
        self._first, self._until = first, until
        self._is_video = stream.type == "video"
        self._waiting: list[Packet[Any]] = []

    def packets(self, packet: "Packet[Any]") -> "Iterator[Packet[Any]]":
        if packet.pts is None or packet.dts is None or not packet.size:
            return
        reach = 0 if self._is_video else packet.duration or 0
        if packet.pts + reach < self._first:
            return
        self.is_done = packet.dts >= self._until
        is_inside = packet.pts < self._until and not packet.is_discard
        packet.pts -= self._first
        packet.dts -= self._first
        packet.stream = self._stream
        self._waiting.append(packet)
        if is_inside and not self.is_done:
            yield from self._waiting
            self._waiting.clear()

    def rest(self) -> "Iterator[Packet[Any]]":
        self._waiting.clear()
        yield from ()


class _Encoder:
    """Decodes pictures, changes them to how they are shown, and encodes them as H.264."""

    def __init__(
        self, file: "OutputContainer", stream: "VideoStream", survey: Survey, target: Path
    ) -> None:
        self.is_done = False
        self._source, self._survey, self._target = stream, survey, target
        self._graph: Graph | None = None
        rate = survey.timing.rate
        self._stream = file.add_stream("libx264", rate=rate, options=X264_OPTIONS)
        self._stream.width, self._stream.height = survey.size
        self._stream.pix_fmt = PIXEL_FORMAT
        context: Any = self._stream.codec_context
        context.thread_count = 1  # this also gives the same bytes each time
        context.time_base = 1 / rate
        context.colorspace = context.color_primaries = context.color_trc = _BT_709
        context.color_range = _LIMITED

    def packets(self, packet: "Packet[VideoStream]") -> "Iterator[Packet[Any]]":
        import av

        timing = self._survey.timing
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            return  # the packet is damaged: the picture before is shown longer
        for frame in frames:
            if frame.pts is None or frame.pts < timing.first:
                continue
            self.is_done = frame.pts >= timing.until
            if self.is_done:
                return
            frame.pts -= timing.first
            yield from self._encoded(frame)

    def rest(self) -> "Iterator[Packet[Any]]":
        if self._graph is None:
            raise NotDecodable
        self._graph.vpush(None)
        yield from self._pulled(self._graph)
        yield from self._stream.encode(None)

    def _encoded(self, frame: "VideoFrame") -> "Iterator[Packet[Any]]":
        # The display of the first picture holds for all: asking a frame for its own keeps the frame
        # until Python collects cycles, which takes 25 MB for each picture in 4K (measured).
        display = self._survey.display
        frame.colorspace, frame.color_range = display.colorspace, display.color_range
        if self._graph is None:
            self._graph = self._new_graph(frame, display)
        self._graph.vpush(frame)
        yield from self._pulled(self._graph)

    def _pulled(self, graph: "Graph") -> "Iterator[Packet[Any]]":
        import av

        while True:
            try:
                frame = graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            frame.time_base = 1 / self._survey.timing.rate
            frame.pict_type = 0  # the encoder decides which are key frames
            yield from self._stream.encode(frame)

    def _new_graph(self, frame: "VideoFrame", display: Display) -> "Graph":
        from av.filter import Graph

        graph = Graph()
        graph.threads = 1
        unit = fraction(self._source.time_base)
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base=f"{unit.numerator}/{unit.denominator}",
            colorspace=f"{int(frame.colorspace)}",
            range=f"{int(frame.color_range)}",
        )
        steps = [graph.add(name, **options) for name, options in self._steps(display)]
        graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
        return graph

    def _steps(self, display: Display) -> Iterator[tuple[str, dict[str, str]]]:
        """First fewer and smaller pictures, because every later step takes time for each pixel."""
        survey, rate = self._survey, self._survey.timing.rate
        yield "fps", {"fps": f"{rate.numerator}/{rate.denominator}", "start_time": "0"}
        width, height = reversed(survey.size) if display.swaps_axes else survey.size
        scale = {"w": f"{width}", "h": f"{height}", "flags": "lanczos+accurate_rnd"}
        to_sdr = {"out_color_matrix": "bt709", "out_range": "limited"}
        if survey.is_hdr:
            table = self._target.with_name(f"{self._target.name}.cube")
            table.write_text(cube(survey.transfer), "ascii")
            yield "scale", scale
            yield "format", {"pix_fmts": "gbrp10le"}
            yield "lut3d", {"file": str(table)}
            yield "scale", to_sdr
        else:
            yield "scale", scale | to_sdr
        yield "format", {"pix_fmts": PIXEL_FORMAT}
        for name, argument in display.turn:
            yield name, {"dir": argument} if argument else {}
        yield "setsar", {"sar": "1"}


class _SoundEncoder:
    """Encodes sound as AAC, in stereo or mono."""

    def __init__(
        self, file: "OutputContainer", stream: "AudioStream", begin: Fraction, end: Fraction
    ) -> None:
        self.is_done = False
        self._begin, self._end = begin, end
        context = stream.codec_context
        layout = context.layout.name if context.layout.nb_channels == 1 else "stereo"
        rate = min(context.sample_rate, MAX_SOUND_RATE)
        self._stream = file.add_stream("aac", rate=rate, layout=layout)
        self._stream.bit_rate = SOUND_BITS_PER_SECOND

    def packets(self, packet: "Packet[AudioStream]") -> "Iterator[Packet[Any]]":
        import av

        try:
            frames = packet.decode()
        except av.InvalidDataError:
            return
        for frame in frames:
            unit = fraction(frame.time_base)
            if frame.pts is None or frame.pts * unit < self._begin:
                continue
            self.is_done = frame.pts * unit >= self._end
            if self.is_done:
                return
            frame.pts -= round(self._begin / unit)
            yield from self._stream.encode(frame)

    def rest(self) -> "Iterator[Packet[Any]]":
        yield from self._stream.encode(None)
