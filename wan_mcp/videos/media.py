"""Finished films on this machine, and what can be shown of them in a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from wan_mcp.clock import Clock
    from wan_mcp.models import Replacement
    from wan_mcp.videos.saver import Archive
    from wan_mcp.web.fetch import Web

FITS = 4 << 20
"""Bytes of a clip that go through the protocol; as base64 they are a third more, and a host
parses them all (ours)."""
SOURCE_SECONDS = 10.0


@dataclass(frozen=True)
class Blob:
    """A file's content and its type."""

    data: bytes
    mime_type: str


class Media:
    """Looks at inputs, keeps films, and hands out small ones.

    Args:
        web: opens the one way to public files; only when it is first needed.
        folder: where finished films are saved.
        limit_gb: how many 10^9 bytes of them may stay.

    Attributes:
        posters: the last ones made, by the film they show.
        shown: the last jobs whose poster went out with an answer.
    """

    def __init__(
        self, *, loopback: bool, folder: Path, limit_gb: float | None, clock: Clock
    ) -> None:
        self._loopback = loopback
        self._folder = folder
        self._limit_gb = limit_gb
        self._clock = clock
        self._web: Web | None = None
        self.contact_sheets: dict[Path, bytes | None] = {}
        self.video_views: dict[str, None] = {}

    async def preflight(self, wanted: Replacement, *, seconds: float) -> list[str]:
        """See `inputs.preflight.check_inputs`."""
        from wan_mcp.inputs.preflight import check_inputs

        return await check_inputs(wanted, self._opened(), seconds=seconds)

    def archive(self) -> Archive:
        """The place where films are kept."""
        from wan_mcp.videos.archive import Archive as Films

        return Films(self._folder, self._opened(), self._clock, limit_gb=self._limit_gb)

    async def source(self, url: str) -> Blob | None:
        """A source clip, when it can be had from here and is small; None when not."""
        from wan_mcp.web.fetch import Unreachable

        body = bytearray()
        try:
            with anyio.fail_after(SOURCE_SECONDS):
                async with self._opened().get(url) as answer:
                    kind = answer.headers.get("content-type", "").partition(";")[0]
                    if answer.status != 200 or not kind.startswith("video/"):
                        return None
                    async for chunk in answer.body:
                        body += chunk
                        if len(body) > FITS:
                            return None
        except (Unreachable, TimeoutError):
            return None
        return Blob(bytes(body), kind)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._web is not None:
            await self._web.aclose()

    def _opened(self) -> Web:
        from wan_mcp.web.fetch import Web

        if self._web is None:
            self._web = Web(loopback=self._loopback)
        return self._web
