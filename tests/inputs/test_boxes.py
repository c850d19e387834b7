"""The boxes of an MP4: followed as a reader follows them, whatever their bytes look like."""

import struct

import pytest

from tests.inputs.hostile import box, claiming_mp4, full_box, many_edits
from tests.inputs.test_preflight import whole
from wan_mcp.inputs.boxes import MAX_SAMPLES, ClaimsTooMuch, Track, read_index


def sizes(count: int) -> bytes:
    """A movie of one track that claims so many samples."""
    table = full_box(b"stsz", struct.pack(">II", 1, count))
    return box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table)))))


def test_claims_count_where_a_reader_looks_for_them() -> None:
    """A table inside of a free box, or of the pictures, is none (ours)."""
    elsewhere = box(b"free", sizes(1 << 30)) + box(b"mdat", sizes(1 << 30))

    assert read_index(whole(elsewhere + sizes(7))).claimed == 7


@pytest.mark.parametrize("count", [MAX_SAMPLES, MAX_SAMPLES + 1])
def test_more_samples_than_the_limit_are_refused(count: int) -> None:
    """All tracks and fragments together (ours)."""
    half = sizes(count // 2) + box(b"moof", box(b"traf", full_box(b"trun")))
    rest = count - count // 2
    fragment = box(b"moof", box(b"traf", full_box(b"trun", struct.pack(">I", rest))))
    content = whole(half + fragment)

    if count > MAX_SAMPLES:
        with pytest.raises(ClaimsTooMuch):
            read_index(content)
    else:
        assert read_index(content).claimed == count


def test_each_edit_lists_all_samples_again() -> None:
    """libav makes an entry for every sample of every edit (observed elsewhere)."""
    assert read_index(whole(claiming_mp4(1_000, edits=30))).claimed == 30_000
    with pytest.raises(ClaimsTooMuch):
        read_index(whole(many_edits()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\1moov",
        b"\0\0\0\1moov" + bytes(8),
        b"\0\0\0\4moov" + bytes(8),
        b"\xff\xff\xff\xffmoov\0\0\0\4trak" + bytes(40),
        box(b"moov", box(b"trak", full_box(b"tkhd"), full_box(b"stsd"), full_box(b"stsz"))),
        b"".join(box(b"moov", box(b"moov")) for _ in range(20)),
    ],
    ids=["empty", "half-a-head", "size-0-of-64", "too-small", "too-large", "short", "many"],
)
def test_boxes_that_make_no_sense_end_the_reading(data: bytes) -> None:
    """libav decides about such a file, within its limits (ours)."""
    assert read_index(whole(data)).claimed == 0


@pytest.mark.parametrize(
    ("matrix", "degrees"),
    [
        ((1, 0, 0, 1), 0),
        ((0, 1, -1, 0), 90),
        ((-1, 0, 0, -1), 180),
        ((0, -1, 1, 0), 270),
        ((-1, 0, 0, 1), 0),
        ((1, 1, -1, 1), 0),
    ],
    ids=["upright", "right", "over", "left", "mirrored", "slanted"],
)
def test_quarter_turns_are_named(matrix: tuple[int, ...], degrees: int) -> None:
    """Clockwise, as a player turns the pictures (documented)."""
    assert Track(matrix=matrix).turned_degrees == degrees
