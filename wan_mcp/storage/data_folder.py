"""Where the data of one user is on one computer, whichever program starts the server.

Hosts start servers with different environments: some pass only HOME and PATH on, and programs in a
sandbox of their own (snap, Flatpak) change XDG_DATA_HOME and even HOME (observed elsewhere). If
such a variable chose the ledger, one user would have several ledgers, and each would let the same
job be paid once more.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NAME = "wan-mcp"
# `current` alone: snap copies the data of a program at each update and keeps the older copies.
_SANDBOXED = {
    "snap": ("current/.local/share", "common/.local/share"),
    ".var/app": ("data",),
}
"""The folder in which the programs of each kind have theirs, and where their data is in it."""


@dataclass(frozen=True)
class DataPlaces:
    """Where the data may be.

    Attributes:
        usual: where new data goes, a full path; None if the user has no home folder.
        old: where an earlier version may have put it, full paths.
    """

    usual: Path | None
    old: tuple[Path, ...] = ()


def data_places(environment: Mapping[str, str]) -> DataPlaces:
    """The places for the data of the user whose environment this is."""
    home = home_folder(environment)
    return DataPlaces(_usual(home), tuple(_old(environment, home)))


def home_folder(environment: Mapping[str, str]) -> Path | None:
    """The user's home folder, a full path; None if neither a variable nor the system knows it.

    A snap has a HOME of its own, and SNAP_REAL_HOME is the user's (documented).
    """
    names = ("USERPROFILE",) if sys.platform == "win32" else ("SNAP_REAL_HOME", "HOME")
    for name in names:
        folder = Path(environment.get(name, ""))
        if folder.is_absolute():
            return folder
    return _home_of_account()


def expanded(path: str, home: Path | None) -> Path:
    """A path from a setting, with a `~` at its beginning expanded, because no shell has done so."""
    if home is not None and (path == "~" or path.startswith(("~/", f"~{os.sep}"))):
        return home / path[2:]
    return Path(os.path.expanduser(path))


def expanded_list(text: str, home: Path | None) -> str:
    """The same for several paths, with the system's separator between them."""
    folders = filter(None, map(str.strip, text.split(os.pathsep)))
    return os.pathsep.join(str(expanded(folder, home)) for folder in folders)


def listed_folders(value: object) -> tuple[str, ...]:
    """The full paths, and perhaps the word `roots`, in such a setting.

    Raises:
        ValueError: one of them is neither; its text is the end of a sentence.
    """
    named = tuple(filter(None, str(value).split(os.pathsep)))
    if not all(each == "roots" or Path(each).is_absolute() for each in named):
        raise ValueError(
            f"must be full paths or start with ~/, with {os.pathsep} between them (the word roots "
            "stands for the folders that the client declares)"
        )
    return named


def _home_of_account() -> Path | None:
    if sys.platform == "win32":
        return None
    import pwd

    try:
        folder = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None
    return folder if folder.is_absolute() else None


def _usual(home: Path | None) -> Path | None:
    if sys.platform == "win32":
        import platformdirs  # asks Windows itself, not the environment

        return platformdirs.user_data_path(_NAME, appauthor=False)
    parts = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
    return home and home / parts / _NAME


def _old(environment: Mapping[str, str], home: Path | None) -> Iterator[Path]:
    """Places that XDG_DATA_HOME and HOME chose before, here and in the sandboxes of programs."""
    given = Path(environment.get("XDG_DATA_HOME", "").strip())
    if given.is_absolute():
        yield given / _NAME
    within = Path(environment.get("HOME", ""))
    if within.is_absolute() and within != home:
        yield within / ".local/share" / _NAME
    if home is not None:
        yield from _sandboxed(home)


def _sandboxed(home: Path) -> Iterator[Path]:
    """Folders that need not exist: each submit uses all of them, and checking here takes longer."""
    for folder, within in _SANDBOXED.items():
        with suppress(OSError):  # no such program is installed
            for program in sorted(os.listdir(home / folder)):
                for data in within:
                    yield Path(f"{home}/{folder}/{program}/{data}/{_NAME}")
