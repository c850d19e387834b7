"""The stdio server as a process: its first answers come while it still imports."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from urllib.request import urlopen

import pytest

from tests.front_desk.talk import SLOW_MACHINE_SECONDS, Message, as_lines, hello, request
from wan_mcp.front_desk.snapshot import Snapshots
from wan_mcp.transports import stdio

FITS = Snapshots({}, sys.path).find() is not None
"""Whether the shipped answers fit the installed packages; without, only the SDK answers."""
GATE = """
import importlib, os, socket, sys
with socket.create_connection(("127.0.0.1", int(os.environ["GATE"]))) as gate:
    gate.recv(1)
"""
"""A package that the SDK imports waits until the test lets it."""
REAL = """
sys.path.remove(os.path.dirname(__file__))
del sys.modules["httpx2"]
import httpx2
"""
BROKEN = "raise ImportError('half\\ninstalled')"


class Program:
    """The server while it imports the SDK, until `go_on`."""

    def __init__(self, popen: "subprocess.Popen[bytes]", gate: socket.socket) -> None:
        self.popen = popen
        self._gate = gate

    def ask(self, *messages: Message) -> None:
        """Write messages."""
        assert self.popen.stdin
        self.popen.stdin.write(b"".join(as_lines(messages)))
        self.popen.stdin.flush()

    def answer(self) -> Message:
        """The next answer."""
        assert self.popen.stdout
        answer: Message = json.loads(self.popen.stdout.readline())
        return answer

    def go_on(self) -> None:
        """Let the import go on."""
        self._gate.close()

    def ended(self) -> tuple[int, list[object], str]:
        """The exit code after the end of stdin, the ids that were still answered, and stderr."""
        stdout, stderr = self.popen.communicate()
        ids = [json.loads(line)["id"] for line in stdout.splitlines()]
        return self.popen.returncode, ids, stderr.decode()


@contextmanager
def program(folder: Path, rest: str, *words: str, **variables: str) -> Iterator[Program]:
    """Start the program with these words, in whose imports httpx2 is a gate and then this rest."""
    packages = folder / "packages"
    packages.mkdir()
    (packages / "httpx2.py").write_text(GATE + rest)
    root = str(Path(stdio.__file__).parents[2])
    names = ("PATH", "SYSTEMROOT")
    pipe = subprocess.PIPE
    with socket.create_server(("127.0.0.1", 0)) as gates:
        environment = {
            **{name: os.environ[name] for name in names if name in os.environ},
            "PYTHONPATH": os.pathsep.join([str(packages), root]),
            "WAN_MCP_DATA_DIR": str(folder / "data"),
            "GATE": str(gates.getsockname()[1]),
            **variables,
        }
        command = [sys.executable, "-m", "wan_mcp", *words]
        popen = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder
        )
        watchdog = Timer(SLOW_MACHINE_SECONDS, popen.kill)
        watchdog.start()
        with popen:
            try:
                gate, _ = gates.accept()
                with gate:
                    yield Program(popen, gate)
            finally:
                popen.kill()
                watchdog.cancel()


@pytest.mark.skipif(not FITS, reason="no shipped answers fit these releases")
def test_first_answers_come_before_the_sdk_is_imported(tmp_path: Path) -> None:
    """And what needs the SDK waits for it, in order (ours)."""
    with program(tmp_path, REAL) as server:
        server.ask(hello(1), request(2, "tools/call", name="list_jobs", arguments={}))
        server.ask(request(3, "tools/list"))
        early = [server.answer()["id"], server.answer()["id"]]
        server.go_on()

        assert early == [1, 3]
        assert server.ended() == (0, [2], "")


def test_a_package_that_cannot_be_imported_ends_the_program_with_a_sentence(
    tmp_path: Path,
) -> None:
    """A traceback tells the user of a host nothing (ours)."""
    with program(tmp_path, BROKEN) as server:
        server.ask(hello(1))
        if FITS:
            assert server.answer()["id"] == 1
        server.go_on()
        code, answers, errors = server.ended()

    assert (code, answers) == (1, [])
    (line,) = errors.splitlines()
    assert line.startswith("wan-mcp: cannot start")
    assert "half installed" in line


def test_a_wrong_setting_ends_the_program_also_after_the_first_answers(tmp_path: Path) -> None:
    """One line and exit code 2, whenever it is found (ours)."""
    with program(tmp_path, REAL, WAN_MCP_ARCHIVE="perhaps") as server:
        server.ask(hello(1), request(2, "tools/list"))
        if FITS:
            assert [server.answer()["id"], server.answer()["id"]] == [1, 2]
        server.go_on()

        assert server.ended() == (2, [], "wan-mcp: WAN_MCP_ARCHIVE: must be on or off\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_during_the_imports_ends_the_program_quietly(tmp_path: Path) -> None:
    """Nothing has begun that would have to end in order (ours)."""
    with program(tmp_path, BROKEN) as server:
        server.popen.send_signal(signal.SIGINT)

        assert server.ended() == (130, [], "")


def test_health_over_http_is_answered_before_the_sdk_is_imported(tmp_path: Path) -> None:
    """And an import that fails ends this program with the same sentence (ours)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with program(tmp_path, BROKEN, "http", "--port", str(port)) as server:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=SLOW_MACHINE_SECONDS) as response:
            assert json.load(response) == {"status": "ok"}
        server.go_on()
        code, _, errors = server.ended()

    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("wan-mcp: cannot start")
