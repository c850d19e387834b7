"""The entries of this program in the settings of hosts: what each one would start."""

import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wan_mcp.cli.check.findings import Finding, broken, note, ok
from wan_mcp.cli.check.start import NotStarted, Started
from wan_mcp.cli.hosts.catalogue import Folders, Host
from wan_mcp.cli.hosts.change import read_entry, this_program
from wan_mcp.cli.hosts.config_file import Refused
from wan_mcp.cli.hosts.formats import BrokenText
from wan_mcp.cli.hosts.masking import without_arguments
from wan_mcp.settings import ENV_FILE, KEY, BadSettings, Settings
from wan_mcp.wording import counted

Start = Callable[[list[str], Mapping[str, str], Path], Awaitable[Started | NotStarted]]
"""Starts a server without a key, so that it cannot do anything."""
SLOW_SECONDS = 1.0
"""A first answer after this time is worth a note: one host drops such a server (observed
elsewhere)."""
OURS = ("WAN_MCP_", "PIXELDOJO_")
"""The prefixes of the settings of this program."""
_OPTIONS = {"-E", "-I", "-P", "-s", "-u"}
"""The options of Python before the name of a module that do not make it another program."""
_HARMLESS = {
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "LANG", "LC_ALL", "TZ"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONUTF8"),
}
"""Variables that load no code, unlike PYTHONPATH or LD_PRELOAD."""


@dataclass(frozen=True)
class Entry:
    """Our entry in a host's settings.

    Attributes:
        host: the host.
        file: where its settings are.
        command: the program and its arguments, as they are written there.
        environment: the variables with which the server is started here.
        left_out: the names of further variables of the entry, which might load other code.
        switched_off: whether the entry tells the host not to start the server.
        settings: the settings that the server would read; None if one cannot be used.
        bad_setting: which one cannot be used, and why.
    """

    host: Host
    file: Path
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    left_out: tuple[str, ...] = ()
    switched_off: bool = False
    settings: Settings | None = None
    bad_setting: str = ""

    @property
    def figures(self) -> dict[str, object]:
        """The entry as data for programs."""
        return {"file": str(self.file), "command": self.program}

    @property
    def program(self) -> str:
        """The first word of the command, in a form that may be shown."""
        return without_arguments(self.command[:1])

    @property
    def shown(self) -> str:
        """The command, in a form that may be shown."""
        return without_arguments(self.command)

    @property
    def key(self) -> str:
        """The key that the server would use; "" for none."""
        return self.settings.api_key.get_secret_value() if self.settings else ""


def read(
    host: Host, folders: Folders, inherited: Mapping[str, str], folder: Path
) -> Entry | Finding | None:
    """Our entry in a host's settings, or why it cannot be read; None if the host is not found.

    Args:
        inherited: the variables that a host passes on, without settings of this program.
        folder: where the server would be started.
    """
    path = host.file(folders)
    try:
        found = read_entry(host, path.resolve())  # a link is read as the host reads it
    except BrokenText as exc:
        return broken(host.id, f"{path} {exc}.", f"Mend it: {host.title} cannot read it either.")
    except Refused as exc:
        return note(host.id, f"{path} was not looked at: it {exc}.")
    if found is None:
        if not host.is_installed(folders):
            return None
        way_out = f"To add one: wan-mcp setup {host.id}."
        return ok(host.id, f"{host.title} is here and has no entry of wan-mcp. {way_out}")
    return _entry(host, path, found, inherited, folder)


