"""The size of an image, and whether its end is there, read from its first and its last bytes.

libav is not used for this, because it decodes the image, and a small hostile file can unpack to
gigabytes. Everything here is one pass over the bytes, and over at most MAX_PARTS parts.

It is certain that the end is missing if the file is shorter than a part of it says; or if it has
been read whole and has no end mark; or if its last bytes are still the inside of the coded picture.
If only the last bytes have no end mark, nothing is certain, because some programs append data of
their own. Nor is anything certain for an image with more than MAX_PARTS parts.
"""

import re
import struct
import zlib
from enum import Enum, auto
from itertools import islice

from wan_mcp.inputs.byte_ranges import ByteRanges

MAX_PARTS = 2_000
"""The most segments or chunks that are followed (ours): real images have a few hundred at most
(assumed), and half a megabyte of the smallest kept the server busy for 140 ms (measured)."""

_JPEG_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_EXIF = 0xE1
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = range(5, 9)
"""Values of the EXIF orientation that swap width and height."""

LAST_BYTES = 65_536
"""How many bytes of the end are read: several chunks of most PNGs (ours)."""

_JPEG_SCAN = 0xDA
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that does not occur inside a coded picture (ITU-T T.81, documented)."""
_JPEG_STUFFING = b"\xff\x00"
_LEAST_STUFFING = 16
"""This many such pairs show the inside of a coded picture, which has one per 256 bytes (ours)."""
_APPENDED_TO_JPEG = re.compile(rb"MPF\0|MotionPhoto|MicroVideo")
"""Marks by which a phone announces that more follows the picture (observed elsewhere)."""
_SAMSUNG_END = b"SEFT"
_PNG_DATA, _PNG_END = b"IDAT", b"IEND"
_MAX_PNG_ANCHORS = 4


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of an image in pixels, as it is displayed.

    None if the first bytes do not contain the size, or if the format is not PNG, JPEG, WebP, GIF or
    BMP.
    """
    try:
        width, height = _stored_size(head)
    except struct.error:
        return None
    return (width, height) if width and height else None


def _stored_size(head: bytes) -> tuple[int, int]:
    """Raises struct.error if the header is not complete."""
    if head[:4] == b"\x89PNG":
        return _pair(">II", head, 16)
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg_size(head)
    if head[8:12] == b"WEBP":
        return _webp_size(head)
    if head[:4] == b"GIF8":
        return _pair("<HH", head, 6)
    if head[:2] == b"BM":
        width, height = _pair("<ii", head, 18)
        return max(width, 0), abs(height)  # a negative height: the rows begin at the top
    return (0, 0)


def _pair(form: str, head: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, head, offset)
    return int(first), int(second)


