"""The formats of hosts' settings: one entry is added to a text or removed, and nothing else.

A text is JSON with comments (as VS Code, Zed and opencode read it), TOML or YAML. An entry is named
by the path of keys that leads to it. Libraries read and write the formats, so comments, order and
spelling of everything else survive.
"""

from collections.abc import Sequence
from typing import Any, Protocol

KeyPath = Sequence[str | int]
"""The keys that lead to a value; a number is a place in a list."""


class BrokenText(Exception):
    """A text violates its format; the message ends a sentence that begins with the file."""


UNSAFE = "is written in a way that this program cannot change safely"


class Format(Protocol):
    """One format of settings. Each method raises BrokenText if the text cannot be read."""

    def load(self, text: str) -> dict[str, Any]:
        """All settings in the text, as plain values; {} for an empty text."""

    def put(self, text: str, path: KeyPath, value: Any) -> str:
        """The text with this value at this path, in place of an earlier one."""

    def remove(self, text: str, path: KeyPath) -> str:
        """The text without the value at this path, which must exist."""


def entry_in(settings: Any, path: KeyPath) -> Any:
    """The value at this path; None if there is none.

    Raises:
        BrokenText: something on the way is not a group of settings, or not a list.
    """
    value = settings
    for key in path:
        if isinstance(key, int) and isinstance(value, list):
            value = value[key] if key < len(value) else None
        elif isinstance(key, str) and isinstance(value, dict):
            value = value.get(key)
        else:
            raise BrokenText(f"has something else where {path[0]} belongs")
        if value is None:
            return None
    return value


def with_entry(form: Format, text: str, path: KeyPath, value: Any) -> str:
    """The text with this entry; the text itself if it has exactly this entry already.

    Raises:
        BrokenText: it cannot be read, or the entry cannot be changed without changing more.
    """
    before = form.load(text)
    if entry_in(before, path) == value:
        return text
    after = form.put(text, path, value)
    if form.load(after) != _put(before, path, value):
        raise BrokenText(UNSAFE)
    return after


def without_entry(form: Format, text: str, path: KeyPath) -> str:
    """The text without this entry; the text itself if it has none. Raises as `with_entry` does."""
    before = form.load(text)
    if entry_in(before, path) is None:
        return text
    after = form.remove(text, path)
    if form.load(after) != _removed(before, path):
        raise BrokenText(UNSAFE)
    return after


def _put(settings: Any, path: KeyPath, value: Any) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(key, int):
        items = list(settings or [])
        items[key:] = [_put(items[key] if key < len(items) else None, rest, value)]
        return items + list(settings or [])[len(items) :]
    group = dict(settings or {})
    group[key] = _put(group.get(key), rest, value)
    return group


def _removed(settings: Any, path: KeyPath) -> Any:
    key, *rest = path
    changed: Any = list(settings) if isinstance(key, int) else dict(settings)
    if rest:
        changed[key] = _removed(changed[key], rest)
    else:
        del changed[key]
    return changed
