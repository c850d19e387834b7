"""The parts of a file that have been read so far."""

FIRST_BYTES = 262_144
"""Size of the first read, which contains all that matters of most videos and images."""
NEXT_BYTES = 524_288
"""Size of a read elsewhere: the index of a video of a few minutes."""


class ByteRanges:
    """The parts of a file that have been read so far, by their offset.

    Attributes:
        total: length of the whole file in bytes; None while it is not known.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self._runs: dict[int, bytearray] = {}

    @property
    def known(self) -> int:
        """How many bytes have been read."""
        return sum(map(len, self._runs.values()))

    @property
    def is_whole(self) -> bool:
        """Whether every byte of the file has been read."""
        return self.total is not None and self.known == self.total

    @property
    def runs(self) -> list[tuple[int, bytes]]:
        """Every stretch that has no gap, with its offset."""
        return [(start, bytes(run)) for start, run in self._runs.items()]

    def add(self, start: int, data: bytes) -> None:
        """Store what was read at `start`; it must not overlap what is stored already."""
        for begin, run in self._runs.items():
            if begin + len(run) == start:
                run += data
                break
        else:
            self._runs[start] = run = bytearray(data)
            begin = start
        if following := self._runs.pop(begin + len(run), None):
            run += following

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on; empty if the byte at `start` is not stored."""
        for begin, run in self._runs.items():
            if begin <= start < begin + len(run):
                return bytes(run[start - begin : start - begin + size])
        return b""

    def length_before(self, end: int) -> int:
        """The length of the stretch that ends at `end`; 0 if there is none."""
        return next((len(run) for begin, run in self._runs.items() if begin + len(run) == end), 0)

    def next_size(self, start: int, usual: int) -> int:
        """How many bytes to read at `start`: twice as many as before if it follows without a gap.

        A reader that continues will probably go on. 0 if nothing is missing there.

        Args:
            usual: how many to read elsewhere.
        """
        size, gap = max(usual, 2 * self.length_before(start)), self.gap_from(start)
        return size if gap is None else max(0, min(size, gap))

    def gap_from(self, start: int) -> int | None:
        """How many bytes from `start` on are missing; None if the end of the gap is not known."""
        ends = [begin for begin in self._runs if begin > start]
        if self.total is not None:
            ends.append(self.total)
        return min(ends) - start if ends else None
