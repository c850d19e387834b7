"""Prepares an input before it is sent, see the package. This is the server's side of it."""

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from wan_mcp.errors import NotSent, StepBy
from wan_mcp.inputs.decoder_process import NotLookedAt, handle_of, started
from wan_mcp.inputs.local.references import Fragment
from wan_mcp.inputs.preparing.extras import Extras
from wan_mcp.inputs.preparing.preparer import MODULE
from wan_mcp.inputs.probe import available
from wan_mcp.inputs.verdict import Role, UnusableInput
from wan_mcp.storage.delivery import Content

WORK_SECONDS = 1.0
"""After this long the process reports its progress (ours)."""
ANSWER_SECONDS = 60.0
"""How long any answer may take, even on a busy computer. A picture is prepared completely within
the first answer; one of 48 megapixels takes a few seconds (ours)."""
LEFTOVER_SECONDS = 86_400.0
"""A file of this age was left by a process that ended: no file is needed for a day (ours)."""

_MARK = ".wan-mcp-prepared"
_SENDABLE = {"video/mp4", "video/quicktime", "video/webm", "image/jpeg", "image/png", "image/webp"}
"""Formats that are sent as they are if they cannot be prepared."""
_FORMATS = {
    "MP4": (".mp4", "video/mp4"),
    "JPEG": (".jpg", "image/jpeg"),
    "PNG": (".png", "image/png"),
}
_MEDIA = "pip install 'wan-mcp[media]'"
_BY_HAND = (
    "Convert the file with another program (a clip to an MP4 of H.264 that "
    "begins at the wanted second, a picture to a JPEG), then call again with that file."
)

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("_limiter")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """An input as it is to be sent.

    Attributes:
        content: the bytes: of the file itself, or of a file that was written for this.
        notes: what was changed, or could not be changed, in whole sentences.
        written: the file that was written; None if the file itself is sent.
    """

    content: Content
    notes: tuple[str, ...] = ()
    written: Path | None = None

    def discard(self) -> None:
        """Delete what was written. The content cannot be opened after that."""
        if self.written is not None:
            self.written.unlink(missing_ok=True)


async def prepare(
    source: Content,
    role: Role,
    fragment: Fragment,
    seconds: float,
    folder: Path,
    report: Callable[[float], None] = lambda share: None,
) -> Prepared:
    """The part of this file that is sent, in the form in which it is sent.

    Args:
        source: the file that was checked.
        fragment: the part that is meant; for a picture, the whole.
        seconds: the length of the result.
        folder: where a file may be written; it is created if it is missing. The caller calls
            `discard` when the content is no longer needed.
        report: called with the share of the work that is done, from 0 to 1.

    Raises:
        UnusableInput: there is no such part, or it cannot be cut out without the extra `media`.
        NotSent: the file must be changed and could not be, or it is no longer the same.
    """
    if not available():
        refuse_cut_without_media(role, fragment)
        return Prepared(source, (_without_media(role),))
    target = await run_sync(new_file, folder)
    kept = False
    try:
        prepared = await _prepared(source, role, fragment, seconds, target, report)
        kept = prepared.written is not None
        return prepared
    finally:
        target.with_name(f"{target.name}.cube").unlink(missing_ok=True)
        if not kept:
            target.unlink(missing_ok=True)


def refuse_cut_without_media(role: Role, fragment: Fragment) -> None:
    """Refuse a fragment that does not begin at the start, if nothing here can cut it out.

    Raises:
        UnusableInput: the fragment is refused.
    """
    if fragment.start > 0 and not available():
        raise UnusableInput(
            f"{role.name} has a fragment that begins at {fragment.start:g} s, and this server "
            "cannot cut a clip: it was installed without [media].",
            next_step=f"Ask the user to run `{_MEDIA}` and to restart the "
            "server, or give a clip that begins at the wanted second.",
            step_by=StepBy.OPERATOR,
        )