def _webp_size(head: bytes) -> tuple[int, int]:
    if head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = _pair("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(head: bytes) -> tuple[int, int]:
    at, on_its_side = 2, False
    for _ in range(MAX_PARTS):
        if at >= len(head) or head[at] != 0xFF:
            break
        marker, length = struct.unpack_from(">xBH", head, at)
        if marker in _JPEG_FRAME_HEADERS:
            height, width = _pair(">HH", head, at + 5)
            return (height, width) if on_its_side else (width, height)
        if marker == _JPEG_EXIF and head[at + 4 : at + 10] == b"Exif\0\0":
            on_its_side = _is_on_its_side(head[at + 10 : at + 2 + length])
        at += 2 + length
    return (0, 0)


def _is_on_its_side(exif: bytes) -> bool:
    """Whether width and height are swapped: phones store the sensor's image and how it was held."""
    order = "<" if exif[:2] == b"II" else ">"
    (entries,) = struct.unpack_from(f"{order}4xI", exif)
    (count,) = struct.unpack_from(f"{order}H", exif, entries)
    for number in range(count):
        tag, value = struct.unpack_from(f"{order}H6xH", exif, entries + 2 + 12 * number)
        if tag == _EXIF_ORIENTATION:
            return value in _QUARTER_TURNS
    return False


class End(Enum):
    """What the bytes show of an image's end."""

    UNKNOWN = auto()
    """Nothing shows that it is missing; always so for formats other than PNG, JPEG and WebP."""
    UNREAD = auto()
    """The last bytes have not been read, and would show more."""
    DOUBTFUL = auto()
    """There is no end mark in the last bytes."""
    MISSING = auto()
    """The file has certainly been cut off."""


def end_of(content: ByteRanges) -> End:
    """What the bytes that have been read show of an image's end."""
    head, total = content.read(0, content.known), content.total
    if total is None:
        return End.UNKNOWN
    tail = content.read(max(0, total - LAST_BYTES), LAST_BYTES)
    if len(tail) < min(total, LAST_BYTES):
        tail = b""  # its end has not been read
    if head[:4] == b"\x89PNG":
        return _end_of_png(head, tail, total)
    if head[:3] == b"\xff\xd8\xff":
        return _end_of_jpeg(head, tail, total)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        # libwebp refuses a file that is shorter than it says (documented).
        is_short = int.from_bytes(head[4:8], "little") + 8 > total
        return End.MISSING if is_short else End.UNKNOWN
    return End.UNKNOWN


def _end_of_png(head: bytes, tail: bytes, total: int) -> End:
    if (end := _end_of_chunks(head, 8, total)) is not None:
        return end
    if not tail:
        return End.UNREAD
    if _PNG_END in tail:
        return End.UNKNOWN
    for found in islice(re.finditer(_PNG_DATA, tail), _MAX_PNG_ANCHORS):
        at = found.start() - 4
        if _is_chunk(tail, at) and _end_of_chunks(tail, at, len(tail)) is End.MISSING:
            return End.MISSING
    return End.DOUBTFUL


def _end_of_chunks(data: bytes, at: int, total: int) -> End | None:
    """What the chunks from here on show; None if they go on beyond the data.

    Args:
        total: where the file ends, counted as `at`.
    """
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return End.MISSING if at + 12 > total else None
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == _PNG_END or not kind.isalpha():
            return End.UNKNOWN  # the end mark, or no chunk: that fault is not a missing end
        at += 12 + length
    return End.UNKNOWN


def _is_chunk(data: bytes, at: int) -> bool:
    """Whether a whole chunk begins here, by its checksum."""
    if at < 0:
        return False
    (length,) = struct.unpack_from(">I", data, at)
    body = data[at + 4 : at + 8 + length]
    checksum = data[at + 8 + length : at + 12 + length]
    return len(checksum) == 4 and zlib.crc32(body) == int.from_bytes(checksum)


def _end_of_jpeg(head: bytes, tail: bytes, total: int) -> End:
    """The end of a JPEG. Its coded picture contains no end mark, but a thumbnail before it may."""
    at = 2
    for _ in range(MAX_PARTS):
        if at + 4 > len(head):
            return End.MISSING if at + 4 > total else End.UNKNOWN
        marker, length = struct.unpack_from(">xBH", head, at)
        if head[at] != 0xFF or marker == 0xFF or length < 2:
            return End.UNKNOWN
        if marker == _JPEG_SCAN:
            return _end_of_scans(head, at + 4, tail, total)
        at += 2 + length
    return End.UNKNOWN


def _end_of_scans(head: bytes, start: int, tail: bytes, total: int) -> End:
    if head.find(_JPEG_END, start) >= 0:
        return End.UNKNOWN
    if len(head) == total:
        return End.MISSING
    if not tail:
        return End.UNREAD
    if _JPEG_END in tail or tail.endswith(_SAMSUNG_END) or _APPENDED_TO_JPEG.search(head):
        return End.UNKNOWN
    is_inside = not _JPEG_MARKER.search(tail) and tail.count(_JPEG_STUFFING) >= _LEAST_STUFFING
    return End.MISSING if is_inside else End.DOUBTFUL
