"""What a job was made from, as an answer shows it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from wan_mcp.ledger.record import Record

_IN_A_LINK = ":/?#[]@!$&'()*+,;=%~-._"
"""What stays as it is in a link: every character that has a meaning there (RFC 3986)."""
_RESOLUTION = "480"
"""Lines of a job whose order names none (documented)."""
_MAX_INPUT_CHARACTERS = 300
"""Characters of an input in an answer: enough to recognise it."""

_UNSEEN = (
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""Letters and marks that show nothing; in a name they could spell a sentence for a model."""


def inputs_of(record: Record) -> dict[str, Any]:
    """What a job was made from; nothing if it was submitted elsewhere."""
    inputs = record.arguments
    return {
        "source_video": _cut(shown_input(str(inputs.get("video", "")))) or None,
        "character_image": _cut(shown_input(str(inputs.get("character_image", "")))) or None,
        "video_duration": int(inputs["seconds"]) if "seconds" in inputs else None,
        "resolution": str(inputs.get("resolution", _RESOLUTION)) if inputs else None,
    }


def shown_input(given: str) -> str:
    """An input of a record as its user knows it.

    A link is without its query, which may be a signature, and in a form that holds no other words.
    Of a file it is the path, with its fragment; if that cannot be shown, it stays a URI.
    """
    if not given.startswith(("file:", "wan:")):
        return ascii_link(given.partition("?")[0].partition("#")[0]) or ""
    shown = given
    with suppress(ValueError):  # it may be from another system, whose paths have another form
        shown = _path(given)
    return shown if shown.isprintable() and not re.search(_UNSEEN, shown) else given


def ascii_link(link: str | None) -> str | None:
    """A link as an answer shows it: in ASCII, everything else percent-encoded (RFC 3986).

    Blank letters and variation selectors of a link could spell a sentence for a model. The link
    leads to the same place: a client encodes it so before it sends it.
    """
    return link and quote(link, safe=_IN_A_LINK, errors="replace")


def _path(uri: str) -> str:
    """The path of a file with its fragment; what is no file stays as it is."""
    from wan_mcp.inputs.local.references import FileReference, reference

    found = reference(uri)
    return f"{found.path}{found.fragment}" if isinstance(found, FileReference) else uri


def _cut(text: str) -> str:
    is_long = len(text) > _MAX_INPUT_CHARACTERS
    return f"{text[: _MAX_INPUT_CHARACTERS - 3]}..." if is_long else text
