"""The files of a job: its inputs on the web, and its finished video on disk or in storage."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio

from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.videos.in_storage.saved_link import SavedLink
from wan_mcp.videos.paths import path_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wan_mcp.clock import Clock
    from wan_mcp.inputs.local.files import LocalFiles
    from wan_mcp.ledger.contract import VideoPolicy
    from wan_mcp.ledger.record import Record
    from wan_mcp.models import Difference, InputReport, Replacement
    from wan_mcp.videos.in_storage.stored_videos import StoredVideos
    from wan_mcp.videos.kept import KeptVideos
    from wan_mcp.videos.saver import Archive
    from wan_mcp.web.fetch import Web

MAX_INLINE_BYTES = 4 << 20
"""The largest video that is sent inside an answer: base64 adds a third, and the host parses all of
it (ours)."""
UPLOAD_FOLDER = "uploads"
"""The folder within the data folder where videos are until they are uploaded."""
_HEAD_BYTES = 1024
CONTACT_SHEET_SECONDS = 5.0
"""How long an answer waits for its contact sheet. The start of the process that makes it takes
0.3 s of processor time, and 2 s on a busy machine (measured)."""
MAX_CONTACT_SHEETS = 32
SOURCE_VIDEO_SECONDS = 10.0
"""How long fetching a source video may take (ours)."""


@dataclass(frozen=True)
class Blob:
    """The content of a file, and its MIME type."""

    data: bytes
    mime_type: str


class JobFiles:
    """Gives access to the files of jobs; httpx is imported only when it is first needed.

    Args:
        loopback: also fetch files from this machine (only while the API itself is there).
        data: the data folder, through which a video passes on its way to object storage.
        environment: the variables of the process, with which object storage is opened.
        with_contact_sheets: whether answers show contact sheets.
        kept: the videos that users have marked, so that a size limit does not delete them; None
            where videos cannot be marked.

    Attributes:
        contact_sheets: the newest contact sheets, by the place of the video as records name it;
            None where none can be made.
        shown: the newest jobs whose contact sheet was sent with an answer.
    """

    def __init__(
        self,
        *,
        loopback: bool,
        clock: Clock,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        with_contact_sheets: bool = False,
        kept: KeptVideos | None = None,
    ) -> None:
        self.kept = kept
        self._loopback = loopback
        self._clock = clock
        self._data = data
        self._environment = environment or {}
        self._with_contact_sheets = with_contact_sheets
        self._web: Web | None = None
        self._stored: StoredVideos | None = None
        self.contact_sheets: dict[str, bytes | None] = {}
        self.shown: dict[str, None] = {}

    async def check_inputs(
        self, wanted: Replacement, *, seconds: float, files: LocalFiles | None = None
    ) -> InputReport:
        """Check the inputs, see `inputs.preflight.check_inputs`."""
        from wan_mcp.inputs.preflight import check_inputs

        return await check_inputs(wanted, self._opened_web(), files=files, seconds=seconds)

    def archive(self, policy: VideoPolicy) -> Archive:
        """The archive in the folder where a submitter wants its videos saved."""
        from wan_mcp.videos.archive import Archive

        web, clock = self._opened_web(), self._clock
        if not is_storage_url(policy.folder):
            folder, limit = path_of(policy.folder), policy.limit_gb
            return Archive(folder, web, clock, limit_gb=limit, kept=self.kept)
        from wan_mcp.videos.in_storage.stored_archive import StoredArchive

        assert self._data is not None  # without it there is no ledger, and so no job
        folder = self._data / UPLOAD_FOLDER
        store = self.stored.store(policy.folder)
        return StoredArchive(folder, Archive(folder, web, clock), store, clock, self.show)

    @property
    def stored(self) -> StoredVideos:
        """The videos in object storage."""
        from wan_mcp.videos.in_storage.stored_videos import StoredVideos

        if self._stored is None:
            self._stored = StoredVideos(self._environment, self._clock)
        return self._stored

    async def show(self, path: Path, place: str) -> None:
        """Make the contact sheet of a video whose file will be deleted soon."""
        if self._with_contact_sheets:
            await self.contact_sheet(path, place)

    async def stored_link(self, video: str) -> str:
        """A new link to a video in object storage. Raises Unavailable."""
        link = await self.stored.link(video)
        assert link.url is not None
        return link.url

    async def saved_link(self, video: str) -> SavedLink:
        """A new link to a video in object storage, or why there is none."""
        from wan_mcp.storage.unavailable import Unavailable

        try:
            return await self.stored.link(video)
        except Unavailable as exc:
            return SavedLink(None, why=exc.what, step=exc.next_step)

    async def contact_sheet(self, path: Path, place: str) -> bytes | None:
        """The contact sheet of a video, made once; None if none can be made.

        Args:
            path: its file.
            place: where the video is according to its record. The sheet is found by it even when
                the file is gone.
        """
        from wan_mcp.videos.contact_sheet import contact_sheet

        known = self.contact_sheets
        if place not in known:
            with anyio.move_on_after(CONTACT_SHEET_SECONDS):
                known[place] = await contact_sheet(path)
            while len(known) > MAX_CONTACT_SHEETS:
                del known[next(iter(known))]
        return known.get(place)

    async def inspect(self, path: Path, record: Record) -> list[Difference]:
        """How a saved video differs from its order, as `videos.inspection.inspect` finds it."""
        from wan_mcp.videos.inspection import inspect

        return await inspect(path, record)

    async def source_video(self, url: str) -> Blob | None:
        """A source video; None if it cannot be fetched from here, or is too large to send."""
        from wan_mcp.web.fetch import Unreachable

        body = bytearray()
        try:
            with anyio.fail_after(SOURCE_VIDEO_SECONDS):
                async with self._opened_web().get(url) as answer:
                    if answer.status != 200:
                        return None
                    declared = answer.headers.get("content-type", "").partition(";")[0]
                    async for block in answer.body:
                        has_head = len(body) < _HEAD_BYTES <= len(body) + len(block)
                        body += block
                        if has_head and video_type(body, declared) is None:
                            return None  # the rest would be useless
                        if len(body) > MAX_INLINE_BYTES:
                            return None
        except (Unreachable, TimeoutError):
            return None
        mime_type = video_type(body, declared)
        return None if mime_type is None else Blob(bytes(body), mime_type)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._web is not None:
            await self._web.aclose()

    def _opened_web(self) -> Web:
        from wan_mcp.web.fetch import Web

        if self._web is None:
            self._web = Web(loopback=self._loopback)
        return self._web


def can_inspect() -> bool:
    """Whether saved videos can be inspected: whether the extra `media` is installed."""
    return find_spec("av") is not None  # `inputs.probe` has this too, but takes 5 ms to import


def video_type(content: bytes | bytearray, declared: str) -> str | None:
    """The MIME type of a video, by its first bytes; None if it is not a video.

    Args:
        declared: the type that the sender names; used only if the bytes leave a doubt.
    """
    from wan_mcp.inputs.file_types import MediaType, file_type_of

    named = declared.strip().lower()
    named = named if named.startswith("video/") else ""
    file_type = file_type_of(bytes(content[:_HEAD_BYTES]), "")
    if file_type is None:
        return named or None
    is_video = file_type.media_type in (MediaType.VIDEO, MediaType.ANIMATION)
    return (file_type.mime_type or named or "application/octet-stream") if is_video else None
