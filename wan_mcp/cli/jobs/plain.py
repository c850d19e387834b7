"""Text of strangers as a terminal may show it: it can neither move the cursor nor colour anything.

File names, links and PixelDojo's texts come from others. A path is written so that it stays exact;
everything else is made readable.
"""

import unicodedata
from urllib.parse import unquote, urlsplit

from wan_mcp.pixeldojo.reply import clean

MAX_CHARACTERS = 2_000


def one_line(text: object) -> str:
    """A text in one line, without control, invisible and direction characters."""
    return clean(str(text), MAX_CHARACTERS)


def exact(text: str) -> str:
    """The same text, in which a character that cannot be shown is an escape, such as \\x1b."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def file_name(input: object) -> str:
    """The last part of a link or a path, as people read it; the video of a job stays as it is."""
    if str(input).startswith("wan:"):
        return one_line(input)
    path = urlsplit(str(input)).path
    return one_line(unquote(path.rstrip("/").rpartition("/")[2]))


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(map(_columns, text))


def fitted(text: str, columns: int) -> str:
    """A text in exactly so many columns: filled with spaces, or cut with `...` at its end."""
    if width(text) > columns:
        kept = ""
        for c in text:
            if width(kept) + _columns(c) > columns - 3:
                break
            kept += c
        text = f"{kept}..."[: max(columns, 0)]
    return text + " " * (columns - width(text))


def _columns(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1


def _escape(c: str) -> str:
    return c.encode("ascii", "backslashreplace").decode() if ord(c) > 0x7F else f"\\x{ord(c):02x}"
