"""A contact sheet shows a video as a player does: upright, in its shape, in its colours.

Each video has four fields, whose colours, sizes and coding are known because the test computes
the stored numbers itself; and it reads the sheet's numbers itself, as JFIF says.
"""

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.inputs.hostile import box, full_box
from wan_mcp.videos.contact_sheet import draw_contact_sheet

av: Any = pytest.importorskip("av")

Colour = tuple[int, int, int]

FIELDS: tuple[Colour, ...] = ((200, 40, 60), (60, 190, 80), (50, 70, 210), (220, 205, 90))
"""In the stored picture: top left, top right, bottom left, bottom right."""
COLOUR_TOLERANCE, PIXEL_TOLERANCE = 4, 2

UNSPECIFIED, LIMITED, FULL = 2, 1, 2
BT_709, BT_470BG, BT_601, YCGCO, BT_2020 = 1, 5, 6, 8, 9
RED_AND_BLUE_SHARES = {
    BT_709: (0.2126, 0.0722),
    BT_470BG: (0.299, 0.114),
    BT_601: (0.299, 0.114),
    BT_2020: (0.2627, 0.0593),
}
"""The shares of red and blue in the brightness (ITU-R BT.601, BT.709 and BT.2020, documented)."""


@dataclass(frozen=True)
class Clip:
    """A video of one picture, and how it is stored.

    Attributes:
        size: of the stored picture.
        matrix: the numbers a, b, c and d of its display matrix.
        sar: how many times as wide as high its pixels are.
        coded: in which colours its fields are really coded.
        full: whether they really have the full range.
        colorspace: what the file says of it.
        color_range: the same for the range; 0 is "unspecified".
    """

    size: tuple[int, int] = (320, 180)
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)
    sar: Fraction = Fraction(1)
    coded: int = BT_601
    full: bool = False
    colorspace: int = BT_601
    color_range: int = LIMITED

    @property
    def split(self) -> tuple[int, int]:
        """Where the fields meet: nearer to the left and to the top of the stored picture."""
        return self.size[0] // 4 & ~1, self.size[1] // 3 & ~1

    def written(self, path: Path) -> Path:
        with av.open(path, "w") as file:
            options = {"crf": "4", "preset": "ultrafast"}
            stream = file.add_stream("libx264", rate=16, options=options)
            stream.width, stream.height = self.size
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.colorspace, context.color_range = self.colorspace, self.color_range
            if self.sar != 1:
                context.sample_aspect_ratio = self.sar
            a, b, c, d = (number << 16 for number in self.matrix)
            stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
            file.mux(stream.encode(self.picture()))
            file.mux(stream.encode(None))
        return path

    def picture(self, form: str = "yuv420p") -> Any:
        frame = av.VideoFrame(*self.size, form)
        frame.colorspace, frame.color_range, frame.pts = self.colorspace, self.color_range, 0
        coded = [coded_as(colour, self.coded, full=self.full) for colour in FIELDS]
        for number, plane in enumerate(frame.planes):
            part = 2 if number else 1
            (x, y), width = (at // part for at in self.split), plane.width
            upper, lower = (
                bytes([left[number]] * x + [right[number]] * (width - x)).ljust(plane.line_size)
                for left, right in (coded[:2], coded[2:])
            )
            plane.update(upper * y + lower * (plane.height - y))
        return frame


def coded_as(colour: Colour, colorspace: int, *, full: bool) -> tuple[int, int, int]:
    """The numbers Y, Cb and Cr of a colour."""
    red, green, blue = (part / 255 for part in colour)
    kr, kb = RED_AND_BLUE_SHARES[colorspace]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    if full:
        return round(255 * y), round(128 + 255 * cb), round(128 + 255 * cr)
    return round(16 + 219 * y), round(128 + 224 * cb), round(128 + 224 * cr)


class Sheet:
    """A contact sheet, decoded."""

    def __init__(self, path: Path) -> None:
        with av.open(io.BytesIO(draw_contact_sheet(path))) as image:
            (frame,) = image.decode(video=0)
        assert frame.format.name == "yuvj420p"
        self.width, self.height = frame.width, frame.height
        self._planes = [(bytes(plane), plane.line_size) for plane in frame.planes]

    def colour(self, x: int, y: int) -> Colour:
        """Red, green and blue, as JFIF says (documented)."""
        luma, cb, cr = (
            data[(y >> shift) * line + (x >> shift)]
            for (data, line), shift in zip(self._planes, (0, 1, 1), strict=True)
        )
        red, blue = luma + 1.402 * (cr - 128), luma + 1.772 * (cb - 128)
        return round(red), round((luma - 0.299 * red - 0.114 * blue) / 0.587), round(blue)

    def fields(self, split: tuple[int, int]) -> list[Colour]:
        """The colours in the middles of the fields that meet there."""
        (x, y), (width, height) = split, (self.width, self.height)
        columns, rows = (x // 2, (x + width) // 2), (y // 2, (y + height) // 2)
        return [self.colour(column, row) for row in rows for column in columns]

    def edges(self) -> tuple[int, int]:
        """Where the fields meet: the first column and row on the other side."""
        data, line = self._planes[0]
        row, column = [data[x + 8 * line] for x in range(self.width)], data[8 : self.height * line]
        return first_step(row), first_step(list(column[::line]))


def first_step(values: list[int]) -> int:
    middle = (values[0] + values[-1]) / 2
    return next(at for at, value in enumerate(values) if (value > middle) != (values[0] > middle))


def assert_colours(found: list[Colour], wanted: list[Colour]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, abs=COLOUR_TOLERANCE)


ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), "0123"),
    "mirrored": ((-1, 0, 0, 1), "1032"),
    "turned-by-180": ((-1, 0, 0, -1), "3210"),
    "upside-down-mirrored": ((1, 0, 0, -1), "2301"),
    "mirrored-turned-by-270": ((0, 1, 1, 0), "0213"),
    "turned-by-90": ((0, 1, -1, 0), "2031"),
    "mirrored-turned-by-90": ((0, -1, -1, 0), "3120"),
    "turned-by-270": ((0, -1, 1, 0), "1302"),
}
"""A display matrix, and which stored field is where on the screen, row by row."""


