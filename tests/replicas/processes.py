"""Server processes that serve HTTP, each on a port of its own, and HAProxy in front of them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import wan_mcp
from tests.ledger.stores import HANG_SECONDS
from tests.memory import most_memory
from tests.postgres.needs import missing

ROOT = Path(wan_mcp.__file__).parents[1]
CONFIG = Path(__file__).parents[2] / "docs" / "deploy" / "haproxy.cfg"
BIND = "bind 127.0.0.1:8080"
FIRST, SECOND = "127.0.0.1:8765", "127.0.0.1:8766"
"""What that file says about addresses, and a test replaces."""
NAMES = ("one", "two", "three", "four", "five")
"""How HAProxy names the replicas."""


class Output:
    """What a program writes to its standard error, read line by line in a thread."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, args=[process], daemon=True).start()

    def wait_for(self, pattern: str, since: int = 0) -> "re.Match[str]":
        """The first line, from a number on, that contains a pattern; waited for if need be."""
        with self._said:
            while True:
                for line in self.lines[since:]:
                    if found := re.search(pattern, line):
                        return found
                since = len(self.lines)
                assert not self._ended, "".join(self.lines)
                assert self._said.wait(HANG_SECONDS), pattern

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self._note(line)
        self._note(None)

    def _note(self, line: str | None) -> None:
        with self._said:
            self._ended = line is None
            self.lines += [] if line is None else [line]
            self._said.notify_all()


class Replica:
    """A server that a test may kill, end and start again, at the same port.

    Args:
        settings: its environment variables, besides those of the test.
        port: 0 takes a free one at the first start.

    Attributes:
        output: of the process that was started last.
    """

    def __init__(self, settings: Mapping[str, str], port: int = 0) -> None:
        self.port = port
        self.output: Output
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Start it; it listens later, see `listen`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "wan_mcp", "http", "--port", str(self.port)],
            cwd=ROOT,
            env={**os.environ, **self._settings},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = Output(self._process)

    def listen(self) -> None:
        """Wait until it takes calls."""
        self.port = int(self.output.wait_for(r"http://127\.0\.0\.1:(\d+)/mcp")[1])

    def start(self) -> None:
        """Start it, and wait until it takes calls."""
        self.begin()
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def peak_memory(self) -> float:
        """The most resident memory that the process has had, in MB (Linux)."""
        assert self._process is not None
        return most_memory(self._process.pid) / 1e6

    def ask_to_end(self) -> None:
        """Send the signal with which a supervisor stops it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait for its end. Returns its exit code."""
        assert self._process is not None
        return self._process.wait(HANG_SECONDS)

    def kill(self) -> None:
        """Kill it at once, as when its machine dies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(HANG_SECONDS)


class Balancer:
    """HAProxy with the settings of docs/deploy.

    Attributes:
        url: for clients.
        output: what it says, such as that a replica is down.
    """

    def __init__(self, port: int, process: "subprocess.Popen[str]") -> None:
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.output = Output(process)


def free_address() -> socket.socket:
    """A listening socket, for whoever gets it: callers wait there until it is served."""
    return socket.create_server(("127.0.0.1", 0))


def haproxy() -> str:
    """The program; without it the test is skipped."""
    found = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    return found or missing("haproxy", "HAProxy: apt-get install haproxy")


@contextmanager
def balanced(address: socket.socket, ports: Sequence[int]) -> Iterator[Balancer]:
    """HAProxy at an address, in front of replicas.

    Args:
        ports: of the replicas, in the order of NAMES.
    """
    text = CONFIG.read_text("utf-8")
    assert text.count(BIND) == 1
    lines: list[str] = []
    for line in text.replace(BIND, f"bind fd@{address.fileno()}").splitlines():
        if FIRST in line:
            lines += [_about(line, name, port) for name, port in zip(NAMES, ports, strict=False)]
        elif SECOND not in line:
            lines.append(line)
    with TemporaryDirectory() as folder:
        config = Path(folder, "haproxy.cfg")
        config.write_text("\n".join([*lines, ""]))
        with subprocess.Popen(
            [haproxy(), "-db", "-f", config],
            pass_fds=[address.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Balancer(address.getsockname()[1], process)
            finally:
                process.terminate()
                process.wait(HANG_SECONDS)


def _about(line: str, name: str, port: int) -> str:
    """The same line about another replica."""
    return re.sub(r"\bone\b", name, line.replace(FIRST, f"127.0.0.1:{port}"))
