"""This installation: its version, its extras, and the settings of this shell."""

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from wan_mcp.cli.check.findings import Finding, broken, note, ok
from wan_mcp.cli.hosts.change import is_temporary, this_program
from wan_mcp.cli.hosts.masking import MASK
from wan_mcp.settings import BadSettings, Given, Settings, given_settings, is_secret

_PACKAGES = {
    "media": ("PyAV", "av"),
    "storage": ("obstore", "obstore"),
    "postgres": ("psycopg", "psycopg"),
}
"""The extras that are looked for, and the package that each one brings."""
_WITHOUT = {
    "media": "so source and finished videos are not looked into",
    "storage": "so nothing can be uploaded to the storage of the settings",
    "postgres": "so the ledger in PostgreSQL cannot be opened",
}


def program() -> Finding:
    """Which version of this program runs, on which Python, and where."""
    command = this_program().command
    versions = {"wan_mcp": version("wan-mcp"), "python": platform.python_version()}
    found = (
        f"wan-mcp {versions['wan_mcp']} with Python {versions['python']} on "
        f"{platform.system() or sys.platform}, started as {command}."
    )
    if is_temporary(this_program()):
        return note(
            "version",
            found,
            "This installation lies in a cache and may be deleted at any time: install it for "
            "good, with pipx install and the folder of the project.",
            **versions,
        )
    return ok("version", found, **versions)


def extras(settings: Settings | None) -> Finding:
    """Whether the extras that the settings need are installed; `media` is always checked."""
    found = {extra: _version(package) for extra, (_, package) in _PACKAGES.items()}
    if settings is None or not _needs_storage(settings):
        del found["storage"]
    if settings is None or not settings.ledger_url.get_secret_value():
        del found["postgres"]
    if missing := [extra for extra in found if found[extra] is None]:
        without = (f"The extra {extra} is not installed, {_WITHOUT[extra]}." for extra in missing)
        return note(
            "extras",
            " ".join(without),
            f"To have {'it' if len(missing) == 1 else 'them'}: pip install "
            f"'wan-mcp[{','.join(missing)}]' in this environment.",
            **found,
        )
    installed = (f"{extra} is installed ({_PACKAGES[extra][0]} {found[extra]})." for extra in found)
    return ok("extras", " ".join(installed), **found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _needs_storage(settings: Settings) -> bool:
    stores_videos = isinstance(settings.video_folder(None, local=True), str)
    return stores_videos or (settings.storage_url is not None and settings.public_url is None)


def settings(environment: Mapping[str, str]) -> tuple[Settings | None, Finding]:
    """The settings of this shell, and where each comes from; None if one cannot be used."""
    try:
        given = given_settings(environment)
        read = Settings.read(environment)
    except BadSettings as exc:
        return None, broken(
            "settings",
            f"{exc}.",
            "Correct it; until then no server starts from here, and what depends on the settings "
            "was not looked at.",
        )
    shown = list(_shown(given))
    found = f"{'; '.join(shown)}." if shown else "All are as they come; none is set here."
    sources = {name: each.source for name, each in given.items()}
    return read, ok("settings", found, sources=sources)


def _shown(given: Mapping[str, Given]) -> Iterator[str]:
    for name, each in sorted(given.items()):
        yield f"{name}={MASK if is_secret(name) else each.value} from {each.source}"
