"""The size of an image, and whether its end is there, read from its bytes.

libav is not used for that, because it decodes the image: a small hostile file can unpack to
gigabytes. Everything here is one pass over the bytes, and over no more parts than MAX_PARTS.
"""

import struct

MAX_PARTS = 2_000
"""The most segments or chunks that are followed (ours): real images have some hundreds at most
(assumed), and half a megabyte of the smallest kept the server busy for 140 ms (measured)."""

_JPEG_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_EXIF = 0xE1
_JPEG_SCAN = 0xDA
_JPEG_END = b"\xff\xd9"
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = range(5, 9)
"""Values of the EXIF orientation that swap width and height."""


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of an image in pixels, as it is displayed.

    None if the first bytes do not contain the size, or the format is not PNG, JPEG, WebP, GIF or
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


def is_cut_off(whole: bytes) -> bool:
    """Whether a PNG, JPEG or WebP lacks its end. False for other formats, and for what makes no
    sense.

    Args:
        whole: the whole file.
    """
    if whole[:4] == b"\x89PNG":
        return _png_is_cut_off(whole)
    if whole[:3] == b"\xff\xd8\xff":
        return _jpeg_is_cut_off(whole)
    if whole[:4] == b"RIFF" and whole[8:12] == b"WEBP":
        # libwebp refuses a file that is shorter than it says (documented).
        return int.from_bytes(whole[4:8], "little") + 8 > len(whole)
    return False


def _png_is_cut_off(whole: bytes) -> bool:
    at = 8
    for _ in range(MAX_PARTS):
        if at + 8 > len(whole):
            return True
        length, kind = struct.unpack_from(">I4s", whole, at)
        if kind == b"IEND" or not kind.isalpha():
            return False  # what is no chunk makes the file odd, which is another matter
        at += 12 + length
    return False


def _jpeg_is_cut_off(whole: bytes) -> bool:
    """An end mark cannot occur in the coded picture; before it, a thumbnail may have its own."""
    at = 2
    for _ in range(MAX_PARTS):
        if at + 4 > len(whole):
            return True
        marker, length = struct.unpack_from(">xBH", whole, at)
        if whole[at] != 0xFF or marker == 0xFF or length < 2:
            return False
        if marker == _JPEG_SCAN:
            return whole.find(_JPEG_END, at + 4) < 0
        at += 2 + length
    return False


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
    """Whether to swap width and height: phones store the sensor's image and how they were held."""
    order = "<" if exif[:2] == b"II" else ">"
    (entries,) = struct.unpack_from(f"{order}4xI", exif)
    (count,) = struct.unpack_from(f"{order}H", exif, entries)
    for number in range(count):
        tag, value = struct.unpack_from(f"{order}H6xH", exif, entries + 2 + 12 * number)
        if tag == _EXIF_ORIENTATION:
            return value in _QUARTER_TURNS
    return False
