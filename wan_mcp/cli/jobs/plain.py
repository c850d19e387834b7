"""Makes text of strangers safe to show: it can neither move the cursor nor change colours.

File names, links and PixelDojo's texts come from others. A path stays exact; everything else is
made readable.
"""

import unicodedata
from urllib.parse import unquote, urlsplit

from wan_mcp.pixeldojo.reply import clean

MAX_CHARACTERS = 2_000


def one_line(text: object) -> str:
    """A text on one line, without control, invisible and direction characters."""
    return clean(str(text), MAX_CHARACTERS)


def exact(text: str) -> str:
    """The same text, with characters that cannot be shown as escapes, such as \\x1b."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def file_name(input: object) -> str:
    """The last part of a link or a path, in readable form; the video of a job is unchanged."""
    if str(input).startswith("wan:"):
        return one_line(input)
    path = urlsplit(str(input)).path
    return one_line(unquote(path.rstrip("/").rpartition("/")[2]))


def width(text: str) -> int:
    """How many columns of a terminal a text occupies."""
    return sum(map(_columns, text))


def fitted(text: str, columns: int) -> str:
    """A text of exactly this many columns: padded with spaces, or cut with `...` at its end."""
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
