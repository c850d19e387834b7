"""The parts of a remote file that have been read so far."""


class Pieces:
    """Bytes of one file, by where they lie in it.

    Attributes:
        total: the length of the whole file, when it is known.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self._runs: dict[int, bytearray] = {}

    @property
    def known(self) -> int:
        """How many bytes are there."""
        return sum(map(len, self._runs.values()))

    @property
    def runs(self) -> list[bytes]:
        """Every stretch without a gap."""
        return [bytes(run) for run in self._runs.values()]

    def add(self, start: int, data: bytes) -> None:
        """Keep what was read at `start`; it may lie anywhere but over what is there."""
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
        """What is there from `start` on, at most `size` bytes; empty where nothing is."""
        for begin, run in self._runs.items():
            if begin <= start < begin + len(run):
                return bytes(run[start - begin : start - begin + size])
        return b""

    def run_to(self, end: int) -> int:
        """How many bytes lie without a gap before `end`."""
        return next((len(run) for begin, run in self._runs.items() if begin + len(run) == end), 0)

    def room_from(self, start: int) -> int | None:
        """How many bytes are missing from `start` on; None when to an unknown end."""
        ends = [begin for begin in self._runs if begin > start]
        if self.total is not None:
            ends.append(self.total)
        return min(ends) - start if ends else None
