"""Videos in object storage, for the commands about the user's jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio

from wan_mcp.clock import Clock
from wan_mcp.storage.unavailable import Reason, Unavailable
from wan_mcp.videos.in_storage.saved_link import SavedLink
from wan_mcp.videos.in_storage.stored_videos import StoredVideos


@dataclass(frozen=True)
class Stored:
    """Links to videos in object storage, and deletes them. A record names one by its object's URL.

    Attributes:
        environment: the variables of the process, with which the storage is opened.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def link(self, video: str) -> SavedLink:
        """A new link to a video. Raises Unavailable."""
        return anyio.run(self._videos().link, video)

    def delete(self, video: str) -> None:
        """Delete a video; not an error if it, or its bucket, is gone. Raises Unavailable."""
        try:
            anyio.run(self._videos().delete, video)
        except Unavailable as exc:
            if exc.reason is not Reason.NO_BUCKET:
                raise

    def _videos(self) -> StoredVideos:
        return StoredVideos(self.environment, Clock())
