"""Opens a file, a folder or a link with the program that the system uses for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 5.0
"""If a program still runs after this time, it has opened the file (ours). Some end at once, because
they only pass the file on; others are the player itself."""


def open_with_system(path: Path | str, environment: Mapping[str, str]) -> bool:
    """Open a file, a folder or a link. Returns False if no program here does that.

    Args:
        path: a full path, or an http(s) link.
        environment: tells on Linux whether there is a desktop: without one, xdg-open would show the
            file in the terminal.
    """
    if sys.platform == "win32":
        try:
            os.startfile(path)
        except OSError:  # no program is registered for this type
            return False
        return True
    command = opener(environment)
    return command is not None and _runs([command, str(path)])


def opener(environment: Mapping[str, str]) -> str | None:
    """The program that opens files for the user; None if there is none."""
    if sys.platform == "darwin":
        return shutil.which("open")
    has_desktop = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    return shutil.which("xdg-open") if has_desktop else None


def _runs(command: list[str]) -> bool:
    """Start a program. Returns whether it ended successfully, or still runs."""
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except OSError:
        return False
    with suppress(subprocess.TimeoutExpired):
        return process.wait(PATIENCE_SECONDS) == 0
    return True
