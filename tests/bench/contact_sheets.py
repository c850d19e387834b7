"""How far contact sheets are from what FFmpeg's own program shows, over all kinds of videos.

Run it by hand, from the root of the project::

    python -m tests.bench.contact_sheets [FFMPEG]

FFMPEG is the program, by default `ffmpeg`. Videos of four fields, of every orientation, several
shapes of pixels and every coding of colours, with and without a cover as the first stream, are
shown by both; and the sandbox's own video. Printed are the largest differences of the size, of the
edges between the fields, and of the colours in their middles. If a tolerance is exceeded, the exit
code is 1.
"""

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av

import wan_mcp
from tests.videos.test_display import (
    BT_601,
    BT_709,
    BT_2020,
    COLOUR_TOLERANCE,
    FULL,
    LIMITED,
    ORIENTATIONS,
    PIXEL_TOLERANCE,
    UNSPECIFIED,
    Clip,
    cover_first,
    first_step,
)
from wan_mcp.inputs.preparing.display import MAX_SD_HEIGHT
from wan_mcp.videos.contact_sheet import draw_contact_sheet

SHAPES = [Fraction(1), Fraction(4, 3), Fraction(32, 27), Fraction(1, 2)]
CODINGS = [
    *(
        Clip(coded=matrix, full=full, colorspace=matrix, color_range=FULL if full else LIMITED)
        for matrix in (BT_601, BT_709, BT_2020)
        for full in (False, True)
    ),
    Clip(coded=BT_709, colorspace=BT_709, color_range=0),
    Clip(coded=BT_601, colorspace=UNSPECIFIED, color_range=0),
]
HD = [
    Clip(coded=BT_601, size=(960, 720)),
    Clip(coded=BT_709, colorspace=BT_709, size=(960, 720)),
    Clip(coded=BT_709, colorspace=UNSPECIFIED, color_range=0, size=(960, 720)),
]
VIDEO = Path(wan_mcp.__file__).parent / "sandbox/media/result.mp4"
BLOCK = 16
"""The sandbox's video is compared by the mean of squares of so many pixels: JPEG blurs finer."""


def clips() -> Iterator[Clip]:
    for coding, sar, (matrix, _) in product(CODINGS, SHAPES, ORIENTATIONS.values()):
        yield replace(coding, sar=sar, matrix=matrix)
    for coding, (matrix, _) in product(HD, ORIENTATIONS.values()):
        yield replace(coding, matrix=matrix)


class Picture:
    """An image in red, green and blue."""

    def __init__(self, data: bytes) -> None:
        with av.open(io.BytesIO(data), "r") as image:
            frame = next(image.decode(video=0))
        self.width, self.height = frame.width, frame.height
        plane = frame.reformat(format="rgb24").planes[0]
        self._data, self._line = bytes(plane), plane.line_size

    def colour(self, x: int, y: int) -> tuple[int, ...]:
        at = y * self._line + 3 * x
        return tuple(self._data[at : at + 3])

    def brightness(self, x: int, y: int) -> int:
        red, green, blue = self.colour(x, y)
        return round(0.299 * red + 0.587 * green + 0.114 * blue)

    def edges(self) -> tuple[int, int]:
        return (
            first_step([self.brightness(x, 8) for x in range(self.width)]),
            first_step([self.brightness(8, y) for y in range(self.height)]),
        )

    def middles(self) -> list[tuple[int, ...]]:
        x, y = self.edges()
        columns, rows = (x // 2, (x + self.width) // 2), (y // 2, (y + self.height) // 2)
        return [self.colour(column, row) for row in rows for column in columns]

    def means(self) -> list[tuple[float, ...]]:
        """The mean colours of the squares, row by row."""
        starts = product(
            range(0, self.height - BLOCK + 1, BLOCK), range(0, self.width - BLOCK + 1, BLOCK)
        )
        return [self._mean(x, y) for y, x in starts]

    def _mean(self, x: int, y: int) -> tuple[float, ...]:
        inside = [self.colour(x + dx, y + dy) for dx in range(BLOCK) for dy in range(BLOCK)]
        return tuple(sum(parts) / BLOCK**2 for parts in zip(*inside, strict=True))


def player(ffmpeg: str, path: Path, *steps: str) -> Picture:
    """The first frame after these steps; the program turns it by itself."""
    command = [ffmpeg, "-v", "error", "-i", f"{path}", "-map", "0:V:0", "-vf", ",".join(steps)]
    command += ["-frames:v", "1", "-pix_fmt", "rgb24", "-c:v", "png", "-f", "image2pipe", "-"]
    return Picture(subprocess.run(command, check=True, capture_output=True).stdout)


def steps_for(clip: Clip) -> list[str]:
    """What ffplay does after the turn: it stretches pixels, and it leaves to SDL what a file does
    not say of its colours (the program ffmpeg takes BT.601 then)."""
    is_turned = bool(clip.matrix[1])
    height = clip.size[0] if is_turned else clip.size[1]
    is_hd = clip.colorspace == UNSPECIFIED and height > MAX_SD_HEIGHT
    # The stored height is what a contact sheet keeps; a turn makes it the width.
    scale = "scale=iw:trunc(ih/sar/2+0.5)*2" if is_turned else "scale=trunc(iw*sar/2+0.5)*2:ih"
    return ["setparams=colorspace=bt709", scale] if is_hd else [scale]


def largest(found: Any, wanted: Any) -> float:
    """The largest difference of numbers, or of tuples of them."""
    if isinstance(found, (int, float)):
        return float(abs(found - wanted))
    return max(largest(*pair) for pair in zip(found, wanted, strict=True))


def differences(ffmpeg: str, path: Path, clip: Clip) -> tuple[float, float, float]:
    """Of the size, the edges and the colours."""
    sheet = Picture(draw_contact_sheet(path))
    shown = player(ffmpeg, path, *steps_for(clip))
    return (
        largest((sheet.width, sheet.height), (shown.width, shown.height)),
        largest(sheet.edges(), shown.edges()),
        largest(sheet.middles(), shown.middles()),
    )


def main(ffmpeg: str = "ffmpeg") -> int:
    rows: list[tuple[float, float, float]] = []
    with TemporaryDirectory() as folder:
        for number, clip in enumerate(clips()):
            path = clip.written(Path(folder) / f"{number}.mp4")
            if number % 2:
                path.write_bytes(cover_first(path.read_bytes()))
            rows.append(found := differences(ffmpeg, path, clip))
            if max(found[:2]) > PIXEL_TOLERANCE or found[2] > COLOUR_TOLERANCE:
                print(found, clip)
            path.unlink()
    size, edges, colours = (max(column) for column in zip(*rows, strict=True))
    print(f"{len(rows)} videos: size {size} px, edges {edges} px, colours {colours} of 255")
    sheet = Picture(draw_contact_sheet(VIDEO, frames=1, max_bytes=1 << 20))
    middle = player(ffmpeg, VIDEO, f"select=eq(n\\,{frame_count() // 2})")
    real = largest(sheet.means(), middle.means())
    print(f"the sandbox's video: colours {real:.1f} of 255")
    return int(max(size, edges) > PIXEL_TOLERANCE or max(colours, real) > COLOUR_TOLERANCE)


def frame_count() -> int:
    with av.open(VIDEO, "r") as file:
        return sum(1 for _ in file.decode(video=0))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
