"""Fails unless it is given one or more files that are whole MP4 films: `film.py FILE...`."""

import sys
from pathlib import Path


def boxes(data: bytes) -> dict[bytes, int]:
    """The top-level boxes and their sizes; raises ValueError where the file is torn."""
    found, at = {}, 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size < 8 or at + size > len(data):
            raise ValueError(f"torn at byte {at}")
        found[kind] = size
        at += size
    return found


for name in sys.argv[1:]:
    found = boxes(Path(name).read_bytes())
    if next(iter(found), b"") != b"ftyp" or not {b"moov", b"mdat"} <= found.keys():
        sys.exit(f"{name} is no film: {found}")
    print(f"{Path(name).name}: {sum(found.values()):,} bytes, a whole MP4")
sys.exit(0 if sys.argv[1:] else "no film was saved")
