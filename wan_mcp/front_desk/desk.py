"""Reads what the client sends from the first moment on, and answers until the SDK can."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from wan_mcp.front_desk.conversation import Conversation
from wan_mcp.front_desk.lines import MAX_LINE_BYTES, Line, lines
from wan_mcp.front_desk.snapshot import Snapshots
from wan_mcp.front_desk.streams import take_standard_streams, write_all

MAX_ANSWERED_BYTES = 48 * 1024
"""The desk answers with at most so many bytes: a pipe that nobody reads yet holds as many."""

SWITCH_SECONDS = 0.0005
"""The longest wait of the desk for the thread that imports; Python's own value is 0.005."""

EarlyLine = tuple[Line | None, bytes | None]
"""A line (None at the end of the input), and the desk's answer to it (None if there is none)."""


class FrontDesk:
    """One client's lines, read by a thread of its own from `start` on.

    Until `hand_over`, every line is kept, and those that need no job are answered from a snapshot.
    Afterwards each line goes to the session.

    Args:
        stdin: the descriptor that the client writes to.
        stdout: the descriptor that it reads from.
        snapshots: where answers are found; without, the desk answers nothing.

    Attributes:
        has_snapshot: whether there are answers that fit the installed packages.
        client_left: whether an answer met a client that no longer reads.
    """

    def __init__(self, stdin: int, stdout: int, snapshots: Snapshots | None = None) -> None:
        self.snapshots = snapshots
        self.stdout = stdout
        self.client_left = False
        snapshot = snapshots.find() if snapshots else None
        self.has_snapshot = snapshot is not None
        self._stdin = stdin
        self._usual_switch_interval = sys.getswitchinterval()
        self._conversation = Conversation(snapshot) if snapshot else None
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._early: list[EarlyLine] = []
        self._kept = 0
        self._answered = 0
        self._deliver: Callable[[Line | None], None] | None = None

    def start(self) -> None:
        """Begin to read. The thread is a daemon: nothing may wait for a read, not even the exit."""
        sys.setswitchinterval(SWITCH_SECONDS)
        threading.Thread(target=self._run, name="front desk", daemon=True).start()

    def hand_over(self, deliver: Callable[[Line | None], None]) -> list[EarlyLine]:
        """Answer nothing more; the session takes over.

        Args:
            deliver: gets each later line, and None at the end, in the thread of the desk; it
                returns when the next one may be read.

        Returns:
            All that was read so far, in order.
        """
        sys.setswitchinterval(self._usual_switch_interval)
        with self._changed:
            self._deliver = deliver
            self._conversation = None
            early, self._early = self._early, []
            self._changed.notify_all()
        return early

    def finish_writing(self) -> None:
        """Return when the last answer of the desk has been written; the session may write then."""
        with self._writing:
            pass

    def _run(self) -> None:
        for line in lines(self._stdin):
            self._take(line)
        self._take(None)

    def _take(self, line: Line | None) -> None:
        with self._changed:
            while self._deliver is None and self._kept > MAX_LINE_BYTES:
                self._changed.wait()
            deliver = self._deliver
            if deliver is None:
                answer = self._answer(line)
                self._early.append((line, answer))
                self._kept += len(line) if isinstance(line, bytes) else 0
                if answer is None:
                    return
                self._writing.acquire()  # before the session can take over and write
        if deliver is not None:
            return deliver(line)
        try:
            write_all(self.stdout, answer or b"")
        except OSError:
            self.client_left = True
        finally:
            self._writing.release()

    def _answer(self, line: Line | None) -> bytes | None:
        if self._conversation is None or not isinstance(line, bytes) or self.client_left:
            return None
        answer = self._conversation.answer(line)
        if answer is None or self._answered + len(answer) > MAX_ANSWERED_BYTES:
            self._conversation = self._conversation if answer is None else None
            return None
        self._answered += len(answer)
        return answer


def open_on_standard_streams(environment: Mapping[str, str], path: Sequence[str]) -> FrontDesk:
    """A desk that reads the standard streams of this process.

    Args:
        environment: where the settings and the user's folders are.
        path: where packages are imported from.
    """
    desk = FrontDesk(*take_standard_streams(), Snapshots(environment, path))
    desk.start()
    return desk
