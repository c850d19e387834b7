"""Draws the sandbox's sample videos and its image, so that the shipped files can be made again.

Run it by hand in an environment of its own, because nothing else needs its two libraries::

    pip install av pillow
    python tests/sandbox/make_media.py wan_mcp/sandbox/media
"""

import array
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, FRAMES_PER_SECOND = 480, 270, 16
AUDIO_RATE = 22_050
# Drawn at twice the size and shrunk: Pillow's shapes have hard edges.
SCALE = 2
GROUND = 228.0

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """One figure's colours, and whether it is the robot."""

    body: Colour
    trim: Colour
    legs: Colour
    shoes: Colour
    skin: Colour
    robot: bool = False


WALKER = Look((200, 62, 58), (240, 200, 90), (52, 66, 104), (44, 36, 34), (233, 188, 152))
ROBOT = Look((38, 148, 150), (250, 150, 50), (120, 132, 146), (60, 70, 84), (206, 216, 224), True)


class Canvas:
    """Drawing in the video's own units on an image of SCALE times the size."""

    def __init__(self, image: Any) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image, "RGBA")

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        x, y = (part * SCALE for part in centre)
        r = radius * SCALE
        self.draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    def box(self, corner: Point, size: Point, colour: tuple[int, ...], round_by: float = 0) -> None:
        (x, y), (w, h) = corner, size
        corners = [x * SCALE, y * SCALE, (x + w) * SCALE, (y + h) * SCALE]
        self.draw.rounded_rectangle(corners, round_by * SCALE, fill=colour)

    def limb(self, points: list[Point], thickness: float, colour: Colour) -> None:
        for start, end in pairwise(points):
            line = [(x * SCALE, y * SCALE) for x, y in (start, end)]
            self.draw.line(line, fill=colour, width=round(thickness * SCALE))
        for point in points:
            self.disc(point, thickness / 2, colour)

    def text(self, at: Point, words: str, size: float, colour: tuple[int, ...]) -> None:
        font = ImageFont.load_default(round(size * SCALE))
        position = (at[0] * SCALE, at[1] * SCALE)
        self.draw.text(position, words, fill=colour, font=font, anchor="mm")


def blank(size: Point, colour: Colour) -> Canvas:
    return Canvas(Image.new("RGB", (round(size[0] * SCALE), round(size[1] * SCALE)), colour))


