"""Whether the inspection of saved videos raises a false alarm on good ones.

Run it by hand, from the root of the project (200 videos take some minutes)::

    python -m tests.bench.inspection [COUNT] [SEED]

Each video is one that the sandbox renders from a source clip and a drawn order, over the whole
range of parameters. The clips differ in shape, rate, length and sound. What is known of a clip is
what the preflight reads from it. If anything differs from an order, it is printed, and the
exit code is 1.
"""

import asyncio
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import wan_mcp.sandbox
from wan_mcp.inputs.byte_ranges import ByteRanges
from wan_mcp.inputs.probe import probe
from wan_mcp.inputs.video_check import source_clip
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Difference, SourceClip
from wan_mcp.videos.inspection import inspect

MEDIA = Path(wan_mcp.sandbox.__file__).parent / "media"
IMAGE = MEDIA / "character.png"
SOUND_RATE = 48_000


@dataclass(frozen=True)
class Clip:
    """A video with moving pictures.

    Attributes:
        rate: frames per second.
        frames: how many it has.
        sound: whether it has a tone as long as its pictures.
        grey: one shade in every frame; None for a pattern that moves.
        skipped: frames that are left out, so that the one before is shown longer.
    """

    size: tuple[int, int] = (320, 180)
    rate: Fraction = Fraction(16)
    frames: int = 32
    sound: bool = True
    grey: int | None = None
    skipped: frozenset[int] = frozenset()
    codec: str = "libx264"

    def write(self, path: Path) -> Path:
        """Write it as MP4, or as WebM after the name."""
        import av

        with av.open(path, "w") as file:
            quick = {"preset": "ultrafast"} if self.codec == "libx264" else {"cpu-used": "8"}
            video: Any = file.add_stream(self.codec, rate=self.rate, options=quick)
            video.width, video.height, video.pix_fmt = *self.size, "yuv420p"
            sound: Any = None
            if self.sound:
                codec = "libopus" if path.suffix == ".webm" else "aac"
                sound = file.add_stream(codec, rate=SOUND_RATE, layout="mono")
            packets = [p for frame in self._pictures() for p in video.encode(frame)]
            packets += video.encode(None)
            if sound is not None:
                packets += [p for frame in self.tones() for p in sound.encode(frame)]
                packets += sound.encode(None)
            packets.sort(key=lambda p: (p.dts or 0) * Fraction(*_pair(p.time_base)))
            file.mux(packets)
        return path

    def _pictures(self) -> Iterator[Any]:
        import av

        for at in range(self.frames):
            if at in self.skipped:
                continue
            frame = av.VideoFrame(*self.size, "yuv420p")
            for number, plane in enumerate(frame.planes):
                plane.update(self._plane(number, at, plane.line_size, plane.height))
            frame.pts, frame.time_base = at, 1 / self.rate
            yield frame

    def _plane(self, number: int, at: int, width: int, height: int) -> bytes:
        if number or self.grey is not None:
            return bytes([128 if number else self.grey or 0]) * (width * height)
        row = bytes(40 + (x + 4 * at) % 160 for x in range(width))
        return row * height

    def tones(self) -> Iterator[Any]:
        import av

        for start in range(0, int(self.frames / self.rate * SOUND_RATE) - 959, 960):
            frame = av.AudioFrame("s16", "mono", 960)
            frame.planes[0].update(bytes(x % 100 for x in range(1920)))
            frame.sample_rate, frame.pts = SOUND_RATE, start
            yield frame


CLIPS = {
    "sample": None,
    "upright": Clip((180, 320), Fraction(30000, 1001), 61),
    "square, silent": Clip((240, 240), Fraction(25), 77, sound=False),
    "wide": Clip((420, 180), Fraction(24), 49),
    "slow": Clip((320, 240), Fraction(8), 24),
    "uneven": Clip((320, 180), Fraction(30), 62, skipped=frozenset({7, 8, 20, 40, 41, 42})),
}
"""None stands for the sandbox's own sample clip, of 8 s."""


UNKNOWN = SourceClip()


def record_of(source: SourceClip = UNKNOWN, **arguments: Any) -> Record:
    """The record of a job with these arguments, in our names."""
    return Record(
        submission_id="sub_1",
        account="a",
        state=State.COMPLETED,
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
        owner="o",
        arguments=arguments,
        source_seconds=source.seconds,
        source_frames_per_second=source.frames_per_second,
        source_has_sound=source.has_sound,
    )


def drawn_order(chance: random.Random, longest: float, most_seconds: int) -> dict[str, Any]:
    """The arguments of one order, in our names; each of the optional ones is often left out."""
    whole = max(1, min(15, most_seconds, int(longest + 0.1)))
    optional: dict[str, list[Any]] = {
        "resolution": ["480", "720"],
        "frames_per_second": list(range(8, 31)),
        "merge_audio": [True, False],
        "go_fast": [True],
        "references": [1, 5],
    }
    order: dict[str, Any] = {"seconds": chance.randint(1, whole), "seed": chance.randrange(99)}
    for name, values in optional.items():
        if chance.random() < 0.6:
            order[name] = chance.choice(values)
    return order


def false_alarms(
    count: int, seed: int, folder: Path, *, most_seconds: int = 15, small: bool = False
) -> Iterator[tuple[str, dict[str, Any], list[Difference]]]:
    """Render and inspect good videos. Yields for each its clip, its order, and what differs.

    Args:
        most_seconds: the longest length that is ordered.
        small: never order 720 lines, which take four times as long.
    """
    from wan_mcp.sandbox.videos.render import render

    chance = random.Random(seed)
    clips = {name: clip_file(name, folder) for name in CLIPS}
    for number in range(count):
        name = list(CLIPS)[number % len(CLIPS)]
        seconds = seen(clips[name], 1).seconds or 1.0
        order = drawn_order(chance, seconds, most_seconds)
        if small and "resolution" in order:
            order["resolution"] = "480"
        video = folder / f"video-{number}.mp4"
        render(clips[name], IMAGE, body_of(order), video)
        record = record_of(seen(clips[name], order["seconds"]), **order)
        yield name, order, asyncio.run(inspect(video, record))
        video.unlink()


def clip_file(name: str, folder: Path) -> Path:
    """The file of a clip."""
    clip = CLIPS[name]
    return MEDIA / "clip.mp4" if clip is None else clip.write(folder / f"{name}.mp4")


def seen(clip: Path, wanted_seconds: int) -> SourceClip:
    """What the preflight keeps of a clip."""
    content = ByteRanges()
    data = clip.read_bytes()
    content.total = len(data)
    content.add(0, data)
    return source_clip(probe(content, "mov"), wanted_seconds)


def body_of(order: dict[str, Any]) -> dict[str, Any]:
    """An order in PixelDojo's names."""
    names = {"seconds": "video_duration", "references": "refert_num"}
    return {"resolution": "480"} | {names.get(name, name): value for name, value in order.items()}


def _pair(value: Any) -> tuple[int, int]:
    return value.numerator, value.denominator


def main(arguments: list[str]) -> int:
    """Print what differs in good videos; 1 if anything does."""
    count, seed, *_ = [*map(int, arguments), *[200, 1][len(arguments) :]]
    alarms = 0
    with TemporaryDirectory() as folder:
        looks = false_alarms(count, seed, Path(folder))
        for number, (name, order, differences) in enumerate(looks, 1):
            alarms += bool(differences)
            if differences:
                sys.stdout.write(f"{number}: {name} {order}: {differences}\n")
    sys.stdout.write(f"{count} good videos, {alarms} false alarms\n")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