@pytest.mark.parametrize(
    ("orientation", "sar"),
    [
        *((orientation, Fraction(4, 3)) for orientation in ORIENTATIONS),
        ("upright", Fraction(1)),
        ("turned-by-90", Fraction(1)),
        ("mirrored-turned-by-90", Fraction(1, 2)),
    ],
)
def test_a_video_stands_upright_in_its_shape(
    tmp_path: Path, orientation: str, sar: Fraction
) -> None:
    """By quarter turns and mirrors, and by the shape of its pixels (documented)."""
    matrix, order = ORIENTATIONS[orientation]
    clip = Clip(matrix=matrix, sar=sar)
    width, height = clip.size[0] * sar, Fraction(clip.size[1])
    x, y = clip.split[0] * sar, Fraction(clip.split[1])
    a, b, c, d = matrix
    if b:
        width, height, x, y = height, width, y, x
    split = (x if a + c > 0 else width - x), (y if b + d > 0 else height - y)

    sheet = Sheet(clip.written(tmp_path / "f.mp4"))

    assert (sheet.width, sheet.height) == pytest.approx((width, height), abs=PIXEL_TOLERANCE)
    assert sheet.edges() == pytest.approx(split, abs=PIXEL_TOLERANCE)
    assert_colours(sheet.fields(sheet.edges()), [FIELDS[int(number)] for number in order])