def finished(canvas: Canvas) -> Any:
    width, height = canvas.image.size
    return canvas.image.resize((width // SCALE, height // SCALE), Image.Resampling.LANCZOS)


def scenery() -> Canvas:
    """Evening in the hills, with a path to walk on."""
    canvas = blank((WIDTH, HEIGHT), (0, 0, 0))
    for row in range(0, 190, 5):
        warmth = row / 190
        sky = (round(128 + 125 * warmth), round(180 + 36 * warmth), round(222 - 40 * warmth))
        canvas.box((0, row), (WIDTH, 6), sky)
    canvas.disc((372, 96), 30, (255, 238, 190))
    ridge(canvas, 138, 26, 0.021, (146, 150, 186))
    ridge(canvas, 164, 16, 0.034, (112, 142, 140))
    ridge(canvas, 184, 8, 0.019, (104, 154, 96))
    canvas.box((0, 196), (WIDTH, HEIGHT - 196), (122, 172, 98))
    canvas.polygon([(0, 216), (WIDTH, 212), (WIDTH, 246), (0, 252)], (222, 200, 158))
    for x, height in ((58, 62), (176, 44), (432, 70)):
        tree(canvas, x, height)
    return canvas


def ridge(canvas: Canvas, base: float, swing: float, pace: float, colour: Colour) -> None:
    line = [
        (float(x), base - swing * (math.sin(x * pace) + 0.5 * math.sin(x * pace * 2.7 + 1)))
        for x in range(0, WIDTH + 8, 8)
    ]
    canvas.polygon([*line, (WIDTH + 8, HEIGHT), (0, HEIGHT)], colour)


def tree(canvas: Canvas, x: float, height: float) -> None:
    canvas.box((x - 3, 212 - height * 0.5), (6, height * 0.5), (104, 78, 58))
    for side, up, radius in ((-0.2, 0.6, 0.25), (0.2, 0.62, 0.26), (0, 0.85, 0.28)):
        canvas.disc((x + side * height, 212 - up * height), radius * height, (64, 118, 78))


def bent(start: Point, first: float, second: float, length: float) -> list[Point]:
    """Two joined bones of one length, hanging from a joint at these angles."""
    x, y = start
    joint = (x + length * math.sin(first), y + length * math.cos(first))
    end = (joint[0] + length * math.sin(second), joint[1] + length * math.cos(second))
    return [start, joint, end]


def walk(canvas: Canvas, look: Look, seconds: float) -> None:
    """A figure on its way from left to right; both figures make the very same movements."""
    phase = 2 * math.pi * seconds * 0.95
    x = 70 + 40 * seconds
    hip = (x, GROUND - 50 - 1.6 * abs(math.sin(phase)))
    shoulder = (x + 2, hip[1] - 34)
    stride(canvas, look, hip, shoulder, phase + math.pi)
    torso(canvas, look, hip, shoulder)
    head(canvas, look, (shoulder[0] + 2, shoulder[1] - 17))
    leg(canvas, look, hip, phase)
    arm(canvas, look, shoulder, phase + math.pi)


def stride(canvas: Canvas, look: Look, hip: Point, shoulder: Point, phase: float) -> None:
    """The limbs on the far side, a little darker."""
    far = Look(dark(look.body), look.trim, dark(look.legs), dark(look.shoes), dark(look.skin))
    arm(canvas, far, shoulder, phase + math.pi)
    leg(canvas, far, hip, phase)


def dark(colour: Colour) -> Colour:
    red, green, blue = colour
    return (red * 3 // 4, green * 3 // 4, blue * 3 // 4)


def leg(canvas: Canvas, look: Look, hip: Point, phase: float) -> None:
    swing = 0.52 * math.sin(phase)
    knee = 0.75 * max(0.0, math.cos(phase + 0.3))
    points = bent(hip, swing, swing - knee, 24)
    canvas.limb(points, 10, look.legs)
    ankle = points[-1]
    canvas.limb([ankle, (ankle[0] + 8, ankle[1] + 1)], 7, look.shoes)


def arm(canvas: Canvas, look: Look, shoulder: Point, phase: float) -> None:
    swing = 0.5 * math.sin(phase)
    points = bent(shoulder, swing, swing + 0.45, 17)
    canvas.limb(points, 8, look.body)
    canvas.disc(points[-1], 4.5, look.skin)


def torso(canvas: Canvas, look: Look, hip: Point, shoulder: Point) -> None:
    if look.robot:
        canvas.box((hip[0] - 13, shoulder[1] - 5), (28, 46), look.body, 4)
        canvas.box((hip[0] - 1, shoulder[1] + 5), (12, 9), look.trim, 2)
        return
    canvas.limb([shoulder, hip], 24, look.body)
    canvas.limb(
        [(shoulder[0] - 6, shoulder[1] - 5), (shoulder[0] + 8, shoulder[1] - 5)], 7, look.trim
    )
    canvas.limb(
        [(shoulder[0] - 8, shoulder[1] - 4), (shoulder[0] - 20, shoulder[1] + 3)], 5, look.trim
    )


def head(canvas: Canvas, look: Look, centre: Point) -> None:
    x, y = centre
    if look.robot:
        canvas.limb([(x, y - 12), (x, y - 21)], 2, look.legs)
        canvas.disc((x, y - 22), 3.5, look.trim)
        canvas.box((x - 13, y - 12), (27, 23), look.skin, 5)
        canvas.box((x - 3, y - 6), (17, 10), (28, 40, 54), 3)
        canvas.disc((x + 8, y - 1), 2.6, (120, 240, 230))
        return
    canvas.disc((x - 2, y - 3), 13, (74, 48, 36))
    canvas.disc((x + 2, y + 1), 11, look.skin)
    canvas.box((x - 12, y - 15), (24, 9), (74, 48, 36), 4)
    canvas.disc((x + 8, y), 1.5, (40, 30, 30))


def stamp(canvas: Canvas) -> None:
    """The mark on everything the sandbox gives out."""
    canvas.box((14, 12), (156, 36), (214, 84, 20, 255), 8)
    canvas.text((92, 30), "SANDBOX", 27, (255, 255, 255, 255))
    canvas.box((0, 252), (WIDTH, 18), (20, 24, 32, 215))
    canvas.text(
        (WIDTH / 2, 261), "wan-mcp demo: nothing was rendered, nothing was paid", 12, (255,) * 4
    )


def portrait() -> Any:
    """The replacement character, as one would photograph it."""
    canvas = blank((300, 400), (214, 226, 232))
    canvas.disc((150, 190), 136, (190, 210, 220))
    canvas.box((74, 262), (152, 150), ROBOT.body, 26)
    canvas.box((114, 300), (72, 46), ROBOT.trim, 10)
    canvas.limb([(70, 296), (50, 400)], 40, dark(ROBOT.body))
    canvas.limb([(230, 296), (250, 400)], 40, dark(ROBOT.body))
    canvas.box((130, 236), (40, 34), ROBOT.legs)
    canvas.limb([(150, 102), (150, 66)], 8, ROBOT.legs)
    canvas.disc((150, 58), 15, ROBOT.trim)
    canvas.box((72, 100), (156, 142), ROBOT.skin, 30)
    canvas.box((90, 136), (120, 62), (28, 40, 54), 22)
    for x in (124, 176):
        canvas.disc((x, 166), 13, (120, 240, 230))
    canvas.limb([(126, 218), (174, 218)], 6, ROBOT.legs)
    return finished(canvas).quantize(48)


def frames(seconds: int, look: Look | None, *, marked: bool = False) -> Iterator[Any]:
    background = scenery()
    for number in range(seconds * FRAMES_PER_SECOND):
        canvas = Canvas(background.image.copy())
        if look is not None:
            walk(canvas, look, number / FRAMES_PER_SECOND)
        if marked:
            stamp(canvas)
        yield finished(canvas)


def tune(seconds: int) -> bytes:
    """Plucked notes in the walk's own time, as signed 16-bit samples."""
    notes = (262, 330, 392, 440, 392, 330, 294, 392)
    beat = AUDIO_RATE * 10 // 19
    samples = array.array("h")
    for at in range(seconds * AUDIO_RATE):
        count, age = divmod(at, beat)
        time = age / AUDIO_RATE
        turn = 2 * math.pi * notes[count % len(notes)] * time
        loudness = 7000 * math.exp(-5 * time) * min(1.0, time * 200)
        samples.append(round(loudness * (math.sin(turn) + 0.3 * math.sin(2 * turn))))
    return samples.tobytes()


def write_video(path: Path, seconds: int, look: Look | None, *, marked: bool = False) -> None:
    # faststart: a player, and our own inspection of the video, need the index first.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": "33", "preset": "veryslow", "g": "128", "threads": "1"}
        audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        audio.bit_rate = 14_000
        for image in frames(seconds, look, marked=marked):
            drawn = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]  # PyAV's gap
            container.mux(video.encode(drawn))
        container.mux(video.encode(None))
        add_audio(container, audio, tune(seconds))


def add_audio(container: Any, stream: Any, samples: bytes) -> None:
    for start in range(0, len(samples) // 2 - 1023, 1024):
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = AUDIO_RATE, start
        frame.planes[0].update(samples[2 * start : 2 * start + 2048])
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / "clip.mp4", 8, WALKER)
    write_video(folder / "no-person.mp4", 8, None)
    write_video(folder / "result.mp4", 5, ROBOT, marked=True)
    portrait().save(folder / "character.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
