"""Fails unless every given file is a complete MP4 video: `whole_video.py FILE...`."""

import sys
from pathlib import Path


def boxes(data: bytes) -> dict[bytes, int]:
    """The top-level boxes and their sizes in bytes.

    Raises:
        ValueError: the file ends inside a box.
    """
    found, at = {}, 0
    while at < len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size < 8 or at + size > len(data):
            raise ValueError(f"the box at byte {at} is incomplete")
        found[name] = size
        at += size
    return found


for name in sys.argv[1:]:
    found = boxes(Path(name).read_bytes())
    if next(iter(found), b"") != b"ftyp" or not {b"moov", b"mdat"} <= found.keys():
        sys.exit(f"{name} is not a video: {found}")
    print(f"{Path(name).name}: {sum(found.values()):,} bytes, a complete MP4")
sys.exit(0 if sys.argv[1:] else "no video was saved")
