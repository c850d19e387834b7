"""The log: on stderr, in ASCII, and never with what follows the ? of a link.

Hosts keep what a server writes there in files, and users post them; a query may be a signature.
"""

import logging
import re

_TALKATIVE = ("httpcore", "httpx", "sse_starlette")
# A query may hold a ' and `media_url` admits none of "<>. No address begins inside another: else
# each :// of a hostile text would be a search to its end.
_QUERY = re.compile(r"""(://(?:(?!://)[^\s?#"<>])*[?#])(?:\\(?!")|[^\s"<>\\])+""")
# Pydantic shortens what it repeats in the middle, so that no ? is left to tell a query by.
_INPUT = re.compile(r"input_value=(?:(?!input_value=).)*, input_type=")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line and its traceback, with all that they quote."""
        text = _INPUT.sub("input_value=..., input_type=", super().format(record))
        return _QUERY.sub(r"\1...", text).encode("ascii", "backslashreplace").decode()


def log_to_stderr(level: str) -> None:
    """Set the process's log up, unless its owner has; before the SDK does it in its own way.

    Args:
        level: the least grave level that is told, as "DEBUG".
    """
    quiet()
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def quiet() -> None:
    """Keep libraries from logging what they carry, which they do at DEBUG.

    httpcore logs every header of an answer, which may repeat our key or redirect to a signed
    link; sse_starlette logs whole answers of ours, links of films and all (observed).
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
