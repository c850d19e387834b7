"""What a person sees while waiting for a job: lines, and on a terminal a bar that moves."""

import re
import shutil
import sys
import time
from collections.abc import Callable

import anyio

BAR_WIDTH = 20
REDRAW_SECONDS = 0.2


class ProgressBar:
    """Standard output: lines, and below them, on a terminal, a bar that moves during the wait.

    If standard output is not a terminal, each new message is one line.

    Args:
        expected: seconds that the whole run will take; None if not known: the bar only moves.
        clock: a clock that never goes back, in seconds.
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

    def write(self, text: str) -> None:
        """Write lines in place of the bar, which returns with the next message."""
        if self._message and self._terminal:
            _write("\r" + " " * _columns() + "\r")
        self._message = ""
        _write(text + "\n")

    def show(self, message: str) -> None:
        """Show a message. A time at its beginning is left out, because the bar has its own."""
        self._message = re.sub(r"^[\dhmins ]+: ", "", message)
        if self._terminal:
            self.draw()
        elif self._message not in self._shown:
            self._shown.add(self._message)
            _write(f"         {self._message}\n")

    async def keep_moving(self) -> None:
        """Redraw the bar until cancelled."""
        while self._terminal:
            self.draw()
            await anyio.sleep(REDRAW_SECONDS)

    def draw(self) -> None:
        """Draw the bar in the last line, if there is a message."""
        if not self._message:
            return
        elapsed = int(self._clock() - self._start)
        line = f"[{self._bar(elapsed)}] {elapsed // 60}:{elapsed % 60:02} {self._message}"
        if len(line) > _columns():
            line = line.partition(";")[0]
        _write("\r" + line[: _columns()].ljust(_columns()))

    def _bar(self, elapsed: float) -> str:
        if self._expected is None:
            position = int(elapsed) % BAR_WIDTH
            return "#".rjust(position + 1, ".").ljust(BAR_WIDTH, ".")
        filled = min(int(BAR_WIDTH * elapsed / max(self._expected, 1)), BAR_WIDTH)
        return ("#" * filled).ljust(BAR_WIDTH, ".")


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1  # some consoles wrap after the last column


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
