"""This installation: its version, its extras, and the settings of this shell."""

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from wan_mcp.cli.check.findings import Finding, broken, note, ok
from wan_mcp.cli.hosts.change import is_temporary, this_program
from wan_mcp.cli.hosts.masking import MASK
from wan_mcp.settings import BadSettings, Given, Settings, given_settings, is_secret

_MEDIA = "PyAV", "av"
"""The extra `media`, and the package that it brings."""


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


def extras() -> Finding:
    """Whether what is optional is installed."""
    name, package = _MEDIA
    try:
        found = version(package)
    except PackageNotFoundError:
        return note(
            "extras",
            "The extra media is not installed, so source and finished videos are not looked into.",
            "To have it: pip install 'wan-mcp[media]' in this environment.",
            media=None,
        )
    return ok("extras", f"media is installed ({name} {found}).", media=found)


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
