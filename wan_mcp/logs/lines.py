"""The log: on stderr, in ASCII, and without the query of any link.

Hosts keep stderr in files, and users publish these files; a query may be a signature.
"""

import logging
import re

_NOISY = ("httpcore", "httpx", "sse_starlette")
# A query may contain a ', and `media_url` accepts none of "<>. No address begins inside another:
# otherwise each :// of a hostile text would start a search to its end.
_QUERY = re.compile(r"""(://(?:(?!://)[^\s?#"<>])*[?#])(?:\\(?!")|[^\s"<>\\])+""")
# Pydantic cuts the middle out of the inputs that it repeats, perhaps with the ? of a query.
_INPUT = re.compile(r"input_value=(?:(?!input_value=).)*, input_type=")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line and its traceback, without queries and the inputs of validation errors."""
        text = _INPUT.sub("input_value=..., input_type=", super().format(record))
        return _QUERY.sub(r"\1...", text).encode("ascii", "backslashreplace").decode()


def log_to_stderr(level: str) -> None:
    """Configure logging, unless it is configured already. Call it before the SDK configures it.

    Args:
        level: the lowest level that is logged, such as "DEBUG".
    """
    quiet()
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def quiet() -> None:
    """Keep libraries from logging the contents of messages, which they do at DEBUG.

    httpcore logs the headers of every answer, which may repeat our key or redirect to a signed
    link; sse_starlette logs our answers with the links of videos in them (observed).
    """
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