def _entry(
    host: Host, path: Path, found: dict[str, Any], inherited: Mapping[str, str], folder: Path
) -> Entry:
    written = found.get(host.command_key)
    arguments = found.get("args")
    command = [*(written if isinstance(written, list) else [written or ""])]
    command += arguments if isinstance(arguments, list) else []
    given = found.get(host.environment_key)
    own = {name: str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    used = {name: value for name, value in own.items() if _is_harmless(name)}
    is_off = found.get("enabled") is False or found.get("disabled") is True
    settings, why = None, ""
    try:
        settings = Settings.read({**inherited, **own}, folder)
    except BadSettings as exc:
        why = str(exc)
    words = [str(word) for word in command]
    left_out = tuple(sorted(own.keys() - used.keys()))
    return Entry(host, path, words, {**inherited, **used}, left_out, is_off, settings, why)


class Entries:
    """Checks entries. Servers that would be started in the same way are started once.

    Args:
        start: starts a server.
        search: where a program that is named without a folder is looked for, as in PATH.
        folder: where servers are started.
    """

    def __init__(self, start: Start, search: str | None, folder: Path) -> None:
        self._start = start
        self._search = search
        self._folder = folder
        self._started: dict[object, Started | NotStarted] = {}

    async def look(self, entry: Entry) -> Finding:
        """Where an entry points to, and whether the server that it starts answers."""
        program = entry.command[0]
        found = shutil.which(program, path=self._search) if program else None
        if found is None:
            return broken(
                entry.host.id,
                f"The entry in {entry.file} starts {entry.program or 'nothing'}, which is not "
                "here.",
                f"wan-mcp setup {entry.host.id} writes it anew.",
                **entry.figures,
            )
        if not _is_this_program(found, entry.command[1:]):
            return note(
                entry.host.id,
                f"The entry in {entry.file} starts another program: {entry.shown}.",
                f"It was not started. To use this installation: wan-mcp setup {entry.host.id}.",
                **entry.figures,
            )
        if entry.bad_setting:
            return broken(
                entry.host.id,
                f"The server of {entry.file} does not start: {entry.bad_setting}.",
                "Correct that setting in the entry.",
                **entry.figures,
            )
        if entry.switched_off:
            return note(
                entry.host.id,
                f"The entry in {entry.file} is switched off.",
                f"Switch it on in {entry.host.title}.",
                **entry.figures,
            )
        return _judged(entry, await self._outcome(found, entry))

    async def _outcome(self, program: str, entry: Entry) -> Started | NotStarted:
        # A second name of our script could be in a folder from which Python would load other code.
        command = [program, *entry.command[1:]] if entry.command[1:] else [this_program().command]
        environment = {n: v for n, v in entry.environment.items() if n not in (KEY, ENV_FILE)}
        way = (tuple(command), frozenset(environment.items()))
        if way not in self._started:
            self._started[way] = await self._start(command, environment, self._folder)
        return self._started[way]


def _judged(entry: Entry, outcome: Started | NotStarted) -> Finding:
    host = entry.host
    if isinstance(outcome, NotStarted):
        say = note if entry.left_out else broken
        return say(
            host.id,
            f"The server of {entry.file} does not start: {outcome.why}.",
            f"Run {entry.shown} in a terminal: it says why, or waits. If packages are missing, "
            f"install wan-mcp again. {_about_left_out(entry)}",
            **entry.figures,
        )
    figures = {**entry.figures, **asdict(outcome)}
    found = (
        f"{entry.file} starts this installation: first answer after {outcome.seconds} s, all of "
        f"it there after {outcome.ready_seconds} s, {counted(outcome.tools, 'tool')}."
    )
    if not outcome.tools:
        return broken(host.id, found, "Install wan-mcp again.", **figures)
    if way_out := _reservation(entry, outcome):
        return note(host.id, found, way_out, **figures)
    return ok(host.id, found, **figures)


def _reservation(entry: Entry, outcome: Started) -> str:
    """Why the host may have a problem with a server that starts; "" if nothing suggests one."""
    title, again = entry.host.title, f"wan-mcp setup {entry.host.id}"
    if not entry.key and not entry.host.inputs:
        return (
            f"The entry has no key: it works only if {title} passes PIXELDOJO_API_KEY on. "
            f"{again} adds it."
        )
    if not Path(entry.command[0]).is_absolute():
        return f"{title} may not search the folder of {entry.command[0]}: {again} names it."
    if outcome.seconds > SLOW_SECONDS:
        return "Some hosts give up on a server that is so slow."
    return _about_left_out(entry)


def _about_left_out(entry: Entry) -> str:
    if not entry.left_out:
        return ""
    names = ", ".join(entry.left_out)
    return f"It was started without {names} of the entry, which might load other code."


def _is_harmless(name: str) -> bool:
    """Whether a variable of an entry only changes how this program works."""
    return name.startswith(OURS) or name.upper() in _HARMLESS


def _is_this_program(program: str, arguments: list[str]) -> bool:
    """Whether this starts the stdio server of this installation, by either of its names."""
    own = this_program()
    if not arguments:
        return not own.arguments and _same(program, own.command)
    python = Path(sys.executable)
    # Many environments often share one file of Python, so its folder must be the same, too.
    is_python = _same(program, str(python)) and _same(str(Path(program).parent), str(python.parent))
    return is_python and [word for word in arguments if word not in _OPTIONS] == ["-m", "wan_mcp"]


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
