"""Finds the job of a request whose answer was lost in PixelDojo's list. Pure functions.

The list is not documented: it may leave out a value of a job, or show it in another form than it
was sent in. How the list shows jobs that are known tells which of its values can be relied on.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from wan_mcp.ledger.fingerprint import DEFAULTS, INPUTS, SENT, as_requested, is_link, without_query
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job
from wan_mcp.wording import counted

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.wire import Listed

MAX_EARLY_SECONDS = 300.0
"""How long before its sending PixelDojo's date of a job may be: clocks differ (assumed)."""
MAX_LATE_SECONDS = 600.0
"""How long after it that date may be: clocks differ, and an answer may take minutes (assumed)."""
TIME = "time"
SECRET_NAME_LENGTH = 32
"""If the last part of a link is at least this long, it cannot be guessed, and names the same file
however the rest of the link is written (ours). The names of our own uploads have 64 characters."""

MAX_NAMED = 5
"""How many jobs or requests a sentence names."""

Value = str | int | bool

_OPEN = frozenset({State.SENDING, State.UNKNOWN})
"""A request in one of these states may have a job that the ledger does not know yet."""


class ListedJobs:
    """One reading of the list, beside the records of the whole wallet.

    Args:
        listed: the reading.
        records: the wallet's records, read from the ledger after the list, so that a job whose
            answer came meanwhile is known.
    """

    def __init__(self, listed: "Sequence[Listed]", records: Sequence[Record]) -> None:
        self._listed = listed
        self._known = {
            record.job_id: record
            for record in records
            if record.job_id and not record.from_elsewhere
        }
        self._open = [record for record in records if record.state in _OPEN]
        shown: set[str] = set()
        self._unreliable: set[str] = set()
        for each in self._claimed():
            shown |= _shown(self._known[each.job.job_id], each)
            self._unreliable |= differences(self._known[each.job.job_id], each)
        self._reliable = shown - self._unreliable

    @property
    def shows_seeds(self) -> bool:
        """Whether any job in the list has a seed."""
        return any(each.seed is not None for each in self._listed)

    def job_of(self, record: Record) -> Job | None:
        """The one job that is certainly this request's and no other's; None if there is none.

        It has the request's seed, and nothing that the list shows of it speaks against it: neither
        an input, nor the resolution, nor the duration, nor its date.
        """
        own = [
            each
            for each in self._listed
            if each.job.job_id not in self._known and self._is_it(record, each)
        ]
        if len(own) != 1 or self._rivals(record, own[0]):
            return None
        return own[0].job

    def claim(self, record: Record, job: Job) -> None:
        """Give the job to the request: neither is matched with anything else from now on."""
        self._known[job.job_id] = record
        self._open = [each for each in self._open if each.submission_id != record.submission_id]

    def doubts(self, record: Record) -> str | None:
        """Which jobs could be this request's, in sentences; None if none of them could.

        As long as one could, it is not proven that the request has no job.
        """
        possible = self._candidates(record)
        if not possible:
            return None
        if record.wallet is not None:  # the ids may be those of other users
            return (
                f"PixelDojo's job list shows {counted(len(possible), 'job')} that could be that of "
                "this request. Whose it is cannot be said for certain, so no request gets it."
            )
        rivals = {each.submission_id for job in possible for each in self._rivals(record, job)}
        others = f" or that of {_few(sorted(rivals))}" if rivals else ""
        return (
            f"PixelDojo's job list shows what could be the job of this request{others}: "
            f"{_few([each.job.job_id for each in possible])}. Whose it is cannot be said for "
            "certain, so it is given to no request: look at it with get_job_status and that id."
        )

    def surround(self, record: Record) -> bool:
        """Whether the list shows, with their seeds, jobs of ours from before and after the request.

        Only then does a missing job mean that there is none: the list goes back far enough, it is
        up to date, and it shows seeds. A job that was accepted before the request was sent is from
        before it. One that was itself sent later is from after it; when it was accepted says
        nothing, because the ledger may learn late of a job that is older than the request.
        """
        ours = [
            self._known[each.job.job_id]
            for each in self._claimed()
            if self._known[each.job.job_id].seed == each.seed
        ]
        accepted = [each.accepted_at for each in ours if each.accepted_at is not None]
        sent = record.began_at
        is_after = any(each.began_at > sent for each in ours)
        return is_after and any(time < sent for time in accepted)

    def _claimed(self) -> "list[Listed]":
        return [each for each in self._listed if each.job.job_id in self._known]

    def _candidates(self, record: Record) -> "list[Listed]":
        """The jobs of no known request that could be this one's, as far as the list shows.

        One with the request's seed always could: its other values may be shown in another form.
        """
        return [
            each
            for each in self._listed
            if each.job.job_id not in self._known
            and (each.seed == record.seed or self._could_be(record, each))
        ]

    def _could_be(self, record: Record, each: "Listed") -> bool:
        """Whether no reliable value speaks against it. The seed always counts as reliable."""
        return not differences(record, each) & (self._reliable | {"seed"})

    def _rivals(self, record: Record, each: "Listed") -> list[Record]:
        """The other open requests that could have started a job."""
        return [
            other
            for other in self._open
            if other.submission_id != record.submission_id
            and not differences(other, each) - self._unreliable
        ]

    def _is_it(self, record: Record, each: "Listed") -> bool:
        """Whether a job is this request's, if no other request could have started it.

        A seed that a caller chose may occur in several jobs, so the list then has to show
        everything that was asked for.
        """
        if each.seed != record.seed:
            return False
        if record.seed_generated:
            return not differences(record, each) - self._unreliable
        asked = _asked(record)
        is_shown = asked.keys() <= _shown(record, each) and None not in asked.values()
        return is_shown and not differences(record, each)


