"""A link to a video in object storage."""

from datetime import datetime
from typing import NamedTuple


class SavedLink(NamedTuple):
    """A link to a video in object storage, signed for one answer.

    The link is enough to fetch the video, so it is never stored or logged.

    Attributes:
        url: the link; None if it cannot be made now.
        expires_at: when it stops working, UTC.
        why: why there is none, in a sentence.
        step: what the operator of the server can do about that.
    """

    url: str | None
    expires_at: datetime | None = None
    why: str = ""
    step: str = ""
