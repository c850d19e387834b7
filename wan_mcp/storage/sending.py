"""How one file goes into a bucket: in parts, hashed as they go out, and all of it or nothing."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Self

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from wan_mcp.storage.delivery import Changed

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ObjectStore as Bucket

PART_BYTES = 5 << 20
"""The least that S3 takes as one part of many (documented)."""
PARTS_AT_ONCE = 3
MOST_PARTS = 10_000
"""Of one object in S3 (documented)."""


class Stalled(Exception):
    """The storage has taken no part for too long."""


class _Stopped(Exception):
    """Nobody wants the upload any more."""


class Parts:
    """The parts of a file, read in a thread of their own as obstore asks for them.

    When this raises, obstore gives the upload up and has the storage forget its parts (observed).

    Args:
        file: open for reading in binary, at its beginning.
        size, sha256: how many bytes there must be, and their hash in hex digits.
        report: called with the number of bytes that the storage has taken so far.
    """

    def __init__(
        self, file: BinaryIO, size: int, sha256: str, report: Callable[[int], None]
    ) -> None:
        self.part = max(PART_BYTES, -(-size // MOST_PARTS))
        self.is_stopped = False
        self._file, self._size, self._sha256, self._report = file, size, sha256, report
        self._hash = hashlib.sha256()
        self._read = 0
        self._asked = anyio.Event()

    @property
    def is_small(self) -> bool:
        """Whether one request takes all of it."""
        return self._size <= self.part

    async def next_is_asked_for(self) -> None:
        """Wait until obstore wants another part, so that the storage must have taken one."""
        self._asked = anyio.Event()
        await self._asked.wait()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self.is_stopped:
            raise _Stopped
        anyio.from_thread.run_sync(self._asks)
        try:
            part = self._file.read(self.part)
        except OSError:
            raise Changed from None
        self._read += len(part)
        self._hash.update(part)
        is_end = not part
        if self._read > self._size or (is_end and not self._is_right()):
            raise Changed
        if is_end:
            raise StopIteration
        return part

    def _asks(self) -> None:
        self._asked.set()
        # What was asked for last may still be on its way, PARTS_AT_ONCE of them.
        self._report(max(self._read - PARTS_AT_ONCE * self.part, 0))

    def _is_right(self) -> bool:
        return self._read == self._size and self._hash.hexdigest() == self._sha256


async def send(
    bucket: "Bucket", name: str, parts: Parts, media_type: str, stall: float, abort: float
) -> None:
    """Upload parts as one object, which nobody can see before all of it is there.

    Args:
        media_type: what a web server is to call it.
        stall: seconds in which the storage must take at least one more part.
        abort: seconds that it has to forget the parts of an upload that is given up.

    Raises:
        Changed, Stalled: and whatever obstore raises; the storage has been asked to forget it all.
    """
    over = anyio.Event()
    putting = anyio.CancelScope(shield=True)
    failure: Exception | None = None
    is_stalled = False

    async def watch() -> None:
        nonlocal is_stalled
        try:
            is_stalled = await _stalls(parts, stall)
        finally:  # of an upload that is merely cancelled, the parts stay in the bucket (observed)
            parts.is_stopped = True
            with anyio.move_on_after(abort, shield=True):
                await over.wait()
            putting.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        put = partial(_put, bucket, name, parts, media_type)
        with putting:
            try:
                await anyio.to_thread.run_sync(put, abandon_on_cancel=True)
            except Exception as exc:  # raised below: a task group would wrap it
                failure = exc
        over.set()
        tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint()  # a cancelled upload ends here
    if is_stalled:
        raise Stalled
    if failure is not None:
        raise failure


async def _stalls(parts: Parts, seconds: float) -> bool:
    """Wait until nothing has moved for so long."""
    while True:
        with anyio.move_on_after(seconds) as waiting:
            await parts.next_is_asked_for()
        if waiting.cancelled_caught:
            return True


def _put(bucket: "Bucket", name: str, parts: Parts, media_type: str) -> None:
    attributes: Attributes = {"Content-Type": media_type}
    if parts.is_small:
        bucket.put(name, b"".join(parts), attributes=attributes, use_multipart=False)
        return
    bucket.put(
        name,
        parts,
        attributes=attributes,
        chunk_size=parts.part,
        max_concurrency=PARTS_AT_ONCE,
    )
