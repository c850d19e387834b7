"""What a file has beside its pictures and its sound is found, whatever it is called."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inputs.hostile import box
from tests.inputs.preparing.clips import Clip
from wan_mcp.inputs.preparing.extras import Extras, extras_of

NONE, SOME, LOCATION = Extras


def found(data: bytes) -> Extras:
    return extras_of(io.BytesIO(data))


HANDLER = bytes(8) + b"%b" + bytes(12)
PLAIN = box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", bytes(100))) + box(b"mdat", b"x" * 9)
QUICKTIME_KEYS = box(
    b"meta", box(b"hdlr", HANDLER % b"mdta") + box(b"keys", b"com.apple.quicktime.location.ISO6709")
)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (b"", NONE),
        (box(b"free", bytes(20)), NONE),
        (box(b"free", b"GoPro HERO"), SOME),
        (box(b"uuid", b"jumbf c2pa"), SOME),
        (box(b"moov", box(b"udta", b"")), NONE),
        (box(b"moov", box(b"udta", box(b"\xa9xyz", b"+48.8+2.2/"))), LOCATION),
        (box(b"moov", box(b"udta", box(b"loci", b"Paris"))), LOCATION),
        (box(b"moov", box(b"udta", box(b"\xa9mak", b"Pomme"))), SOME),
        (box(b"moov", QUICKTIME_KEYS), LOCATION),
        (box(b"moov", box(b"trak", box(b"mdia", box(b"hdlr", HANDLER % b"vide")))), NONE),
        (box(b"moov", box(b"trak", box(b"mdia", box(b"hdlr", HANDLER % b"meta")))), SOME),
        (box(b"moov", box(b"meta", bytes(4) + box(b"ilst", box(b"\xa9too", b"Lavf")))), NONE),
        (box(b"moov", box(b"mvhd", bytes(4) + b"\xe0" + bytes(95))), SOME),
        (box(b"moov", box(b"trak", box(b"tkhd", b"\1" + bytes(18) + b"\xe0" + bytes(76)))), SOME),
        (box(b"moov", box(b"trak", box(b"mdia", box(b"mdhd", bytes(12) + b"\xe0" * 12)))), NONE),
        (box(b"sefd", b"appended by a phone"), SOME),
        (b"\0\0\xff\xffmdat and cut off", SOME),
        (box(b"wide", b"") * 20_001, SOME),
    ],
)
def test_every_box_that_no_player_needs_counts(more: bytes, expected: Extras) -> None:
    """And a location is known by its name (ours)."""
    assert found(PLAIN + more) is expected


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    return len(body).to_bytes(4) + kind + body + bytes(4)


def _png(*chunks: bytes, after: bytes = b"") -> bytes:
    inside = b"".join((_chunk(b"IHDR", bytes(13)), *chunks, _chunk(b"IDAT", b"x")))
    return b"\x89PNG\r\n\x1a\n" + inside + _chunk(b"IEND") + after


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def _jpeg(*segments: bytes, after: bytes = b"") -> bytes:
    scan = _segment(0xDA, b"12345678") + b"coded" + b"\xff\xd9"
    return b"\xff\xd8" + b"".join((_segment(0xE0, b"JFIF\0"), *segments)) + scan + after


def _webp(*chunks: tuple[bytes, bytes], after: bytes = b"") -> bytes:
    inside = b"WEBP" + b"".join(
        kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)
        for kind, body in ((b"VP8 ", b"pixels"), *chunks)
    )
    return b"RIFF" + len(inside).to_bytes(4, "little") + inside + after


GPS = b"II*\0\x08\0\0\0\x01\0\x25\x88\x04\0\x01\0\0\0"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_png(), NONE),
        (_png(_chunk(b"iCCP", b"sRGB")), NONE),
        (_png(_chunk(b"eXIf", GPS)), LOCATION),
        (_png(_chunk(b"caBX", b"c2pa")), SOME),
        (_png(after=b"more"), SOME),
        (_png()[:-20], SOME),
        (_jpeg(), NONE),
        (_jpeg(_segment(0xE2, b"ICC_PROFILE\0\1\1")), NONE),
        (_jpeg(_segment(0xE2, b"MPF\0")), SOME),
        (_jpeg(_segment(0xE1, b"Exif\0\0" + GPS)), LOCATION),
        (_jpeg(_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0 exif:GPSLatitude")), LOCATION),
        (_jpeg(_segment(0xEB, b"JP c2pa")), SOME),
        (_jpeg(_segment(0xFE, b"a comment")), SOME),
        (_jpeg(after=b"ftypmp42 \xa9xyz"), LOCATION),
        (b"\xff\xd8\xff\xe0", SOME),
        (_webp(), NONE),
        (_webp((b"EXIF", GPS)), LOCATION),
        (_webp((b"XMP ", b"odd")), SOME),
        (_webp(after=b"more"), SOME),
        (b"GIF89a", SOME),
    ],
)
def test_every_part_of_a_picture_that_no_viewer_needs_counts(data: bytes, expected: Extras) -> None:
    """Exif, XMP, C2PA, comments, and what is appended (ours)."""
    assert found(data) is expected


def test_a_clip_of_ffmpeg_has_nothing_of_that(tmp_path: Path) -> None:
    """So it needs no rewriting (ours)."""
    pytest.importorskip("av")
    path = Clip(frames=3).written(tmp_path / "a.mp4")

    assert found(path.read_bytes()) is NONE


@pytest.mark.parametrize("make", [_png, _jpeg, _webp])
def test_a_picture_that_is_cut_anywhere_is_no_error(make: Callable[[], bytes]) -> None:
    """It is looked at before anything else can refuse it (ours)."""
    data = make()
    for length in range(16, len(data)):
        assert found(data[:length]) in Extras
