"""A bad status becomes one of our errors. The status decides first, the vendor's code second."""

import re
from collections.abc import Callable, Mapping

from wan_mcp.errors import (
    CouldNotFindOut,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    OutOfCredits,
    RateLimited,
    Rejected,
    Unauthorized,
    WanError,
)
from wan_mcp.pixeldojo.reply import Reply, clean

_FIELDS = (
    "video_duration",
    "character_image",
    "resolution",
    "refert_num",
    "frames_per_second",
    "go_fast",
    "merge_audio",
    "seed",
    "video",
)
_CHANGES_NOTHING = {400, 413, 415, 422, 307, 308}
"""A request refused with these did nothing: not charged (assumed), and 307/308 ask for a resend."""
_PASSING = {408, 425, 429}


def failure(reply: Reply, *, paid: bool) -> WanError:
    """The error that a non-2xx answer stands for.

    Args:
        paid: the request was the submit; what may have been started is then never called failed.
    """
    code, text = error_words(reply)
    told = f' PixelDojo says: "{text}"' if text else ""
    if reply.status in _KNOWN:
        return _KNOWN[reply.status](reply, code, told)
    if reply.status in _CHANGES_NOTHING and (paid or reply.status >= 400):
        what = f"PixelDojo turned the request down (HTTP {reply.status}).{told}"
        return Rejected(what, field=_named_field(text))
    if paid:
        return OutcomeUnknown(
            f"PixelDojo answered the paid request with HTTP {reply.status}, which does not tell "
            f"whether a job was started.{told}"
        )
    return CouldNotFindOut(
        f"PixelDojo could not say (HTTP {reply.status}).{told}",
        passing=reply.status in _PASSING or reply.status >= 500,
        retry_after=reply.retry_after,
    )


def error_words(reply: Reply) -> tuple[str, str]:
    """The code and the text of an error answer, both cleaned, either possibly empty.

    `{"error": {"code", "message"}}`, `{"error": "text", "message"?}`, HTML and nothing at all
    have all been seen from this vendor or its CDN.
    """
    try:
        document = reply.document()
    except CouldNotFindOut:
        return "", ""
    error = document.get("error")
    if isinstance(error, Mapping):
        return clean(error.get("code"), 60), clean(error.get("message"))
    parts = [clean(error), clean(document.get("message"))]
    code = parts[0] if re.fullmatch(r"[a-z]+(_[a-z]+)+", parts[0]) else ""
    return code, clean(": ".join(p for p in parts if p and p != code))


def _unauthorized(reply: Reply, code: str, told: str) -> WanError:
    return Unauthorized(f"PixelDojo does not accept the API key.{told}")


def _out_of_credits(reply: Reply, code: str, told: str) -> WanError:
    return OutOfCredits(f"The PixelDojo account has too few credits for this job.{told}")


def _not_allowed(reply: Reply, code: str, told: str) -> WanError:
    # 403 has meant both "no permission" and "out of credits" (the vendor's 2025 pages).
    if "credit" in code or "credit" in told.lower():
        return _out_of_credits(reply, code, told)
    return NotAllowed(f"PixelDojo does not allow this to the API key.{told}")


def _not_found(reply: Reply, code: str, told: str) -> WanError:
    return NotFound(f"PixelDojo knows nothing under this address.{told}")


def _rate_limited(reply: Reply, code: str, told: str) -> WanError:
    wait = "" if reply.retry_after is None else f" It asks to wait {reply.retry_after:.0f} s."
    what = f"PixelDojo asks for fewer requests; nothing was started.{wait}{told}"
    return RateLimited(what, retry_after=reply.retry_after)


_KNOWN: dict[int, Callable[[Reply, str, str], WanError]] = {
    401: _unauthorized,
    402: _out_of_credits,
    403: _not_allowed,
    404: _not_found,
    429: _rate_limited,
}


def _named_field(text: str) -> str | None:
    return next((name for name in _FIELDS if re.search(rf"\b{name}\b", text)), None)
