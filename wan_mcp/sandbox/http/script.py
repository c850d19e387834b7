"""Which fault meets which request."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain, repeat

from wan_mcp.sandbox.http.faults import Fault


@dataclass
class _Script:
    method: str
    path: str
    faults: Iterator[Fault]

    def matches(self, method: str, path: str) -> bool:
        return fnmatchcase(method, self.method) and fnmatchcase(path, self.path)


class Scripts:
    """Queues of faults: each matching request takes the next one of the oldest queue with any."""

    def __init__(self) -> None:
        self._scripts: list[_Script] = []

    def add(self, method: str, path: str, *faults: Fault, times: int | None = 1) -> None:
        """Queue faults for requests whose method and path match these globs.

        The row is played `times` over; None: for ever.
        """
        rows = repeat(faults) if times is None else repeat(faults, times)
        self._scripts.append(_Script(method, path, chain.from_iterable(rows if faults else ())))

    def next(self, method: str, path: str) -> Fault | None:
        """The fault for this request, taken off its queue."""
        for script in [script for script in self._scripts if script.matches(method, path)]:
            fault = next(script.faults, None)
            if fault is not None:
                return fault
            self._scripts.remove(script)
        return None

    def clear(self) -> None:
        self._scripts.clear()
