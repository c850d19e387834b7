"""What a file contains beside its pictures and sound: where, when and with what it was made.

There are too many names for this to list them all: `©xyz`, `loci`, Apple's keys, Exif, XMP, IPTC,
C2PA, the tracks of action cameras, and what phones append after the end. So the parts that a
program needs to show the file are listed, and everything else counts as an extra. This reads only
the structure and decodes nothing.
"""

import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO

from wan_mcp.inputs.boxes import box_head

REMOVED = "freed of everything that says where, when and with what it was recorded"
"""The change that removes the extras, in words that follow "was"."""
MAX_PARTS = 20_000
"""How many parts of one file are followed; a clip in fragments has thousands (ours)."""
MAX_PART_BYTES = 1 << 20
"""How many bytes of an unknown part are searched for a location (ours)."""
MAX_IMAGE_BYTES = 50 << 20
"""A larger image is not read: it counts as one with extras (ours)."""


class Extras(IntEnum):
    """How much a file has beside its pictures and its sound."""

    NONE = 0
    SOME = 1
    """Something that no program needs to show it."""
    LOCATION = 2
    """Such a thing whose name says that it is where the file was recorded."""


_LOCATION = re.compile(
    rb"\xa9xyz|loci|[Ll]ocation|GPS|gpmd|camm|\x88\x25\x00\x04|\x25\x88\x04\x00", re.DOTALL
)
"""Names of 3GPP, Android, Apple, XMP and action cameras; the last two are Exif's tag of its GPS
part, in both orders of bytes (documented and observed elsewhere)."""

_CONTAINERS = frozenset(
    b"moov trak mdia minf stbl edts dinf mvex moof traf udta meta ilst tapt".split()
)
_NEEDED = frozenset(
    b"ftyp styp mdat wide sidx mfra pdin iods mehd trex trep elst vmhd smhd nmhd "
    b"dref stsd stts ctts cslg stss stsz stz2 stsc stco co64 sgpd sbgp sdtp stps clef prof enof "
    b"load mfhd tfhd tfdt trun \xa9too".split()
)
"""Boxes that say how to play a file, and which program wrote it (documented)."""
_DATED = {b"mvhd", b"tkhd", b"mdhd"}
"""Boxes that are needed, and begin with the dates when the file was made and last changed
(documented). Zero means that there is no date."""
_FILLERS = {b"free", b"skip"}
_HANDLERS = {b"vide", b"soun", b"mdir"}
_PNG_NEEDED = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT pHYs bKGD".split())
_WEBP_NEEDED = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"ANIM", b"ANMF"))
_JPEG_NEEDED = {0xE0: b"JF", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""The application segments that decoders use, and the beginning of each (documented)."""
_JPEG_COMMENT, _JPEG_SCAN = 0xFE, 0xDA


def extras_of(file: BinaryIO) -> Extras:
    """How much the file has beside its pictures and its sound; SOME for an unknown format."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        found = _in_boxes(file, 0, file.seek(0, 2), [MAX_PARTS])
    elif head[:4] == b"\x89PNG":
        found = _in_png(_whole(file))
    elif head[:3] == b"\xff\xd8\xff":
        found = _in_jpeg(_whole(file))
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        found = _in_webp(_whole(file))
    else:
        found = iter((Extras.SOME,))
    return max(found, default=Extras.NONE)


def _of(data: bytes) -> Extras:
    return Extras.LOCATION if _LOCATION.search(data) else Extras.SOME


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(MAX_IMAGE_BYTES + 1)


def _in_boxes(file: BinaryIO, at: int, end: int, left: list[int]) -> Iterator[Extras]:
    """The extras among the boxes from `at` to `end`.

    Args:
        left: a list with one number, which is counted down: how many boxes may still be followed.
    """
    while at + 8 <= end:
        left[0] -= 1
        file.seek(at)
        head = file.read(16)
        size, kind, header = box_head(head, 0, len(head)) if len(head) >= 8 else (-1, b"", 8)
        size = size or end - at
        if size < header or at + size > end or left[0] < 0:
            yield Extras.SOME  # no box, but appended data; or more boxes than are followed
            return
        yield from _in_box(file, kind, at + header, at + size, left)
        at += size


def _in_box(file: BinaryIO, kind: bytes, at: int, end: int, left: list[int]) -> Iterator[Extras]:
    file.seek(at)
    if kind in _CONTAINERS:
        # In an MP4, but not in a MOV, a version comes before the boxes in a box of metadata.
        versioned = kind == b"meta" and file.read(4) == bytes(4)
        yield from _in_boxes(file, at + 4 * versioned, end, left)
    elif kind in _DATED:
        if _has_date(file.read(20)):
            yield Extras.SOME
    elif kind not in _NEEDED:
        body = file.read(min(end - at, MAX_PART_BYTES))
        is_needed = kind == b"hdlr" and (body[8:12] in _HANDLERS or body[4:8] == b"dhlr")
        is_empty = kind in _FILLERS and end - at <= len(body) and not any(body)
        if not (is_needed or is_empty):
            yield _of(kind + body)


def _has_date(head: bytes) -> bool:
    """Whether a dated box has a date: after its version are two, of 8 bytes or of 4 each."""
    return any(head[4 : 20 if head[:1] == b"\1" else 12])


def _in_png(data: bytes) -> Iterator[Extras]:
    at = 8
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind not in _PNG_NEEDED:
            yield _of(data[at:end])
        at = end
        if kind == b"IEND":
            break
    if at != len(data):
        yield _of(data[at:])


def _in_webp(data: bytes) -> Iterator[Extras]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if kind not in _WEBP_NEEDED:
            yield _of(data[at:end])
        at = end
    if int.from_bytes(data[4:8], "little") + 8 < len(data) - 1:
        yield Extras.SOME


def _in_jpeg(data: bytes) -> Iterator[Extras]:
    at = 2
    for _ in range(MAX_PARTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            yield Extras.SOME
            return
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == _JPEG_SCAN:
            break
        body = data[at + 4 : at + 2 + length]
        is_application = 0xE0 <= marker <= 0xEF
        needed = _JPEG_NEEDED.get(marker)
        is_needed = needed is not None and body.startswith(needed)
        if marker == _JPEG_COMMENT or (is_application and not is_needed):
            yield _of(body)
        at += 2 + length
    if (end := data.find(b"\xff\xd9", at)) >= 0 and end + 2 < len(data):
        yield _of(data[end + 2 :])  # a clip, a depth map or a second picture of a phone
