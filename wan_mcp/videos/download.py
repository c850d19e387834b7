"""Downloads one video from its storage to the disk, trying until all of it has arrived.

A download that breaks starts again from the first byte, because a video has only a few megabytes.
It is not known which storage it is, nor what it declares about a file in its headers.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import TypeVar, TypeVarTuple
from urllib.parse import urlsplit

import anyio.to_thread

from wan_mcp.clock import Clock
from wan_mcp.inputs.file_types import MediaType, file_type_of
from wan_mcp.videos.containers import Ending
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.videos.own_files import Unusable
from wan_mcp.videos.unfinished import (
    SUFFIXES,
    Algorithm,
    Damaged,
    SavedVideo,
    Suffix,
    UnfinishedVideo,
)
from wan_mcp.web.fetch import Answer, Unreachable, Web

MAX_TRIES = 12
"""After this many failures the video is given up for now; ten cuts must not end it (ours)."""
MAX_PAUSE_SECONDS = 60.0
MAX_REQUESTED_PAUSE_SECONDS = 300.0
"""The longest pause that a host can ask for (Retry-After); longer ones are cut to this (ours)."""
MIN_BYTES_PER_SECOND = 2_000
SPEED_SECONDS = 60.0
"""A download that stays too slow for this long is ended, and tried again in another turn (ours).
At that speed 7 MB take an hour, the shortest life of a link that has been reported."""

_HEAD_BYTES = 1024
_NO_VIDEO = {MediaType.PAGE, MediaType.IMAGE, MediaType.OTHER}
_NOT_A_VIDEO = "what came is not a video"
_TRANSIENT_STATUSES = {206, 408, 416, 425, 429}
"""206 and 416 are wrong answers to a request for the whole file, but say nothing about the file."""
SUFFIX_OF_TYPE: dict[str, Suffix] = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}
_DIGEST_HEADERS: tuple[tuple[str, Algorithm, str], ...] = (
    ("repr-digest", "sha256", r"(?:.*[ ,])?sha-256=:([^:]*):.*"),  # RFC 9530
    ("x-amz-checksum-sha256", "sha256", r"(.*)"),  # for an upload in parts it ends in "-3"
    ("content-md5", "md5", r"(.*)"),
    ("x-goog-hash", "md5", r"(?:.*[ ,])?md5=([^ ,]*).*"),
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _TryFailed(Exception):
    """One try failed; the next may succeed.

    Attributes:
        why: the reason, as the rest of a sentence.
        pause: seconds that the host asks to wait.
    """

    def __init__(self, why: str, *, pause: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.pause = pause


class Download:
    """Downloads one video.

    Args:
        video: where to write it.
        expires_at: when the link expires; afterwards nothing is tried again.
        max_bytes: a longer video is refused.
    """

    def __init__(
        self,
        video: UnfinishedVideo,
        url: str,
        *,
        web: Web,
        clock: Clock,
        expires_at: datetime | None,
        max_bytes: int,
    ) -> None:
        self._video = video
        self._url = url
        self._web = web
        self._clock = clock
        self._expires_at = expires_at
        self._max_bytes = max_bytes
        self._too_long = f"it is longer than {max_bytes:,} bytes"
        self._before = ""

    async def run(self) -> SavedVideo:
        """Download the video, and give it its name.

        Raises:
            NotSaved: it could not be saved.
        """
        failures = 0
        while True:
            try:
                return await self._try()
            except _TryFailed as exc:
                failures += 1
                if failures == MAX_TRIES:
                    raise NotSaved(_sentence(exc.why), final=False) from exc
                pause = self._pause(failures, exc)
            await self._clock.sleep(pause)

    def _pause(self, failures: int, failed: _TryFailed) -> float:
        backoff = min(MAX_PAUSE_SECONDS, 2.0 ** (failures - 1))
        pause = max(backoff * (0.5 + self._clock.chance() / 2), failed.pause)
        if self._expires_at is None:
            return pause
        left = (self._expires_at - self._clock.wall()) / timedelta(seconds=1)
        if left < 1:
            raise NotSaved(_sentence(f"{failed.why}, and its link has expired"), final=True)
        return min(pause, left / 2)

    async def _try(self) -> SavedVideo:
        """Send one request, and save the video if all of it arrives."""
        try:
            async with self._web.get(self._url) as answer:
                self._check_headers(answer)
                await on_disk(self._video.begin, _declared_length(answer.headers))
                head = await self._store(answer)
                await self._check_end(answer.headers)
        except Unreachable as exc:
            if exc.transient:
                raise _TryFailed(exc.what) from exc
            raise NotSaved(_sentence(exc.what), final=exc.everywhere) from exc
        suffix, digests = _suffix(head, answer), _digests(answer.headers)
        try:
            return await on_disk(self._video.finish, suffix, digests)
        except Damaged as exc:
            raise _TryFailed("it arrived damaged") from exc

    def _check_headers(self, answer: Answer) -> None:
        if answer.status != 200:
            raise _refusal(answer.status, answer.headers)
        if (_declared_length(answer.headers) or 0) > self._max_bytes:
            raise NotSaved(_sentence(self._too_long), final=True)

    async def _store(self, answer: Answer) -> bytes:
        """Write the whole body. Returns its first bytes."""
        pace, head, waiting = _Pace(self._clock), b"", b""
        async for block in answer.body:
            pace.add(len(block))
            waiting += block
            if head or len(waiting) >= _HEAD_BYTES:
                head = head or _checked_head(waiting, answer.headers)
                await self._write(waiting)
                waiting = b""
        if waiting:  # the whole of a very short file
            head = _checked_head(waiting, answer.headers)
            await self._write(waiting)
        return head

    async def _write(self, block: bytes) -> None:
        if self._video.size + len(block) > self._max_bytes:
            raise NotSaved(_sentence(self._too_long), final=True)
        # In a worker thread: a slow disk must not stop other jobs.
        await on_disk(self._video.write, block)

    async def _check_end(self, headers: Mapping[str, str]) -> None:
        """Check that all of the video came, by its declared length or by its container."""
        received, declared = self._video.received, _declared_length(headers)
        if received.size == 0 or declared not in (None, received.size):
            raise _TryFailed("not all of it came")
        if declared is not None:
            return
        # A proxy may end a chunked answer properly although its source broke off.
        ending = await on_disk(self._video.ending)
        if ending is Ending.CUT:
            raise _TryFailed("it ends in the middle")
        # Without a last chunk, a cut looks like the end of the file (RFC 9112): then it has to come
        # twice, and be the same.
        seen, self._before = self._before, received.sha256
        says_its_end = "transfer-encoding" in headers or seen == received.sha256
        if ending is Ending.OPEN and not says_its_end:
            raise _TryFailed("its length is not known")


async def on_disk(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run `work` in a worker thread. Raises NotSaved if the disk fails or must not be used."""
    try:
        return await anyio.to_thread.run_sync(work, *args)
    except Unusable as exc:
        raise NotSaved(_sentence(exc.why), final=False) from exc
    except OSError as exc:
        # Not the error's own text, which contains a path.
        why = f"the disk says: {exc.strerror or type(exc).__name__}"
        raise NotSaved(_sentence(why), final=False) from exc


