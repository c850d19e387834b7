"""One film's way from its storage to the disk, over as many connections as it takes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

import anyio.to_thread

from wan_mcp.errors import NotSaved
from wan_mcp.videos.headers import content_range, is_no_film, note_of, retry_after, strong_etag
from wan_mcp.videos.partial import Damaged, Note, Partial
from wan_mcp.web.fetch import Answer, Unreachable, Web

TRIES = 10
"""Failures in a row, without a new byte, after which a film is given up for now."""
LONGEST_PAUSE = 60.0
LONGEST_ASKED_PAUSE = 300.0
"""Seconds; a host that asks for more gets no more."""

_NO_FILM = "what came is not a film"
_TRANSIENT = {408, 425, 429}

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Clock(Protocol):
    """As jobs.clock tells the time, passes it, and rolls the dice."""

    def monotonic(self) -> float: ...
    def wall(self) -> datetime: ...
    def sleep(self, seconds: float, /) -> Awaitable[None]: ...
    def chance(self) -> float: ...


class _Broken(Exception):
    """One try failed; the next may not."""

    def __init__(self, why: str, *, pause: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.pause = pause


class Download:
    """Fills the part of one film.

    Args:
        part: claimed and resumed.
        expires_at: when the link dies, after which nothing is tried again.
        max_bytes: what is longer is refused.
    """

    def __init__(
        self,
        part: Partial,
        url: str,
        *,
        web: Web,
        clock: Clock,
        expires_at: datetime | None,
        max_bytes: int,
    ) -> None:
        self._part = part
        self._url = url
        self._web = web
        self._clock = clock
        self._expires_at = expires_at
        self._max_bytes = max_bytes
        self._too_long = f"it is longer than {max_bytes:,} bytes"

    async def run(self) -> Path:
        """Go on with what is there until the film is whole, and give it its name.

        Raises:
            NotKept: it could not be saved.
        """
        part = self._part
        furthest, failures = part.note.size, 0
        while True:
            try:
                if not part.complete:
                    await self._receive()
                return await on_disk(part.finish)
            except Damaged:
                broken = _Broken("it arrived damaged")
            except _Broken as exc:
                broken = exc
            # Measured at the furthest byte: a host that knows no ranges gets no further.
            failures = 1 if part.note.size > furthest else failures + 1
            furthest = max(furthest, part.note.size)
            if failures >= TRIES:
                raise NotSaved(_sentence(broken.why), final=False)
            await self._clock.sleep(self._pause(failures, broken))

    def _pause(self, failures: int, broken: _Broken) -> float:
        backoff = min(LONGEST_PAUSE, 2.0 ** (failures - 1)) * (0.5 + self._clock.chance() / 2)
        pause = max(backoff, broken.pause)
        if self._expires_at is None:
            return pause
        left = (self._expires_at - self._clock.wall()) / timedelta(seconds=1)
        if left < 1:
            raise NotSaved(_sentence(f"{broken.why}, and its link has expired"), final=True)
        return min(pause, left / 2)

    async def _receive(self) -> None:
        """One request, for what is not there yet."""
        etag = self._part.note.etag
        start = self._part.note.size if etag else 0
        try:
            async with self._web.get(self._url, start=start, if_range=etag) as answer:
                if await self._accepts(answer, start):
                    await self._store(answer.body)
                    await self._check_end(answer.headers)
        except Unreachable as exc:
            if exc.transient:
                raise _Broken(exc.what) from exc
            raise NotSaved(_sentence(exc.what), final=exc.everywhere) from exc

    async def _accepts(self, answer: Answer, start: int) -> bool:
        """Whether film follows; false when all of it is there already."""
        part = self._part
        if answer.status == 200:
            await self._begin(answer)
            return True
        if answer.status not in {206, 416}:
            raise _refusal(answer.status, answer.headers)
        first, total = content_range(answer.headers)
        if start and total is not None and part.note.total in {None, total}:
            same = strong_etag(answer.headers) == part.note.etag
            follows = answer.status == 206 and first == start and same
            # Its length was unknown, and it is over: the storage has nothing from `start` on.
            if follows or (answer.status == 416 and total == start):
                await on_disk(part.learn_total, total)
                return follows
        await on_disk(part.restart, Note())
        raise _Broken("it changed while it was fetched")

    async def _begin(self, answer: Answer) -> None:
        note = note_of(answer.headers, answer.url)
        if is_no_film(answer.headers):
            raise NotSaved(_sentence(_NO_FILM), final=True)
        if (note.total or 0) > self._max_bytes:
            raise NotSaved(_sentence(self._too_long), final=True)
        await on_disk(self._part.restart, note)

    async def _store(self, body: AsyncIterator[bytes]) -> None:
        # Each piece (up to 64 KiB) in a worker thread, because a slow disk must stop no other
        # job, and together with its note, so that a kill costs no more than one piece.
        async for piece in body:
            if objection := self._objection(piece):
                await on_disk(self._part.restart, Note())
                raise NotSaved(_sentence(objection), final=True)
            await on_disk(self._part.append, piece)

    def _objection(self, piece: bytes) -> str | None:
        size = self._part.note.size
        # No film begins like a page or like JSON: MP4 with a length, WebM with 1A 45.
        if size == 0 and piece.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{", b"[")):
            return _NO_FILM
        return self._too_long if size + len(piece) > self._max_bytes else None

    async def _check_end(self, headers: Mapping[str, str]) -> None:
        part = self._part
        size, total = part.note.size, part.note.total
        if total is None and "transfer-encoding" in headers:
            await on_disk(part.learn_total, size)  # the last chunk says that it is the last
        elif total is None:
            raise _Broken("nobody says how long it is")
        elif size > total:
            await on_disk(part.restart, Note())
        if not part.complete:
            raise _Broken("not all of it came")


async def on_disk(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Do it in a worker thread. Raises: NotKept, when the disk will not."""
    try:
        return await anyio.to_thread.run_sync(work, *args)
    except OSError as exc:
        # Not its text, which holds a path.
        why = f"the disk says: {exc.strerror or type(exc).__name__}"
        raise NotSaved(_sentence(why), final=False) from exc


def _refusal(status: int, headers: Mapping[str, str]) -> Exception:
    why = f"its host answers {status}"
    if status >= 500 or status in _TRANSIENT:
        return _Broken(why, pause=min(retry_after(headers), LONGEST_ASKED_PAUSE))
    return NotSaved(_sentence(why), final=True)


def _sentence(why: str) -> str:
    return f"The film could not be saved: {why}."
