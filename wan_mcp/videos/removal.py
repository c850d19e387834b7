"""Removes a saved video because its user wants it gone, with everything that was saved for it."""

import glob
from pathlib import Path

from wan_mcp.videos.own_files import open_ours
from wan_mcp.videos.unfinished import PART_NAME, SUFFIXES, remove_if_left


def remove_video(folder: Path, stem: str) -> list[Path]:
    """Remove a video, the note beside it, and what unfinished attempts to save it have left.

    A missing file is not an error. A server that is saving the video at this moment removes its own
    file (see `saver`).

    Args:
        stem: the name of the video without its suffix.

    Returns:
        The videos that were removed.

    Raises:
        NotOurs: a file that is not ours has the name of the video. Nothing was removed.
        OSError: a file cannot be removed.
    """
    videos = [path for suffix in SUFFIXES if _is_there(path := folder / f"{stem}{suffix}")]
    for path in videos:
        path.unlink(missing_ok=True)
    (folder / f".{stem}.json").unlink(missing_ok=True)
    for part in list(folder.glob(f".{glob.escape(stem)}.*.part")):
        if PART_NAME.fullmatch(part.name) and part.exists():
            remove_if_left(part)
    return videos


def _is_there(path: Path) -> bool:
    """Whether there is a video of this user. Raises NotOurs for anything else."""
    try:
        open_ours(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
