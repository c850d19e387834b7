"""Which folders' files may be inputs, and whether a path lies in one of them.

A path is compared as text, before anything on the disk is looked at: nothing may be revealed about
a place outside the folders, not even whether something is there.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from wan_mcp.inputs.local.system import true_path

ROOTS = "roots"
"""The word in WAN_MCP_INPUT_DIRS for the folders that the client declares (roots, in MCP)."""
_INVISIBLE = (
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060"
    "\u206a\u206b\u206c\u206d\u206e\u206f\ufeff"
)


class WrongPlace(Exception):
    """A path lies in none of the folders, or something on the way to it is hidden."""


@dataclass(frozen=True)
class InputFolders:
    """The folders that the operator allows.

    Attributes:
        folders: their full paths; they need not exist.
        takes_roots: whether the folders that the client declares are allowed, too.
        home: the folder that is shown as `~`; None for the one that the system names.
    """

    folders: tuple[Path, ...]
    takes_roots: bool = False
    home: Path | None = None

    def __str__(self) -> str:
        """The folders as part of a sentence."""
        home = self.home or _home()
        names = [_shown(folder, home) for folder in self.folders]
        if self.takes_roots:
            names.append("the folders that the client declares")
        return ", ".join(names) or "no folder at all"


def input_folders(
    given: Sequence[str] | None, own: Path | None, home: Path | None = None
) -> InputFolders:
    """The folders of a setting.

    Args:
        given: full paths, and perhaps the word `roots`; without a path, the usual folders count.
        own: where this program saves its videos, which is always allowed; None for nowhere.
        home: the user's home folder; None for the one that the system names.
    """
    named = given or ()
    folders = [Path(each) for each in named if each != ROOTS] or usual_folders()
    if own is not None:
        folders.append(own)
    return InputFolders(tuple(dict.fromkeys(folders)), ROOTS in named, home)


def usual_folders() -> list[Path]:
    """Where the user keeps videos and pictures, as the system names these folders.

    On Linux, the setting of a user without such a folder may name the home folder itself
    (documented). That would allow far more than pictures, so it does not count.
    """
    if (home := _home()) is None:
        return []
    named = (
        platformdirs.user_desktop_path(),
        platformdirs.user_downloads_path(),
        platformdirs.user_videos_path(),
        platformdirs.user_pictures_path(),
    )
    return [folder for folder in named if folder.is_absolute() and not home.is_relative_to(folder)]


@dataclass(frozen=True)
class Place:
    """The place of a file in an allowed folder.

    Attributes:
        folder: the allowed folder, without a link in its path.
        parts: the names below it that lead to the file, without `..`; none for the folder itself.
    """

    folder: Path
    parts: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The full path of the file."""
        return self.folder.joinpath(*self.parts)


class AllowedFolders:
    """The allowed folders that exist now, and where each really is."""

    def __init__(self, folders: Sequence[Path]) -> None:
        found = ((folder, real_folder(folder)) for folder in folders)
        self._real = [(folder, real) for folder, real in found if real is not None]

    def place(self, path: Path) -> Place:
        """The place of a full path, which need not exist; the disk is not looked at.

        Raises:
            WrongPlace: it is in none of the folders, or hidden.
        """
        plain = Path(os.path.normpath(path))
        for folder, real in self._real:
            for way in (folder, real):
                if plain.is_relative_to(way):
                    parts = plain.relative_to(way).parts
                    # What is hidden in this folder may be in another one that is allowed itself.
                    if not any(map(_is_hidden, parts)):
                        return Place(real, parts)
        raise WrongPlace


def real_folder(folder: Path) -> Path | None:
    """Where a folder really is; None if it does not exist, or is not a folder."""
    try:
        real = os.path.realpath(folder, strict=True)
        if not os.path.isdir(real):
            return None
        return _as_stored(real)
    except OSError:
        return None


def _as_stored(folder: str) -> Path:
    """The path spelled as on the disk: most disks of macOS accept other spellings of a name."""
    if sys.platform != "darwin":
        return Path(folder)
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return true_path(file) or Path(folder)
    finally:
        os.close(file)


def _is_hidden(name: str) -> bool:
    """Whether a name means that its file is hidden, even with invisible characters before the dot.

    An old file system of macOS ignores them when it compares names (observed elsewhere).
    """
    return name.lstrip(_INVISIBLE)[:1] == "."


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user whom the system does not know, as in some containers
        return None


def _shown(folder: Path, home: Path | None) -> str:
    """A folder as people write it, with `~` for their home folder."""
    if home is not None and folder != home and folder.is_relative_to(home):
        return f"~{os.sep}{folder.relative_to(home)}"
    return os.fsencode(folder).decode(errors="replace")
