"""What can be shown of a job's videos in a conversation."""

from __future__ import annotations

import os.path
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from wan_mcp.errors import NotFound, WanError
from wan_mcp.models import JobStatus
from wan_mcp.videos.job_files import MAX_INLINE_BYTES, Blob

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import JobView
    from wan_mcp.videos.job_files import JobFiles

K = TypeVar("K")
V = TypeVar("V")
CONTACT_SHEET_SECONDS = 2.0
"""How long an answer waits for its picture."""
MAX_CONTACT_SHEETS = 32
SHOWN = 4_096
"""Jobs of which it is remembered that their poster has been shown."""
_TYPES = {".webm": "webm", ".mov": "quicktime"}
_NOT_ENDED = "The job has not ended: there is no film yet."
_NO_FILM = {
    JobStatus.COMPLETED: "The film is not saved here, or not yet: its link leads to it.",
    JobStatus.FAILED: "The job failed: there is no film.",
    JobStatus.LOST: "PixelDojo no longer knows the job: there is no film.",
    JobStatus.NOT_SENT: "No job came of the request: there is no film.",
    JobStatus.REFUSED: "The request was turned down: there is no film.",
}


def visible_to(view: JobView, *, local: bool) -> JobView:
    """The standing as its caller can use it: a path only on this machine, and of a file there is.

    The user may have moved the film, or the limit taken it: then the link has to do again.
    """
    record = view.record
    if record is None or record.saved_path is None:
        return view
    if not local:
        return replace(view, record=record.model_copy(update={"saved_path": None}))
    if os.path.isfile(record.saved_path):
        return view
    gone = {"saved_path": None, "sha256": None, "size": None}
    return replace(view, record=record.model_copy(update=gone))


class VideoViews:
    """What can be shown of a job; raises NotFound, with the reason, for what cannot."""

    def __init__(self, jobs: Jobs, files: JobFiles) -> None:
        self._jobs = jobs
        self._files = files

    async def film(self, id: str) -> Blob:
        """The saved film."""
        path = await self._saved(id)
        data = await anyio.to_thread.run_sync(_small, path)
        if data is None:
            raise _hidden(
                f"The saved film is larger than {MAX_INLINE_BYTES >> 20} MiB or cannot be read.", id
            )
        return Blob(data, f"video/{_TYPES.get(path.suffix, 'mp4')}")

    async def source(self, id: str) -> Blob:
        """The clip that the job was made from, fetched anew."""
        view = await self._jobs.known(id)
        record = None if view is None else view.record
        url = None if record is None else record.arguments.get("video")
        clip = None if url is None else await self._files.source_video(str(url))
        if clip is None:
            raise NotFound(
                "The source clip cannot be had from here, or is larger than "
                f"{MAX_INLINE_BYTES >> 20} MiB.",
                next_step="Use the link that the job was started with.",
            )
        return clip

    async def contact_sheet(self, id: str) -> Blob:
        """A few frames of the saved film."""
        from wan_mcp.videos.contact_sheet import contact_sheet

        path = await self._saved(id)
        if not makes_contact_sheets():
            raise NotFound(
                "Posters need the extra wan-mcp[media].",
                next_step="Whoever runs this server can install it.",
            )
        known = self._files.contact_sheets
        if path not in known:
            with anyio.move_on_after(CONTACT_SHEET_SECONDS):
                known[path] = await contact_sheet(path)
            _keep_newest(known, MAX_CONTACT_SHEETS)
        data = known.get(path)
        if data is None:
            raise _hidden("No picture could be made of the saved film.", id)
        return Blob(data, "image/jpeg")

    async def new_contact_sheet(self, id: str) -> Blob | None:
        """The poster, once for each job: it costs a model as much as a page of text (ours)."""
        shown = self._files.shown
        if id in shown:
            return None
        try:
            blob = await self.contact_sheet(id)
        except WanError:
            return None
        if id in shown:
            return None  # another answer was faster
        shown[id] = None
        _keep_newest(shown, SHOWN)
        return blob

    async def _saved(self, id: str) -> Path:
        return _path_of(await self._jobs.known(id), id)


def makes_contact_sheets() -> bool:
    """Whether there can be posters: they need the extra `media`."""
    from wan_mcp.inputs.probe import available

    return available()


def _path_of(view: JobView | None, id: str) -> Path:
    if view is None or view.record is None:
        raise _hidden("No film of this job is saved here.", id)
    if view.record.saved_path is None:
        raise _hidden(_NO_FILM.get(view.status, _NOT_ENDED), id)
    if not os.path.isfile(view.record.saved_path):
        raise _hidden("The film is no longer where it was saved.", id)
    return Path(view.record.saved_path)


def _hidden(why: str, id: str) -> NotFound:
    step = f'Call get_job_status with job_id "{id}": it tells all that is known of the job.'
    return NotFound(why, next_step=step)


def _keep_newest(known: dict[K, V], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]


def _small(path: Path) -> bytes | None:
    try:
        with path.open("rb") as film:
            data = film.read(MAX_INLINE_BYTES + 1)
    except OSError:
        return None  # the user may have moved it
    return data if len(data) <= MAX_INLINE_BYTES else None
