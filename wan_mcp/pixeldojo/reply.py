"""One answer of PixelDojo, not trusted: read as JSON, with its text made harmless."""

import email.utils
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from wan_mcp.errors import CouldNotFindOut

MAX_TEXT_CHARACTERS = 300
MAX_RETRY_AFTER_SECONDS = 300.0
_MIN_UNIX_TIME = 1_000_000_000
"""A reset at least this large is a Unix time, a smaller one is a number of seconds; both are in use
(observed elsewhere)."""

_ESCAPES = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    # Titles. An unfinished one ends where the next sequence begins: were it no match, each of many
    # openings would search the rest of the text.
    r"|(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b."
)
# Blank letters and variation selectors: all are invisible, and the last ones can encode a text.
_BLANK = (
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


class Allowance(NamedTuple):
    """The `X-RateLimit-*` headers of an answer; None for each that is missing or not usable.

    Attributes:
        limit: requests in a window, which is assumed to be a minute (it is not documented).
        remaining: how many of them are left.
        reset: seconds until there are more, 0 to 300.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


class Reply(NamedTuple):
    """One answer as it arrived.

    Attributes:
        status: the HTTP status.
        body: its first 1 MiB, undecoded.
        whole: whether the whole body arrived.
        content_type: the media type as sent.
        retry_after: seconds that PixelDojo asks to wait, 0 to 300.
        allowance: how many requests the key may make, according to the headers.
        date: when it was made, by PixelDojo's clock; None if it does not say.
    """

    status: int
    body: bytes
    whole: bool = True
    content_type: str = ""
    retry_after: float | None = None
    allowance: Allowance = Allowance()
    date: datetime | None = None

    @property
    def is_page(self) -> bool:
        """Whether it is a web page: a CDN, a proxy or a login answered instead of the API."""
        return "html" in self.content_type.lower() or self.body.lstrip()[:1] == b"<"

    def without(self, secret: str) -> Self:
        """The same answer with a secret replaced, in case it repeats our key."""
        if not secret:
            return self
        return self._replace(body=self.body.replace(secret.encode(), b"[key]"))

    def document(self) -> Mapping[str, Any]:
        """The JSON object in the body.

        Raises:
            CouldNotFindOut: the body is cut, is not JSON, or is not an object.
        """
        document = self.json()
        if not isinstance(document, Mapping):
            raise CouldNotFindOut("PixelDojo's answer has an unexpected shape.")
        return document

    def json(self) -> Any:
        """The JSON in the body; NaN, Infinity and endless nesting are not accepted as JSON.

        Raises:
            CouldNotFindOut: the body is cut or is not JSON.
        """
        if not self.whole:
            raise CouldNotFindOut("PixelDojo's answer broke off or was too large.")
        try:
            return json.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            content = "a web page" if self.is_page else "not JSON"
            raise CouldNotFindOut(f"PixelDojo's answer was {content}.") from exc


def clean(text: object, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """PixelDojo's text made harmless: one line, without control, ANSI, bidi or unseen characters.

    Double quotes become single ones, so that the text cannot close the quotes we put around it.
    """
    if not isinstance(text, str):
        return ""
    plain = re.sub(_BLANK, "", re.sub(_ESCAPES, "", text[: limit * 8])).replace('"', "'")
    spaced = "".join(" " if c in "\t\r\n" else c for c in plain)
    shown = "".join(
        c for c in spaced if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"}
    )
    words = " ".join(shown.split())
    return words if len(words) <= limit else words[: limit - 3] + "..."


def answered_at(headers: Mapping[str, str]) -> datetime:
    """When the answer was made, by the clock of its other dates; by our clock if it has no date.

    Args:
        headers: a mapping that ignores the case of names.
    """
    return http_date(headers.get("date", "")) or datetime.now(UTC)


def retry_after_seconds(value: str, now: datetime) -> float | None:
    """Seconds to wait, 0 to 300, from digits or from an HTTP date; None for anything else."""
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    when = http_date(value)
    if when is None:
        return None
    return min(max((when - now).total_seconds(), 0.0), MAX_RETRY_AFTER_SECONDS)


def allowance(headers: Mapping[str, str], now: datetime) -> Allowance:
    """The content of the rate-limit headers.

    Args:
        headers: a mapping that ignores the case of names.
        now: the date, for a reset that is given as a date.
    """
    limit, remaining, reset = (
        _digits(headers.get(f"x-ratelimit-{name}", "")) for name in ("limit", "remaining", "reset")
    )
    if reset is not None and reset > 1000 * _MIN_UNIX_TIME:
        reset = round(reset / 1000)  # some servers send milliseconds (observed elsewhere)
    if reset is not None and reset > _MIN_UNIX_TIME:
        reset = max(reset - int(now.timestamp()), 0)
    return Allowance(
        limit, remaining, None if reset is None else min(reset, MAX_RETRY_AFTER_SECONDS)
    )


def http_date(value: str) -> datetime | None:
    """The date in a header; None if it is not one."""
    try:
        when = email.utils.parsedate_to_datetime(value)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _digits(value: str) -> int | None:
    value = value.strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
