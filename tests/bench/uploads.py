"""Uploads at full size and in real time, against a real S3 server on this computer.

Run it by hand, from the root of the project; it needs some 5 GB of room for temporary files::

    python -m tests.bench.uploads            everything; some ten minutes
    python -m tests.bench.uploads server     a whole server with 120 MB at 5 MB/s
    python -m tests.bench.uploads cuts       60 MB, cut at ten points and killed in the middle
    python -m tests.bench.uploads memory     120 MB and 2 GB, the memory of one process

`server` and `cuts` start servers as hosts do, with a sandbox as PixelDojo. `server` makes one call
and waits for its job, cancels a second one in the middle by ending the session, kills a third
server in the middle, and starts the next one. `cuts` lets all connections of a call break at a
point, and repeats the call; at the end it kills a server. What is charged is what the sandbox has
counted, and what is stored is compared by its hash.

If an answer takes more than 4 s, if anything is charged wrongly or left
in the bucket, if a hash is wrong, or with more than 100 MB of memory, the exit code is 1.
"""

import asyncio
import hashlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from tests.storage.s3 import S3, URL, s3_server
from tests.storage.uploading import MB, TERMS, Files, Process, server_process, settings
from tests.storage.wire import Wire
from wan_mcp.clock import Clock
from wan_mcp.sandbox import Sandbox
from wan_mcp.storage.delivery import Content
from wan_mcp.storage.object_store import ObjectStore
from wan_mcp.storage.uploads import Uploads

SLOWEST_ANSWER = 4.0
"""The answer itself has a way, too."""
MOST_MEMORY = 100 * MB
THINKS_SECONDS = 3.0
SPEED = 5 * MB
LARGE, MIDDLE = 120 * MB, 60 * MB
CASES = [("120 MB at 5 MB/s", LARGE, SPEED), ("2 GB, sparse", 2000 * MB, 0)]
POINTS = sorted(random.Random(6).sample(range(MB, MIDDLE), 10))


@dataclass
class Scene:
    """A user with a file, a bucket behind a line, and PixelDojo.

    Attributes:
        wrong: what was not as it should be.
    """

    files: Files
    s3: S3
    wire: Wire
    endpoint: str
    sandbox: Sandbox
    data: Path
    wrong: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many bytes the clip has."""
        return self.files.clip.stat().st_size

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Process]:
        """A server on the user's ledger, started while the user still thinks; killed at the end."""
        given = settings(self.files, self.sandbox, self.s3, self.endpoint)
        async with server_process(self.data, given) as server:
            await server.call("list_jobs")
            await anyio.sleep(THINKS_SECONDS)
            yield server

    async def submit(self, server: Process, seed: int) -> dict[str, Any]:
        """Make a call, and look at how long its answer takes.

        A busy computer may need several calls to read the file first, as the answer says.
        """
        answer = await self._answered(server, seed)
        while "is still being read" in answer["message"]:
            await anyio.sleep(1)
            answer = await self._answered(server, seed)
        return answer

    async def _answered(self, server: Process, seed: int) -> dict[str, Any]:
        began = time.monotonic()
        answer = await server.call("replace_character", **self.files.arguments, seed=seed)
        seconds = time.monotonic() - began
        print(f"  answer after {seconds:.2f} s: {answer['message'].splitlines()[0][:110]}")
        self.require(seconds <= SLOWEST_ANSWER, f"an answer after {seconds:.2f} s")
        return answer

    def require(self, is_so: bool, wrong: str) -> None:
        """Note what is wrong."""
        if not is_so:
            print(f"  WRONG: {wrong}")
            self.wrong.append(wrong)

    async def require_nothing_new(self, what: str, charges: int) -> None:
        """Nothing was charged since, and the bucket has nothing of the clip."""
        forgotten = await self.s3.has_forgotten()
        print(
            f"  {what}: {len(self.sandbox.charges) - charges} new charges, "
            f"{len(self.s3.objects())} objects and {len(self.s3.unfinished())} hidden files left"
        )
        self.require(len(self.sandbox.charges) == charges, f"{what}: charged")
        self.require(forgotten and not self.s3.objects(), f"{what}: something is left")

    async def require_whole(self, server: Process, answer: dict[str, Any], charges: int) -> None:
        """The job ends well, is charged once, and the clip in the bucket is the right one."""
        last = await server.ended(answer)
        is_right = self.files.is_in(self.s3)
        print(
            f"  {last['status']}, {len(self.sandbox.charges) - charges} new charges, hash "
            f"{'right' if is_right else 'WRONG'}"
        )
        self.require(last["status"] == "completed", f"a job is {last['status']}")
        self.require(len(self.sandbox.charges) == charges + 1, "not charged once")
        self.require(is_right, "the hash is wrong")


@asynccontextmanager
async def scene(size: int, speed: int) -> AsyncIterator[Scene]:
    """Everything that a run needs, new."""
    with TemporaryDirectory() as name, s3_server(Path(name) / "s3") as s3:
        folder = Path(name)
        (folder / "inputs").mkdir()
        (folder / "data").mkdir()
        files = Files.made(folder / "inputs", size)
        wire = Wire(s3.endpoint, bytes_per_second=speed)
        async with wire.opened() as endpoint, Sandbox(TERMS) as sandbox:
            yield Scene(files, s3, wire, endpoint, sandbox, folder / "data")


