"""The beginning of a remote file, and more of it where it is needed, within a budget of bytes."""

import re
from dataclasses import dataclass, field

import anyio

from wan_mcp.inputs.byte_ranges import Pieces
from wan_mcp.inputs.file_types import kind_of
from wan_mcp.web.fetch import Answer, Unreachable, Web

FIRST = 262_144
"""Bytes of the first read: most clips and pictures say all there."""
JUMP = 524_288
"""Bytes of a read elsewhere: the index of a clip of some minutes."""

_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")


@dataclass
class Sample:
    """What is known of one file.

    Attributes:
        left: bytes that may still be read of it.
        status: of the first answer.
        url: where that came from in the end.
        ranged: the server gives parts; else there is only the beginning.
        packed: compressed for the way, although nobody asked for it.
    """

    web: Web
    asked: str
    left: int
    status: int = 0
    url: str = ""
    content_type: str = ""
    ranged: bool = False
    packed: bool = False
    pieces: Pieces = field(default_factory=Pieces)

    @property
    def plain(self) -> bool:
        """Whether what was read is the beginning of the file itself."""
        return not self.packed and (self.ranged or self.status != 206)

    @property
    def head(self) -> bytes:
        """Its first bytes."""
        return self.pieces.read(0, FIRST)

    async def start(self, seconds: float, *, whole_film: bool = False) -> None:
        """Read its beginning.

        Args:
            seconds: after which what has come by then must do.
            whole_film: where the server gives no parts, go on with a film up to the budget.

        Raises:
            Unreachable: there is no answer.
        """
        async with self.web.get(self.asked, start=0, stop=FIRST) as answer:
            self._note(answer)
            ended = False
            with anyio.move_on_after(seconds):
                ended = await self._take(answer, 0, FIRST)
                if whole_film and not ended and self._is_film_without_parts():
                    ended = await self._take(answer, self.pieces.known, self.left)
            if ended and answer.status == 200 and self.pieces.total is None:
                self.pieces.total = self.pieces.known

    async def more(self, at: int) -> bool:
        """Read on at this place; whether anything came."""
        # Who reads on without a gap is likely to go on: twice as much as there is already.
        size = min(max(JUMP, 2 * self.pieces.run_to(at)), self.left)
        room = self.pieces.room_from(at)
        size = size if room is None else min(size, room)
        if not self.ranged or size <= 0:
            return False
        before = self.left
        try:
            async with self.web.get(self.asked, start=at, stop=at + size) as answer:
                place = _RANGE.fullmatch(answer.headers.get("content-range", ""))
                if answer.status == 206 and place and place[1] == str(at):
                    await self._take(answer, at, size)
        except Unreachable:
            return False
        return self.left < before

    def _note(self, answer: Answer) -> None:
        headers = answer.headers
        self.status = answer.status
        self.url = answer.url
        self.content_type = headers.get("content-type", "").strip().lower()
        self.packed = headers.get("content-encoding", "identity").lower() != "identity"
        place = _RANGE.fullmatch(headers.get("content-range", ""))
        self.ranged = answer.status == 206 and bool(place and place[1] == "0")
        length = place[2] if place else ""
        if answer.status == 200:
            length = headers.get("content-length", "")
        if answer.status in (200, 206, 416) and re.fullmatch(r"[0-9]{1,18}", length):
            self.pieces.total = int(length)

    def _is_film_without_parts(self) -> bool:
        kind = kind_of(self.head, self.content_type)
        return self.status == 200 and not self.packed and bool(kind and kind.demuxer)

    async def _take(self, answer: Answer, start: int, most: int) -> bool:
        """Keep what comes, about so many bytes; whether that was all there was."""
        taken = 0
        try:
            async for piece in answer.body:
                self.left -= len(piece)
                # A part may not run into the next one; without parts nothing may be dropped.
                kept = piece[: most - taken] if self.ranged else piece
                self.pieces.add(start + taken, kept)
                taken += len(kept)
                if taken >= most or self.left <= 0:
                    return False
        except Unreachable:
            return False  # what came before the connection broke is still of the file
        return True
