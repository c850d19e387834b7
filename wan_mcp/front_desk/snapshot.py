"""Answers of the SDK, recorded before: those shipped with this package, and those kept for a user.

A snapshot fits one version of this package, of `mcp` and of `pydantic`, because all three decide
what the SDK answers. Other versions answer by themselves; what they answer is then kept in the
user's cache folder. Only a file that belongs to the user is read there, because what it says is
what a model reads about the tools.
"""

from __future__ import annotations

import json
import os
import stat
import sys

TYPE_CHECKING = False  # `typing` itself takes several ms to import
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

SHIPPED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "snapshot.json")
KEPT = "front-desk.json"
MAX_BYTES = 1_000_000
"""The largest file that is read; one snapshot has about 40,000 bytes."""
MAX_KEPT = 4
"""How many snapshots a user's file holds, newest first."""

PACKAGES = ("wan-mcp", "mcp", "pydantic")
TOOLS = "tools/list"
TOOLS_FOR_PAGES = "tools/list, for a client that shows pages"
_OF_TOOLS = ("WAN_MCP_DISABLED_TOOLS", "WAN_MCP_ENV_FILE")
DEPENDS = {
    **dict.fromkeys((TOOLS, TOOLS_FOR_PAGES, "prompts/list"), _OF_TOOLS),
    "resources/list": ("PIXELDOJO_API_BASE", *_OF_TOOLS),
    "resources/templates/list": ("WAN_MCP_ARCHIVE", *_OF_TOOLS),
}
"""The settings that change an answer: if one of these is set, only the SDK gives this answer."""
NEEDS_MEDIA = "resources/templates/list"
"""This answer depends on whether the extra `media` is installed."""


class Snapshot:
    """The answers that one version of everything gives under the settings of this process.

    Attributes:
        counter_offer: the revision that `initialize` offers to a client that asks for an unknown
            one.
        modern: the revisions without `initialize`.
    """

    def __init__(self, data: dict[str, Any], withheld: frozenset[str] = frozenset()) -> None:
        self.counter_offer: str = data["counter_offer"]
        self._results: list[dict[str, Any]] = data["results"]
        self._revisions: dict[str, dict[str, int]] = data["revisions"]
        self._withheld = withheld
        self.modern = [name for name in self._revisions if "initialize" not in self._places(name)]
        if not all(0 <= place < len(self._results) for place in self._all_places()):
            raise ValueError("a place without a result")

    def negotiated(self, revision: str) -> str:
        """The revision that `initialize` settles when a client asks for this one."""
        is_known = revision in self._revisions and revision not in self.modern
        return revision if is_known else self.counter_offer

    def result(self, revision: str, method: str, *, pages: bool = False) -> dict[str, Any] | None:
        """The result of a request without parameters; None when there is none.

        Args:
            pages: whether the client shows pages (MCP Apps).
        """
        if method == TOOLS_FOR_PAGES:  # nobody may ask for it by this name
            return None
        if pages and method == TOOLS:
            method = TOOLS_FOR_PAGES
        place = None if method in self._withheld else self._places(revision).get(method)
        return None if place is None else self._results[place]

    def _places(self, revision: str) -> dict[str, int]:
        return self._revisions.get(revision, {})

    def _all_places(self) -> Iterator[int]:
        return (place for places in self._revisions.values() for place in places.values())


