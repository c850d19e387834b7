"""Reads a file of settings, which is small and may be a named pipe of a password manager."""

import os
import select
import sys
from pathlib import Path

PIPE_SECONDS = 5.0
"""How long a program may take to write into a pipe of settings; it may ask the user first."""
_MAX_BYTES = 1_048_576


def content(path: Path) -> bytes:
    """The content of a file or of a named pipe (observed elsewhere).

    Raises:
        OSError: it cannot be read, is too large, or no program writes to the pipe in time.
    """
    if sys.platform == "win32" or not path.is_fifo():
        with path.open("rb") as file:
            held = file.read(_MAX_BYTES + 1)
    else:
        held = _from_pipe(path)
    if len(held) > _MAX_BYTES:
        raise OSError("too large for a file of settings")
    return held


def _from_pipe(path: Path) -> bytes:
    pipe = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # or it waits for a writer
    held = b""
    try:
        while len(held) <= _MAX_BYTES:
            if not select.select([pipe], [], [], PIPE_SECONDS)[0]:
                raise TimeoutError("no program writes to the pipe")
            if not (block := os.read(pipe, 65_536)):
                break
            held += block
    finally:
        os.close(pipe)
    return held