def remove_leftovers(folder: Path) -> None:
    """Delete what an ended process left in the folder. To be called at the start."""
    with suppress(OSError):
        for path in folder.glob(f"*{_MARK}*"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                    path.unlink()


def new_file(folder: Path) -> Path:
    """Create an empty file that only this user can read, under a name that nobody can guess.

    `remove_leftovers` deletes it if nobody else does.

    Raises:
        NotSent: no file can be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{secrets.token_hex(16)}{_MARK}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as exc:
        # Without its path: a record keeps the reason, which a caller elsewhere may read.
        raise _not_sent(f"no file can be written in the data folder ({exc.strerror})") from None
    return path


async def _prepared(
    source: Content,
    role: Role,
    fragment: Fragment,
    seconds: float,
    target: Path,
    report: Callable[[float], None],
) -> Prepared:
    wanted = {
        "role": role.name,
        "start": fragment.start,
        "end": fragment.end,
        "seconds": seconds,
        "target": str(target),
    }
    seen: dict[str, Any] = {}
    try:
        async with _one_at_a_time():
            await _work(source, role, wanted, seen, report)
    except NotLookedAt as exc:
        return _as_it_is(source, role, fragment, seen, exc.why)
    await run_sync(_check_unchanged, source, role)
    if not seen["changes"]:
        return Prepared(source)
    suffix, media_type = _FORMATS[seen["format"]]
    content = await run_sync(content_of, target, suffix, media_type)
    return Prepared(content, (_sentence(role, seen["changes"]),), target)


async def _work(
    source: Content,
    role: Role,
    wanted: dict[str, Any],
    seen: dict[str, Any],
    report: Callable[[float], None],
) -> None:
    """Do the work in a process, and keep its answers in `seen`."""
    file = await run_sync(_opened, source, role)
    with file:
        async with started(MODULE, file=file) as process:
            question = wanted | {"handle": handle_of(file)}
            seen.update(await process.ask(question, seconds=ANSWER_SECONDS))
            if "unusable" in seen:
                name, what, remedy = seen["unusable"]
                raise UnusableInput(
                    f"The inputs cannot be used: {name} {what}.", next_step=f"{name}: {remedy}."
                )
            while seen["changes"] and "format" not in seen:
                seen.update(await process.ask({"work": WORK_SECONDS}, seconds=ANSWER_SECONDS))
                report(1.0 if "format" in seen else seen["share"])


def _opened(source: Content, role: Role) -> BinaryIO:
    try:
        return source.open()
    except OSError:
        raise NotSent(
            f"{role.name} is no longer the file that was checked, so nothing was sent.",
            next_step="Repeat the same call when the file is complete.",
        ) from None


def _check_unchanged(source: Content, role: Role) -> None:
    _opened(source, role).close()


def _as_it_is(
    source: Content, role: Role, fragment: Fragment, seen: dict[str, Any], why: str
) -> Prepared:
    """The file itself after a failure, if sending it does no harm.

    Raises:
        NotSent: sending it would do harm.
    """
    logger.info("%s could not be prepared: %s", role.name, why)
    extras = seen.get("extras")
    if fragment.start > 0:
        raise _not_sent(f"{role.name} could not be cut: {why}")
    if extras == Extras.LOCATION:
        raise _not_sent(
            f"{role.name} says where it was recorded, and that could not be removed: {why}"
        )
    if source.media_type not in _SENDABLE:
        raise _not_sent(f"{role.name} could not be converted: {why}")
    note = f"{role.name} could not be prepared ({why}), so it is sent as it is"
    if extras != Extras.NONE:
        note += (
            ", and what it may say about where, when and with what it was recorded was not removed"
        )
    return Prepared(source, (f"{note}.",))


def _not_sent(what: str) -> NotSent:
    return NotSent(f"{what}. Nothing was sent.", transient=False, next_step=_BY_HAND)


def _without_media(role: Role) -> str:
    return (
        f"{role.name} is sent as it is: without [media] this server does not remove what a file "
        f"says about where, when and with what it was recorded (`{_MEDIA}`)."
    )


def _sentence(role: Role, changes: list[str]) -> str:
    *most, last = changes
    words = f"{', '.join(most)} and {last}" if most else last
    return f"Before it was sent, {role.name} was {words}."


def content_of(path: Path, suffix: str, media_type: str) -> Content:
    """The content of a file that was written here. Raises OSError."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        stamp = _stamp(file)

    def reopened() -> BinaryIO:
        file = path.open("rb")
        if _stamp(file) != stamp:
            file.close()
            raise OSError(f"{path.name} is no longer what was written")
        return file

    return Content(reopened, stamp[0], sha256, suffix, media_type)


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    """The values that show that an open file is still the one that was hashed."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns


def _one_at_a_time() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(1)
        _limiter.set(limiter)
        return limiter
