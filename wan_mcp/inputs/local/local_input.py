"""A file of this computer, of which only the parts that the preflight needs are read."""

from functools import partial

import anyio.to_thread

from wan_mcp.inputs.byte_ranges import FIRST_BYTES, NEXT_BYTES, ByteRanges
from wan_mcp.inputs.file_types import FileType
from wan_mcp.inputs.local.opening import OpenFile


class LocalInput:
    """One file of this computer, as far as it was read; `RemoteFile` is the same for a link.

    Args:
        file: the open file, which the caller closes.
        file_type: the type that its bytes show.
        bytes_left: how many bytes may still be read.

    Attributes:
        content: the parts that have been read.
    """

    def __init__(self, file: OpenFile, file_type: FileType, *, bytes_left: int) -> None:
        self.file_type = file_type
        self.content = ByteRanges()
        self.content.total = file.identity.size
        self._file = file
        self._bytes_left = bytes_left

    @property
    def head(self) -> bytes:
        """The first bytes of the file."""
        return self.content.read(0, FIRST_BYTES)

    async def read_start(self, seconds: float, *, whole: bool = False) -> None:
        """Read the beginning of the file; a disk needs neither of the two arguments."""
        await self._read(0, FIRST_BYTES)

    async def read_at(self, offset: int) -> bool:
        """Read more bytes at this offset; return whether any arrived."""
        return await self._read(offset, self.content.next_size(offset, NEXT_BYTES))

    async def _read(self, offset: int, size: int) -> bool:
        """Raises OSError: the file cannot be read, or was changed."""
        buffer = bytearray(min(size, self._bytes_left))
        read = await anyio.to_thread.run_sync(partial(self._fill, buffer, offset))
        self._bytes_left -= read
        if read:
            self.content.add(offset, bytes(buffer[:read]))
        return read > 0

    def _fill(self, buffer: bytearray, offset: int) -> int:
        self._file.seek(offset)
        return self._file.readinto(buffer) if buffer else 0
