"""`wan-mcp setup`: adds this server to a host's settings, or removes it again."""

import getpass
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wan_mcp.cli.hosts.catalogue import (
    HOSTS,
    KEY_SETTING,
    SECRET_INPUT,
    SECRET_REFERENCE,
    Folders,
    Host,
)
from wan_mcp.cli.hosts.change import (
    Change,
    addition,
    is_temporary,
    key_in,
    read_entry,
    removal,
    this_program,
)
from wan_mcp.cli.hosts.config_file import Refused
from wan_mcp.cli.hosts.formats import BrokenText, with_entry
from wan_mcp.cli.hosts.masking import MASK, without_arguments
from wan_mcp.storage.data_folder import home_folder

FAILED = 1
"""The exit code if nothing was written although the user asked for it."""

_TEMPORARY = (
    "This installation lies in a cache and may be deleted at any time, and then the entry no "
    "longer works. Install it for good: pipx install, or pip install in an environment that you "
    "keep, with the folder of the project."
)
_STAYS_PRIVATE = (
    "Only you can read the file, as since our entry was added: it was edited meanwhile, and may "
    "hold other secrets."
)


@dataclass(frozen=True)
class Terminal:
    """The terminal of the user.

    Attributes:
        write: shows a text.
        confirm: asks a question, and returns whether the answer is yes.
        secret: asks for a secret without showing it; None if there is no terminal.
    """

    write: Callable[[str], object]
    confirm: Callable[[str], bool]
    secret: Callable[[str], str] | None


@dataclass(frozen=True)
class Setup:
    """One run of the command.

    Attributes:
        terminal: where the user is asked.
        environment: the user's variables.
        folders: where hosts keep their settings.
        agreed: whether to write the change without asking.
    """

    terminal: Terminal
    environment: Mapping[str, str]
    folders: Folders
    agreed: bool = False

    def list_hosts(self) -> int:
        """Show every host, whether it is installed, and whether it has our entry."""
        for host in HOSTS:
            self._say(f"{host.id:15} {host.title:15} {self._state(host)}")
        self._say(
            "\nSet one up: wan-mcp setup HOST. Take it out again: wan-mcp setup HOST --remove.\n"
            "Try all of them, free of charge: wan-mcp check."
        )
        return 0

    def print_entry(self, host: Host) -> int:
        """Show the entry for a host; a key is masked."""
        self._say(f"{host.title} reads {host.file(self.folders)}. The entry:\n")
        self._say(self._snippet(host))
        return 0

    def add(self, host: Host) -> int:
        """Add our entry to a host's settings."""
        path = host.file(self.folders)
        program = this_program()
        if is_temporary(program):
            self._say(_TEMPORARY)
            return FAILED
        try:
            key = self._key(host, path)
            change = addition(host, path, program, key)
        except (Refused, BrokenText) as exc:
            return self._by_hand(host, exc)
        if change.is_empty:
            self._say(f"{host.title} is set up already: {path}")
            return 0
        if not host.is_installed(self.folders):
            self._say(f"{host.title} was not found here; its settings are made now.")
        return self._write(host, change, host.restart)

    def remove(self, host: Host) -> int:
        """Remove our entry from a host's settings."""
        path = host.file(self.folders)
        try:
            change = removal(host, path)
        except (Refused, BrokenText) as exc:
            self._say(f"{path} {exc}. It was left as it is.")
            return FAILED
        if change.is_empty:
            self._say(f"{host.title} has no entry of wan-mcp: {path}")
            return 0
        then = f"{host.title} forgets it when it starts again."
        if change.file.is_tightened and not change.restores:
            then = f"{then} {_STAYS_PRIVATE}"
        return self._write(host, change, then)

    def _write(self, host: Host, change: Change, then: str) -> int:
        path = change.file.path
        self._say(f"{path}:\n{change.shown()}\n")
        if not (self.agreed or self.terminal.confirm("Write this? [y/N] ")):
            self._say("Nothing was written.")
            return FAILED
        try:
            change.apply()
        except Refused as exc:
            return self._by_hand(host, exc)
        self._say(f"Written. {then}")
        if change.copies and change.before is not None:
            self._say(f"What the file held before is in {change.file.backup}")
        return 0

    def _key(self, host: Host, path: Path) -> str:
        """The key from the environment, from the earlier entry, or from the user."""
        known = self.environment.get(KEY_SETTING) or key_in(host, read_entry(host, path))
        if known or host.inputs or self.terminal.secret is None:
            return known
        return self.terminal.secret("Your PixelDojo API key (not shown; Enter leaves it out): ")

    def _by_hand(self, host: Host, reason: Exception) -> int:
        self._say(f"{host.file(self.folders)} {reason}. It was left as it is. The entry to add:\n")
        self._say(self._snippet(host))
        return FAILED

    def _snippet(self, host: Host) -> str:
        key = SECRET_REFERENCE if host.inputs else MASK
        program = replace(this_program(), environment={KEY_SETTING: key})
        text = with_entry(host.format, "", host.path, host.shape(program))
        if host.inputs:
            text = with_entry(host.format, text, (*host.inputs, 0), SECRET_INPUT)
        return text

    def _state(self, host: Host) -> str:
        path = host.file(self.folders)
        try:
            entry = read_entry(host, path)
        except (Refused, BrokenText) as exc:
            return f"{path} {exc}"
        if entry is not None:
            written = entry.get(host.command_key) or ""
            words = [str(word) for word in (written if isinstance(written, list) else [written])]
            return f"set up in {path}: starts {json.dumps(without_arguments(words))}"
        return f"found: {path}" if host.is_installed(self.folders) else "not found"

    def _say(self, text: str) -> None:
        self.terminal.write(text + "\n")


def folders_of(environment: Mapping[str, str]) -> Folders | None:
    """Where the hosts of this user keep their settings; None if the user has no home folder."""
    home = home_folder(environment)
    return None if home is None else Folders.read(environment, home)


def asked_secretly() -> Callable[[str], str] | None:
    """Asks at the terminal without showing the answer; None if there is no terminal."""
    return getpass.getpass if sys.stdin and sys.stdin.isatty() else None
