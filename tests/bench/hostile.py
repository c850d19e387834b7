"""How long other calls wait, and what memory the server takes, while it looks at hostile files.

Run it by hand, on a quiet machine, from the root of the project::

    python tests/bench/hostile.py [SECONDS [KIND...]]

A server on pipes, as a host starts it, gets jobs whose video, picture and finished video are made
to freeze or to bloat it; one kind after the other. Meanwhile `list_jobs` is called again and again,
20 ms after each answer. One job has been sent before and is answered only at the end. For the idle
server and for each kind are printed the median and the worst answer of `list_jobs`, the most that
the server has worked between such a call and its answer, and the peak memory (VmHWM) of the
server's own process, without its children. What counts is the work: it is what others make a call
wait on a quiet machine. If a target is missed, the exit code is 1.
"""

import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.inputs.hostile import ANSWERS, HOSTILE, PICTURES
from tests.inputs.test_markup import FREEZING
from tests.memory import most_memory
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.http.message import Reply

MAX_WORK_MS = 100.0
"""How long a call may wait for the server's other work."""
MAX_SERVER_MIB = 150.0
INTERVAL_SECONDS = 0.02

FILES = {**HOSTILE, **FREEZING, **PICTURES}
RUN = "/api/v1/models/wan-2.2-replace/run"
RESULTS = "/media/results/*"


class Delay(NamedTuple):
    """Milliseconds until an answer, and those in which the server worked."""

    wait: float
    work: float


