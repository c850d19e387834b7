"""Settings in JSON with comments. A library finds the places, and changes are made in the text."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wan_mcp.cli.hosts.formats import BrokenText, KeyPath

if TYPE_CHECKING:
    from json5.tokenizer import JSON5Token

_DEFAULT_INDENT = "  "


class JsonWithComments:
    """JSON, with comments and trailing commas where the file has them."""

    def load(self, text: str) -> dict[str, Any]:
        """See Format."""
        value = _json(text) if text.strip() else {}
        if not isinstance(value, dict):
            raise BrokenText("has something else where its settings belong")
        return value

    def put(self, text: str, path: KeyPath, value: Any) -> str:
        """See Format."""
        if not text.strip():
            text = "{}\n"
        *outer, last = path
        document = _Document(text)
        group = document.group()
        for depth, key in enumerate(outer):
            if (member := group.find(key)) is None:
                return group.with_member(key, _nested(path[depth + 1 :], value))
            group = document.group(member.value)
        if (member := group.find(last)) is None:
            return group.with_member(last, value)
        written = group.written(value, group.member_indent)
        return text[: member.value] + written + text[member.end :]

    def remove(self, text: str, path: KeyPath) -> str:
        """See Format."""
        document = _Document(text)
        group = document.group()
        for key in path[:-1]:
            member = group.find(key)
            assert member is not None
            group = document.group(member.value)
        return group.without_member(path[-1])


@dataclass(frozen=True)
class _Member:
    key: str | int
    begin: int
    value: int
    end: int
    comma: int | None


class _Group:
    """One object or list of a JSON text: where its brackets and its members are.

    Args:
        text: the whole text.
        opening: where its opening bracket is.
        closing: where its closing bracket is.
        members: its members, in the order of the text.
    """

    def __init__(self, text: str, opening: int, closing: int, members: Sequence[_Member]) -> None:
        self._text = text
        self._opening = opening
        self._closing = closing
        self._members = members

    @property
    def member_indent(self) -> str:
        """The indentation of a member."""
        if self._members and (own := _indent_at(self._text, self._members[0].begin)) is not None:
            return own
        return _line_indent(self._text, self._opening) + self._unit

    @property
    def _unit(self) -> str:
        found = re.search(r"^([ \t]+)\S", self._text, re.MULTILINE)
        return found[1] if found else _DEFAULT_INDENT

    def find(self, key: str | int) -> _Member | None:
        """The member with this key; if there are several, the last one, as readers of JSON do."""
        return next((member for member in reversed(self._members) if member.key == key), None)

    def written(self, value: object, indent: str) -> str:
        """A value in the style of the text, with the lines after the first one indented."""
        lines = json.dumps(value, indent=self._unit, ensure_ascii=False).split("\n")
        return self._newline.join([lines[0], *(indent + line for line in lines[1:])])

    def with_member(self, key: str | int, value: object) -> str:
        """The text with one more member, the last one."""
        text, indent = self._text, self.member_indent
        name = "" if isinstance(key, int) else f"{json.dumps(key, ensure_ascii=False)}: "
        line = name + self.written(value, indent)
        begin = len(text[: self._closing].rstrip(" \t\r\n"))
        before = text[:begin]
        if self._members and self._members[-1].comma is None:
            end = self._members[-1].end
            before = f"{text[:end]},{text[end:begin]}"
        comma = "," if self._members and self._members[-1].comma is not None else ""
        rest = text[begin : self._closing]
        if "\n" not in rest:
            rest = self._newline + _line_indent(text, self._opening)
        return f"{before}{self._newline}{indent}{line}{comma}{rest}{text[self._closing :]}"

    def without_member(self, key: str | int) -> str:
        """The text without that member, its comma, and the line that it leaves empty."""
        text, member = self._text, self.find(key)
        assert member is not None
        end = member.end if member.comma is None else member.comma + 1
        before, rest = text[: member.begin], text[end:]
        if len(self._members) == 1 and not text[self._opening + 1 : member.begin].strip():
            return text[: self._opening + 1] + rest.lstrip()
        if rest.lstrip(" \t").startswith(("\r", "\n")):  # nothing follows it on its last line
            before = before.rstrip()
        place = self._members.index(member)
        if place and member.comma is None:
            comma = self._members[place - 1].comma
            assert comma is not None  # it is between two members
            before = before[:comma] + before[comma + 1 :]
        return before + rest

    @property
    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self._text else "\n"


def _nested(path: KeyPath, value: object) -> object:
    for key in reversed(path):
        value = [value] if isinstance(key, int) else {key: value}
    return value


def _json(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text)  # most files have no comments, and this is 700 times as fast
    import json5

    try:
        return json5.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BrokenText(f"is not JSON: {str(exc).splitlines()[0][:100]}") from None


class _Document:
    """A valid text, and the tokens of which it consists.

    Args:
        text: the whole text.
    """

    def __init__(self, text: str) -> None:
        from json5.tokenizer import tokenize

        self._text = text
        blank = {"WHITESPACE", "LINE_COMMENT", "BLOCK_COMMENT"}
        self._tokens = [token for token in tokenize(text) if token.type not in blank]

    def group(self, begin: int = 0) -> _Group:
        """The object or list that begins at this place; the outermost one by default."""
        start = bisect_left(self._tokens, begin, key=lambda token: token.index)
        return _group(self._text, self._tokens[start:])


def _group(text: str, tokens: Sequence[JSON5Token]) -> _Group:
    members: list[_Member] = []
    named = tokens[0].type == "LBRACE"
    place = 1
    while tokens[place].type not in {"RBRACE", "RBRACKET"}:
        begin, value = tokens[place].index, place + 2 * named  # key, colon, value
        after = _after(tokens, value)
        comma = tokens[after].index if tokens[after].type == "COMMA" else None
        key = _key(tokens[place]) if named else len(members)
        ends = tokens[after - 1].end
        members.append(_Member(key, begin, tokens[value].index, ends, comma))
        place = after + (comma is not None)
    return _Group(text, tokens[0].index, tokens[place].index, members)


def _key(token: JSON5Token) -> str:
    """The text of a key, which may be written with quotes and escapes."""
    return str(next(iter(_json("{" + token.value + ":0}"))))


def _after(tokens: Sequence[JSON5Token], place: int) -> int:
    """The place of the token after the value that begins at that place."""
    depth = 0
    while True:
        kind = tokens[place].type
        depth += (kind in {"LBRACE", "LBRACKET"}) - (kind in {"RBRACE", "RBRACKET"})
        place += 1
        if not depth and tokens[place].type in {"COMMA", "RBRACE", "RBRACKET"}:
            return place


def _line_indent(text: str, place: int) -> str:
    line = text[text.rfind("\n", 0, place) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _indent_at(text: str, place: int) -> str | None:
    """The white space before a place on its line; None after other text, or on the first line."""
    start = text.rfind("\n", 0, place) + 1
    before = text[start:place]
    return before if start and not before.strip(" \t") else None
