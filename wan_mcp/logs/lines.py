"""The log: on stderr, in ASCII, and without the query of any link.

Hosts keep stderr in files, and users publish these files; a query may be a signature.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Literal

from wan_mcp.logs.context import ids_of_line

_NOISY = ("httpcore", "httpx", "sse_starlette")
# A query may contain a ', and `media_url` accepts none of "<>. No address begins inside another:
# otherwise each :// of a hostile text would start a search to its end.
_QUERY = re.compile(r"""(://(?:(?!://)[^\s?#"<>])*[?#])(?:\\(?!")|[^\s"<>\\])+""")
# Pydantic cuts the middle out of the inputs that it repeats, perhaps with the ? of a query.
_INPUT = re.compile(r"input_value=(?:(?!input_value=).)*, input_type=")


# A terminal obeys them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line and its traceback, without queries and the inputs of validation errors.

        All that follows the first line is indented, so that no text can pass for another line.
        """
        return _plain(super().format(record)).replace("\n", "\n  ")


class _JSONFormatter(logging.Formatter):
    """One JSON object on each line, whatever the texts in it are."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without queries and the inputs of validation errors."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **ids_of_line(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps({name: _plain(text) for name, text in entry.items()})


def _plain(text: str) -> str:
    text = _INPUT.sub("input_value=..., input_type=", text)
    text = _QUERY.sub(r"\1...", text).encode("ascii", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def log_to_stderr(level: str, form: Literal["text", "json"] = "text") -> None:
    """Configure logging, unless it is configured already. Call it before the SDK configures it.

    Args:
        level: the lowest level that is logged, such as "DEBUG".
        form: lines for people, or one JSON object on each line.
    """
    quiet()
    handler = logging.StreamHandler()
    text = _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JSONFormatter() if form == "json" else text)
    logging.basicConfig(level=level, handlers=[handler])


def quiet() -> None:
    """Keep libraries from logging the contents of messages, which they do at DEBUG.

    httpcore logs the headers of every answer, which may repeat our key or redirect to a signed
    link; sse_starlette logs our answers with the links of videos in them (observed).
    """
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
