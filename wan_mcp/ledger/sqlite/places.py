"""Finds the one ledger of a user on this computer, in one of several places."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import anyio.to_thread

from wan_mcp.ledger.contract import Claim, LedgerUnavailable, VideoPolicy
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite import connection as database
from wan_mcp.ledger.sqlite.engine import FILE, Now, SQLiteLedger
from wan_mcp.ledger.threaded.ledger import ThreadedLedger
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Whose
from wan_mcp.models import Replacement, SourceClip

FOLDER = "ledger"
"""The ledger's own folder within the data folder: other users lose access to it."""
NOTE = "ledger-is-in"
"""A file in the usual data folder with one full path: it tells servers that are started with a
smaller environment in which other data folder the ledger is."""

_NO_HOME = "There is no place for the ledger, because this user has no home folder."
_SET_FOLDER = (
    "Ask the user to set WAN_MCP_DATA_DIR to a folder of this user on a local disk, the same one "
    "for every assistant, and to restart the client."
)


@dataclass(frozen=True)
class Chosen:
    """The data folder that is used.

    Attributes:
        folder: a full path; None when there is none.
        rivals: every data folder with paid requests, if there are several; then nobody can know
            which of them has the equal request, so nothing may be paid.
    """

    folder: Path | None
    rivals: tuple[Path, ...] = ()


def choose(
    usual: Path | None,
    old: Iterable[Path] = (),
    *,
    given: Path | None = None,
    remember: bool = True,
) -> Chosen:
    """The data folder whose ledger is the user's; `usual` if there is no ledger yet.

    A ledger without any request was made by a server that never paid, so it is no rival.

    Args:
        given: the folder that the operator has chosen; None leaves the choice to this function.
        remember: whether a choice other than `usual` is noted there, for other servers.
    """
    if given is not None:
        return Chosen(given)
    noted = _noted(usual)
    places = [place for place in (usual, noted, *old) if place is not None]
    found = _distinct(places)
    if len(found) > 1:
        found = [place for place in found if _has_requests(_file(place))] or found[:1]
    if len(found) > 1:
        return Chosen(found[0], tuple(found))
    folder = found[0] if found else noted or usual
    if remember and folder != usual and usual is not None:
        _note(usual, folder)
    return Chosen(folder)


def ledger_in(
    chosen: Chosen,
    choose: Callable[[], Chosen],
    *,
    limits: SpendingLimits,
    now: Now,
    filesystem: str | None = None,
) -> ThreadedLedger:
    """The ledger of that data folder.

    Args:
        choose: chooses again, in a thread; asked before each payment.
        filesystem: a type of file system that the operator declares to be local.
    """
    if chosen.folder is None:
        return ThreadedLedger(NoLedger(_NO_HOME, next_step=_SET_FOLDER), limits, poll_seconds=1.0)
    return _OnlyLedger(chosen.folder, choose, limits=limits, now=now, filesystem=filesystem)


class _OnlyLedger(SQLiteLedger):
    """Pays only while it is the user's only ledger. Its jobs can always be shown and followed."""

    def __init__(
        self,
        data: Path,
        choose: Callable[[], Chosen],
        *,
        limits: SpendingLimits,
        now: Now,
        filesystem: str | None,
    ) -> None:
        super().__init__(data / FOLDER, limits=limits, now=now, filesystem=filesystem)
        self._data = data
        self._choose = choose

    async def claim(
        self,
        whose: Whose,
        wanted: Replacement,
        *,
        generated_seed: int,
        estimate: float | None,
        videos: VideoPolicy | None = None,
        source: SourceClip | None = None,
        agreed: float | None = None,
        quotas: Sequence[Quota] = (),
    ) -> Claim:
        chosen = await anyio.to_thread.run_sync(self._choose)
        if chosen.rivals:
            raise _several(chosen.rivals)
        if chosen.folder != self._data:
            raise _moved(chosen.folder)
        return await super().claim(
            whose,
            wanted,
            generated_seed=generated_seed,
            estimate=estimate,
            videos=videos,
            source=source,
            agreed=agreed,
            quotas=quotas,
        )


def _several(rivals: tuple[Path, ...]) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"This user has {len(rivals)} ledgers, so the same job could be paid twice. They lie in: "
        f"{', '.join(map(_shown, rivals))}.",
        next_step="Ask the user to set WAN_MCP_DATA_DIR to the one of these folders that is to be "
        "used, in the configuration of every assistant, and to restart them; or to move the others "
        "out of the way. No ledger file must be deleted: it says which jobs were paid for. The "
        "jobs of one of these folders can still be read.",
    )


def _moved(folder: Path | None) -> LedgerUnavailable:
    where = "" if folder is None else f" ({_shown(folder)})"
    return LedgerUnavailable(
        f"The user's ledger is in another folder{where} than the one that this server has opened.",
        next_step="Ask the user to restart the client; nothing was sent.",
    )


def _shown(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")


class NoLedger:
    """The engine where there can be no ledger.

    Args:
        what: why, in a sentence.
    """

    not_writable: tuple[type[Exception], ...] = ()

    def __init__(self, what: str, *, next_step: str) -> None:
        self._what = what
        self._next_step = next_step

    def open(self, opening: ExitStack) -> Session:
        raise LedgerUnavailable(self._what, next_step=self._next_step)

    def open_to_read(self, opening: ExitStack) -> Session:
        return self.open(opening)

    def as_ledger_errors(self) -> AbstractContextManager[None]:
        return nullcontext()


def _file(place: Path) -> Path:
    return place / FOLDER / FILE


def _distinct(places: Iterable[Path]) -> list[Path]:
    """The places with a ledger, in the same order; a file that two paths lead to counts once."""
    found: dict[tuple[int, int], Path] = {}
    for place in places:
        with suppress(OSError):
            about = os.stat(f"{place}/{FOLDER}/{FILE}")
            if S_ISREG(about.st_mode) and about.st_size:
                found.setdefault((about.st_dev, about.st_ino), place)
    return list(found.values())


def _has_requests(file: Path) -> bool:
    """Whether a ledger has any request; yes, if it cannot be read."""
    try:
        with closing(database.connect(file, writable=False)) as connection:
            return connection.execute("SELECT 1 FROM jobs LIMIT 1").fetchone() is not None
    except (sqlite3.Error, LedgerUnavailable):
        return True


def _noted(usual: Path | None) -> Path | None:
    if usual is None:
        return None
    try:
        place = Path(os.fsdecode((usual / NOTE).read_bytes()).rstrip("\n"))
    except OSError:
        return None
    return place if place.is_absolute() else None


def _note(usual: Path, folder: Path | None) -> None:
    """Note the choice. Where that fails, no other server can create a second ledger either."""
    if folder is None or folder == _noted(usual):
        return
    with suppress(OSError):
        usual.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = usual / f"{NOTE}.{os.getpid()}"
        part.write_bytes(os.fsencode(folder) + b"\n")
        part.replace(usual / NOTE)
