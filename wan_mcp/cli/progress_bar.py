"""What a waiting person sees of a job: lines, and on a terminal a bar that moves."""

import re
import shutil
import sys
import time
from collections.abc import Callable

import anyio

BAR_WIDTH = 20
REDRAW_SECONDS = 0.2


class Screen:
    """Standard output: lines, and under them, on a terminal, a bar that moves while we wait.

    Where nobody watches a terminal, each new message is one line.

    Args:
        expected: seconds the whole will take, when that is known; else the bar only moves.
        clock: seconds that never go back.
    """

    def __init__(
        self, *, expected: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected = expected
        self._clock = clock
        self._start = clock()
        self._terminal = sys.stdout.isatty()
        self._message = ""
        self._shown: set[str] = set()

    def say(self, text: str) -> None:
        """Write lines; the bar makes room."""
        if self._message and self._terminal:
            _write("\r" + " " * _columns() + "\r")
        self._message = ""
        _write(text + "\n")

    def show(self, message: str) -> None:
        """Tell what goes on; the time at its beginning is left out, the bar has its own."""
        self._message = re.sub(r"^[\dhmins ]+: ", "", message)
        if self._terminal:
            self.draw()
        elif self._message not in self._shown:
            self._shown.add(self._message)
            _write(f"         {self._message}\n")

    async def redraw(self) -> None:
        """Keep the bar moving until cancelled."""
        while self._terminal:
            self.draw()
            await anyio.sleep(REDRAW_SECONDS)

    def draw(self) -> None:
        """Draw the bar in the last line, if there is something to tell."""
        if not self._message:
            return
        elapsed = int(self._clock() - self._start)
        line = f"[{self._bar(elapsed)}] {elapsed // 60}:{elapsed % 60:02} {self._message}"
        if len(line) > _columns():
            line = line.partition(";")[0]
        _write("\r" + line[: _columns()].ljust(_columns()))

    def _bar(self, elapsed: float) -> str:
        if self._expected is None:
            at = int(elapsed) % BAR_WIDTH
            return "#".rjust(at + 1, ".").ljust(BAR_WIDTH, ".")
        done = min(int(BAR_WIDTH * elapsed / max(self._expected, 1)), BAR_WIDTH)
        return ("#" * done).ljust(BAR_WIDTH, ".")


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1  # the last one would wrap on some consoles


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
