"""The tracks of a WebM or Matroska file: whether their pictures are encrypted.

libav shows an encrypted track like any other. This follows the elements of EBML (RFC 8794) from the
start of the file to the list of tracks, over a bounded number of them.
"""

from collections.abc import Iterator

from wan_mcp.inputs.byte_ranges import ByteRanges

MAX_ELEMENTS = 1_000
"""How many elements are skipped to find the list of tracks; five are usual (ours)."""
MAX_TRACKS_BYTES = 1 << 20
"""How large the list of tracks may be; 1 kB is usual (ours)."""

_SEGMENT, _TRACKS, _TRACK = 0x18538067, 0x1654AE6B, 0xAE
_TRACK_TYPE, _VIDEO = 0x83, 1
_ENCODINGS, _ENCODING = 0x6D80, 0x6240
_ENCODING_SCOPE, _FRAMES = 0x5032, 1
_ENCODING_TYPE, _ENCRYPTION = 0x5033, 1
_ENCRYPTION_SETTINGS, _ALGORITHM = 0x5035, 0x47E1
"""IDs and values of RFC 9559 (documented)."""

_Element = tuple[int, memoryview]


def pictures_are_encrypted(content: ByteRanges) -> bool:
    """Whether every video track is marked as encrypted; False if the tracks have not been read.

    A track counts if it names an algorithm for the contents of its frames. A track that is only
    compressed or signed, or whose settings alone are encrypted, does not count.
    """
    tracks = [list(_elements(track)) for id, track in _elements(_tracks(content)) if id == _TRACK]
    videos = [track for track in tracks if _number(track, _TRACK_TYPE) == _VIDEO]
    return bool(videos) and all(map(_is_encrypted, videos))


def _tracks(content: ByteRanges) -> memoryview:
    """The list of tracks; empty if it has not been read whole."""
    at = 0
    for _ in range(MAX_ELEMENTS):
        head = _head(memoryview(content.read(at, 12)))
        if head is None:
            break
        id, size, length = head
        at += length
        if id == _TRACKS and size is not None:
            tracks = content.read(at, min(size, MAX_TRACKS_BYTES))
            return memoryview(tracks if len(tracks) == size else b"")
        if id == _SEGMENT:
            continue
        if size is None:
            break
        at += size
    return memoryview(b"")


def _is_encrypted(track: list[_Element]) -> bool:
    return any(
        _number(encoding, _ENCODING_TYPE) == _ENCRYPTION
        and _number(encoding, _ENCODING_SCOPE, default=_FRAMES) & _FRAMES
        and any(
            _number(settings, _ALGORITHM) for settings in _inside(encoding, _ENCRYPTION_SETTINGS)
        )
        for encodings in _inside(track, _ENCODINGS)
        for encoding in _inside(encodings, _ENCODING)
    )


def _inside(elements: list[_Element], wanted: int) -> list[list[_Element]]:
    """The elements within each of the wanted elements."""
    return [list(_elements(data)) for id, data in elements if id == wanted]


def _number(elements: list[_Element], wanted: int, *, default: int = 0) -> int:
    return next((int.from_bytes(data) for id, data in elements if id == wanted), default)


def _elements(data: memoryview) -> Iterator[_Element]:
    at = 0
    while head := _head(data[at : at + 12]):
        id, size, length = head
        if size is None:
            return
        yield id, data[at + length : at + length + size]
        at += length + size


def _head(data: memoryview) -> tuple[int, int | None, int] | None:
    """ID and size of an element, and the length of both; the size is None if it is not stated."""
    id_length = 9 - data[0].bit_length() if data else 9
    if id_length > 4 or len(data) <= id_length:
        return None
    size_length = 9 - data[id_length].bit_length()
    end = id_length + size_length
    if size_length > 8 or len(data) < end:
        return None
    unknown = (1 << 7 * size_length) - 1
    size = int.from_bytes(data[id_length:end]) & unknown
    return int.from_bytes(data[:id_length]), None if size == unknown else size, end
