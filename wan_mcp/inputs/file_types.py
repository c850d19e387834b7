"""The type of a file, read from its first bytes: names and HTTP headers are too often wrong."""

import re
from dataclasses import dataclass
from enum import Enum, auto

from wan_mcp.inputs.markup import root_element


class MediaType(Enum):
    """What a file contains, as far as that matters for the two inputs."""

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
        demuxer: libav's name of the format, if its header alone tells length and streams.
        mime_type: its MIME type; "" if neither of the two inputs may have this format.
        suffix: the usual suffix of such a file; "" if no input may have this format.
    """

    media_type: MediaType
    name: str
    common: bool = False
    demuxer: str = ""
    mime_type: str = ""
    suffix: str = ""


def _picture(name: str, kind: str, suffix: str, *, common: bool = False) -> FileType:
    return FileType(MediaType.IMAGE, name, common, mime_type=f"image/{kind}", suffix=suffix)


_PAGE = FileType(MediaType.PAGE, "a web page")
_TEXT = FileType(MediaType.OTHER, "a text file")
_AUDIO = FileType(MediaType.AUDIO, "a sound file")
_ARCHIVE = FileType(MediaType.OTHER, "an archive")
_MP4 = FileType(MediaType.VIDEO, "an MP4 video", True, "mov", "video/mp4", ".mp4")
_MOV = FileType(MediaType.VIDEO, "a MOV video", True, "mov", "video/quicktime", ".mov")
_WEBM = FileType(MediaType.VIDEO, "a WebM video", True, "matroska", "video/webm", ".webm")
_MATROSKA = FileType(
    MediaType.VIDEO, "a Matroska video", False, "matroska", "video/x-matroska", ".mkv"
)
_AVI = FileType(MediaType.VIDEO, "an AVI video", mime_type="video/x-msvideo", suffix=".avi")
_FLV = FileType(MediaType.VIDEO, "an FLV video", mime_type="video/x-flv", suffix=".flv")
_ASF = FileType(MediaType.VIDEO, "a Windows Media file", mime_type="video/x-ms-wmv", suffix=".wmv")
_MPEG = FileType(MediaType.VIDEO, "an MPEG stream", mime_type="video/mpeg", suffix=".mpg")
_GIF = FileType(MediaType.ANIMATION, "a GIF", mime_type="image/gif", suffix=".gif")
_ANIMATED_PNG = FileType(MediaType.ANIMATION, "an animated PNG", suffix=".png")
_ANIMATED_PNG_CHUNK = b"acTL"
_PNG_HEADER_BYTES = 4_096
"""How many bytes of a PNG are searched for the chunk that makes it an animation (ours)."""
_ANIMATED_WEBP = FileType(MediaType.ANIMATION, "an animated WebP", suffix=".webp")
_ROOT_ELEMENTS = {
    **dict.fromkeys(("html", "head", "body", "title", "meta", "script"), _PAGE),
    "svg": FileType(MediaType.OTHER, "an SVG drawing"),
    "mpd": FileType(MediaType.OTHER, "a playlist"),
}
"""The types of markup, by its first element or its document type."""

# The first match counts, so more specific signatures come first. Every part has a fixed or a small
# length: strangers choose the bytes, and no expression here may backtrack over them.
_SIGNATURES = tuple(
    (re.compile(signature, re.DOTALL), file_type)
    for signature, file_type in (
        (rb"\x89PNG\r\n\x1a\n", _picture("a PNG picture", "png", ".png", common=True)),
        (rb"\xff\xd8\xff", _picture("a JPEG picture", "jpeg", ".jpg", common=True)),
        (rb"GIF8[79]a", _GIF),
        (rb"RIFF.{4}WEBP", _picture("a WebP picture", "webp", ".webp", common=True)),
        (rb"RIFF.{4}AVI ", _AVI),
        (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|fLaC|FORM.{4}AIF[FC]|#!AMR", _AUDIO),
        (rb"OggS.{24,60}(?:\x01vorbis|OpusHead|\x7fFLAC|Speex)", _AUDIO),
        (rb"....ftypavif", _picture("an AVIF picture", "avif", ".avif")),
        (rb"....ftypavis", FileType(MediaType.ANIMATION, "an animated AVIF", suffix=".avif")),
        (rb"....ftyp(?:hei[cxms]|mif[12])", _picture("a HEIC picture", "heic", ".heic")),
        (
            rb"....ftyp(?:hev[cxms]|msf1)",
            FileType(MediaType.ANIMATION, "an animated HEIF", suffix=".heic"),
        ),
        (rb"....ftyp(?:M4A |M4B |M4P )", _AUDIO),
        (rb"....ftyp(?:crx |cr3 )", _picture("a raw camera picture", "x-canon-cr3", ".cr3")),
        (rb"....ftypqt  |....(?:moov|mdat|wide|skip|pnot)", _MOV),
        (rb"....ftyp", _MP4),
        (rb"\x1aE\xdf\xa3.{0,60}\x42\x82.webm", _WEBM),
        (rb"\x1aE\xdf\xa3", _MATROSKA),
        (rb"FLV\x01", _FLV),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _ASF),
        (rb"\0\0\x01\xba|(?:G.{187}){3}G", _MPEG),
        (rb"II\*\0|MM\0\*", _picture("a TIFF picture", "tiff", ".tif")),
        (rb"BM.{4}\0{4}.{4}[\x0c-\x7c]\0{3}", _picture("a BMP picture", "bmp", ".bmp")),
        (
            rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
            _picture("a JPEG 2000 picture", "jp2", ".jp2"),
        ),
        (rb"P[1-6]\s\d{1,6}\s\d{1,6}\s", _picture("a PNM picture", "x-portable-anymap", ".pnm")),
        (rb"qoif\0", _picture("a QOI picture", "qoi", ".qoi")),
        (rb"v/1\x01", _picture("an OpenEXR picture", "x-exr", ".exr")),
        (rb"\0\0\x01\0[\x01-\x20]\0.{3}\0", _picture("an icon", "x-icon", ".ico")),
        (rb"8BPS\0\x01", _picture("a Photoshop picture", "x-photoshop", ".psd")),
        (rb"\0\0\0\x0cJXL ", _picture("a JPEG XL picture", "jxl", ".jxl")),
        (rb"%PDF-", FileType(MediaType.OTHER, "a PDF document")),
        (rb"PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x1f\x8b\x08", _ARCHIVE),
        (rb"#EXTM3U", FileType(MediaType.OTHER, "a playlist")),
    )
)
_NOT_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def file_type_of(head: bytes, content_type: str) -> FileType | None:
    """The type of a file, or None if its first bytes do not show it.

    Args:
        head: the first bytes; a kilobyte is enough.
        content_type: the type that the server names; used only if the bytes leave a doubt.
    """
    if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return _ANIMATED_WEBP  # a flag in the extended header
    if (
        head[:4] == b"\x89PNG"
        and _ANIMATED_PNG_CHUNK in head[:_PNG_HEADER_BYTES].partition(b"IDAT")[0]
    ):
        return _ANIMATED_PNG
    found = next((known for signature, known in _SIGNATURES if signature.match(head)), None)
    found = found or _ROOT_ELEMENTS.get(root_element(head) or "")
    if found or not head:
        return found
    # No video and no photograph has many bytes in a row without a control character.
    if len(head) >= 16 and not _NOT_TEXT.search(head[:1024]):
        return _PAGE if content_type.startswith("text/html") else _TEXT
    return _AUDIO if content_type.startswith("audio/") else None
