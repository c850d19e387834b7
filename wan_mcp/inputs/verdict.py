"""What the beginning of a file says about its use: certain trouble, or the kind of file it is."""

import re
from dataclasses import dataclass

from wan_mcp.inputs.file_types import Kind, Sort, kind_of
from wan_mcp.inputs.remote_file import Sample
from wan_mcp.web.share_links import way_to_the_file

FETCHABLE = "check the link: it must open without a login from anywhere on the internet"

_PUBLISH = "make the file public, or give a link signed for some hours"
_EXPIRED = re.compile(
    rb"expired|exp\W{1,6}claim|SignatureDoesNotMatch|AuthenticationFailed", re.IGNORECASE
)
_EMPTY = ("is an empty file", "upload the file again and give its new link")
_STATUSES = {
    401: ("needs a login (401)", _PUBLISH),
    403: ("may not be fetched (403)", _PUBLISH),
    404: ("does not exist (404)", FETCHABLE),
    410: ("is gone (410)", "upload the file again and give its new link"),
}
"""Others (429, 5xx, a server that dislikes our way of asking) say nothing about PixelDojo's try."""


class Unusable(Exception):
    """Why an input cannot be used.

    Attributes:
        name: the argument's, as the tool calls it.
        what: the rest of a sentence that begins with the name.
        remedy: what to do.
    """

    def __init__(self, name: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.name = name
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Role:
    """What an argument is for.

    Attributes:
        name: the argument's.
        noun: what is wanted there.
        other: where the other sort of file belongs.
        largest: bytes; far over what is needed, so more is a mistake (PixelDojo documents no
            limit).
        budget: bytes that are read of it at most.
    """

    name: str
    sort: Sort
    noun: str
    other: str
    largest: int
    limiter: int


VIDEO = Role("video", Sort.FILM, "a video", "character_image", 1 << 30, 7 << 20)
IMAGE = Role("character_image", Sort.PICTURE, "a picture", "video", 50 << 20, 1 << 19)


def judge(role: Role, sample: Sample) -> Kind | None:
    """The kind of file that was found, or None where it cannot be told.

    Raises:
        Unusable: it is certain that it will not work.
    """
    if sample.status not in (200, 206):
        _refuse_status(role, sample)
        return None
    if sample.pieces.total == 0:
        raise Unusable(role.name, *_EMPTY)
    kind = kind_of(sample.head, sample.content_type) if sample.plain else None
    if (kind and kind.sort is Sort.PAGE) or (not kind and _is_packed_page(sample)):
        remedy = way_to_the_file(sample.asked, sample.url)
        raise Unusable(role.name, "leads to a web page, not to a file", remedy)
    if kind and kind.sort not in (role.sort, Sort.ANIMATION):
        _refuse_kind(role, kind)
    if (sample.pieces.total or 0) > role.largest:
        what = f"is {sample.pieces.total or 0:,} bytes large, which cannot be meant"
        raise Unusable(role.name, what, f"give {role.noun} of at most {role.largest:,} bytes")
    return kind


def _refuse_status(role: Role, sample: Sample) -> None:
    if sample.status == 416 and sample.pieces.total == 0:
        raise Unusable(role.name, *_EMPTY)
    # Clouds say 400 or 403, and why only in the body.
    if sample.status in (400, 401, 403) and _EXPIRED.search(sample.head[:4096]):
        raise Unusable(
            role.name,
            f"has a link whose signature has expired or is not valid ({sample.status})",
            "make a new link, signed for some hours",
        )
    if sample.status in _STATUSES:
        raise Unusable(role.name, *_STATUSES[sample.status])


def _refuse_kind(role: Role, kind: Kind) -> None:
    remedy = f"give the direct link of {role.noun}"
    if kind.sort in (Sort.FILM, Sort.PICTURE):
        remedy += f"; if the two were swapped, this link belongs into {role.other}"
    raise Unusable(role.name, f"is {kind.name}, not {role.noun}", remedy)


def _is_packed_page(sample: Sample) -> bool:
    """Whether an answer that is compressed although nobody asked for it is a page."""
    return sample.packed and sample.content_type.startswith("text/html")
