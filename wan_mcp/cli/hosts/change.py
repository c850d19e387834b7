"""Works out what setting up a host would change in its settings, before anything is written."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wan_mcp.cli.hosts.catalogue import (
    KEY_SETTING,
    SECRET_INPUT,
    SECRET_REFERENCE,
    Host,
    Program,
)
from wan_mcp.cli.hosts.config_file import ConfigFile, without_mark
from wan_mcp.cli.hosts.formats import BrokenText, KeyPath, entry_in, with_entry, without_entry
from wan_mcp.cli.hosts.masking import MASK, masked, strings_in


@dataclass(frozen=True)
class Change:
    """One change of one file.

    Attributes:
        file: the file.
        before: its present text; None if it does not exist.
        after: the text to write; None to delete the file.
        secrets: values that the file will contain and that must not be shown.
        hidden: further values that must not be shown where they are whole values: the secrets of
            other servers, which a changed line may contain, too.
        copies: whether a copy of the file is kept beside it, because it has no entry of ours yet.
        restores: whether `after` is the text from before our entry was added.
    """

    file: ConfigFile
    before: str | None
    after: str | None
    secrets: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    copies: bool = False
    restores: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to change."""
        return self.before == self.after

    def shown(self) -> str:
        """The lines that change, as `diff` shows them; secrets are masked.

        Unchanged lines are left out, because they may contain the secrets of other servers.
        """
        lines = difflib.unified_diff(
            (self.before or "").splitlines(), (self.after or "").splitlines(), n=0, lineterm=""
        )
        text = masked("\n".join(list(lines)[2:]), self.secrets | self.hidden)
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text

    def apply(self) -> None:
        """Write the change. Raises Refused."""
        if self.restores:
            assert self.before is not None
            self.file.restore(self.before)
            return
        assert self.after is not None
        private = any(self.secrets)
        self.file.replace(self.before, self.after, private=private, copy=self.copies)


def this_program() -> Program:
    """How a host starts this installation: by its full path, so that no search path matters."""
    name = "wan-mcp.exe" if sys.platform == "win32" else "wan-mcp"
    script = Path(sys.executable).parent / name
    if script.is_file():
        return Program(str(script))
    return Program(sys.executable, ("-P", "-m", "wan_mcp"))


def is_temporary(program: Program) -> bool:
    """Whether the program is in a cache of uv, which deletes such environments (documented)."""
    parts = Path(program.command).parts
    return "uv" in parts and any(part.startswith(("archive-v", "environments-v")) for part in parts)


def read_entry(host: Host, path: Path) -> dict[str, Any] | None:
    """Our entry in a host's settings; None if there is none.

    Raises:
        Refused: the file cannot be trusted.
        BrokenText: it cannot be read.
    """
    _, text = without_mark(ConfigFile(path).read() or "")
    entry = entry_in(host.format.load(text), host.path)
    return entry if isinstance(entry, dict) else None


def key_in(host: Host, entry: Mapping[str, Any] | None) -> str:
    """The key in an entry; "" if there is none."""
    environment = (entry or {}).get(host.environment_key)
    key = environment.get(KEY_SETTING, "") if isinstance(environment, dict) else ""
    return "" if key == SECRET_REFERENCE else str(key)


def addition(host: Host, path: Path, program: Program, key: str) -> Change:
    """The change that adds our entry; other settings in an earlier entry of ours are kept.

    Args:
        host: the host.
        path: its file.
        program: how it starts the server.
        key: the key; not used if the host asks for it.

    Raises:
        Refused: the file cannot be trusted.
        BrokenText: it cannot be read or changed safely.
    """
    file = ConfigFile(path)
    before = file.read()
    mark, text = without_mark(before or "")
    settings = host.format.load(text)
    entry = entry_in(settings, host.path)
    old = entry if isinstance(entry, dict) else {}
    kept = old.get(host.environment_key)
    environment = dict(kept) if isinstance(kept, dict) else {}
    if host.inputs:
        environment[KEY_SETTING] = SECRET_REFERENCE
    elif key:
        environment[KEY_SETTING] = key
    program = replace(program, environment=environment)
    new_entry = {**old, **host.shape(program)}
    after = with_entry(host.format, text, host.path, new_entry)
    if host.inputs:
        after = with_entry(host.format, after, _input_place(host, after), SECRET_INPUT)
    secrets = frozenset({key, key_in(host, old)} - {""}) if not host.inputs else frozenset()
    new = mark + after if after != text else before
    hidden = _strings_of_others(settings, old, new_entry) | ({key_in(host, old)} - {""})
    return Change(file, before, new, secrets, hidden, copies=entry is None)


def removal(host: Host, path: Path) -> Change:
    """The change that removes our entry. Raises as `addition` does."""
    file = ConfigFile(path)
    before = file.read()
    mark, text = without_mark(before or "")
    settings = host.format.load(text)
    if before is None or (entry := entry_in(settings, host.path)) is None:
        return Change(file, before, before)
    secrets = frozenset({key_in(host, entry)} - {""}) if isinstance(entry, dict) else frozenset()
    hidden = _strings_of_others(settings, entry)
    copy = file.copy()
    if _was_before(host, copy, entry, text):
        return Change(file, before, copy, secrets, hidden, restores=True)
    after = without_entry(host.format, text, host.path)
    if host.inputs and entry_in(settings, _input_place(host, after)) is not None:
        after = without_entry(host.format, after, _input_place(host, after))
    return Change(file, before, mark + after, secrets, hidden)


def _strings_of_others(settings: Any, *ours: Any) -> frozenset[str]:
    """The values in a file that do not also occur in an entry of ours."""
    return frozenset(strings_in(settings)) - {"", *strings_in([*ours, SECRET_INPUT])}


def _was_before(host: Host, copy: str | None, entry: Any, text: str) -> bool:
    """Whether adding our entry to the copy gives this text, so that nothing else has changed."""
    try:
        with_ours = with_entry(host.format, without_mark(copy or "")[1], host.path, entry)
        if host.inputs:
            place = _input_place(host, with_ours)
            with_ours = with_entry(host.format, with_ours, place, SECRET_INPUT)
    except BrokenText:
        return False
    return with_ours == text


def _input_place(host: Host, text: str) -> KeyPath:
    """Where the question for the key is in the list of questions, or will be."""
    inputs = entry_in(host.format.load(text), host.inputs) or []
    for place, question in enumerate(inputs):
        if isinstance(question, dict) and question.get("id") == SECRET_INPUT["id"]:
            return (*host.inputs, place)
    return (*host.inputs, len(inputs))
