"""The videos in object storage, whichever bucket each is in: links to them, and their removal."""

from collections.abc import Mapping
from datetime import timedelta

import anyio

from wan_mcp.clock import Clock
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.storage.storage_url import split_object_url
from wan_mcp.storage.unavailable import Reason, unavailable
from wan_mcp.videos.in_storage.saved_link import SavedLink

LINK_SECONDS = 6 * 3600.0
"""How long a link works, if its credentials live that long (ours)."""
SIGNING_SECONDS = 2.0
"""How long signing may take (ours). It needs no request, but some credentials are fetched first,
and an answer is due within some seconds."""


class StoredVideos:
    """Opens each storage once.

    A video is named by the URL of its object, as a record has it in `saved_path`.

    Args:
        environment: the variables of the process, see `ObjectStore`.
    """

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._environment = environment
        self._clock = clock
        self._stores: dict[str, ObjectStore] = {}

    def store(self, url: str) -> ObjectStore:
        """The storage below a URL. It is opened with its first use."""
        return self._stores.setdefault(url, ObjectStore(url, self._environment))

    async def link(self, video: str, *, seconds: float = LINK_SECONDS) -> SavedLink:
        """A new link to a video. It is not checked whether the video exists.

        Args:
            seconds: how long it should live; it dies earlier with the credentials that sign it.

        Raises:
            Unavailable: none can be signed, or it would live for less than an hour.
        """
        url, name = split_object_url(video)
        store = self.store(url)
        with anyio.move_on_after(SIGNING_SECONDS):
            now = self._clock.wall()
            life = store.link_seconds(seconds, now)
            link = await store.sign(name, life)
            return SavedLink(link, now + timedelta(seconds=life))
        raise unavailable(Reason.SLOW, url)

    async def delete(self, video: str) -> None:
        """Delete a video; not an error if it does not exist. Raises Unavailable."""
        url, name = split_object_url(video)
        await self.store(url).delete(name)
