"""Checks the disks of this machine: the ledger, and the folder for videos."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile

from wan_mcp.cli.check.findings import Finding, Report, broken, for_person, note, ok
from wan_mcp.cli.check.network import Access
from wan_mcp.errors import WanError
from wan_mcp.ledger.history.survey import Survey
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.sqlite.places import FOLDER, Chosen, choose
from wan_mcp.ledger.sqlite.survey import survey
from wan_mcp.settings import Settings
from wan_mcp.videos.own_files import Unusable, check_folder
from wan_mcp.videos.unfinished import RESERVE_BYTES, Free
from wan_mcp.wording import counted, number

MIB = 1 << 20
ROOM_FOR_VIDEOS = 1 << 30
"""With less free room, in bytes, there is a note: a video may have some tens of MiB (ours)."""


def chosen_folder(settings: Settings) -> Chosen:
    """The data folder that a server with these settings would use; nothing is written."""
    places = settings.data_places
    return choose(places.usual, places.old, given=settings.data_dir, remember=False)


@dataclass(frozen=True)
class Disks:
    """Checks the ledger and the folder for videos.

    Attributes:
        settings: those of this shell.
        free: looks up how much room a disk has.
        now: gives the date and time, UTC.
        accesses: the keys whose last balance is wanted.
        report: receives the findings.
    """

    settings: Settings
    free: Free
    now: Callable[[], datetime]
    accesses: Sequence[Access]
    report: Report

    def ledger(self) -> None:
        """Check the ledger in a file, and report the balances in it."""
        chosen = chosen_folder(self.settings)
        if chosen.rivals:
            self.report.add(_several([str(place / FOLDER) for place in chosen.rivals]))
        elif chosen.folder is None:
            self.report.add(_NO_PLACE)
        else:
            self._ledger(chosen.folder)

    def videos(self) -> None:
        """Check the folder for videos."""
        chosen = chosen_folder(self.settings)
        folder = self.settings.video_folder(chosen.folder, local=True)
        if not isinstance(folder, str):  # a text is object storage, which `bucket` checks
            self.report.add(_videos(folder, self.free))

    def _ledger(self, data: Path) -> None:
        room = _room(data, self.free)
        is_full = room is not None and room < RESERVE_BYTES
        place = str(data / FOLDER)
        figures: dict[str, object] = {"places": [place], "free_bytes": room}
        accounts = [(each.base, each.key) for each in self.accesses if each.key]
        try:
            seen = survey(data, self.now, self.settings.ledger_filesystem, accounts)
        except WanError as exc:
            what, way_out = f"{place}: {exc.what}", for_person(exc.next_step)
            # On a full disk SQLite reports an error of the disk (observed).
            self.report.add(
                _full(place, room, figures)
                if is_full
                else broken("ledger", what, way_out, **figures)
            )
            return
        if is_full:
            self.report.add(_full(place, room, figures))
        elif seen is None:
            self.report.add(_none_yet(place, data, figures))
        else:
            self.report.add(_surveyed(place, seen, room, figures))
        if seen is not None:
            balances(self.accesses, seen, self.report)


def balances(accesses: Iterable[Access], seen: Survey, report: Report) -> None:
    """Report what PixelDojo last said about the credits of each key, if the ledger knows it."""
    for access in accesses:
        if record := seen.newest.get((access.base, access.key)):
            report.add(_balance(access, record))


_NO_PLACE = broken(
    "ledger",
    "There is no place for it, because this user has no home folder.",
    "Set WAN_MCP_DATA_DIR to a folder on a local disk, the same for every assistant.",
)


def _several(places: list[str]) -> Finding:
    return broken(
        "ledger",
        f"There are {len(places)} ledgers with jobs, so nothing is bought: {', '.join(places)}.",
        "Set WAN_MCP_DATA_DIR to the folder above the one that is to be used, for every "
        "assistant, or move the others out of the way. Delete none: a ledger says which jobs were "
        "paid for.",
        places=places,
    )


def _full(place: str, room: int | None, figures: Mapping[str, object]) -> Finding:
    return broken(
        "ledger",
        f"{place}: its disk is full ({_size(room)} free), so a job might not be recorded.",
        "Make room on that disk.",
        **figures,
    )


def _none_yet(place: str, data: Path, figures: Mapping[str, object]) -> Finding:
    if not _can_be_made(data):
        return broken(
            "ledger",
            f"{place} cannot be made: this user may not write there.",
            "Give this user the folder, or name another one in WAN_MCP_DATA_DIR.",
            **figures,
        )
    return ok("ledger", f"None yet: the first job makes it in {place}.", **figures, jobs=0)


def _surveyed(place: str, seen: Survey, room: int | None, figures: Mapping[str, object]) -> Finding:
    figures = {**figures, "jobs": seen.jobs, "live": seen.live, "unknown": seen.unknown}
    found = f"{place} opens and can be locked; {jobs_in(seen)}; {_size(room)} free."
    if seen.kept:
        return note(
            "ledger",
            f"{found} {counted(seen.kept, 'paid job')} could not be written to it yet.",
            "The next server that starts writes what is kept beside it.",
            **figures,
        )
    return ok("ledger", found, **figures)


def jobs_in(seen: Survey) -> str:
    """How many jobs there are, in words."""
    parts = [f"{seen.live} not ended"] if seen.live else []
    if seen.unknown:
        parts.append(f"{seen.unknown} of them with an unknown outcome")
    return counted(seen.jobs, "job") + (f" ({', '.join(parts)})" if parts else "")


def _balance(access: Access, record: Record) -> Finding:
    credits, at = record.credits_remaining, record.accepted_at or record.created_at
    assert credits is not None
    return ok(
        "balance",
        f"{counted(credits, 'credit')} on the account of the key in {access.shown_places}, as "
        f"PixelDojo said at {at:%Y-%m-%d %H:%M} UTC.",
        credits=credits,
        at=at.isoformat(),
    )


def _videos(folder: Path | None, free: Free) -> Finding:
    if folder is None:
        return note(
            "videos",
            "Finished videos are not saved: WAN_MCP_ARCHIVE is off.",
            "Save each from its link, which works for a limited time.",
        )
    room = _room(folder, free)
    if room is not None and room < RESERVE_BYTES:
        return _unusable(folder, f"its disk is full ({_size(room)} free)", room)
    if why := _why_unusable(folder):
        return _unusable(folder, why, room)
    found = f"{folder} can be written; {_size(room)} free."
    if room is not None and room < ROOM_FOR_VIDEOS:
        return note("videos", found, "That is room for few videos.", free_bytes=room)
    return ok("videos", found, free_bytes=room)


def _unusable(folder: Path, why: str, room: int | None) -> Finding:
    return broken(
        "videos",
        f"Finished videos cannot be saved in {folder}: {why}.",
        "Mend that, or name another folder in WAN_MCP_VIDEO_DIR.",
        free_bytes=room,
    )


def _why_unusable(folder: Path) -> str:
    """Why nothing can be written there; "" if it can, or if the folder can be created."""
    if not os.path.lexists(folder):
        return "" if _can_be_made(folder) else "this user may not make that folder"
    try:
        with TemporaryFile(dir=folder) as file:
            check_folder(folder, file.fileno())
    except Unusable as exc:
        return str(exc)
    except OSError as exc:
        return exc.strerror or "it cannot be written"
    return ""


def _can_be_made(folder: Path) -> bool:
    return os.access(_existing(folder), os.W_OK | os.X_OK)


def _room(folder: Path, free: Free) -> int | None:
    try:
        return free(_existing(folder))
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)


def _size(room: int | None) -> str:
    if room is None:
        return "an unknown number of bytes"
    gib = room / (1 << 30)
    return f"{number(round(gib, 1))} GiB" if gib >= 1 else f"{room // MIB} MiB"
