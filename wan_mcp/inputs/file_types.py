"""What kind of file it is, told by its first bytes: names and headers are too often wrong."""

import re
from dataclasses import dataclass
from enum import Enum, auto


class Sort(Enum):
    """As far as it matters for a clip and a picture."""

    PAGE = auto()
    PICTURE = auto()
    ANIMATION = auto()
    """A moving picture: neither surely a clip nor surely a portrait."""
    FILM = auto()
    SOUND = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: as a person would say it.
        usual: whether every program reads it; PixelDojo documents no formats at all.
        demuxer: libav's name for it, where the header alone tells length and streams.
    """

    sort: Sort
    name: str
    usual: bool = False
    demuxer: str = ""


_PAGE = Kind(Sort.PAGE, "a web page")
_TEXT = Kind(Sort.OTHER, "a text file")
_SOUND = Kind(Sort.SOUND, "a sound file")
_ARCHIVE = Kind(Sort.OTHER, "an archive")
_MP4 = Kind(Sort.FILM, "an MP4 video", usual=True, demuxer="mov")
_MOV = Kind(Sort.FILM, "a MOV video", usual=True, demuxer="mov")
_HEIC = Kind(Sort.PICTURE, "a HEIC picture")
_ANIMATED_WEBP = Kind(Sort.ANIMATION, "an animated WebP")
_HTML = rb"\s*(?:<!--.{0,999}?-->\s*)*<(?:!doctype html|html|head|body|title|meta|script)\b"

# In this order: what is said more exactly comes first.
_SIGNS = tuple(
    (re.compile(sign, re.DOTALL), kind)
    for sign, kind in (
        (rb"\x89PNG\r\n\x1a\n", Kind(Sort.PICTURE, "a PNG picture", usual=True)),
        (rb"\xff\xd8\xff", Kind(Sort.PICTURE, "a JPEG picture", usual=True)),
        (rb"GIF8[79]a", Kind(Sort.ANIMATION, "a GIF")),
        (rb"RIFF.{4}WEBP", Kind(Sort.PICTURE, "a WebP picture", usual=True)),
        (rb"RIFF.{4}AVI ", Kind(Sort.FILM, "an AVI video")),
        (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|fLaC|FORM.{4}AIF[FC]|#!AMR", _SOUND),
        (rb"OggS.{24,60}(?:\x01vorbis|OpusHead|\x7fFLAC|Speex)", _SOUND),
        (rb"....ftyp(?:avif|avis)", Kind(Sort.PICTURE, "an AVIF picture")),
        (rb"....ftyp(?:hei[cxms]|hev[cxms]|mif[12]|msf1)", _HEIC),
        (rb"....ftyp(?:M4A |M4B |M4P )", _SOUND),
        (rb"....ftyp(?:crx |cr3 )", Kind(Sort.PICTURE, "a raw camera picture")),
        (rb"....ftypqt  |....(?:moov|mdat|wide|skip|pnot)", _MOV),
        (rb"....ftyp", _MP4),
        (
            rb"\x1aE\xdf\xa3.{0,60}\x42\x82.webm",
            Kind(Sort.FILM, "a WebM video", usual=True, demuxer="matroska"),
        ),
        (rb"\x1aE\xdf\xa3", Kind(Sort.FILM, "a Matroska video", demuxer="matroska")),
        (rb"FLV\x01", Kind(Sort.FILM, "an FLV video")),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind(Sort.FILM, "a Windows Media file")),
        (rb"\0\0\x01\xba|(?:G.{187}){3}G", Kind(Sort.FILM, "an MPEG stream")),
        (rb"II\*\0|MM\0\*", Kind(Sort.PICTURE, "a TIFF picture")),
        (rb"8BPS\0\x01", Kind(Sort.PICTURE, "a Photoshop picture")),
        (rb"\0\0\0\x0cJXL ", Kind(Sort.PICTURE, "a JPEG XL picture")),
        (rb"%PDF-", Kind(Sort.OTHER, "a PDF document")),
        (rb"PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x1f\x8b\x08", _ARCHIVE),
        (rb"#EXTM3U|.{0,200}<MPD\b", Kind(Sort.OTHER, "a playlist")),
        (rb"\s*(?:<\?xml.{0,500})?<svg\b", Kind(Sort.PICTURE, "an SVG drawing")),
        (rb"(?i:(?:\xef\xbb\xbf)?" + _HTML + rb")", _PAGE),
    )
)
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def kind_of(head: bytes, content_type: str) -> Kind | None:
    """The kind of a file, or None where it cannot be told.

    Args:
        head: its first bytes; a kilobyte is enough.
        content_type: what the server says; only asked where the bytes leave a doubt.
    """
    # Animation is a flag of the extended header.
    if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return _ANIMATED_WEBP
    found = next((kind for sign, kind in _SIGNS if sign.match(head)), None)
    if found or not head:
        return found
    # No film and no photograph goes on for long without a control character.
    if len(head) >= 16 and not _NO_TEXT.search(head[:1024]):
        return _PAGE if content_type.startswith("text/html") else _TEXT
    return _SOUND if content_type.startswith("audio/") else None
