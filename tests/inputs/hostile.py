"""Small files that make libav take gigabytes, minutes or a wrong turn; one generator a kind."""

import struct

_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 1 << 30)


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of an MP4."""
    data = b"".join(parts)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def full_box(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(kind, struct.pack(">I", flags), *parts)


def claiming_mp4(
    samples: int, *, edits: int = 0, before_sizes: bytes = b"", compact: bool = False
) -> bytes:
    """An MP4 of one picture whose index claims so many samples, and so many edits of all of them.

    Args:
        before_sizes: boxes in front of the table of sizes.
        compact: use the table of compact sizes, stz2.
    """
    length = min(samples, 0x7FFFFFFF)
    entry = box(
        b"avc1",
        bytes(6) + struct.pack(">H", 1) + bytes(16),
        struct.pack(">HHIIIH", 640, 480, 0x480000, 0x480000, 0, 1),
        bytes(32) + struct.pack(">Hh", 24, -1),
    )
    sizes = full_box(b"stsz", struct.pack(">II", 1, samples))
    if compact:
        sizes = full_box(b"stz2", struct.pack(">II", 4, samples))
    tables = box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), entry),
        full_box(b"stts", struct.pack(">III", 1, samples, 1)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        before_sizes,
        sizes,
        full_box(b"stco", struct.pack(">II", 1, 48)),
    )
    references = full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=1))
    media = box(
        b"mdia",
        full_box(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1000, length, 0x55C4, 0)),
        full_box(b"hdlr", b"\0\0\0\0vide" + bytes(12) + b"v\0"),
        box(b"minf", full_box(b"vmhd", bytes(8), flags=1), box(b"dinf", references), tables),
    )
    header = struct.pack(">IIIII", 0, 0, 1, 0, length) + bytes(16) + _MATRIX
    edit = struct.pack(">IiI", length, 0, 0x10000)
    track = box(
        b"trak",
        full_box(b"tkhd", header + struct.pack(">II", 640 << 16, 480 << 16), flags=7),
        box(b"edts", full_box(b"elst", struct.pack(">I", edits), edit * edits)) if edits else b"",
        media,
    )
    movie = struct.pack(">IIIIIHH", 0, 0, 1000, length, 0x10000, 0x100, 0) + bytes(8) + _MATRIX
    start = full_box(b"mvhd", movie + bytes(24) + struct.pack(">I", 2))
    return b"".join(
        (
            box(b"ftyp", b"isom\0\0\2\0isomiso2mp41"),
            box(b"moov", start, track),
            box(b"mdat", bytes(64)),
        )
    )


def hidden_table() -> bytes:
    """684 bytes: a box that nobody reads ends in the name of the table behind it."""
    return claiming_mp4(50_000_000, before_sizes=box(b"free", bytes(16), b"stsz"))


def many_edits() -> bytes:
    """24 kB of edits, each of which makes libav list every sample once more."""
    return claiming_mp4(10_000, edits=2_000)


def compact_table() -> bytes:
    """Sizes of half a byte, of which almost all are missing."""
    return claiming_mp4(50_000_000, compact=True)


HOSTILE = {
    "comments": b"<!---->" * 26,
    "hidden-table": hidden_table(),
    "many-edits": many_edits(),
    "compact-table": compact_table(),
}


def many_segments() -> bytes:
    """Half a megabyte of the smallest segments that a JPEG can have."""
    return b"\xff\xd8" + b"\xff\xe2\0\2" * 131_000


def many_chunks() -> bytes:
    """Half a megabyte of empty chunks of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + (bytes(4) + b"abcdABCD") * 43_000


def many_entries() -> bytes:
    """A JPEG whose EXIF has thousands of entries, again and again."""
    exif = b"\xff\xe1\xff\xffExif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(65_511)
    return b"\xff\xd8" + exif * 7


def many_boxes() -> bytes:
    """Seven megabytes of empty boxes in an MP4."""
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"free") * 900_000


def nested_boxes() -> bytes:
    """Boxes in boxes in boxes, a megabyte deep."""
    data = b"".join(struct.pack(">I4s", 8 * (100_000 - n), b"trak") for n in range(100_000))
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", data)


PICTURES = {
    "many-segments": many_segments(),
    "many-chunks": many_chunks(),
    "many-entries": many_entries(),
    "many-boxes": many_boxes(),
    "nested-boxes": nested_boxes(),
}
"""Files of more parts than any real one has."""

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
ANSWERS = {
    "tiny-chunks": _OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 600_000,
    "long-header": _OK + b"X: " + b"y" * 900_000 + b"\r\n\r\n",
    "endless-head": b"HTTP/1.1 200 " + b"O" * 5_000_000,
    "equal-headers": _OK + b"X: y\r\n" * 9_000 + b"\r\n",
    "many-headers": _OK + b"".join(b"%x:\r\n" % n for n in range(14_000)) + b"\r\n",
    "most-headers": _OK + b"a:\r\n" * 2_000 + b"\r\n",
    "interim-answers": b"HTTP/1.1 103 \r\n\r\n" * 300_000,
    "trailers": _OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n" + b"a:\r\n" * 20_000,
}
"""Whole answers of a server that is made to keep its clients busy; `most-headers` are just few
enough to be read."""