@pytest.mark.parametrize(
    "clip",
    [
        Clip(coded=BT_601),
        Clip(coded=BT_470BG, colorspace=BT_470BG),
        Clip(coded=BT_601, full=True, color_range=FULL),
        Clip(coded=BT_709, colorspace=BT_709),
        Clip(coded=BT_709, colorspace=BT_709, full=True, color_range=FULL),
        Clip(coded=BT_2020, colorspace=BT_2020),
        Clip(coded=BT_601, size=(1280, 720)),
        Clip(coded=BT_709, colorspace=BT_709, color_range=0),
        Clip(coded=BT_601, colorspace=UNSPECIFIED, color_range=0, size=(720, 576)),
        Clip(coded=BT_709, colorspace=UNSPECIFIED, color_range=0, size=(1280, 720)),
        Clip(coded=BT_601, colorspace=UNSPECIFIED, color_range=FULL, full=True, size=(1280, 720)),
        Clip(coded=BT_709, colorspace=UNSPECIFIED, size=(720, 480), matrix=(0, 1, -1, 0)),
        Clip(
            coded=BT_601,
            colorspace=UNSPECIFIED,
            size=(560, 320),
            matrix=(0, 1, -1, 0),
            sar=Fraction(4, 3),
        ),
        Clip(coded=BT_709, colorspace=YCGCO, size=(1280, 720)),
        Clip(coded=BT_709, colorspace=BT_709, matrix=(0, -1, -1, 0)),
    ],
    ids=str,
)
def test_a_video_has_its_own_colours(tmp_path: Path, clip: Clip) -> None:
    """As it says, or else as ffplay decides: by its lines, or by the range of JPEG (documented)."""
    sheet = Sheet(clip.written(tmp_path / "f.mp4"))

    assert_colours(sorted(sheet.fields(sheet.edges())), sorted(FIELDS))


def jpeg_of(frame: Any) -> bytes:
    """A frame as JPEG, nearly without loss."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base, encoder.qmin, encoder.qmax = Fraction(1), 2, 2
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an orientation."""
    entry = struct.pack(">HHIHxx", 0x112, 3, 1, orientation)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
    return jpeg[:2] + struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(("number", "orientation"), list(enumerate(ORIENTATIONS, start=1)))
def test_a_video_of_photos_stands_upright(tmp_path: Path, number: int, orientation: str) -> None:
    """Each of its pictures is a JPEG with an EXIF of its own (ours)."""
    path, clip = tmp_path / "f.mkv", Clip(full=True, color_range=FULL)
    with av.open(path, "w") as file:
        stream = file.add_stream("mjpeg", rate=16)
        stream.width, stream.height = clip.size
        stream.pix_fmt = "yuvj420p"
        packet = av.Packet(with_exif(jpeg_of(clip.picture("yuvj420p")), number))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 16)
        file.mux(packet)

    sheet = Sheet(path)

    order = ORIENTATIONS[orientation][1]
    assert_colours(sheet.fields(sheet.edges()), [FIELDS[int(field)] for field in order])


def cover_first(data: bytes) -> bytes:
    """The same MP4, whose cover is its first stream: it stands before the tracks."""
    at = data.index(b"moov") - 4
    index, end = data[at + 8 :], data.index(b"mvhd") - 4 - at - 8
    end += int.from_bytes(index[end : end + 4])
    handler = full_box(b"hdlr", bytes(4), b"mdirappl", bytes(9))
    picture = box(b"covr", box(b"data", (14).to_bytes(4), bytes(4), png()))
    cover = box(b"udta", full_box(b"meta", handler, box(b"ilst", picture)))
    return data[:at] + box(b"moov", index[:end], cover, index[end:])


def png() -> bytes:
    """A picture of one black pixel."""
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 1, 1, "rgb24", Fraction(1)
    (packet,) = encoder.encode(av.VideoFrame(1, 1, "rgb24"))
    return bytes(packet)


def test_a_cover_is_never_the_video(tmp_path: Path) -> None:
    """A player shows the moving pictures (documented)."""
    path = Clip().written(tmp_path / "f.mp4")
    path.write_bytes(cover_first(path.read_bytes()))
    with av.open(path) as file:
        assert [stream.codec_context.name for stream in file.streams.video] == ["png", "h264"]

    sheet = Sheet(path)

    assert_colours(sheet.fields(sheet.edges()), list(FIELDS))
