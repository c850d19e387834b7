"""Whether the container of a video ends where its file ends, or in the middle.

This matters if the storage does not say how long the video is. Only the outermost parts of a
container are read, and only the first few bytes of each.
"""

from collections.abc import Callable
from enum import Enum, auto

from wan_mcp.inputs.boxes import box_head

MAX_PARTS = 1_000_000
"""A video has at most a few thousand parts (a fragment or a cluster for each second). The end of
one that has more parts than this is not judged (ours)."""

_FIRST_BOXES = {b"ftyp", b"styp", b"free", b"skip", b"wide", b"pnot", b"moov", b"mdat", b"uuid"}
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675

Read = Callable[[int, int], bytes]
"""Reads bytes, given an offset and their number; returns fewer at the end of the file."""


class Ending(Enum):
    """How a file ends."""

    WHOLE = auto()
    """The container says that nothing follows."""
    OPEN = auto()
    """Nothing is missing, but more could follow; or the container is an unknown one."""
    CUT = auto()
    """Something is missing."""


class _Cut(Exception):
    """A part does not end within the file, or what was read is no part."""


def ending_of(read: Read, size: int) -> Ending:
    """How a file of `size` bytes ends. Raises what `read` raises."""
    head = read(0, 8)
    try:
        if head[:4] == _EBML:
            return _ending_of_ebml(read, size)
        if head[4:] in _FIRST_BOXES:
            return _ending_of_boxes(read, size)
    except _Cut:
        return Ending.CUT
    return Ending.OPEN if size else Ending.CUT


def _ending_of_boxes(read: Read, size: int) -> Ending:
    """MP4 and MOV: one box after another, and each says how long it is."""
    kinds: list[bytes] = []
    at = 0
    while at < size and len(kinds) < MAX_PARTS:
        head = read(at, 16)
        if len(head) < 8:
            raise _Cut
        length, kind, header = box_head(head, 0, len(head))
        kinds.append(kind)
        if length == 0 and kind == b"mdat":
            break  # "to the end of the file", wherever that is
        if length < header or at + length > size:
            raise _Cut
        at += length
    if not {b"moov", b"mdat"} <= set(kinds):
        raise _Cut
    # Another fragment may follow, unless the index of the fragments is there.
    may_go_on = b"moof" in kinds and kinds[-1] != b"mfra"
    return Ending.OPEN if at < size or may_go_on else Ending.WHOLE


def _ending_of_ebml(read: Read, size: int) -> Ending:
    """WebM and Matroska: elements, of which the segment and its clusters may have no length."""
    ending, at, has_cluster = Ending.WHOLE, 0, False
    for _ in range(MAX_PARTS):
        if at >= size:
            return ending if has_cluster else Ending.CUT
        head = read(at, 16)
        number, after = _number(head, 0, keep_marker=True)
        length, body = _number(head, after)
        is_open = length == (1 << 7 * (body - after)) - 1
        has_cluster |= number == _CLUSTER
        if is_open and number not in (_SEGMENT, _CLUSTER):
            raise _Cut
        if is_open:
            ending = Ending.OPEN
        if number == _SEGMENT and not is_open and at + body + length > size:
            raise _Cut
        # The content of the segment, and of a cluster without a length, is checked as well.
        steps_in = is_open or number == _SEGMENT
        at += body if steps_in else body + length
        if at > size:
            raise _Cut
    return Ending.OPEN


def _number(data: bytes, at: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """A number of EBML (RFC 8794), whose first set bit tells its length; and the offset after it.

    Raises:
        _Cut: there is none.
    """
    length = 9 - data[at].bit_length() if at < len(data) else 9
    if length > 8 or at + length > len(data):
        raise _Cut
    number = int.from_bytes(data[at : at + length])
    return number if keep_marker else number & ~(1 << 7 * length), at + length
