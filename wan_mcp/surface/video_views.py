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
from wan_mcp.videos.gallery import FITS, Blob

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import Standing
    from wan_mcp.videos.gallery import Gallery

K = TypeVar("K")
V = TypeVar("V")
POSTER_SECONDS = 2.0
"""How long an answer waits for its picture."""
POSTERS = 32
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


def as_seen(standing: Standing, *, local: bool) -> Standing:
    """The standing as its caller can use it: a path only on this machine, and of a file there is.

    The user may have moved the film, or the limit taken it: then the link has to do again.
    """
    row = standing.row
    if row is None or row.saved_path is None:
        return standing
    if not local:
        return replace(standing, row=row.model_copy(update={"saved_path": None}))
    if os.path.isfile(row.saved_path):
        return standing
    gone = {"saved_path": None, "sha256": None, "size": None}
    return replace(standing, row=row.model_copy(update=gone))


class Shown:
    """What can be shown of a job; raises NotFound, with the reason, for what cannot."""

    def __init__(self, jobs: Jobs, gallery: Gallery) -> None:
        self._jobs = jobs
        self._gallery = gallery

    async def film(self, id: str) -> Blob:
        """The saved film."""
        path = await self._saved(id)
        data = await anyio.to_thread.run_sync(_small, path)
        if data is None:
            raise _hidden(f"The saved film is larger than {FITS >> 20} MiB or cannot be read.", id)
        return Blob(data, f"video/{_TYPES.get(path.suffix, 'mp4')}")

    async def source(self, id: str) -> Blob:
        """The clip that the job was made from, fetched anew."""
        standing = await self._jobs.known(id)
        row = None if standing is None else standing.row
        url = None if row is None else row.arguments.get("video")
        clip = None if url is None else await self._gallery.source(str(url))
        if clip is None:
            raise NotFound(
                f"The source clip cannot be had from here, or is larger than {FITS >> 20} MiB.",
                next_step="Use the link that the job was started with.",
            )
        return clip

    async def poster(self, id: str) -> Blob:
        """A few frames of the saved film."""
        from wan_mcp.videos.contact_sheet import poster

        path = await self._saved(id)
        if not makes_posters():
            raise NotFound(
                "Posters need the extra wan-mcp[media].",
                next_step="Whoever runs this server can install it.",
            )
        known = self._gallery.posters
        if path not in known:
            with anyio.move_on_after(POSTER_SECONDS):
                known[path] = await poster(path)
            _keep_newest(known, POSTERS)
        data = known.get(path)
        if data is None:
            raise _hidden("No picture could be made of the saved film.", id)
        return Blob(data, "image/jpeg")

    async def new_poster(self, id: str) -> Blob | None:
        """The poster, once for each job: it costs a model as much as a page of text (ours)."""
        shown = self._gallery.shown
        if id in shown:
            return None
        try:
            blob = await self.poster(id)
        except WanError:
            return None
        if id in shown:
            return None  # another answer was faster
        shown[id] = None
        _keep_newest(shown, SHOWN)
        return blob

    async def _saved(self, id: str) -> Path:
        return _path_of(await self._jobs.known(id), id)


def makes_posters() -> bool:
    """Whether there can be posters: they need the extra `media`."""
    from wan_mcp.inputs.probe import available

    return available()


def _path_of(standing: Standing | None, id: str) -> Path:
    if standing is None or standing.row is None:
        raise _hidden("No film of this job is saved here.", id)
    if standing.row.saved_path is None:
        raise _hidden(_NO_FILM.get(standing.status, _NOT_ENDED), id)
    if not os.path.isfile(standing.row.saved_path):
        raise _hidden("The film is no longer where it was saved.", id)
    return Path(standing.row.saved_path)


def _hidden(why: str, id: str) -> NotFound:
    step = f'Call get_job_status with job_id "{id}": it tells all that is known of the job.'
    return NotFound(why, next_step=step)


def _keep_newest(known: dict[K, V], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]


def _small(path: Path) -> bytes | None:
    try:
        with path.open("rb") as film:
            data = film.read(FITS + 1)
    except OSError:
        return None  # the user may have moved it
    return data if len(data) <= FITS else None
