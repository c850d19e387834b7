"""Which of our errors a bad status becomes: the status decides first, PixelDojo's code second."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from wan_mcp.errors import (
    CouldNotFindOut,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    OutOfCredits,
    RateLimited,
    Rejected,
    StepBy,
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
"""A request refused with these had no effect and is not charged (assumed); 307 and 308 ask for
the same request at another address."""
_TRANSIENT = {408, 425, 429}


_CHECK_BASE = "Ask the user to check PIXELDOJO_API_BASE"


class StoppedOnTheWay(NotAllowed):
    """Something between this computer and PixelDojo refused; that says nothing about the key."""

    step_by = StepBy.OPERATOR
    advice = (
        "Tell the user: the API key is probably fine. Another network, or none of a VPN or proxy, "
        "may help; else ask PixelDojo to let this address in."
    )


class ElsewhereNow(Rejected):
    """The paid request was to be sent to another address, which never gets the key."""

    step_by = StepBy.OPERATOR
    advice = f"{_CHECK_BASE}."


class UnknownModel(NotFound):
    """PixelDojo does not know the model under the address of the paid request."""

    step_by = StepBy.OPERATOR
    advice = f"{_CHECK_BASE}; if it is right, wan-mcp may need an update."


class _Refusal(NamedTuple):
    """A bad answer, and the kind of request that it answers.

    Attributes:
        code: PixelDojo's error code, cleaned; may be empty.
        quote: a sentence that quotes PixelDojo's text, with a space before it; may be empty.
        paid: whether the request was a submit.
    """

    reply: Reply
    code: str
    quote: str
    paid: bool


def failure(reply: Reply, *, paid: bool) -> WanError:
    """The error for an answer whose status is not 2xx.

    Args:
        paid: whether the request was a submit; a job that may exist is then never called failed.
    """
    code, text = error_words(reply)
    quote = f' PixelDojo says: "{text}"' if text else ""
    if reply.status in _KNOWN:
        return _KNOWN[reply.status](_Refusal(reply, code, quote, paid))
    if reply.status in _CHANGES_NOTHING and (paid or reply.status >= 400):
        what = f"PixelDojo turned the request down (HTTP {reply.status}).{quote}"
        kind = ElsewhereNow if reply.status < 400 else Rejected
        return kind(what, field=_named_field(text))
    if paid:
        return OutcomeUnknown(
            f"PixelDojo answered the paid request with HTTP {reply.status}, which does not tell "
            f"whether a job was started.{quote}"
        )
    return CouldNotFindOut(
        f"PixelDojo could not say (HTTP {reply.status}).{quote}",
        transient=reply.status in _TRANSIENT or reply.status >= 500,
        retry_after=reply.retry_after,
    )


def error_words(reply: Reply) -> tuple[str, str]:
    """The code and the text of an error answer, both cleaned; each may be empty.

    PixelDojo or its CDN has answered with `{"error": {"code", "message"}}`, with
    `{"error": "text", "message"?}`, with HTML and with nothing at all (observed elsewhere).
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
    if refusal.reply.is_page:
        return _stopped_on_the_way(refusal)
    return Unauthorized(f"PixelDojo does not accept the API key.{refusal.quote}")


def _out_of_credits(refusal: _Refusal) -> WanError:
    return OutOfCredits(f"The PixelDojo account has too few credits.{refusal.quote}")


def _stopped_on_the_way(refusal: _Refusal) -> WanError:
    """For a refusal in the form of a web page: the API itself answers with JSON (documented)."""
    effect = " The paid request did not reach it." if refusal.paid else ""
    return StoppedOnTheWay(
        "A web page came instead of an answer of PixelDojo's API (HTTP "
        f"{refusal.reply.status}): its protection against robots, or a proxy on the way, turned "
        f"this computer away.{effect}"
    )


def _not_allowed(refusal: _Refusal) -> WanError:
    if refusal.reply.is_page:
        return _stopped_on_the_way(refusal)
    # 403 has meant both "no permission" and "out of credits" (documented in 2025).
    if "credit" in f"{refusal.code} {refusal.quote}".lower():
        return _out_of_credits(refusal)
    return NotAllowed(f"PixelDojo does not allow this to the API key.{refusal.quote}")


def _not_found(refusal: _Refusal) -> WanError:
    if not refusal.paid:
        return NotFound(f"PixelDojo knows nothing under this id.{refusal.quote}")
    return UnknownModel(f"PixelDojo does not know the model; nothing was started.{refusal.quote}")


def _rate_limited(refusal: _Refusal) -> WanError:
    seconds = refusal.reply.retry_after
    wait = "" if seconds is None else f" It asks to wait {seconds:.0f} s."
    # On a read, "nothing was started" could be understood as a statement about the job.
    effect = "nothing was started" if refusal.paid else "the job itself is not affected"
    what = f"PixelDojo asks for fewer requests; {effect}.{wait}{refusal.quote}"
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
