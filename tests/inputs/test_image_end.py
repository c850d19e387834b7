"""The end of a large image: what is certainly cut off is refused, a doubt is noted.

An image of more than 256 kB is not read whole. Its last bytes cost one more request.
"""

import random
import struct
import zlib
from functools import cache

import pytest

from tests.inputs.test_preflight import MP4, Served, box, check, jpeg, png
from wan_mcp.inputs import video_check
from wan_mcp.inputs.byte_ranges import FIRST_BYTES, ByteRanges
from wan_mcp.inputs.image_headers import LAST_BYTES, End, end_of

pytestmark = pytest.mark.anyio

CUT_OFF = "character_image is cut off: its end is missing"
NOTE = "character_image has no end mark in its last bytes: if it is cut off, give it again, whole."


@pytest.fixture(autouse=True)
def only_the_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The video is a stub, of which nothing but its type can be known."""
    monkeypatch.setattr(video_check, "available", lambda: False)


@cache
def coded(size: int) -> bytes:
    """The inside of a JPEG: every byte 255 is followed by a 0."""
    return random.Random(3).randbytes(size).replace(b"\xff", b"\xff\0")[:size]


@cache
def large_jpeg(size: int, *, announces: bytes = b"") -> bytes:
    """A JPEG of so many bytes, to which nothing is appended."""
    start, _, _ = jpeg(640, 480).rpartition(b"the coded picture")
    comment = struct.pack(">HH", 0xFFFE, len(announces) + 2) + announces
    start = start[:2] + comment + start[2:]
    return start + coded(size - len(start) - 3) + b"\0\xff\xd9"


@cache
def large_png(size: int, chunk: int = 8192) -> bytes:
    """A PNG of about so many bytes, in chunks as most programs write them."""
    whole, data = png(640, 480), random.Random(4).randbytes(size)
    middle = b"".join(
        struct.pack(">I", len(part)) + b"IDAT" + part + zlib.crc32(b"IDAT" + part).to_bytes(4)
        for part in (data[at : at + chunk] for at in range(0, size, chunk))
    )
    return whole[:-12] + middle + whole[-12:]


@cache
def large_webp(size: int) -> bytes:
    head = struct.pack("<I", size - 8) + b"WEBPVP8 ....\0\0\0\x9d\x01\x2a\x80\x42\xe0\x01"
    return (b"RIFF" + head).ljust(size, b"x")


SIZES = [FIRST_BYTES + 20_000, FIRST_BYTES + 100_000, 900_000]
"""The end overlaps what has been read, lies close behind it, or far behind it."""
WHOLE = {"jpeg": large_jpeg, "png": large_png, "webp": large_webp}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", WHOLE)
async def test_a_large_image_that_is_cut_off_is_refused(kind: str, size: int) -> None:
    """The last bytes are still inside of the picture, or a part reaches beyond them (ours)."""
    whole = WHOLE[kind](size + 50_000)

    checked = await check(Served(MP4), Served(whole[:size]))

    assert checked.refusal is not None
    assert CUT_OFF in checked.text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", WHOLE)
async def test_a_large_image_that_is_whole_gets_no_note(kind: str, size: int) -> None:
    """And it costs at most two requests (ours)."""
    checked = await check(Served(MP4), Served(WHOLE[kind](size)))

    assert (checked.refusal, checked.notes) == (None, [])
    assert checked.asked.count("image") == (1 if kind == "webp" else 2)
    assert checked.read_bytes <= FIRST_BYTES + LAST_BYTES + len(MP4)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
async def test_without_ranges_an_image_is_read_up_to_the_limit(kind: str) -> None:
    """Of 512 kB; what is larger is not known, which is no reason for a note (ours)."""
    whole = WHOLE[kind](400_000)
    cut_off = await check(Served(MP4), Served(whole[:-20], ranges=False))
    good = await check(Served(MP4), Served(whole, ranges=False))
    larger = await check(Served(MP4), Served(WHOLE[kind](900_000)[:-20], ranges=False))

    assert CUT_OFF in cut_off.text
    assert [(one.refusal, one.notes) for one in (good, larger)] == [(None, [])] * 2


async def test_one_large_part_that_is_cut_off_needs_no_second_request() -> None:
    """Its length says how long the file would be (documented)."""
    checked = await check(Served(MP4), Served(large_png(900_000, chunk=900_000)[:800_000]))

    assert CUT_OFF in checked.text
    assert checked.asked.count("image") == 1


DOUBTFUL = {
    "zeros-at-the-end": large_jpeg(500_000)[:-2] + bytes(200_000),
    "something-appended": large_jpeg(500_000)
    + random.Random(5).randbytes(100_000).replace(b"\xff\xd9", b""),
    "between-two-scans": large_jpeg(900_000)[:-2] + b"\xff\xc4" + coded(20_000),
    "png-of-large-parts": large_png(900_000, chunk=200_000)[:-30_000].replace(b"IEND", b""),
    "png-with-a-word-by-chance": large_png(900_000, chunk=200_000)[:-70_000]
    + b"\x7f\0\0\0IDAT"
    + coded(20_000),
    "png-with-zeros": large_png(400_000)[:-50_000] + bytes(100_000),
}


@pytest.mark.parametrize("kind", DOUBTFUL)
async def test_an_end_that_is_not_found_is_noted(kind: str) -> None:
    """Something may have been appended to a good picture (ours)."""
    checked = await check(Served(MP4), Served(DOUBTFUL[kind]))

    assert (checked.refusal, checked.notes) == (None, [NOTE])


MOVING = box(b"ftyp", b"mp42") + box(b"mdat", coded(300_000))


@pytest.mark.parametrize(
    "data",
    [
        large_jpeg(400_000, announces=b"GCamera:MotionPhoto") + MOVING,
        large_jpeg(400_000, announces=b"GCamera:MicroVideo") + MOVING,
        large_jpeg(400_000, announces=b"MPF\0") + large_jpeg(200_000)[:-2],
        large_jpeg(400_000) + MOVING + b"SEFT",
        large_jpeg(400_000) + bytes(20_000),
        large_png(400_000) + bytes(20_000),
    ],
    ids=["motion-photo", "micro-video", "gain-map", "samsung", "padded-jpeg", "padded-png"],
)
async def test_a_photo_with_something_behind_it_gets_no_note(data: bytes) -> None:
    """Phones append a video, or a second picture (observed elsewhere)."""
    checked = await check(Served(MP4), Served(data))

    assert (checked.refusal, checked.notes) == (None, [])


async def test_a_server_that_gives_no_more_leaves_the_end_unknown() -> None:
    """It answers the second request with an error (ours)."""

    class Once(Served):
        """Gives the first part only."""

        def answer(self, wanted: object) -> tuple[str, bytes]:
            if wanted and wanted[1] != "0":  # type: ignore[index]  # a match of the range
                return "503 -\r\nContent-Length: 0\r\n", b""
            return super().answer(wanted)  # type: ignore[arg-type]

    checked = await check(Served(MP4), Once(large_jpeg(900_000)[:-20]))

    assert (checked.refusal, checked.notes) == (None, [])
    assert checked.asked.count("image") == 2


def test_last_bytes_that_were_not_read_to_the_end_say_nothing() -> None:
    """What was read overlaps the last bytes, but does not reach the end (ours)."""
    data = large_jpeg(FIRST_BYTES + 20_000)
    content = ByteRanges()
    content.total = len(data)
    content.add(0, data[:FIRST_BYTES])

    assert end_of(content) is End.UNREAD
