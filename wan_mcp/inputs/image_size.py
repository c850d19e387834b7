"""The size of a picture, read from its header.

Not through libav, which decodes a picture to learn its size: a small hostile file can unpack to
gigabytes.
"""

import struct

_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EXIF = 0xE1
_ORIENTATION = 0x0112
_ON_ITS_SIDE = range(5, 9)


def size_of(head: bytes) -> tuple[int, int] | None:
    """Width and height as they are shown, or None where the first bytes do not tell."""
    try:
        width, height = _size(head)
    except struct.error:
        return None
    return (width, height) if width and height else None


def _size(head: bytes) -> tuple[int, int]:
    """Raises: struct.error when the header is not all there."""
    if head[:4] == b"\x89PNG":
        return _pair(">II", head, 16)
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(head)
    if head[8:12] == b"WEBP":
        return _webp(head)
    return (0, 0)


def _pair(form: str, head: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, head, at)
    return int(first), int(second)


def _webp(head: bytes) -> tuple[int, int]:
    if head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = _pair("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(head: bytes) -> tuple[int, int]:
    at, on_its_side = 2, False
    while at < len(head) and head[at] == 0xFF:
        marker, length = struct.unpack_from(">xBH", head, at)
        if marker in _FRAME_HEADERS:
            height, width = _pair(">HH", head, at + 5)
            return (height, width) if on_its_side else (width, height)
        if marker == _EXIF and head[at + 4 : at + 10] == b"Exif\0\0":
            on_its_side = _is_on_its_side(head[at + 10 : at + 2 + length])
        at += 2 + length
    return (0, 0)


def _is_on_its_side(exif: bytes) -> bool:
    """Phones keep the sensor's picture and note how the phone was held."""
    order = "<" if exif[:2] == b"II" else ">"
    (entries,) = struct.unpack_from(f"{order}4xI", exif)
    (count,) = struct.unpack_from(f"{order}H", exif, entries)
    for number in range(count):
        tag, value = struct.unpack_from(f"{order}H6xH", exif, entries + 2 + 12 * number)
        if tag == _ORIENTATION:
            return value in _ON_ITS_SIDE
    return False
