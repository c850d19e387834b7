"""Judges the beginning of a file: the input certainly cannot be used, or it has this type."""

import re
from dataclasses import dataclass

from wan_mcp.errors import Code, Refused
from wan_mcp.inputs.decoder_process import NotLookedAt
from wan_mcp.inputs.file_types import FileType, MediaType, file_type_of
from wan_mcp.inputs.local.local_input import LocalInput
from wan_mcp.inputs.remote_file import RemoteFile
from wan_mcp.web.share_links import advice_for_page

CHECK_LINK = "check the link: it must open without a login from anywhere on the internet"

_PUBLISH = "make the file public, or give a link signed for some hours"
_EXPIRED = re.compile(
    rb"expired|exp\W{1,6}claim|SignatureDoesNotMatch|AuthenticationFailed", re.IGNORECASE
)
_EMPTY = ("is an empty file", "upload the file again and give its new link")
_STATUSES = {
    401: ("needs a login (401)", _PUBLISH),
    403: ("may not be fetched (403)", _PUBLISH),
    404: ("does not exist (404)", CHECK_LINK),
    410: ("is gone (410)", "upload the file again and give its new link"),
}
"""Other statuses (429, 5xx, or those of a server that refuses our request) do not show that
PixelDojo will fail too."""
_ERROR_OF_A_STORAGE = re.compile(rb"\s{0,99}(?:$|<\?xml|<Error|\{)")
"""The body of a storage's 403: nothing, XML or JSON. A page or a text, as CDNs and Wikimedia send
it, may be meant for programs only (observed elsewhere)."""


class UnusableInput(Refused):
    """An input certainly cannot be used; nothing was sent to PixelDojo."""

    code = Code.UNUSABLE_INPUT
    advice = "Correct the named inputs, then call again."


class Unusable(Exception):
    """Why an input cannot be used.

    Attributes:
        name: the tool's name of the argument.
        what: the rest of a sentence that begins with that name.
        remedy: what the user can do.
    """

    def __init__(self, name: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.name = name
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Role:
    """The use of an argument.

    Attributes:
        name: the tool's name of the argument.
        noun: what the argument must be.
        other: the argument that takes the other type of file.
        max_bytes: the largest file: far more than is needed, so a larger one is a mistake (ours;
            PixelDojo documents no limit).
        max_read_bytes: how many bytes of the file are read at most.
    """

    name: str
    media_type: MediaType
    noun: str
    other: str
    max_bytes: int
    max_read_bytes: int


VIDEO = Role(
    "video",
    MediaType.VIDEO,
    noun="a video",
    other="character_image",
    max_bytes=1 << 30,
    max_read_bytes=7 << 20,
)
IMAGE = Role(
    "character_image",
    MediaType.IMAGE,
    noun="a picture",
    other="video",
    max_bytes=50 << 20,
    max_read_bytes=1 << 19,
)


InputFile = RemoteFile | LocalInput
"""An input that is being checked, wherever it is."""


def judge(role: Role, file: InputFile) -> FileType | None:
    """The type of the file, or None if it is not known.

    A file of this computer was judged when it was opened.

    Raises:
        Unusable: the file certainly cannot be used.
        NotLookedAt: its server does not send it to us, which says nothing about PixelDojo.
    """
    if isinstance(file, LocalInput):
        return file.file_type
    if file.status not in (200, 206):
        _refuse_status(role, file)
        raise NotLookedAt(f"its server answered with {file.status}")
    if file.content.total == 0:
        raise Unusable(role.name, *_EMPTY)
    file_type = file_type_of(file.head, file.content_type) if file.starts_at_zero else None
    is_page = file_type.media_type is MediaType.PAGE if file_type else _is_compressed_page(file)
    if is_page:
        remedy = advice_for_page(file.requested_url, file.final_url)
        raise Unusable(role.name, "leads to a web page, not to a file", remedy)
    if file_type and file_type.media_type not in (role.media_type, MediaType.ANIMATION):
        _refuse_type(role, file_type)
    if (file.content.total or 0) > role.max_bytes:
        what = f"is {file.content.total or 0:,} bytes large, which cannot be meant"
        raise Unusable(role.name, what, f"give {role.noun} of at most {role.max_bytes:,} bytes")
    return file_type


def _refuse_status(role: Role, file: RemoteFile) -> None:
    if file.status == 416 and file.content.total == 0:
        raise Unusable(role.name, *_EMPTY)
    # Object stores answer 400 or 403, and give the reason only in the body.
    if file.status in (400, 401, 403) and _EXPIRED.search(file.head[:4096]):
        raise Unusable(
            role.name,
            f"has a link whose signature has expired or is not valid ({file.status})",
            "make a new link, signed for some hours",
        )
    if file.is_challenge or (file.status == 403 and not _ERROR_OF_A_STORAGE.match(file.head)):
        raise NotLookedAt(f"its server turns programs away ({file.status})")
    if file.status in _STATUSES:
        raise Unusable(role.name, *_STATUSES[file.status])


def _refuse_type(role: Role, file_type: FileType) -> None:
    remedy = f"give the direct link of {role.noun}"
    if file_type.media_type in (MediaType.VIDEO, MediaType.IMAGE):
        remedy += f"; if the two were swapped, this link belongs in {role.other}"
    raise Unusable(role.name, f"is {file_type.name}, not {role.noun}", remedy)


def _is_compressed_page(file: RemoteFile) -> bool:
    """Whether the answer is a web page, compressed although that was not asked for."""
    return file.compressed and file.content_type.startswith("text/html")
