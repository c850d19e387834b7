"""What is shown of a file of settings: never a secret, whoever's it is."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

MASK = "********"
"""What is shown in place of a secret."""

_WORD = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s"',\[\]{}]+""")
"""A quoted text with its quotes, or what stands between blanks, commas and brackets."""


def masked(text: str, hidden: Collection[str]) -> str:
    """The text of a file of settings with a mask in place of each value that is to be hidden.

    Args:
        text: JSON, TOML or YAML, or some lines of it.
        hidden: the values as they are read, whatever quotes and escapes the text has for them.
    """
    return _WORD.sub(lambda word: _masked(word[0], hidden), text)


def strings_in(settings: Any) -> Iterator[str]:
    """Every text that settings have as a value, at any depth."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from strings_in(value)


def without_arguments(command: Sequence[str]) -> str:
    """A command without its arguments, of which one may be a secret: also if all are one text."""
    program, *rest = re.split(r"(?:^|\s+)(?=-|[^\s/\\]*=)", command[0], maxsplit=1)
    return f"{program} ...".lstrip() if rest or command[1:] else program


def _masked(word: str, hidden: Collection[str]) -> str:
    quote = word[0] if word[0] in "\"'" else ""
    value = word[1:-1] if quote else word
    is_hidden = value in hidden
    if quote and "\\" in value:
        try:
            is_hidden = is_hidden or json.loads(f'"{value}"') in hidden
        except ValueError:  # escapes of another format: rather too much than too little
            is_hidden = True
    return f"{quote}{MASK}{quote}" if is_hidden else word