class Snapshots:
    """Finds the snapshot for this process, and keeps one for the next.

    Args:
        environment: the settings and the user's folders.
        path: where packages are looked for, as in `sys.path`.
        shipped: the file of the package.
    """

    def __init__(
        self, environment: Mapping[str, str], path: Sequence[str], shipped: str = SHIPPED
    ) -> None:
        self._environment = environment
        self._path = path
        self._shipped = shipped
        self._versions = installed_versions(path)

    def find(self) -> Snapshot | None:
        """The snapshot that fits: what is kept is newer than what was shipped."""
        if not self._versions:
            return None
        for data in (*self._kept(), *_snapshots(_read(self._shipped, is_private=False))):
            try:
                if self._versions in data["versions"]:
                    return Snapshot(data, self._withheld(data["media"]))
            except (KeyError, TypeError, AttributeError, ValueError):  # a file of another version
                continue
        return None

    def keep(self, data: dict[str, Any]) -> None:
        """Keep this one for the next start, in place of an older one for the same versions.

        It must have been recorded under the settings of this process.

        Raises:
            OSError: the file cannot be written.
        """
        path = self._path_of_kept()
        if path is None or not self._versions:
            return
        others = [each for each in self._kept() if each.get("versions") != [self._versions]]
        has_media = self.has_media()
        withheld = self._withheld(has_media)
        revisions = {
            revision: {name: place for name, place in places.items() if name not in withheld}
            for revision, places in data["revisions"].items()
        }
        own = {**data, "versions": [self._versions], "media": has_media, "revisions": revisions}
        kept = {"snapshots": [own, *others][:MAX_KEPT]}
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Nobody can guess the name, and place a link there that leads to a file of the user's.
        unfinished = f"{path}.{os.urandom(8).hex()}"
        file = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with open(file, "w", encoding="utf-8") as new:
                json.dump(kept, new, separators=(",", ":"))
            os.replace(unfinished, path)
        except OSError:
            os.unlink(unfinished)
            raise

    def has_media(self) -> bool:
        """Whether the extra `media` is installed."""
        return any(os.path.isdir(os.path.join(folder, "av")) for folder in self._path)

    def _withheld(self, with_media: bool) -> frozenset[str]:
        names = {
            method
            for method, settings in DEPENDS.items()
            if not all(_is_unset(self._environment.get(name, "")) for name in settings)
        }
        return frozenset(names if self.has_media() == with_media else {*names, NEEDS_MEDIA})

    def _kept(self) -> list[dict[str, Any]]:
        path = self._path_of_kept()
        return _snapshots(_read(path, is_private=True)) if path else []

    def _path_of_kept(self) -> str | None:
        folder = cache_folder(self._environment)
        return folder and os.path.join(folder, KEPT)


def cache_folder(environment: Mapping[str, str]) -> str | None:
    """This program's folder among the user's caches; None without a home folder."""
    home = environment.get("HOME", "")
    if sys.platform == "win32":
        base = environment.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = home and os.path.join(home, "Library", "Caches")
    else:
        base = environment.get("XDG_CACHE_HOME", "") or (home and os.path.join(home, ".cache"))
    return os.path.join(base, "wan-mcp") if os.path.isabs(base) else None


def installed_versions(path: Sequence[str]) -> dict[str, str] | None:
    """The versions of PACKAGES, from the names of their folders; None when one is not certain.

    `importlib.metadata` says the same and takes as long to import as all of this room.
    """
    own = os.path.dirname(os.path.dirname(os.path.dirname(SHIPPED)))
    folders = {package: _folder_of(package, path) for package in PACKAGES[1:]}
    found = {folder: _versions_in(folder) for folder in {own, *folders.values()}}
    # An editable install has its metadata not beside its code, but where other packages are.
    beside = [found[folder].get("wan-mcp") for folder in (own, *folders.values())]
    versions = {
        "wan-mcp": next(filter(None, beside), ""),
        **{package: found[folder].get(package, "") for package, folder in folders.items()},
    }
    return versions if all(versions.values()) else None


def _folder_of(package: str, path: Sequence[str]) -> str:
    """The folder that an import of the package takes it from; "" when there is none."""
    init = os.path.join(package, "__init__.py")
    return next((each for each in path if os.path.isfile(os.path.join(each, init))), "")


def _versions_in(folder: str) -> dict[str, str]:
    """The versions of PACKAGES in a folder; "" for one that is there more than once."""
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:
        return {}
    versions: dict[str, str] = {}
    for name in names:
        package, dash, version = name.removesuffix(".dist-info").partition("-")
        package = package.replace("_", "-").lower()
        if dash and name.endswith(".dist-info") and package in PACKAGES:
            versions[package] = "" if package in versions else version
    return versions


def _is_unset(value: str) -> bool:
    """Whether a setting has no value; a bundle passes its own ${...} for one without."""
    value = value.strip()
    return not value or (value.startswith("${") and value.endswith("}"))


def _snapshots(document: object) -> list[dict[str, Any]]:
    found = document.get("snapshots") if isinstance(document, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _read(path: str, *, is_private: bool) -> object:
    """The document in a file; None when there is none, or when it is not to be trusted."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_BYTES or (is_private and not _is_own(status)):
                return None
            return json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would keep us waiting


def _is_own(status: os.stat_result) -> bool:
    """Whether a regular file belongs to this user, and nobody else can write to it."""
    if sys.platform == "win32":  # the folder is in the user's profile
        return stat.S_ISREG(status.st_mode)
    others = stat.S_IWGRP | stat.S_IWOTH
    is_ours = status.st_uid == os.geteuid() and not status.st_mode & others
    return stat.S_ISREG(status.st_mode) and is_ours
