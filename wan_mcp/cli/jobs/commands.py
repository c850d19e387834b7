"""`wan-mcp jobs`, `show`, `open`, `keep` and `forget`: what users do with their own jobs."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, NamedTuple

from wan_mcp.cli.check.findings import for_person
from wan_mcp.cli.jobs.details import lines_of_facts
from wan_mcp.cli.jobs.facts import facts_of, state_of_video
from wan_mcp.cli.jobs.forget import Forgetting
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.cli.jobs.plain import exact, one_line
from wan_mcp.cli.jobs.stored import Stored
from wan_mcp.cli.jobs.table import lines_of_totals, table
from wan_mcp.ledger.contract import LedgerUnavailable, NothingToRead
from wan_mcp.ledger.history.history import EVERYTHING, Choice, History
from wan_mcp.ledger.history.totals import Totals, totals
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import states_of
from wan_mcp.models import JobStatus
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.storage.unavailable import Unavailable
from wan_mcp.videos.kept import why_not_kept
from wan_mcp.videos.own_files import NotOurs, open_ours
from wan_mcp.videos.paths import path_of

FAILED = 1
"""The exit code if a command did not do what it was asked."""
MOST_NAMED = 5
"""How many jobs are named if several ids begin with the one that was typed."""
Since = date | timedelta
"""The beginning of a period: a day, or how long before now."""


@dataclass(frozen=True)
class Screen:
    """Where the commands show their output, and ask questions.

    Attributes:
        write: shows a text.
        complain: shows why a command failed, on standard error.
        confirm: asks a question, and returns whether the answer is yes.
        open: opens a file, a folder or a link with the system; returns whether that was possible.
        columns: the width of the terminal; None if the output goes elsewhere.
        zone: the time zone of days and dates; None for that of this computer.
    """

    write: Callable[[str], object]
    complain: Callable[[str], object]
    confirm: Callable[[str], bool]
    open: Callable[[Path | str], bool]
    columns: int | None = None
    zone: tzinfo | None = None


class _Listing(NamedTuple):
    records: list[Record]
    accounts: int
    matching: int
    totals: Totals
    ids: list[str]
    places: dict[str, int]


_EMPTY = _Listing([], 0, 0, Totals(), [], {})


@dataclass(frozen=True)
class JobCommands:
    """The commands, on one ledger. Each returns the exit code.

    Attributes:
        stored: opens videos in object storage, and deletes them.
    """

    ledger: OwnLedger
    screen: Screen
    stored: Stored = field(default_factory=Stored)

    def jobs(
        self, statuses: Collection[JobStatus], since: Since | None, limit: int, *, as_json: bool
    ) -> int:
        """Show jobs, newest first, and the cost of all that match.

        Args:
            statuses: the statuses of the jobs to show; empty for all.
            since: the beginning of the period; None for all jobs.
            limit: how many are shown at most; 0 for all.
        """
        states = states_of(statuses or set(JobStatus))
        choice = Choice(states, None if since is None else self._moment(since))
        try:
            listing = self.ledger.read(lambda history: self._listing(history, choice, limit))
        except NothingToRead:
            listing = _EMPTY
        except LedgerUnavailable as exc:
            return self._failed(exc.what)
        if as_json:
            self._say(json.dumps(self._as_data(listing), indent=2))
        else:
            for line in self._as_lines(listing, is_chosen=bool(statuses) or since is not None):
                self._say(line)
        return 0

    def show(self, id: str, *, as_json: bool) -> int:
        """Show everything that is known of a job."""
        record = self._named(id)
        if record is None:
            return FAILED
        try:
            places = self.ledger.read(History.places)
        except LedgerUnavailable as exc:
            return self._failed(exc.what)
        facts = facts_of(record, self.ledger.now(), places.get(record.submission_id))
        if as_json:
            self._say(json.dumps(facts, indent=2))
        else:
            for line in lines_of_facts(facts, self.screen.zone):
                self._say(line)
        return 0

    def gallery(self) -> int:
        """Show all jobs as pictures in the user's browser, until the terminal closes."""
        from wan_mcp.cli.gallery.command import show_gallery  # it loads a web server

        return show_gallery(self.ledger, self._say, self.screen.open)

    def open(self, id: str, *, folder: bool) -> int:
        """Open the saved video of a job in the system's player, or a link to it in the browser.

        Args:
            folder: whether to open the folder that contains it instead.
        """
        record = self._named(id)
        if record is None:
            return FAILED
        if record.saved_path is None:
            return self._failed(self._why_no_file(record))
        if is_storage_url(record.saved_path):
            return self._open_stored(record.saved_path, folder=folder)
        video = path_of(record.saved_path)
        try:
            open_ours(video).close()
        except FileNotFoundError:
            return self._failed(f"The video is no longer where it was saved: {exact(str(video))}")
        except NotOurs as exc:
            return self._failed(f"The video is not opened: {exc.why}: {exact(str(video))}")
        path = video.parent if folder else video
        self._say(exact(str(path)))
        if self.screen.open(path):
            return 0
        return self._failed("No program here opens it; its path is above.")

    def _open_stored(self, video: str, *, folder: bool) -> int:
        if folder:
            return self._failed(f"The video is in object storage, in no folder: {exact(video)}")
        try:
            link = self.stored.link(video)
        except Unavailable as exc:
            why = f"{exc.what} {for_person(exc.next_step)}"
            return self._failed(f"No link to {exact(video)} can be made. {why}")
        assert link.url is not None
        assert link.expires_at is not None
        self._say(exact(link.url))
        until = f"{link.expires_at.astimezone(self.screen.zone):%Y-%m-%d %H:%M}"
        self._say(f"Anyone who has this link can fetch the video until {until}.")
        if self.screen.open(link.url):
            return 0
        return self._failed("No program here opens it; its link is above.")

    def keep(self, id: str, *, kept: bool) -> int:
        """Keep the video of a job when the size limit deletes others, or stop keeping it."""
        record = self._named(id)
        if record is None:
            return FAILED
        if kept and (why := why_not_kept(record)):
            return self._failed(why)
        try:
            self.ledger.change(lambda history: history.mark_kept(record, kept))
        except LedgerUnavailable as exc:
            return self._failed(exc.what)
        name = exact(record.public_id)
        if kept:
            self._say(f"{name} is kept: the size limit does not delete its video.")
            self._say(f"To undo this: wan-mcp keep --undo {name}")
        else:
            self._say(f"{name} is not kept any more.")
        return 0

    def forget(self, id: str, *, agreed: bool) -> int:
        """Remove links, inputs and the saved video of a job that has ended.

        Args:
            agreed: whether to do so without asking.
        """
        record = self._named(id)
        if record is None:
            return FAILED
        forgetting = Forgetting(self.ledger, self.screen.write, self.screen.zone, self.stored)
        try:
            return self._forget(forgetting, record, agreed)
        except LedgerUnavailable as exc:
            return self._failed(exc.what)

    def _forget(self, forgetting: Forgetting, record: Record, agreed: bool) -> int:
        record = forgetting.settled(record)
        if why := forgetting.why_not(record):
            return self._failed(f"This job is not forgotten: {why}.")
        if not record.is_forgotten:
            forgetting.describe(record)
            if not (agreed or self.screen.confirm("Forget it? [y/N] ")):
                self._say("Nothing was forgotten.")
                return FAILED
        if why := forgetting.forget(record):
            return self._failed(why)
        return 0

    def _named(self, id: str) -> Record | None:
        """The one job with this id; None after reporting why there is none."""
        try:
            found = self.ledger.read(lambda history: history.named(id))
        except NothingToRead:
            found = []
        except LedgerUnavailable as exc:
            self._failed(exc.what)
            return None
        if len(found) == 1:
            return found[0]
        if not found:
            # The word is not repeated: it may be a key.
            note = f" {self.ledger.note}" if self.ledger.is_beside else ""
            self._failed(f"No job has this id. `wan-mcp jobs` shows the jobs that there are.{note}")
            return None
        named = ", ".join(exact(each) for each in _ids(found)[:MOST_NAMED])
        self._failed(f"{len(found)} jobs have this id, or one that begins so: {named}.")
        return None

    def _listing(self, history: History, choice: Choice, limit: int) -> _Listing:
        sizes = history.sizes(choice)
        return _Listing(
            history.newest(choice, limit or EVERYTHING),
            len(sizes),
            sum(sizes.values()),
            totals(history.prices(choice), self._day),
            history.ids(),
            history.places(),
        )

    def _as_lines(self, listing: _Listing, *, is_chosen: bool) -> Iterator[str]:
        records, accounts, matching, costs, ids, places = listing
        if self.ledger.note:
            yield f"{exact(self.ledger.note)}\n"
        if not records:
            yield "No such jobs." if is_chosen else "No jobs yet."
            return
        now, zone = self.ledger.now(), self.screen.zone
        yield from table(records, ids, places, now, zone, self.screen.columns)
        if len(records) < matching:
            yield f"\nThe newest {len(records)} of {matching}; --limit 0 shows all."
        if accounts > 1:
            yield f"\nThese are the jobs of {accounts} API keys or addresses."
        yield ""
        yield from lines_of_totals(costs)

    def _as_data(self, listing: _Listing) -> dict[str, Any]:
        by_day = listing.totals.by_day.items()
        return {
            "jobs": [
                facts_of(each, self.ledger.now(), listing.places.get(each.submission_id))
                for each in listing.records
            ],
            "matching": listing.matching,
            "accounts": listing.accounts,
            "credits": {
                "in_all": vars(listing.totals.in_all),
                "by_day": [{"day": day.isoformat(), **vars(spent)} for day, spent in by_day],
            },
            **({"note": self.ledger.note} if self.ledger.note else {}),
        }

    def _moment(self, since: Since) -> datetime:
        if isinstance(since, timedelta):
            return self.ledger.now() - since
        return datetime.combine(since, time.min, self.screen.zone).astimezone()

    def _day(self, at: datetime) -> date:
        return at.astimezone(self.screen.zone).date()

    def _why_no_file(self, record: Record) -> str:
        match state_of_video(record, self.ledger.now()):
            case "forgotten":
                return "The video of this job was removed with `wan-mcp forget`."
            case "link":
                return f"The video is not saved here{_reason(record)}; `wan-mcp show` has its link."
            case "expired":
                return f"The video was not saved{_reason(record)}, and its link has expired."
        return "This job has no video."

    def _failed(self, why: str) -> int:
        self.screen.complain(why)
        return FAILED

    def _say(self, line: str) -> None:
        self.screen.write(line + "\n")


def _reason(record: Record) -> str:
    why = record.not_saved or record.last_save_error
    return f" ({one_line(why).rstrip('.')})" if why else ""


def _ids(found: list[Record]) -> list[str]:
    """Ids that distinguish these jobs."""
    names = [record.public_id for record in found]
    return names if len(set(names)) == len(names) else [each.submission_id for each in found]