class Server:
    """The server under test; answers are noted with their times by a thread."""

    def __init__(self, settings: dict[str, str]) -> None:
        pipe, command = subprocess.PIPE, [sys.executable, "-m", "wan_mcp"]
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=settings)
        self._ids = itertools.count(1)
        self._sent: dict[int, tuple[float, float]] = {}
        self._answers: dict[int, tuple[float, float, dict[str, Any]]] = {}
        self._heard = threading.Condition()
        self._has_ended = False
        threading.Thread(target=self._listen, daemon=True).start()
        hello = {"capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.wait(self.ask("initialize", protocolVersion="2025-11-25", **hello))
        self._write({"method": "notifications/initialized"})

    def ask(self, method: str, **params: Any) -> int:
        """Send a request; its id."""
        id = next(self._ids)
        self._sent[id] = time.perf_counter(), self._worked()
        self._write({"id": id, "method": method, "params": params})
        return id

    def call(self, tool: str, **arguments: Any) -> int:
        """Call a tool; the id of the request."""
        return self.ask("tools/call", name=tool, arguments=arguments)

    def wait(self, id: int, seconds: float = 120) -> dict[str, Any]:
        """The result of a request."""
        with self._heard:
            self._heard.wait_for(lambda: id in self._answers or self._has_ended, seconds)
            if id not in self._answers:
                raise TimeoutError(f"no answer to request {id}; ended: {self._has_ended}")
            answer = self._answers[id][2]
        result: dict[str, Any] = answer["result"]
        data: dict[str, Any] = result.get("structuredContent", result)
        return data

    def is_answered(self, id: int) -> bool:
        return id in self._answers

    def delay(self, id: int) -> Delay:
        """How long the answer took, and how long the server worked meanwhile."""
        (sent, before), (heard, after, _) = self._sent[id], self._answers[id]
        return Delay((heard - sent) * 1000, (after - before) * 1000)

    def peak_mib(self) -> float:
        """The largest resident memory of the process so far (Linux)."""
        return most_memory(self._popen.pid) / 2**20

    def close(self) -> None:
        assert self._popen.stdin
        self._popen.stdin.close()
        self._popen.wait(60)

    def _worked(self) -> float:
        """Seconds that its threads have worked so far, without its children (Linux)."""
        clock_of_the_process = ~self._popen.pid << 3 | 2  # clock_getcpuclockid(3)
        return time.clock_gettime(clock_of_the_process)

    def _write(self, message: dict[str, Any]) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._popen.stdin.flush()

    def _listen(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            now, worked, message = time.perf_counter(), self._worked(), json.loads(line)
            with self._heard:
                if "id" in message:
                    self._answers[message["id"]] = now, worked, message
                self._heard.notify_all()
        with self._heard:
            self._has_ended = True
            self._heard.notify_all()


async def host_files(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with the hostile bytes that its path names."""
    kind = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().strip("/").split("?")[0]
    raw = ANSWERS.get(kind)
    body = FILES.get(kind, b"")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(raw or head.encode() + body)
    with suppress(OSError):
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def serve() -> None:
    """The process with the sandbox and the hostile files; commands on stdin, answers on stdout."""
    terms = Terms(credits=1e9, pending_seconds=0, processing_seconds=0)
    async with Sandbox(terms) as sandbox:
        files = await asyncio.start_server(host_files, "127.0.0.1", 0)
        port = files.sockets[0].getsockname()[1]
        gate = asyncio.Event()
        sandbox.fault("POST", RUN, faults.held(faults.honest(), after=gate))
        facts = {"base": sandbox.api_base, "key": sandbox.key, "image": sandbox.image_url}
        facts |= {"video": sandbox.source_video_url, "files": f"http://127.0.0.1:{port}"}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "answer":
                gate.set()
            else:
                sandbox.clear_faults()
                reply = Reply(200, {"Content-Type": "video/mp4"}, FILES[line])
                result = replace(faults.honest(), reply=reply)
                sandbox.fault("GET", RESULTS, result, times=None)
            sys.stdout.write(json.dumps([charge.job_id for charge in sandbox.charges]) + "\n")
            sys.stdout.flush()


class Vendor:
    """The process of `serve`."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--vendor"]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._popen.stdout
        self.facts = json.loads(self._popen.stdout.readline())

    def say(self, word: str) -> list[str]:
        """Give a command; the ids of all jobs that were paid for."""
        assert self._popen.stdin
        assert self._popen.stdout
        self._popen.stdin.write(word + "\n")
        self._popen.stdin.flush()
        paid: list[str] = json.loads(self._popen.stdout.readline())
        return paid

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait(60)


@contextmanager
def opened() -> Iterator[tuple[Server, Vendor]]:
    """A server that looks at inputs, saves videos and makes contact sheets, and its vendor."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="wan-mcp-bench-"))
        vendor = Vendor()
        stack.callback(vendor.close)
        limits = ("MAX_CREDITS_PER_DAY", "MAX_IN_FLIGHT", "MAX_SUBMITS_PER_MINUTE")
        settings = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PIXELDOJO_API_BASE": vendor.facts["base"],
            "PIXELDOJO_API_KEY": vendor.facts["key"],
            "WAN_MCP_DATA_DIR": folder,
            **{f"WAN_MCP_{name}": "100000" for name in limits},
        }
        server = Server(settings)
        stack.callback(server.close)
        yield server, vendor


def attack(server: Server, vendor: Vendor, kind: str, seeds: Iterator[int]) -> list[int]:
    """Calls in which the server meets a hostile file: as video, as picture and as its result."""
    files, facts = vendor.facts["files"], vendor.facts
    hostile = f"{files}/{kind}?{next(seeds)}"
    calls = [
        server.call("replace_character", video=hostile, character_image=facts["image"]),
        server.call("replace_character", video=facts["video"], character_image=hostile),
        server.call("replace_character", video=hostile, character_image=hostile, seed=next(seeds)),
    ]
    if kind in FILES:
        vendor.say(kind)
        given = {"video": facts["video"], "character_image": facts["image"]}
        paid = server.wait(server.call("replace_character", **given, seed=next(seeds)))
        if "job_id" in paid:
            calls.append(server.call("wait_for_job", job_id=paid["job_id"], timeout_seconds=10))
    return calls


def measured(server: Server, seconds: float, calls: list[int]) -> list[Delay]:
    """The delays of `list_jobs`, called again and again for a time and while calls are open."""
    probes: list[int] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not all(map(server.is_answered, calls)):
        probes.append(server.call("list_jobs", limit=1))
        server.wait(probes[-1])  # or on a busy machine they would wait for each other
        time.sleep(INTERVAL_SECONDS)
        if time.perf_counter() > until + 120:
            raise TimeoutError("a call was not answered")
    return [server.delay(probe) for probe in probes]


def shown(delays: list[Delay]) -> str:
    """The figures of one kind in a line."""
    worst = max(delays, key=lambda delay: delay.work)
    return (
        f"median {median(delay.wait for delay in delays):.1f} ms, "
        f"worst {max(delay.wait for delay in delays):.1f} ms; "
        f"most work during one call {worst.work:.1f} ms"
    )


def main() -> int:
    """Run every kind, print a line for each, and judge."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    seeds, worst = itertools.count(1_000), 0.0
    with opened() as (server, vendor):
        given = {"video": vendor.facts["video"], "character_image": vendor.facts["image"]}
        server.wait(server.call("list_jobs"))
        sent = server.wait(server.call("replace_character", **given, seed=1))
        assert sent["status"] == "submitting", sent
        idle = measured(server, 3.0, [])
        line(f"idle: {shown(idle)}", server)
        for kind in sys.argv[2:] or [*FILES, *ANSWERS]:
            delays = measured(server, seconds, attack(server, vendor, kind, seeds))
            line(f"{kind}: {shown(delays)}", server)
            worst = max(worst, *(delay.work for delay in delays))
        paid = vendor.say("answer")
        found = server.wait(server.call("wait_for_job", job_id=sent["job_id"], timeout_seconds=60))
        kept = found["job_id"] == paid[0]
        peak = server.peak_mib()
    line(f"the paid request in the air has its job id: {kept}")
    line(f"most work during one call {worst:.1f} ms (at most {MAX_WORK_MS:.0f})")
    line(f"peak memory {peak:.0f} MiB (at most {MAX_SERVER_MIB:.0f})")
    return 0 if kept and worst <= MAX_WORK_MS and peak <= MAX_SERVER_MIB else 1


def line(text: str, server: Server | None = None) -> None:
    memory = f"; peak memory {server.peak_mib():.0f} MiB" if server else ""
    sys.stdout.write(f"{text}{memory}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["--vendor"]:
        asyncio.run(serve())
    else:
        sys.exit(main())
