"""A remote file, of which only the parts that are needed are read, up to a limit of bytes."""

import re
from dataclasses import dataclass, field

import anyio

from wan_mcp.inputs.byte_ranges import FIRST_BYTES, NEXT_BYTES, ByteRanges
from wan_mcp.inputs.file_types import MediaType, file_type_of
from wan_mcp.web.fetch import Answer, Unreachable, Web

_ASKED_AGAIN = (401, 403, 404)

_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")


@dataclass
class RemoteFile:
    """One remote file, as far as it is known.

    Attributes:
        requested_url: the address that was given.
        bytes_left: how many bytes may still be read.
        status: HTTP status of the first answer.
        final_url: the address of the first answer, after redirects.
        has_ranges: whether the server sends parts of the file; if not, only its beginning can be
            read.
        compressed: whether the answer is compressed although that was not asked for.
        is_challenge: whether a CDN asks for proof that we are a person (Cloudflare, documented).
        content: the parts that have been read.
    """

    web: Web
    requested_url: str
    bytes_left: int
    status: int = 0
    final_url: str = ""
    content_type: str = ""
    has_ranges: bool = False
    compressed: bool = False
    is_challenge: bool = False
    content: ByteRanges = field(default_factory=ByteRanges)

    @property
    def starts_at_zero(self) -> bool:
        """Whether what was read is the beginning of the file itself."""
        return not self.compressed and (self.has_ranges or self.status != 206)

    @property
    def head(self) -> bytes:
        """The first bytes of the file."""
        return self.content.read(0, FIRST_BYTES)

    async def read_start(self, seconds: float, *, whole: bool = False) -> None:
        """Read the beginning of the file.

        Some servers refuse a request for a part, although they send the whole file (observed
        elsewhere). So before such a status counts, the file is requested as a browser does it.

        Args:
            seconds: the time limit; what has arrived by then must be enough.
            whole: whether to read an image or a video further, up to the limit, if the server
                does not support ranges.

        Raises:
            Unreachable: there is no answer.
        """
        await self._read_start(FIRST_BYTES, seconds, whole=whole)
        if self.status in _ASKED_AGAIN:
            self.content = ByteRanges()
            await self._read_start(None, seconds, whole=whole)

    async def _read_start(self, stop: int | None, seconds: float, *, whole: bool) -> None:
        async with self.web.get(self.requested_url, start=0, stop=stop) as answer:
            self._note(answer)
            ended = False
            with anyio.move_on_after(seconds):
                ended = await self._store(answer, 0, FIRST_BYTES)
                if whole and not ended and self._has_media_without_ranges():
                    ended = await self._store(answer, self.content.known, self.bytes_left)
            if ended and answer.status == 200 and self.content.total is None:
                self.content.total = self.content.known

    async def read_at(self, offset: int) -> bool:
        """Read more bytes at this offset; return whether any arrived."""
        size = min(self.content.next_size(offset, NEXT_BYTES), self.bytes_left)
        if not self.has_ranges or size <= 0:
            return False
        before = self.bytes_left
        try:
            async with self.web.get(self.requested_url, start=offset, stop=offset + size) as answer:
                found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
                if answer.status == 206 and found and found[1] == str(offset):
                    await self._store(answer, offset, size)
        except Unreachable:
            return False
        return self.bytes_left < before

    def _note(self, answer: Answer) -> None:
        headers = answer.headers
        self.status = answer.status
        self.final_url = answer.url
        self.content_type = headers.get("content-type", "").strip().lower()
        self.is_challenge = "cf-mitigated" in headers
        self.compressed = headers.get("content-encoding", "identity").lower() != "identity"
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        self.has_ranges = answer.status == 206 and bool(found and found[1] == "0")
        length = found[2] if found else ""
        if answer.status == 200:
            length = headers.get("content-length", "")
        if answer.status in (200, 206, 416) and re.fullmatch(r"[0-9]{1,18}", length):
            self.content.total = int(length)

    def _has_media_without_ranges(self) -> bool:
        file_type = file_type_of(self.head, self.content_type)
        if self.status != 200 or self.compressed or file_type is None:
            return False
        return bool(file_type.demuxer) or file_type.media_type is MediaType.IMAGE

    async def _store(self, answer: Answer, start: int, limit: int) -> bool:
        """Store about `limit` bytes of the body. Returns whether the body ended before that."""
        stored = 0
        try:
            async for block in answer.body:
                self.bytes_left -= len(block)
                # A range must not overlap the next one; without ranges nothing may be dropped.
                kept = block[: limit - stored] if self.has_ranges else block
                self.content.add(start + stored, kept)
                stored += len(kept)
                if stored >= limit or self.bytes_left <= 0:
                    return False
        except Unreachable:
            return False  # what arrived before the connection broke still belongs to the file
        return True
