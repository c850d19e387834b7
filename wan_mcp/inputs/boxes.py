"""The boxes of an MP4 or MOV: what its index claims, and how each track is stored and shown.

libav believes what an index claims, and allocates memory for it before it reads on. This is a
second protection beside the limits of the process, and the only one where a system has no such
limits. It follows the structure, because a pattern could hide in a box that nobody reads.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from wan_mcp.inputs.byte_ranges import ByteRanges

MAX_SAMPLES = 4_000_000
"""How many samples libav may have to list: 37 hours of frames, or 90 seconds of raw audio (ours).
A few hundred bytes can claim 2**28 samples, which cost it gigabytes and minutes (measured)."""

_MAX_DEPTH = 8
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"}
_ENCRYPTED = {b"encv", b"drmi"}
"""Sample entries of encrypted pictures: Common Encryption (documented), and Apple's FairPlay
(observed elsewhere)."""

Path = tuple[bytes, ...]


class ClaimsTooMuch(Exception):
    """The index claims more than any clip has, or hides what it claims."""


@dataclass
class Track:
    """One track of the index.

    Attributes:
        id: libav's id of its stream.
        matrix: the numbers a, b, c and d of its transformation, as 16.16 fixed point.
        is_encrypted: whether its pictures are encrypted.
        samples: how many samples it claims.
        edits: how many edits it claims, each of which libav applies to all samples.
    """

    id: int = 0
    matrix: tuple[int, ...] = (0x10000, 0, 0, 0x10000)
    is_encrypted: bool = False
    samples: int = 0
    edits: int = 0

    @property
    def turned_degrees(self) -> int:
        """How far a player turns the pictures clockwise: 0, 90, 180 or 270."""
        a, b, c, d = ((number > 0) - (number < 0) for number in self.matrix)
        return {(0, 1, -1, 0): 90, (-1, 0, 0, -1): 180, (0, -1, 1, 0): 270}.get((a, b, c, d), 0)


@dataclass
class Index:
    """The facts in the boxes of a file.

    Attributes:
        is_fragmented: whether the samples are listed in fragments all over the file.
        fragment_samples: how many samples the fragments claim.
    """

    tracks: list[Track] = field(default_factory=list)
    is_fragmented: bool = False
    fragment_samples: int = 0

    @property
    def claimed(self) -> int:
        """How many entries libav would create for it."""
        return self.fragment_samples + sum(
            track.samples * max(1, track.edits) for track in self.tracks
        )


def read_index(content: ByteRanges) -> Index:
    """The index, as far as it has been read.

    Raises:
        ClaimsTooMuch: it claims too much, or hides what it claims.
    """
    index = Index()
    for kind, body in _top_boxes(content):
        for path, data in _leaves(body, (kind,)):
            _read_leaf(path, data, index)
    if index.claimed > MAX_SAMPLES:
        raise ClaimsTooMuch
    return index


def _top_boxes(content: ByteRanges) -> Iterator[tuple[bytes, memoryview]]:
    """The boxes at the top that hold an index, as far as they have been read."""
    at = 0
    while len(head := content.read(at, 16)) >= 8:
        size, kind, header = box_head(head, 0, len(head))
        if kind in _CONTAINERS:
            yield kind, memoryview(content.read(at + header, size - header if size else 1 << 31))
        if size < header:
            return
        at += size


def _leaves(data: memoryview, path: Path) -> Iterator[tuple[Path, memoryview]]:
    at = 0
    while at + 8 <= len(data):
        size, kind, header = box_head(data, at, len(data) - at)
        size = size or len(data) - at
        if size < header:
            return
        body = data[at + header : at + size]
        if kind in _CONTAINERS and len(path) < _MAX_DEPTH:
            if kind == b"trak":
                yield (*path, kind), body[:0]
            yield from _leaves(body, (*path, kind))
        else:
            yield (*path, kind), body
        at += size


def box_head(data: bytes | memoryview, at: int, left: int) -> tuple[int, bytes, int]:
    """Size of a box (0: to the end), its kind, and the size of its header."""
    size, kind = struct.unpack_from(">I4s", data, at)
    if size == 1 and left >= 16:
        (size,) = struct.unpack_from(">Q", data, at + 8)
        return size, kind, 16
    return size, kind, 8


def _read_leaf(path: Path, data: memoryview, index: Index) -> None:
    kind = path[-1]
    if kind == b"cmov":
        raise ClaimsTooMuch  # a compressed index hides what it claims
    if kind == b"trak":
        index.tracks.append(Track())
    elif kind == b"mvex":
        index.is_fragmented = True
    elif kind == b"trun":
        index.is_fragmented = True
        index.fragment_samples += _number(data, 4)
    elif index.tracks and path[0] == b"moov":
        _read_track(kind, data, index.tracks[-1])


def _read_track(kind: bytes, data: memoryview, track: Track) -> None:
    if kind in (b"stsz", b"stz2"):
        track.samples += _number(data, 8)
    elif kind == b"elst":
        track.edits += _number(data, 4)
    elif kind == b"stsd":
        track.is_encrypted = bytes(data[12:16]) in _ENCRYPTED
    elif kind == b"tkhd" and len(data) >= 84:
        wide = 12 if data[0] == 1 else 0
        track.id = _number(data, 12 + (8 if wide else 0))
        if len(data) >= 84 + wide:
            a, b, _, c, d = struct.unpack_from(">5i", data, 40 + wide)
            track.matrix = (a, b, c, d)


def _number(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 4])
