"""What can be shown of a job's videos in a conversation."""

from __future__ import annotations

import os.path
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from wan_mcp.errors import NotFound, StepBy, WanError
from wan_mcp.models import JobStatus
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.videos.job_files import MAX_INLINE_BYTES, Blob, video_type
from wan_mcp.videos.own_files import NotOurs, open_ours
from wan_mcp.videos.paths import path_of

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import JobView
    from wan_mcp.videos.in_storage.saved_link import SavedLink
    from wan_mcp.videos.job_files import JobFiles

MAX_SHOWN_JOBS = 4_096
"""Jobs of which it is remembered that an answer has shown their contact sheet."""
_LIMIT = f"{MAX_INLINE_BYTES >> 20} MiB"
_TYPE = "video/mp4"
"""The type of a saved video whose bytes do not show it."""
_NOT_OURS = "Where the video was saved there is a link now, or a file of another user."
_NOT_ENDED = "The job has not ended: there is no video yet."
_NO_POSTER = (
    "The poster of a video in object storage is made when the video is saved, and kept by the "
    "server that saves it."
)
_WHY_NO_VIDEO = {
    JobStatus.COMPLETED: "The video is not saved here, or not yet: its link leads to it.",
    JobStatus.FAILED: "The job failed: there is no video.",
    JobStatus.LOST: "PixelDojo no longer knows the job: there is no video.",
    JobStatus.QUEUED: "The request is queued: there is no video yet.",
    JobStatus.NOT_SENT: "No job came of the request: there is no video.",
    JobStatus.REFUSED: "The request was turned down: there is no video.",
}


def without_unreachable_file(view: JobView, *, local: bool) -> JobView:
    """The view without a path that its caller cannot use.

    Of an input that is a file of this machine, a caller elsewhere learns nothing.

    The user may have moved the saved video, or the storage limit may have removed it: then the
    link has to do again. A video in object storage is named to every caller; whether it is still
    there would have to be asked for each answer.

    Args:
        local: whether the caller can use paths of this machine.
    """
    record = view.record
    if record is None:
        return view
    if not local and any(map(_is_path, record.arguments.values())):
        seen = {name: value for name, value in record.arguments.items() if not _is_path(value)}
        record = record.model_copy(update={"arguments": seen})
        view = replace(view, record=record)
    if is_storage_url(record.saved_path or record.video_folder or ""):
        return view
    if not local:  # then a video that is still to be saved there is of no use either
        unseen = {"saved_path": None, "last_save_error": None}
        return replace(view, record=record.model_copy(update=unseen))
    if record.saved_path is None or os.path.isfile(path_of(record.saved_path)):
        return view
    gone = {"saved_path": None, "sha256": None, "size": None}
    return replace(view, record=record.model_copy(update=gone))


def _is_path(argument: object) -> bool:
    return str(argument).startswith("file:")