class _Pace:
    """Ends a download that is too slow, so that it does not go on for hours or days."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since, self._came = clock.monotonic(), 0

    def add(self, size: int) -> None:
        """Count bytes that have just arrived. Raises NotSaved if there were too few."""
        self._came += size
        seconds = self._clock.monotonic() - self._since
        if seconds < SPEED_SECONDS:
            return
        if self._came < MIN_BYTES_PER_SECOND * seconds:
            raise NotSaved(_sentence("its host sends it too slowly"), final=False)
        self._since, self._came = self._clock.monotonic(), 0


def _refusal(status: int, headers: Mapping[str, str]) -> Exception:
    why = f"its host answers {status}"
    if status >= 500 or status in _TRANSIENT_STATUSES:
        pause = _number(headers.get("retry-after", "")) or 0
        return _TryFailed(why, pause=min(pause, MAX_REQUESTED_PAUSE_SECONDS))
    return NotSaved(_sentence(why), final=True)


def _sentence(why: str) -> str:
    return f"The video could not be saved: {why}."


def _checked_head(block: bytes, headers: Mapping[str, str]) -> bytes:
    """The first bytes of a video. Raises NotSaved if they are certainly something else."""
    head = block[:_HEAD_BYTES]
    file_type = file_type_of(head, "")
    # No video begins like a page or like JSON: MP4 starts with a length, WebM with 1A 45.
    is_text = head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{", b"["))
    is_other = file_type.media_type in _NO_VIDEO if file_type else _is_declared_other(headers)
    if is_text or is_other:
        raise NotSaved(_sentence(_NOT_A_VIDEO), final=True)
    return head


def _is_declared_other(headers: Mapping[str, str]) -> bool:
    """Whether it is declared as text or as compressed; used only if the bytes do not tell."""
    content_type = _content_type(headers)
    return (
        content_type.startswith("text/")
        or content_type.endswith(("json", "xml"))
        or headers.get("content-encoding", "identity").lower() != "identity"
    )


def _suffix(head: bytes, answer: Answer) -> Suffix:
    """The suffix by the bytes; else by the type that the storage names, then by the address."""
    file_type = file_type_of(head, "")
    by_bytes = SUFFIX_OF_TYPE.get(file_type.mime_type) if file_type else None
    in_url = PurePosixPath(urlsplit(answer.url).path).suffix.lower()
    named = next((suffix for suffix in SUFFIXES if suffix == in_url), SUFFIXES[0])
    return by_bytes or SUFFIX_OF_TYPE.get(_content_type(answer.headers), named)


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _declared_length(headers: Mapping[str, str]) -> int | None:
    return _number(headers.get("content-length", ""))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _digests(headers: Mapping[str, str]) -> dict[Algorithm, str]:
    """The digests of the whole video that the storage declares, in hex."""
    declared: dict[Algorithm, str] = {}
    for name, algorithm, form in _DIGEST_HEADERS:
        match = re.fullmatch(form, headers.get(name, ""))
        digest = _decoded(match[1]) if match else b""
        if len(digest) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            declared.setdefault(algorithm, digest.hex())
    return declared


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
