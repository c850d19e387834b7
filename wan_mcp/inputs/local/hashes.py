"""SHA-256 hashes of open files: each file is read once, in a thread, and its hash is remembered."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from wan_mcp.inputs.local.opening import Identity, OpenFile

BLOCK_BYTES = 1 << 20
"""How much of a file is in memory at once (ours)."""
BLOCKS_AT_ONCE = 4
"""How many blocks are read before a cancelled server can stop: 15 ms, or 1 s on a slow disk."""
MAX_AT_ONCE = 2
"""How many files are read at the same time (ours)."""
MAX_UNFINISHED = 16
"""How many files may have a hash that nobody has collected yet; each may be open (ours)."""
MAX_REMEMBERED = 256
"""How many hashes are remembered (ours)."""
SETTLED_NS = 2_000_000_000
"""The coarsest times of a file system, those of FAT, in nanoseconds (documented). A file that was
changed more recently may be changed again without a new time, so its hash is used only once."""


class StillReading(Exception):
    """The file is still being read, and reading goes on.

    Attributes:
        read: how many bytes have been read; 0 if other files come first.
        size: how many bytes it has.
    """

    def __init__(self, read: int, size: int) -> None:
        super().__init__()
        self.read = read
        self.size = size


@dataclass
class _Reading:
    read: int = 0
    sha256: str = ""
    error: OSError | None = None
    done: anyio.Event = field(default_factory=anyio.Event)


class Hashes:
    """The hashes of files.

    Args:
        tasks: where reading goes on after a call has given up waiting.
        now_ns: the time in nanoseconds since 1970, to compare with the dates of files.
    """

    def __init__(self, tasks: TaskGroup, now_ns: Callable[[], int]) -> None:
        self._tasks = tasks
        self._now_ns = now_ns
        self._limiter = anyio.Semaphore(MAX_AT_ONCE)
        self._known: dict[Identity, str] = {}
        self._readings: dict[Identity, _Reading] = {}

    async def of(self, file: OpenFile, seconds: float) -> str:
        """The hash of a file, 64 hex digits. The file is closed, now or when it has been read.

        Args:
            seconds: how long to wait for it.

        Raises:
            StillReading: it needs longer; call again.
            OSError: it cannot be read, or was changed meanwhile (Changed).
        """
        identity = file.identity
        reading = self._readings.get(identity)
        if reading is not None or identity in self._known:
            file.close()
        if reading is None:
            if identity in self._known:
                return self._known[identity]
            reading = self._started(file)
        with anyio.move_on_after(seconds):
            await reading.done.wait()
        return self._collected(identity, reading)

    def _started(self, file: OpenFile) -> _Reading:
        finished = [each for each, reading in self._readings.items() if reading.done.is_set()]
        for identity in finished[: max(0, len(self._readings) + 1 - MAX_UNFINISHED)]:
            del self._readings[identity]
        if len(self._readings) >= MAX_UNFINISHED:
            file.close()
            raise StillReading(0, file.identity.size)
        reading = self._readings[file.identity] = _Reading()
        self._tasks.start_soon(self._read, file, reading)
        return reading

    def _collected(self, identity: Identity, reading: _Reading) -> str:
        if not reading.done.is_set():
            raise StillReading(reading.read, identity.size)
        self._readings.pop(identity, None)
        if reading.error is not None:
            raise reading.error
        return reading.sha256

    async def _read(self, file: OpenFile, reading: _Reading) -> None:
        try:
            async with self._limiter:
                began_ns = self._now_ns()
                digest = hashlib.sha256()
                while read := await anyio.to_thread.run_sync(partial(_update, digest, file)):
                    reading.read += read
                file.check_unchanged()
            reading.sha256 = digest.hexdigest()
            self._remember(file.identity, reading.sha256, began_ns)
        except OSError as exc:
            reading.error = exc
        finally:
            file.close()
            reading.done.set()

    def _remember(self, identity: Identity, sha256: str, began_ns: int) -> None:
        if max(identity.modified_ns, identity.changed_ns) + SETTLED_NS > began_ns:
            return
        self._known[identity] = sha256
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]


def _update(digest: "hashlib._Hash", file: OpenFile) -> int:
    """Read the next blocks. Returns the number of bytes that were read."""
    buffer, total = memoryview(bytearray(BLOCK_BYTES)), 0
    for _ in range(BLOCKS_AT_ONCE):
        read = file.readinto(buffer)
        if not read:
            break
        digest.update(buffer[:read])
        total += read
    return total
