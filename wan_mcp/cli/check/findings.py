"""The findings of a check, and how they are shown: one line each, or as data."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from wan_mcp.cli.hosts.masking import MASK
from wan_mcp.cli.jobs.plain import exact

BROKEN = 1
"""The exit code if something is broken; 2 stands for a command line that is not understood."""

_LONGEST_WORDS = 6, 14
"""The widths of the first two columns, in characters."""


class State(StrEnum):
    """How good a finding is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, or not certain; jobs may work all the same."""
    BROKEN = "broken"
    """Jobs do not work, or not from the host that is named."""


@dataclass(frozen=True)
class Finding:
    """The result of checking one thing.

    Attributes:
        check: what was checked, in one or two words.
        state: how good it is.
        found: what was found, in one sentence.
        way_out: what to do about it, in sentences; "" if there is nothing to do.
        figures: the result for programs; the names of numbers contain their units.
    """

    check: str
    state: State
    found: str
    way_out: str = ""
    figures: Mapping[str, object] = field(default_factory=dict)

    def line(self) -> str:
        """Everything but the figures, on one line that cannot move the cursor."""
        first, second = _LONGEST_WORDS
        text = " ".join(f"{self.found} {self.way_out}".split())
        return f"{self.state:{first}} {self.check:{second}} {exact(text)}"

    def data(self) -> dict[str, object]:
        """Everything as data; `next` is the way out, as in the answers of the tools."""
        about = {"check": self.check, "state": self.state, "found": self.found}
        return {**about, "next": self.way_out, "figures": dict(self.figures)}

    def without(self, secrets: Collection[str]) -> "Finding":
        """The same finding with a mask in place of each secret, wherever that came from."""
        hidden = sorted(secrets, key=len, reverse=True)  # one may be the beginning of another
        texts = {name: _masked(getattr(self, name), hidden) for name in ("found", "way_out")}
        return replace(self, **texts, figures=_masked(dict(self.figures), hidden))


def ok(check: str, found: str, **figures: object) -> Finding:
    """A finding that something is as it should be."""
    return Finding(check, State.OK, found, figures=figures)


def note(check: str, found: str, way_out: str = "", **figures: object) -> Finding:
    """A finding that is worth knowing, or that something could not be found out."""
    return Finding(check, State.NOTE, found, way_out, figures)


def broken(check: str, found: str, way_out: str, **figures: object) -> Finding:
    """A finding that something has to be repaired, in the way that is named."""
    return Finding(check, State.BROKEN, found, way_out, figures)


def for_person(advice: str) -> str:
    """The advice of an error, which addresses an assistant, reworded for the person."""
    text = re.sub(r"Tell the user[.;] ", "", advice)
    text = re.sub(r"[Aa]sk (?:the user|them) which", "Decide which", text)
    text = re.sub(r"[Aa]sk (?:the user|them) to ", "", text)
    text = re.sub(r"(?<=[,:;] )to |(?<=\band )to |(?<=\bthen )to |(?<=\bor )to ", "", text)
    text = re.sub(r"\btheir\b", "your", text)
    return re.sub(r"(?:^|(?<=\. ))[a-z]", lambda first: first[0].upper(), text)


def _masked(value: Any, hidden: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {name: _masked(each, hidden) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, hidden) for each in value]
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, MASK)
    return value


class Report:
    """Shows findings one by one, or all of them as data at the end.

    Args:
        write: shows a text.
        as_json: whether to show data.

    Attributes:
        findings: all of them so far, without secrets.
        secrets: the texts that are masked in each of them.
    """

    def __init__(self, write: Callable[[str], object], *, as_json: bool = False) -> None:
        self.findings: list[Finding] = []
        self.secrets: Collection[str] = ()
        self._write = write
        self._as_json = as_json

    def add(self, finding: Finding) -> None:
        """Add one finding."""
        finding = finding.without(self.secrets)
        self.findings.append(finding)
        if not self._as_json:
            self._write(f"{finding.line()}\n")

    def end(self) -> int:
        """Show the outcome. Returns the exit code, which is 0 if nothing is broken."""
        count = sum(each.state is State.BROKEN for each in self.findings)
        if self._as_json:
            data = {"ok": not count, "findings": [each.data() for each in self.findings]}
            self._write(json.dumps(data, indent=2) + "\n")
        else:
            self._write(f"\n{_summary(count)} Nothing was bought.\n")
        return BROKEN if count else 0


def _summary(count: int) -> str:
    if not count:
        return "Nothing is broken."
    return "One thing is broken." if count == 1 else f"{count} things are broken."