def differences(record: Record, each: "Listed") -> set[str]:
    """The arguments, by our names, in which a listed job differs from what a request asked for.

    An input that was sent under a link other than the given one is compared by the link that was
    sent, and under a name of its own, such as `sent_video`, because the list may show such links
    differently from links of users. A value that the list does not show is no difference, and
    neither is one that PixelDojo chose because the request left it open.
    """
    asked: dict[str, Value | None] = {**DEFAULTS, **_asked(record)}
    if record.seed is not None:
        asked["seed"] = record.seed
    differing = {
        label
        for name, value in each.arguments.items()
        if (label := _label(record, name)) in asked and not _is_same(label, value, asked[label])
    }
    if each.made_at is not None:
        late = (each.made_at - record.began_at).total_seconds()
        if not -MAX_EARLY_SECONDS <= late <= MAX_LATE_SECONDS:
            differing.add(TIME)
    return differing


def _asked(record: Record) -> dict[str, Value | None]:
    """What PixelDojo was asked for, by the names of `differences`.

    None stands for an input whose sent link is not known.
    """
    given = record.arguments
    return {
        label: given[name] if label == name else given.get(label)
        for name in as_requested(given)
        if (label := _label(record, name))
    }


def _label(record: Record, name: str) -> str:
    """The name under which a listed argument is compared with what a request asked for."""
    is_local = name in INPUTS and not is_link(record.arguments.get(name, ""))
    return f"{SENT}{name}" if is_local else name


def _few(ids: Sequence[str]) -> str:
    more = len(ids) - MAX_NAMED
    return ", ".join(ids[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(record: Record, each: "Listed") -> set[str]:
    """The names of those values of a listed job that can be compared with a request."""
    time = () if each.made_at is None else (TIME,)
    return {*(_label(record, name) for name in each.arguments), *time}


def _is_same(label: str, shown: Value, asked: Value | None) -> bool:
    if asked is None:
        return True
    name = label.removeprefix(SENT)
    if _comparable(name, shown) == _comparable(name, asked):
        return True
    return name != label and _secret_name(shown) == _secret_name(asked) != ""


def _secret_name(link: Value) -> str:
    """The last part of a link's path if nobody could guess it; "" for every other link."""
    name = _comparable("", link).partition("?")[0].rpartition("/")[2]
    return name if len(name) >= SECRET_NAME_LENGTH else ""


def _comparable(name: str, value: Value) -> str:
    """A value in one spelling: a URL as the ledger keeps it, a number or a boolean as a word."""
    word = str(value)
    if name == "resolution":
        return word.removesuffix("p")  # a sibling model writes "480p" (observed elsewhere)
    if not word.lower().startswith("http"):
        return word.lower()
    with suppress(ValueError):
        return without_query(word)
    return word
