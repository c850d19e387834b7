"""What is written of a picture: upright, small enough, a JPEG or a PNG, without its location."""

import io
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.inputs.preparing.extras import REMOVED, Extras, extras_of
from wan_mcp.inputs.preparing.pictures import prepare_picture

Image: Any = pytest.importorskip("PIL.Image")
pillow_heif: Any = pytest.importorskip("pillow_heif")

ORIENTATION, GPS, LATITUDE, MAKE = 0x0112, 0x8825, 2, 0x010F


def prepared(path: Path) -> tuple[list[str], str, Path]:
    target = path.with_name("prepared")
    with path.open("rb") as file:
        changes, name = prepare_picture(file, extras_of(file), target)
    return changes, name, target


def marked(size: tuple[int, int] = (64, 32), mode: str = "RGB") -> Any:
    """A white picture whose top left quarter is black."""
    image = Image.new(mode, size, "white")
    image.paste("black", (0, 0, size[0] // 2, size[1] // 2))
    return image


def exif(orientation: int = 1) -> Any:
    """What a phone says: how it was held, who made it, and where."""
    tags = Image.Exif()
    tags[ORIENTATION], tags[MAKE] = orientation, "Pomme"
    tags.get_ifd(GPS).update({1: "N", LATITUDE: (48.0, 51.0, 28.0)})
    return tags


def dark_quarters(path: Path) -> list[bool]:
    with Image.open(path) as image:
        grey, (width, height) = image.convert("L"), image.size
        return [
            grey.getpixel((int(width * x), int(height * y))) < 100
            for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
        ]


def extras_in(path: Path) -> Extras:
    with path.open("rb") as file:
        return extras_of(file)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_picture_that_needs_no_change_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    """Nothing is written (ours)."""
    marked().save(tmp_path / name)
    changes, form, target = prepared(tmp_path / name)

    assert (changes, form, target.exists()) == ([], "", False)


@pytest.mark.parametrize(
    ("orientation", "size", "dark"),
    [(2, (64, 32), 1), (3, (64, 32), 3), (5, (32, 64), 0), (6, (32, 64), 1), (8, (32, 64), 2)],
)
def test_a_turned_or_mirrored_picture_is_stored_as_it_is_shown(
    tmp_path: Path, orientation: int, size: tuple[int, int], dark: int
) -> None:
    """And nothing in it says where it was taken (ours)."""
    marked().save(tmp_path / "a.jpg", exif=exif(orientation))
    assert extras_in(tmp_path / "a.jpg") is Extras.LOCATION
    changes, form, target = prepared(tmp_path / "a.jpg")

    assert (changes, form) == (["turned upright", REMOVED], "JPEG")
    with Image.open(target) as written:
        assert written.size == size
    assert dark_quarters(target) == [n == dark for n in range(4)]
    assert extras_in(target) is Extras.NONE
    assert b"Pomme" not in target.read_bytes()


def test_a_jpeg_that_only_loses_its_location_keeps_its_quality(tmp_path: Path) -> None:
    """Its tables are the same (ours)."""
    marked().save(tmp_path / "a.jpg", quality=42, exif=exif(), comment=b"mine")
    changes, _, target = prepared(tmp_path / "a.jpg")

    with Image.open(tmp_path / "a.jpg") as before, Image.open(target) as after:
        assert after.quantization == before.quantization
        assert after.size == before.size
    assert changes == [REMOVED]
    assert extras_in(target) is Extras.NONE


def test_a_heic_becomes_a_jpeg(tmp_path: Path) -> None:
    """As phones store pictures (ours)."""
    pillow_heif.register_heif_opener()
    marked().save(tmp_path / "a.heic", exif=exif(6).tobytes(), quality=90)
    changes, form, target = prepared(tmp_path / "a.heic")

    assert (changes[0], form) == ("converted from HEIC", "JPEG")
    assert dark_quarters(target).count(True) == 1
    assert extras_in(target) is Extras.NONE
    assert b"Pomme" not in target.read_bytes()


def test_a_picture_that_can_be_seen_through_stays_so(tmp_path: Path) -> None:
    """As PNG, also from a format that has no other reason to be one (ours)."""
    image = marked((2000, 40), "RGBA")
    image.putpixel((1999, 39), (0, 0, 0, 0))
    image.putalpha(100)
    image.save(tmp_path / "a.webp", lossless=True)
    changes, form, target = prepared(tmp_path / "a.webp")

    assert (changes, form) == (["made smaller (2,000 x 40 pixels before)"], "PNG")
    with Image.open(target) as written:
        assert (written.size, written.mode) == ((1920, 38), "RGBA")
        assert written.getchannel("A").getextrema() == (100, 100)


@pytest.mark.parametrize(
    ("mode", "name", "change"),
    [
        ("CMYK", "a.jpg", "converted from JPEG"),
        ("I;16", "a.png", "converted from PNG"),
        ("RGB", "a.tiff", "converted from TIFF"),
        ("RGB", "a.bmp", "converted from BMP"),
        ("1", "a.png", "converted from PNG"),
    ],
)
def test_a_coding_that_not_every_reader_takes_is_changed(
    tmp_path: Path, mode: str, name: str, change: str
) -> None:
    """To 8 bits of grey or RGB (ours)."""
    image = Image.new("RGB", (64, 32), "white")
    if mode == "I;16":
        image = Image.frombytes("I;16", (64, 32), (40_000).to_bytes(2, "little") * 2048)
    (image if mode == image.mode else image.convert(mode)).save(tmp_path / name)
    changes, _, target = prepared(tmp_path / name)

    assert changes[0] == change
    with Image.open(target) as written:
        assert written.mode in ("L", "RGB")
        light = written.convert("L").getpixel((5, 5))
    assert light == pytest.approx(156 if mode == "I;16" else 255, abs=2)


def test_an_animation_becomes_its_first_picture(tmp_path: Path) -> None:
    """A character is one picture (ours)."""
    marked().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (64, 32))])
    changes, _, target = prepared(tmp_path / "a.gif")

    assert "reduced to its first picture" in changes
    assert dark_quarters(target) == [True, False, False, False]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_wide_colours_become_srgb_when_the_picture_is_written_anyway(
    tmp_path: Path, name: str
) -> None:
    """A reader without colour management takes every picture for sRGB (ours)."""
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    assert "sRGB" in ImageCms.getProfileDescription(srgb)
    for profile in (srgb.tobytes(), lab.tobytes(), b"damaged"):
        marked().save(tmp_path / name, exif=exif(), icc_profile=profile)
        _, _, target = prepared(tmp_path / name)
        with Image.open(io.BytesIO(target.read_bytes())) as written:
            assert "icc_profile" not in written.info
        assert dark_quarters(target) == [True, False, False, False]
