"""Forgets one job: first its files, then its record, then remains in the ledger's files."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from wan_mcp.cli.check.findings import for_person
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.cli.jobs.plain import exact
from wan_mcp.cli.jobs.stored import Stored
from wan_mcp.ledger.history import forgetting
from wan_mcp.ledger.history.history import History, NotForgotten
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import view_of_record
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.storage.unavailable import Unavailable
from wan_mcp.videos.in_storage.stored_archive import object_name, remove_upload, uploads_of
from wan_mcp.videos.job_files import UPLOAD_FOLDER
from wan_mcp.videos.own_files import NotOurs
from wan_mcp.videos.paths import path_of
from wan_mcp.videos.removal import remove_video
from wan_mcp.videos.unfinished import stem_of

TRIES = 3
"""How often removal is tried: a server may save the video before the record is changed (ours)."""
_LOG_IS_READ = (
    "The job is forgotten. Another program was reading the ledger all the time, so its log may "
    "still contain the links: run the same command again, or close the assistants first."
)


@dataclass(frozen=True)
class Forgetting:
    """The steps of the command.

    Attributes:
        write: shows a text.
        zone: the time zone of dates; None for that of this computer.
        stored: deletes videos in object storage.
    """

    ledger: OwnLedger
    write: Callable[[str], object]
    zone: tzinfo | None
    stored: Stored

    def settled(self, record: Record) -> Record:
        """The present record, after settling what a dead server had begun.

        Raises:
            LedgerUnavailable: the ledger cannot be changed. No file has been removed yet.
        """
        (now,) = self.ledger.change(lambda history: history.named(record.submission_id))
        return now

    def why_not(self, record: Record) -> str | None:
        """Why it cannot be forgotten now, as part of a sentence; None if it can."""
        return forgetting.why_not(record)

    def describe(self, record: Record) -> None:
        """Show what will be removed, and what will be lost with it."""
        status = view_of_record(record).status
        made = f"{record.asked_at.astimezone(self.zone):%Y-%m-%d %H:%M}"
        self._say(f"{exact(record.public_id)}: {status}, made {made}")
        self._say("This removes its links, its inputs and every text about it from the ledger.")
        if record.saved_path is not None:
            self._say(f"It deletes its video: {exact(_shown(record.saved_path))}")
        elif record.video_url:
            self._say("ITS VIDEO IS NOT SAVED HERE, AND WILL BE LOST with its link.")
        elif record.state is State.LOST:
            self._say("IF PIXELDOJO STILL FINISHES THIS JOB, ITS VIDEO WILL NOT BE SAVED.")
        self._say("Its ids, times, cost and state stay, so that nothing is paid for twice.")

    def forget(self, record: Record) -> str | None:
        """Forget the job. Returns why it was not done completely, in a sentence; None if it was.

        Raises:
            LedgerUnavailable: the ledger cannot be changed.
        """
        was_forgotten, saved_path = record.is_forgotten, record.saved_path
        for _ in range(TRIES):
            try:
                self._remove_files(record, saved_path)
                is_erased = self.ledger.change(_work(record, saved_path))
            except NotForgotten as exc:
                if exc.saved_path is None:
                    return f"This job is not forgotten: {exc.why}."
                saved_path = exc.saved_path
                continue
            except (NotOurs, OSError) as exc:
                why = exc.why if isinstance(exc, NotOurs) else exc.strerror
                return f"Nothing was forgotten, because the video cannot be removed: {why}."
            except Unavailable as exc:
                why = f"{exc.what} {for_person(exc.next_step)}"
                return f"Nothing was forgotten, because the video cannot be removed. {why}"
            if not is_erased:
                return _LOG_IS_READ
            self._say("It was forgotten already." if was_forgotten else "It is forgotten.")
            return None
        return "Nothing was forgotten: a server saves the video again and again."

    def _remove_files(self, record: Record, saved_path: str | None) -> None:
        """Remove the video and the files beside it. Raises NotOurs, OSError, Unavailable."""
        if is_storage_url(saved_path or record.video_folder or ""):
            self._remove_stored(record, saved_path)
        elif saved_path is not None:
            path = path_of(saved_path)
            self._remove(path.parent, path.stem)
        elif record.video_folder and (stem := _stem(record)):
            self._remove(path_of(record.video_folder), stem)

    def _remove_stored(self, record: Record, saved_path: str | None) -> None:
        """Remove a video from object storage, and the file from which it was uploaded.

        If a server ended while it saved the video, the file is left, whether uploaded or not.

        Raises:
            NotOurs, OSError, Unavailable: something could not be removed.
        """
        folder, stem = self.ledger.chosen.folder, _stem(record)
        files = uploads_of(folder / UPLOAD_FOLDER, stem) if folder and stem else []
        objects = {f"{record.video_folder}/{object_name(record.job_id or '', f)}" for f in files}
        if saved_path is not None:
            objects.add(saved_path)
        for url in sorted(objects):
            self.stored.delete(url)
            self._say(f"Deleted: {exact(url)}")
        for file in files:
            remove_upload(file)
            self._say(f"Deleted: {exact(str(file))}")

    def _remove(self, folder: Path, stem: str) -> None:
        for path in remove_video(folder, stem):
            self._say(f"Deleted: {exact(str(path))}")

    def _say(self, line: str) -> None:
        self.write(line + "\n")


def _shown(place: str) -> str:
    return place if is_storage_url(place) else str(path_of(place))


def _stem(record: Record) -> str | None:
    """The name of the file of its video; None if none was ever saved."""
    if record.state is not State.COMPLETED or not record.job_id:
        return None
    try:
        return stem_of(record.job_id, record.created_at)
    except ValueError:
        return None  # no video is saved for such an id


def _work(record: Record, removed: str | None) -> Callable[[History], bool]:
    return lambda history: history.erase(history.forget(record, removed))
