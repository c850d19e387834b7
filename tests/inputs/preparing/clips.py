"""Small clips that the tests write themselves: a flash and a beep at one moment, a marked corner.

Each picture is grey, its top left quarter is darker, and one of them is white: the flash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

GREY, CORNER, WHITE = 120, 60, 235
SOUND_RATE = 48_000
BEEP_SECONDS = 0.05
QUICK = {
    "libx264": {"preset": "ultrafast", "crf": "10"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "10",
        "x265-params": "log-level=none:pools=none:frame-threads=1",
    },
}
LOCATION = "+48.8577+002.295/"
PHONE_TAGS = {
    "com.apple.quicktime.location.ISO6709": LOCATION,
    "com.apple.quicktime.make": "Pomme",
    "com.apple.quicktime.model": "Pomme 99",
}


@dataclass(frozen=True)
class Clip:
    """A clip, and how it is stored.

    Attributes:
        times: when each picture is shown, in milliseconds; None for a constant rate.
        flash: which picture is white; the beep begins with it.
        key_every: how many pictures there are from one key frame to the next.
        matrix: the numbers a, b, c and d of its display matrix.
        tags: what it says of itself.
        colours: primaries, transfer and matrix, as numbers of ISO/IEC 23091-2.
    """

    size: tuple[int, int] = (192, 108)
    frames: int = 90
    rate: Fraction = Fraction(30)
    times: Sequence[int] | None = None
    flash: int = 60
    key_every: int = 30
    codec: str = "libx264"
    pixels: str = "yuv420p"
    sound: str | None = "aac"
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)
    sar: Fraction = Fraction(1)
    tags: dict[str, str] = field(default_factory=dict)
    colours: tuple[int, int, int] = (1, 1, 1)
    options: dict[str, str] = field(default_factory=dict)

    def written(self, path: Path) -> Path:
        """Write it in the format that the ending of the name means."""
        import av

        flags = "use_metadata_tags" if self.tags else ""
        with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as file:
            file.metadata.update(self.tags)
            packets = [*self._video(file)]
            if self.sound:
                sound: Any = file.add_stream(self.sound, rate=SOUND_RATE, layout="mono")
                packets += [p for frame in self._tones() for p in sound.encode(frame)]
                packets += sound.encode(None)
            packets.sort(
                key=lambda p: p.dts * Fraction(p.time_base.numerator, p.time_base.denominator)
            )
            file.mux(packets)
        return path

    def _video(self, file: Any) -> Iterator[Any]:
        options = QUICK.get(self.codec, {}) | {"g": str(self.key_every)} | self.options
        stream: Any = file.add_stream(self.codec, rate=self.rate, options=options)
        stream.width, stream.height = self.size
        stream.pix_fmt = self.pixels
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries, context.color_trc, context.colorspace = self.colours
        context.color_range = 1
        context.time_base = Fraction(1, 1000) if self.times else 1 / self.rate
        if self.sar != 1:
            context.sample_aspect_ratio = self.sar
        a, b, c, d = (number << 16 for number in self.matrix)
        if self.matrix != (1, 0, 0, 1):
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        for number in range(self.frames):
            yield from stream.encode(self._picture(number))
        yield from stream.encode(None)

    def _picture(self, number: int) -> Any:
        import av

        frame: Any = av.VideoFrame(*self.size, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        plane, (width, height) = frame.planes[0], self.size
        light = WHITE if number == self.flash else GREY
        whole = bytes([light]) * plane.line_size
        corner = bytes([CORNER]) * (width // 2) + whole[width // 2 :]
        plane.update(corner * (height // 2) + whole * (plane.height - height // 2))
        if self.pixels != "yuv420p":
            frame = frame.reformat(format=self.pixels)
        frame.pts = self.times[number] if self.times else number
        frame.time_base = Fraction(1, 1000) if self.times else 1 / self.rate
        return frame

    @property
    def flash_at(self) -> float:
        """When the flash and the beep begin, in seconds."""
        return self.times[self.flash] / 1000 if self.times else float(self.flash / self.rate)

    def _tones(self) -> Iterator[Any]:
        import av

        end = (self.times[-1] / 1000 if self.times else self.frames / self.rate) * SOUND_RATE
        beep = range(
            round(self.flash_at * SOUND_RATE),
            round((self.flash_at + BEEP_SECONDS) * SOUND_RATE),
        )
        for start in range(0, int(end) - 959, 960):
            frame: Any = av.AudioFrame("s16", "mono", 960)
            samples = (
                (20_000 if at // 24 % 2 else -20_000) if at in beep else 0
                for at in range(start, start + 960)
            )
            frame.planes[0].update(b"".join(s.to_bytes(2, "little", signed=True) for s in samples))
            frame.sample_rate, frame.pts = SOUND_RATE, start
            frame.time_base = Fraction(1, SOUND_RATE)
            yield frame


def phone_clip(path: Path) -> Path:
    """A clip as a phone records it: held upright, HEVC of 10 bits, HLG, with its location."""
    return PHONE.written(path)


PHONE = Clip(
    codec="libx265",
    pixels="yuv420p10le",
    matrix=(0, 1, -1, 0),
    tags=PHONE_TAGS,
    colours=(9, 18, 9),
)


@dataclass(frozen=True)
class Seen:
    """What a player shows of a file.

    Attributes:
        times: when each picture is shown, in seconds.
        flash_at: when the first white picture is shown; None if there is none.
        beep_at: when the sound becomes loud.
        corners: the light of the four quarters: top left, top right, bottom left, bottom right.
        lights: the light in the middle of each picture.
    """

    codec: str
    pixels: str
    size: tuple[int, int]
    times: list[float]
    flash_at: float | None
    beep_at: float | None
    corners: list[int]
    sound: str | None
    is_key_first: bool

    @property
    def gaps(self) -> set[float]:
        """The times between pictures, in milliseconds."""
        return {round(1000 * (b - a), 1) for a, b in zip(self.times, self.times[1:], strict=False)}


def seen(path: Path) -> Seen:
    """Decode a whole file."""
    import av

    with av.open(str(path)) as file:
        stream: Any = file.streams.video[0]
        frames = [*file.decode(stream)]
        codec, name = stream.codec_context.name, frames[0].format.name
    size = frames[0].width, frames[0].height
    white = [each for each in frames if _light(each, 0.75, 0.75) > (GREY + WHITE) / 2]
    quarters = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
    beep, sound = _beep(path)
    return Seen(
        codec=codec,
        pixels=name,
        size=size,
        times=[float(each.time or 0) for each in frames],
        flash_at=float(white[0].time or 0) if white else None,
        beep_at=beep,
        corners=[_light(frames[0], *each) for each in quarters],
        sound=sound,
        is_key_first=bool(frames[0].key_frame),
    )


def _light(frame: Any, x: float, y: float) -> int:
    plane = frame.planes[0]
    wide = 2 if "10" in frame.format.name else 1
    at = int(y * frame.height) * plane.line_size + int(x * frame.width) * wide
    data = bytes(memoryview(plane)[at : at + wide])
    return int.from_bytes(data, "little") >> (2 if wide == 2 else 0)


def _beep(path: Path) -> tuple[float | None, str | None]:
    import av

    with av.open(str(path)) as file:
        if not file.streams.audio:
            return None, None
        stream: Any = file.streams.audio[0]
        for frame in file.decode(stream):
            channel = memoryview(bytes(frame.planes[0])).cast("f")[: frame.samples]
            loud = next((n for n, value in enumerate(channel) if abs(value) > 0.2), None)
            if loud is not None:
                return float(frame.time) + loud / frame.sample_rate, stream.codec_context.name
        return None, stream.codec_context.name
