"""Delivers files of this computer to PixelDojo, which fetches its inputs from public links."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol


class Changed(Exception):
    """The bytes are not those that were announced, or can no longer be read."""


@dataclass(frozen=True)
class Content:
    """The bytes of one input, as they are to be sent.

    Attributes:
        open: opens them for reading in binary; raises OSError if they are no longer these bytes.
        size: how many bytes they are.
        sha256: their hash, 64 hex digits.
        suffix: the usual suffix of such a file, such as `.mp4`.
        media_type: their MIME type, such as `video/mp4`.
    """

    open: Callable[[], BinaryIO]
    size: int
    sha256: str
    suffix: str
    media_type: str


class Delivery(Protocol):
    """Makes files of this computer available under links, for as long as a request needs them.

    Attributes:
        uploads: whether the bytes are uploaded for that, which takes time.
    """

    uploads: bool

    async def link(
        self, content: Content, submission_id: str, name: str, report: Callable[[int], None]
    ) -> str:
        """A link under which PixelDojo can fetch the content, once this returns.

        Args:
            submission_id: the request that needs it.
            name: which input of the request it is: `video` or `character_image`.
            report: called with the number of bytes that have been sent so far.

        Raises:
            NotSent: it cannot be delivered; the request must not be sent.
        """

    async def release(self, submission_id: str) -> None:
        """Take back the files of a request, which no longer needs them."""
