"""Masks the secrets in a file of settings, ours and those of other servers, before it is shown."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

MASK = "********"
"""Shown in place of a secret."""

_WORD = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s"',\[\]{}]+""")
"""A quoted text with its quotes, or a word between blanks, commas and brackets."""


def masked(text: str, hidden: Collection[str]) -> str:
    """The text of a file of settings with a mask in place of each hidden value.

    Args:
        text: JSON, TOML or YAML, or some lines of it.
        hidden: the values to hide, without the quotes and escapes that the text may have.
    """
    return _WORD.sub(lambda word: _masked(word[0], hidden), text)


def strings_in(settings: Any) -> Iterator[str]:
    """Every text that is a value in settings, at any depth."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from strings_in(value)


def without_arguments(command: Sequence[str]) -> str:
    """A command without its arguments, which may be secret, even if it is all in one text."""
    program, *rest = re.split(r"(?:^|\s+)(?=-|[^\s/\\]*=)", command[0], maxsplit=1)
    return f"{program} ...".lstrip() if rest or command[1:] else program


def _masked(word: str, hidden: Collection[str]) -> str:
    quote = word[0] if word[0] in "\"'" else ""
    value = word[1:-1] if quote else word
    is_hidden = value in hidden
    if quote and "\\" in value:
        try:
            is_hidden = is_hidden or json.loads(f'"{value}"') in hidden
        except ValueError:  # escapes of another format: better to mask too much than too little
            is_hidden = True
    return f"{quote}{MASK}{quote}" if is_hidden else word
