"""Finds the type of the file system that a path is on, as Linux reports it."""

import re
from pathlib import Path, PurePath, PurePosixPath

MOUNTS = Path("/proc/self/mountinfo")
"""The mounts that this process sees, see proc(5)."""


def filesystem_type(path: PurePath, mounts: str) -> str:
    """The type of the file system that an absolute path is on; "" if the mounts do not tell.

    Args:
        mounts: the text of MOUNTS.
    """
    depth, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = PurePosixPath(_unescaped(before.split()[4]))
        # Not >: if two file systems are mounted on one point, the later one hides the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), after.split()[0]
    return kind


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