class VideoViews:
    """What can be shown of the videos of a job. Raises NotFound with the reason for the rest."""

    def __init__(self, jobs: Jobs, files: JobFiles) -> None:
        self._jobs = jobs
        self._files = files

    async def keep(self, id: str, kept: bool) -> JobView:
        """Record whether the user keeps the video of a job, and return how the job stands."""
        from wan_mcp.videos.kept import why_not_kept

        view = await self._jobs.known(id)
        if view is None or view.record is None:
            raise _not_shown("No video of this job is saved here.", id)
        if kept and (why := why_not_kept(view.record)):
            raise _not_shown(why, id)
        assert self._files.kept is not None  # a server always has a ledger
        await self._files.kept.mark(view.record, kept)
        return view

    async def saved_link(self, video: str) -> SavedLink:
        """A new link to a video in object storage, or why there is none.

        Args:
            video: the URL of its object.
        """
        return await self._files.saved_link(video)

    async def saved_video(self, id: str) -> Blob | SavedLink:
        """The saved video, when it is small; for one in object storage, a link to it."""
        place = await self._saved(id)
        if is_storage_url(place):
            link = await self.saved_link(place)
            if link.url is None:
                raise _not_shown(link.why, id, link.step)
            return link
        path = path_of(place)
        data = await anyio.to_thread.run_sync(_content, path, id)
        if data is None:
            raise _not_shown(f"The saved video is larger than {_LIMIT} or cannot be read.", id)
        return Blob(data, video_type(data, _TYPE) or _TYPE)

    async def source_video(self, id: str) -> Blob | SavedLink:
        """The clip that the job was made from, fetched again, when it is small."""
        from wan_mcp.inputs.local.references import JobReference, reference

        view = await self._jobs.known(id)
        record = None if view is None else view.record
        url = str(record.arguments.get("video", "")) if record else ""
        found = reference(url)
        if found and ("#" in found.uri or not isinstance(found, JobReference)):
            raise NotFound(
                "The source is a file, or a part of a video: it is not sent.",
                next_step="Open what the job was started with.",
            )
        if isinstance(found, JobReference):
            return await self.saved_video(found.job_id)
        blob = await self._files.source_video(url) if url else None
        if blob is None:
            raise NotFound(
                f"The source clip cannot be fetched from here, or is larger than {_LIMIT}.",
                next_step="Use the link that the job was started with.",
            )
        return blob

    async def contact_sheet(self, id: str) -> Blob:
        """A few frames of the saved video in one image."""
        place = await self._saved(id)
        if not makes_contact_sheets():
            raise NotFound(
                "Posters need the extra wan-mcp[media].",
                next_step="The operator of this server can install it.",
            )
        data = await self._sheet(place, id)
        if data is None:
            raise _not_shown("No picture could be made of the saved video.", id)
        return Blob(data, "image/jpeg")

    async def first_contact_sheet(self, id: str) -> Blob | None:
        """The contact sheet, once for each job; None later, or when there is none.

        An image costs a model as much context as a page of text (ours).
        """
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
        while len(shown) > MAX_SHOWN_JOBS:
            del shown[next(iter(shown))]
        return blob

    async def _sheet(self, place: str, id: str) -> bytes | None:
        if is_storage_url(place):
            if place not in self._files.contact_sheets:
                raise _not_shown(_NO_POSTER, id)
            return self._files.contact_sheets[place]
        path = path_of(place)
        await anyio.to_thread.run_sync(_check_ours, path, id)
        return await self._files.contact_sheet(path, place)

    async def _saved(self, id: str) -> str:
        return _place_of(await self._jobs.known(id), id)


def makes_contact_sheets() -> bool:
    """Whether contact sheets can be made: that needs the extra `media`."""
    from wan_mcp.inputs.probe import available

    return available()


def _place_of(view: JobView | None, id: str) -> str:
    """Where a video is saved, as its record names it. Raises NotFound."""
    if view is None or view.record is None:
        raise _not_shown("No video of this job is saved here.", id)
    if view.is_forgotten:
        raise _not_shown("The user had the video of this job removed.", id)
    if view.record.saved_path is None:
        raise _not_shown(_WHY_NO_VIDEO.get(view.status, _NOT_ENDED), id)
    place = view.record.saved_path
    if not (is_storage_url(place) or os.path.isfile(path_of(place))):
        raise _not_shown("The video is no longer where it was saved.", id)
    return place


def _not_shown(why: str, id: str, step: str = "") -> NotFound:
    """Why something is not shown.

    Args:
        step: what the operator of the server can do about it, in a sentence; "" for nothing.
    """
    look = f'Call get_job_status with job_id "{id}": it shows all that is known of the job.'
    by = StepBy.OPERATOR if step else None
    return NotFound(why, next_step=f"{step} {look}".lstrip(), step_by=by)


def _content(path: Path, id: str) -> bytes | None:
    """The whole file; None when it is larger than MAX_INLINE_BYTES or cannot be read.

    Raises:
        NotFound: it is not the file that this user has saved.
    """
    try:
        with open_ours(path) as file:
            data = file.read(MAX_INLINE_BYTES + 1)
    except NotOurs:
        raise _not_shown(_NOT_OURS, id) from None
    except OSError:
        return None  # the user may have moved it
    return data if len(data) <= MAX_INLINE_BYTES else None


def _check_ours(path: Path, id: str) -> None:
    """Raises NotFound when a link or a file of another user is in the place of a video."""
    try:
        open_ours(path).close()
    except NotOurs:
        raise _not_shown(_NOT_OURS, id) from None
    except OSError:
        return  # the user may have moved it, and then no picture can be made
