"""Prepares a picture: upright, small enough, in sRGB, a JPEG or a PNG, without metadata."""

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wan_mcp.inputs.preparing.extras import REMOVED, Extras
from wan_mcp.inputs.preparing.survey import MAX_SIDE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_QUALITY = 95
"""No difference is visible (ours). A JPEG that only loses its metadata keeps its own quality."""

_FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "BMP", "GIF", "MPO", "JPEG2000")
_COMMON = {"JPEG", "PNG", "WEBP", "MPO"}
"""Practically every program reads these. An MPO is a JPEG with more pictures after the first."""
_MODES = {"L", "LA", "RGB", "RGBA", "P"}
_ORIENTATION = 0x0112


def prepare_picture(file: BinaryIO, extras: Extras, target: Path) -> tuple[list[str], str]:
    """Write the picture as it is to be sent.

    Returns:
        What was changed, in words that follow "was", and its format: JPEG or PNG. If nothing had
        to be changed, both are empty, and nothing is written.

    Raises:
        PIL.UnidentifiedImageError, OSError: it is not a picture that can be read here.
    """
    import PIL.Image
    import pillow_heif
    from PIL import ImageOps

    pillow_heif.options.DECODE_THREADS = 1  # each thread takes address space
    pillow_heif.register_heif_opener(thumbnails=False)
    with PIL.Image.open(file, formats=_FORMATS) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
        changes = [*_changes(image, orientation, extras)]
        if not changes:
            return [], ""
        is_same = (
            changes == [REMOVED] and image.format == "JPEG" and "icc_profile" not in image.info
        )
        if is_same:
            image.save(target, "JPEG", quality="keep", comment=b"")
            return changes, "JPEG"
        source_format = image.format
        image.draft("RGB", (MAX_SIDE_PIXELS, MAX_SIDE_PIXELS))
        shown = _reduced(image)
        shown = ImageOps.exif_transpose(shown) if orientation != 1 else shown
        shown = _in_srgb(shown, image.info.get("icc_profile"))
    keeps_png = source_format == "PNG" or "A" in shown.getbands()
    name = "PNG" if keeps_png else "JPEG"
    _bare(shown).save(target, name, quality=JPEG_QUALITY, subsampling=0)
    return changes, name


def _changes(image: "Image", orientation: int, extras: Extras) -> Iterator[str]:
    if orientation != 1:
        yield "turned upright"
    if max(image.size) > MAX_SIDE_PIXELS:
        yield "made smaller ({:,} x {:,} pixels before)".format(*image.size)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        yield "reduced to its first picture"
    if image.format not in _COMMON or image.mode not in _MODES:
        yield f"converted from {_NAMES.get(str(image.format), image.format)}"
    if extras:
        yield REMOVED


_NAMES = {"HEIF": "HEIC"}


def _reduced(image: "Image") -> "Image":
    """The picture in 8 bits and small enough, with alpha if parts of it are transparent."""
    from PIL.Image import Resampling

    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value / 256).convert("L")
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    image = image.convert("RGBA" if has_alpha else "L" if image.mode in ("L", "1") else "RGB")
    if has_alpha and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    image.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS), Resampling.LANCZOS)
    return image


def _in_srgb(image: "Image", profile: bytes | None) -> "Image":
    """The picture in sRGB, which a reader without colour management assumes for every picture."""
    from PIL import ImageCms

    if not profile or image.mode == "L":
        return image
    with suppress(ImageCms.PyCMSError, OSError):  # a damaged profile: its colours as they are
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" not in ImageCms.getProfileDescription(source):
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode=image.mode)
            return converted or image
    return image


def _bare(image: "Image") -> "Image":
    """The same pixels without the metadata that Pillow would write beside them."""
    image = image.copy()
    image.info = {}
    return image
