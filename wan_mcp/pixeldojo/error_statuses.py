"""A bad status becomes one of our errors. The status decides first, the vendor's code second."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
_TRANSIENT = {408, 425, 429}


_CHECK_BASE = "Ask the user to check PIXELDOJO_API_BASE"


@dataclass(frozen=True)
class _Refusal:
    """A bad answer, and what it was an answer to.

    Attributes:
        code: the vendor's, cleaned; possibly empty.
        told: the vendor's text as a sentence of ours that quotes it; possibly empty.
        paid: it answered the submit.
    """

    reply: Reply
    code: str
    told: str
    paid: bool


def failure(reply: Reply, *, paid: bool) -> WanError:
    """The error that a non-2xx answer stands for.

    Args:
        paid: the request was the submit; what may have been started is then never called failed.
    """
    code, text = error_words(reply)
    told = f' PixelDojo says: "{text}"' if text else ""
    if reply.status in _KNOWN:
        return _KNOWN[reply.status](_Refusal(reply, code, told, paid))
    if reply.status in _CHANGES_NOTHING and (paid or reply.status >= 400):
        what = f"PixelDojo turned the request down (HTTP {reply.status}).{told}"
        step = f"{_CHECK_BASE}." if reply.status < 400 else None
        return Rejected(what, field=_named_field(text), next_step=step)
    if paid:
        return OutcomeUnknown(
            f"PixelDojo answered the paid request with HTTP {reply.status}, which does not tell "
            f"whether a job was started.{told}"
        )
    return CouldNotFindOut(
        f"PixelDojo could not say (HTTP {reply.status}).{told}",
        transient=reply.status in _TRANSIENT or reply.status >= 500,
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


def _unauthorized(refusal: _Refusal) -> WanError:
    return Unauthorized(f"PixelDojo does not accept the API key.{refusal.told}")


def _out_of_credits(refusal: _Refusal) -> WanError:
    return OutOfCredits(f"The PixelDojo account has too few credits.{refusal.told}")


def _not_allowed(refusal: _Refusal) -> WanError:
    # 403 has meant both "no permission" and "out of credits" (the vendor's 2025 pages).
    if "credit" in f"{refusal.code} {refusal.told}".lower():
        return _out_of_credits(refusal)
    return NotAllowed(f"PixelDojo does not allow this to the API key.{refusal.told}")


def _not_found(refusal: _Refusal) -> WanError:
    if not refusal.paid:
        return NotFound(f"PixelDojo knows nothing under this id.{refusal.told}")
    return NotFound(
        f"PixelDojo does not know the model; nothing was started.{refusal.told}",
        next_step=f"{_CHECK_BASE}; if it is right, wan-mcp may need an update.",
    )


def _rate_limited(refusal: _Refusal) -> WanError:
    seconds = refusal.reply.retry_after
    wait = "" if seconds is None else f" It asks to wait {seconds:.0f} s."
    # On a read, "nothing was started" would be read as news of the job.
    effect = "nothing was started" if refusal.paid else "the job itself is not affected"
    what = f"PixelDojo asks for fewer requests; {effect}.{wait}{refusal.told}"
    return RateLimited(what, retry_after=seconds)


_KNOWN: dict[int, Callable[[_Refusal], WanError]] = {
    401: _unauthorized,
    402: _out_of_credits,
    403: _not_allowed,
    404: _not_found,
    429: _rate_limited,
}


def _named_field(text: str) -> str | None:
    return next((name for name in _FIELDS if re.search(rf"\b{name}\b", text, re.I)), None)
