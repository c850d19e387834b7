"""Downloads one video from its storage to the disk, as often as it takes to get it whole.

A download that breaks starts again from the first byte: a video has some megabytes. It is not
known which storage it is, nor what it declares about a file in its headers.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TypeVar, TypeVarTuple
from urllib.parse import urlsplit

import anyio.to_thread

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSaved
from wan_mcp.videos.unfinished import SUFFIXES, Algorithm, Damaged, Suffix, UnfinishedVideo
from wan_mcp.web.fetch import Answer, Unreachable, Web

MAX_TRIES = 12
"""After so many failures the video is given up for now; ten cuts must not end it (ours)."""
MAX_PAUSE_SECONDS = 60.0
MAX_REQUESTED_PAUSE_SECONDS = 300.0
"""A host that asks for a longer pause (Retry-After) does not get one (ours)."""

_NOT_A_VIDEO = "what came is not a film"
_TRANSIENT_STATUSES = {206, 408, 416, 425, 429}
"""206 and 416 are wrong answers to a request for the whole file, but say nothing about the file."""
_SUFFIX_OF_TYPE: dict[str, Suffix] = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
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
        why: the rest of a sentence.
        pause: seconds that the host asks to wait.
    """

    def __init__(self, why: str, *, pause: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.pause = pause


class Download:
    """Downloads one video.

    Args:
        video: where to write it; its lock is held.
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

    async def run(self) -> Path:
        """Download the video and return the path of the saved file.

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

    async def _try(self) -> Path:
        """Send one request, and save the video if all of it arrives."""
        try:
            async with self._web.get(self._url) as answer:
                self._check_headers(answer)
                await on_disk(self._video.begin)
                await self._store(answer.body)
                await self._check_length(answer.headers)
        except Unreachable as exc:
            if exc.transient:
                raise _TryFailed(exc.what) from exc
            raise NotSaved(_sentence(exc.what), final=exc.everywhere) from exc
        suffix, digests = _suffix(answer.headers, answer.url), _digests(answer.headers)
        try:
            return await on_disk(self._video.finish, suffix, digests)
        except Damaged as exc:
            raise _TryFailed("it arrived damaged") from exc

    def _check_headers(self, answer: Answer) -> None:
        if answer.status != 200:
            raise _refusal(answer.status, answer.headers)
        if _is_not_a_video(answer.headers):
            raise NotSaved(_sentence(_NOT_A_VIDEO), final=True)
        if (_declared_length(answer.headers) or 0) > self._max_bytes:
            raise NotSaved(_sentence(self._too_long), final=True)

    async def _store(self, body: AsyncIterator[bytes]) -> None:
        # Each block (up to 64 KiB) is written in a worker thread: a slow disk must not stop
        # other jobs.
        size = 0
        async for block in body:
            # No video begins like a page or like JSON: MP4 starts with a length, WebM with 1A 45.
            if size == 0 and block.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{", b"[")):
                raise NotSaved(_sentence(_NOT_A_VIDEO), final=True)
            size += len(block)
            if size > self._max_bytes:
                raise NotSaved(_sentence(self._too_long), final=True)
            await on_disk(self._video.write, block)

    async def _check_length(self, headers: Mapping[str, str]) -> None:
        size, declared = self._video.received.size, _declared_length(headers)
        # Without a length and without a last chunk, a cut looks like the end of the file.
        has_no_end = declared is None and "transfer-encoding" not in headers
        if has_no_end and not await on_disk(self._video.is_whole_container):
            raise _TryFailed("its length is not known")
        if size == 0 or declared not in (None, size):
            raise _TryFailed("not all of it came")


async def on_disk(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run `work` in a worker thread. Raises NotSaved if the disk refuses it."""
    try:
        return await anyio.to_thread.run_sync(work, *args)
    except OSError as exc:
        # Not the error's own text, which contains a path.
        why = f"the disk says: {exc.strerror or type(exc).__name__}"
        raise NotSaved(_sentence(why), final=False) from exc


def _refusal(status: int, headers: Mapping[str, str]) -> Exception:
    why = f"its host answers {status}"
    if status >= 500 or status in _TRANSIENT_STATUSES:
        pause = _number(headers.get("retry-after", "")) or 0
        return _TryFailed(why, pause=min(pause, MAX_REQUESTED_PAUSE_SECONDS))
    return NotSaved(_sentence(why), final=True)


def _sentence(why: str) -> str:
    return f"The film could not be saved: {why}."


def _is_not_a_video(headers: Mapping[str, str]) -> bool:
    """Whether it is declared as a page, as data, or as compressed, and would be saved like that."""
    content_type = _content_type(headers)
    return (
        content_type.startswith("text/")
        or content_type.endswith(("json", "xml"))
        or headers.get("content-encoding", "identity").lower() != "identity"
    )


def _suffix(headers: Mapping[str, str], url: str) -> Suffix:
    in_url = PurePosixPath(urlsplit(url).path).suffix.lower()
    named = next((suffix for suffix in SUFFIXES if suffix == in_url), SUFFIXES[0])
    return _SUFFIX_OF_TYPE.get(_content_type(headers), named)


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
