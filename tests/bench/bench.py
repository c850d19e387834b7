"""What wan-mcp costs more than a bare server of one tool: start-up, one call, memory.

Run it by hand, on a quiet machine, from the root of the project::

    python tests/bench/bench.py [startup] [call] [memory]

Both servers run side by side in every round, so that a busy machine slows both. The client writes
plain JSON lines to pipes, which costs almost nothing, and the same for both. Figures are medians.
If a target is missed, the exit code is 1.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

MAX_STARTUP_RATIO = 1.0
MAX_CALL_RATIO = 1.5
"""Not a time: the same call takes twice as long on the same machine in the evening, and so does the
bare one beside it."""
MAX_MEMORY_RATIO = 1.15

OURS = [sys.executable, "-m", "wan_mcp"]
BARE = [sys.executable, str(Path(__file__).with_name("bare.py"))]
HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}

PLAIN = {f"WAN_MCP_{name}": "off" for name in ("PREFLIGHT", "ARCHIVE", "POSTER")}
"""As without the extra `media`: loading PyAV alone takes about 35 MiB."""


class Server:
    """A server under test as its host sees it: two pipes."""

    def __init__(self, command: list[str], **extra: str) -> None:
        # The byte code of both is cached, as on a user's machine after the first start.
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, env={**variables, **extra})

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one request. Returns its result."""
        self._send({"id": 1, "method": method, "params": params})
        assert self._popen.stdout
        answer: dict[str, Any] = json.loads(self._popen.stdout.readline())
        result: dict[str, Any] = answer["result"]
        return result

    def initialize(self) -> None:
        """Initialize the session, as a host does first."""
        self.ask("initialize", **HELLO)
        self._send({"method": "notifications/initialized"})

    def call(self, tool: str, **arguments: str) -> dict[str, Any]:
        """Call one tool. Returns its result, which must not be an error."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            raise RuntimeError(result)
        return result

    def resident(self) -> float:
        """The resident memory in MiB (Linux)."""
        for line in Path(f"/proc/{self._popen.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")

    def worked(self) -> float:
        """Seconds that its threads have worked so far; what others take is not in it (Linux)."""
        clock_of_the_process = ~self._popen.pid << 3 | 2  # clock_getcpuclockid(3)
        return time.clock_gettime(clock_of_the_process)

    def close(self) -> None:
        """End it as a host does, by closing its standard input."""
        assert self._popen.stdin
        self._popen.stdin.close()
        self._popen.wait(60)
        assert self._popen.stdout
        self._popen.stdout.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._popen.stdin.flush()


class Vendor:
    """The project's sandbox in a process of its own."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.base, self.key = settings["PIXELDOJO_API_BASE"], settings["PIXELDOJO_API_KEY"]

    def start_job(self, server: Server) -> str:
        """Start a job with `server`. Returns the job id."""
        media = self.base.removesuffix("/api/v1") + "/media/"
        result = server.call(
            "replace_character", video=media + "clip.mp4", character_image=media + "character.png"
        )
        return str(result["structuredContent"]["job_id"])


@contextmanager
def sandbox() -> Iterator[Vendor]:
    """A sandbox whose jobs end at once, and a ledger in a temporary folder."""
    command = [*OURS, "sandbox", "--port", "0", "--job-seconds", "0"]
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="wan-mcp-bench-"))
        popen = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        assert popen.stderr
        lines = [popen.stderr.readline() for _ in range(3)]
        try:
            account = dict(line.strip().split("=", 1) for line in lines[1:])
            yield Vendor({**account, **PLAIN, "WAN_MCP_DATA_DIR": folder})
        finally:
            popen.terminate()


def startup(pairs: int = 21) -> bool:
    """Measure the time from the start of the process to the answer to `initialize`."""
    times = [(_start(OURS), _start(BARE)) for _ in range(pairs + 2)][2:]  # two warm the caches
    ours, bare = (median(column) * 1000 for column in zip(*times, strict=True))
    ratio = median(a / b for a, b in times)
    return _report("startup", f"{ours:.0f} ms, bare {bare:.0f} ms", ratio, MAX_STARTUP_RATIO)


def call(rounds: int = 400) -> bool:
    """Measure how many times as long one get_job_status takes as the bare tool.

    The ledger answers it, as it does in most cases: a running job is read at most once in 3 s.
    """
    with ExitStack() as stack:
        vendor = stack.enter_context(sandbox())
        ours, bare, _ = _servers(stack, vendor)
        figures, ratio = _call_ratio(ours, bare, vendor.start_job(ours), rounds)
    return _report("call, answered from the ledger", figures, ratio, MAX_CALL_RATIO)


def memory(rounds: int = 5) -> bool:
    """Measure the memory after the start, and after one check of a job."""
    with ExitStack() as stack:
        vendor = stack.enter_context(sandbox())
        job_id = vendor.start_job(_servers(stack, vendor)[0])
        sizes = [_sizes(vendor, job_id) for _ in range(rounds)]
    started, called = zip(*sizes, strict=True)
    return all(
        [_report_memory("after the start", started), _report_memory("after one call", called)]
    )


def _servers(stack: ExitStack, vendor: Vendor) -> tuple[Server, Server, Server]:
    ours = Server(OURS, **vendor.settings)
    bare, reader = Server(BARE), Server([*BARE, vendor.base, vendor.key])
    for server in (ours, bare, reader):
        stack.callback(server.close)
        server.initialize()
    return ours, bare, reader


def _start(command: list[str]) -> float:
    begin = time.perf_counter()
    server = Server(command)
    server.ask("initialize", **HELLO)
    taken = time.perf_counter() - begin
    server.close()
    return taken


def _call_ratio(ours: Server, bare: Server, job_id: str, rounds: int) -> tuple[str, float]:
    times = [
        (_time_of_call(ours, job_id), _time_of_call(bare, job_id)) for _ in range(rounds + 20)
    ][20:]
    a, b = (median(column) * 1000 for column in zip(*times, strict=True))
    return f"{a:.2f} ms, bare {b:.2f} ms, added {a - b:.2f} ms", a / b


def _time_of_call(server: Server, job_id: str) -> float:
    begin = time.perf_counter()
    server.call("get_job_status", job_id=job_id)
    return time.perf_counter() - begin


def _sizes(vendor: Vendor, job_id: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    with ExitStack() as stack:
        servers = _servers(stack, vendor)
        started = tuple(server.resident() for server in servers)
        for server in servers:
            server.call("get_job_status", job_id=job_id)
        return started, tuple(server.resident() for server in servers)


def _report_memory(when: str, sizes: tuple[tuple[float, ...], ...]) -> bool:
    ours, bare, reader = (median(column) for column in zip(*sizes, strict=True))
    figures = f"{ours:.1f} MiB, bare {bare:.1f}, bare with httpx {reader:.1f}"
    return _report(f"memory {when}", figures, ours / bare, MAX_MEMORY_RATIO)


def _report(name: str, figures: str, value: float, target: float) -> bool:
    met = value <= target
    print(f"{name:24} {value:6.3f} (at most {target:.2f}{'' if met else ', MISSED'}): {figures}")
    return met


def main() -> int:
    """Run the benches that the command line names, or all."""
    benches: dict[str, Callable[[], bool]] = {"startup": startup, "call": call, "memory": memory}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bench", nargs="*", metavar="|".join(benches))
    names = parser.parse_args().bench or list(benches)
    met = [benches[name]() for name in names]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
