"""The type of a file and the size of an image, read from the first bytes.

File names and HTTP headers are too often wrong. libav is not used for the size of an image,
because it decodes the image for that: a small hostile file can unpack to gigabytes.
"""

import re
import struct
from dataclasses import dataclass
from enum import Enum, auto

from wan_mcp.inputs.markup import root_element


class MediaType(Enum):
    """What a file contains, as far as it matters for the two inputs."""

    PAGE = auto()
    IMAGE = auto()
    ANIMATION = auto()
    """An animated image: it may or may not be accepted as a video or as an image."""
    VIDEO = auto()
    AUDIO = auto()
    OTHER = auto()


@dataclass(frozen=True)
class FileType:
    """One file format.

    Attributes:
        name: what a person calls it, with its article.
        common: whether practically every program reads it; PixelDojo documents no formats.
        demuxer: libav's name of the format, if its header alone says length and streams.
    """

    media_type: MediaType
    name: str
    common: bool = False
    demuxer: str = ""


_PAGE = FileType(MediaType.PAGE, "a web page")
_TEXT = FileType(MediaType.OTHER, "a text file")
_AUDIO = FileType(MediaType.AUDIO, "a sound file")
_ARCHIVE = FileType(MediaType.OTHER, "an archive")
_MP4 = FileType(MediaType.VIDEO, "an MP4 video", common=True, demuxer="mov")
_MOV = FileType(MediaType.VIDEO, "a MOV video", common=True, demuxer="mov")
_HEIC = FileType(MediaType.IMAGE, "a HEIC picture")
_ANIMATED_WEBP = FileType(MediaType.ANIMATION, "an animated WebP")
_ROOT_ELEMENTS = {
    **dict.fromkeys(("html", "head", "body", "title", "meta", "script"), _PAGE),
    "svg": FileType(MediaType.OTHER, "an SVG drawing"),
    "mpd": FileType(MediaType.OTHER, "a playlist"),
}
"""What markup is, by its first element or its document type."""

# The first match counts, so the more exact signatures come first. Every part has a fixed or a small
# length: strangers choose the bytes, and nothing here may go back and forth over them.
_SIGNATURES = tuple(
    (re.compile(signature, re.DOTALL), file_type)
    for signature, file_type in (
        (rb"\x89PNG\r\n\x1a\n", FileType(MediaType.IMAGE, "a PNG picture", common=True)),
        (rb"\xff\xd8\xff", FileType(MediaType.IMAGE, "a JPEG picture", common=True)),
        (rb"GIF8[79]a", FileType(MediaType.ANIMATION, "a GIF")),
        (rb"RIFF.{4}WEBP", FileType(MediaType.IMAGE, "a WebP picture", common=True)),
        (rb"RIFF.{4}AVI ", FileType(MediaType.VIDEO, "an AVI video")),
        (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|fLaC|FORM.{4}AIF[FC]|#!AMR", _AUDIO),
        (rb"OggS.{24,60}(?:\x01vorbis|OpusHead|\x7fFLAC|Speex)", _AUDIO),
        (rb"....ftyp(?:avif|avis)", FileType(MediaType.IMAGE, "an AVIF picture")),
        (rb"....ftyp(?:hei[cxms]|hev[cxms]|mif[12]|msf1)", _HEIC),
        (rb"....ftyp(?:M4A |M4B |M4P )", _AUDIO),
        (rb"....ftyp(?:crx |cr3 )", FileType(MediaType.IMAGE, "a raw camera picture")),
        (rb"....ftypqt  |....(?:moov|mdat|wide|skip|pnot)", _MOV),
        (rb"....ftyp", _MP4),
        (
            rb"\x1aE\xdf\xa3.{0,60}\x42\x82.webm",
            FileType(MediaType.VIDEO, "a WebM video", common=True, demuxer="matroska"),
        ),
        (rb"\x1aE\xdf\xa3", FileType(MediaType.VIDEO, "a Matroska video", demuxer="matroska")),
        (rb"FLV\x01", FileType(MediaType.VIDEO, "an FLV video")),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", FileType(MediaType.VIDEO, "a Windows Media file")),
        (rb"\0\0\x01\xba|(?:G.{187}){3}G", FileType(MediaType.VIDEO, "an MPEG stream")),
        (rb"II\*\0|MM\0\*", FileType(MediaType.IMAGE, "a TIFF picture")),
        (rb"8BPS\0\x01", FileType(MediaType.IMAGE, "a Photoshop picture")),
        (rb"\0\0\0\x0cJXL ", FileType(MediaType.IMAGE, "a JPEG XL picture")),
        (rb"%PDF-", FileType(MediaType.OTHER, "a PDF document")),
        (rb"PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x1f\x8b\x08", _ARCHIVE),
        (rb"#EXTM3U", FileType(MediaType.OTHER, "a playlist")),
    )
)
_NOT_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


_JPEG_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_EXIF = 0xE1
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = range(5, 9)
"""Values of the EXIF orientation that swap width and height."""


def file_type_of(head: bytes, content_type: str) -> FileType | None:
    """The type of a file, or None if its first bytes do not show it.

    Args:
        head: the first bytes; a kilobyte is enough.
        content_type: what the server says; it counts only if the bytes leave a doubt.
    """
    # Animation is a flag in the extended header.
    if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return _ANIMATED_WEBP
    found = next((known for signature, known in _SIGNATURES if signature.match(head)), None)
    found = found or _ROOT_ELEMENTS.get(root_element(head) or "")
    if found or not head:
        return found
    # No video and no photograph has many bytes in a row without a control character.
    if len(head) >= 16 and not _NOT_TEXT.search(head[:1024]):
        return _PAGE if content_type.startswith("text/html") else _TEXT
    return _AUDIO if content_type.startswith("audio/") else None


def image_size(head: bytes) -> tuple[int, int] | None:
    """Width and height of an image in pixels, as it is displayed.

    None if the first bytes do not contain the size, or the format is not PNG, JPEG or WebP.
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
    while at < len(head) and head[at] == 0xFF:
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