async def whole_server() -> list[str]:
    """120 MB at 5 MB/s: paid once; cancelled, and killed, in the middle."""
    async with scene(LARGE, SPEED) as now:
        print("120 MB at 5 MB/s through a whole server")
        async with now.server() as server:
            answer = await now.submit(server, 1)
            seen = [answer["message"]]
            while answer["status"] == "submitting":
                job = answer["job_id"]
                answer = await server.call("wait_for_job", job_id=job, timeout_seconds=4)
                seen += [answer["message"]] if answer["status"] == "submitting" else []
            counted = [text.partition(" of 120 MB")[0] for text in seen if " of 120 MB" in text]
            sent = [int(text.rpartition(" ")[2]) for text in counted]
            print(f"  progress in MB: {', '.join(map(str, sent))}")
            now.require(len(set(sent)) > 2 and sent == sorted(sent), "the progress does not grow")
            await now.require_whole(server, answer, 0)
        now.s3.clear()
        for seed, what in ((2, "cancelled"), (3, "killed")):
            await _given_up(now, seed, what)
        return now.wrong


async def _given_up(now: Scene, seed: int, what: str) -> None:
    """End a call in the middle of its upload, and have it made whole by the next start."""
    charges = len(now.sandbox.charges)
    print(f"{now.size // MB} MB, {what} in the middle")
    async with now.server() as server:
        now.wire.hold_after(now.size // 2)
        await now.submit(server, seed)
        await now.wire.holds()
        await (server.kill() if what == "killed" else server.close())
    now.wire.release()
    await now.require_nothing_new(what, charges)
    async with now.server() as server:
        jobs = (await server.call("list_jobs"))["jobs"]
        mine = [job["status"] for job in jobs if job["status"] != "completed"]
        print(f"  the next start shows: {', '.join(mine) or 'nothing of it'}")
        await now.require_nothing_new(f"{what}, after the next start", charges)
        await now.require_whole(server, await now.submit(server, seed), charges)
    now.s3.clear()


async def cuts() -> list[str]:
    """60 MB, all whose connections break at ten points, and a server that is killed."""
    async with scene(MIDDLE, 0) as now:
        async with now.server() as server:
            for seed, point in enumerate(POINTS):
                print(f"60 MB, every connection cut after {point:,} bytes")
                now.wire.break_each_after(point)
                refused = await server.ended(await now.submit(server, seed))
                status = refused.get("status", "not_sent")
                now.require(status == "not_sent", f"cut: {status}")
                await now.require_nothing_new("cut", seed)
                now.wire.break_each_after(None)
                await now.require_whole(server, await now.submit(server, seed), seed)
                now.s3.clear()
        await _given_up(now, 99, "killed")
        return now.wrong


def content_of(file: Path) -> Content:
    """The whole file as an input."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Content(lambda: file.open("rb"), file.stat().st_size, digest, ".mp4", "video/mp4")


async def upload(content: Content) -> dict[str, Any]:
    """Upload it in this process; returns figures."""
    sent: list[int] = []
    began = time.monotonic()
    await Uploads(ObjectStore(URL, os.environ), Clock()).link(
        content, "sub_1", "video", sent.append
    )
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "steps": len(set(sent)), "peak": peak, "sha256": content.sha256}


async def measured(name: str, size: int, speed: int, s3: S3, folder: Path) -> list[str]:
    """Have a process of its own upload a file; prints figures, and returns what is wrong."""
    file = folder / "clip.mp4"
    with file.open("wb") as opened:
        opened.truncate(size)
    async with Wire(s3.endpoint, bytes_per_second=speed).opened() as slow:
        given = s3.environment(AWS_ENDPOINT_URL=slow if speed else s3.endpoint)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.uploads", "file", str(file)),
            env={**os.environ, **given},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    figures = json.loads(output)
    (stored,) = s3.objects().values()
    with stored.open("rb") as opened:
        is_right = hashlib.file_digest(opened, "sha256").hexdigest() == figures["sha256"]
    peak, seconds = figures["peak"], figures["seconds"]
    print(
        f"{name}: {seconds:.1f} s ({size / MB / seconds:.1f} MB/s), {figures['steps']} steps of "
        f"progress, peak memory {peak / MB:.0f} MB, hash {'right' if is_right else 'WRONG'}, "
        f"{len(s3.unfinished())} hidden files left, exit code {process.returncode}"
    )
    s3.clear()
    is_well = is_right and peak < MOST_MEMORY and process.returncode == 0
    return [] if is_well else [name]


async def memory() -> list[str]:
    """The memory of a process that uploads."""
    with TemporaryDirectory() as folder, s3_server(Path(folder) / "s3") as s3:
        return [wrong for case in CASES for wrong in await measured(*case, s3, Path(folder))]


RUNS = {"server": whole_server, "cuts": cuts, "memory": memory}


async def main(names: list[str]) -> int:
    """Make these runs, or all; returns the exit code."""
    wrong = [each for name in names or RUNS for each in await RUNS[name]()]
    print(f"wrong: {'; '.join(wrong) or 'nothing'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["file"]:
        print(json.dumps(anyio.run(upload, content_of(Path(sys.argv[2])))))
        sys.exit(0)
    sys.exit(anyio.run(main, sys.argv[1:]))
