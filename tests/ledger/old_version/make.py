"""Make `server.zip` and `ledger.db` of version 0.1.0 again, from a checkout of that version.

    git worktree add --detach /tmp/old fca89b0
    python tests/ledger/old_version/make.py /tmp/old

`server.zip` is that version's package without its sandbox: the tests bring PixelDojo themselves.

`ledger.db` is what several runs of that version's server leave behind. The servers run in this
process, in virtual time, with that version's own sandbox as PixelDojo; a host in memory calls their
public tools. In the end the process is killed while three paid requests are under way, and SQLite
writes everything into the one file. Job ids, submission ids and seeds are random, so a new file
differs from the committed one in these. The Python environment needs the packages of that version.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PORT = 43117
"""Where PixelDojo listened; an account's name in the ledger depends on it."""
KEYS = ("pd_sandbox", "pd_sandbox_two")
DATA = Path("/tmp/wan-mcp-0.1.0")
"""The data folder of the servers; the ledger names it where it says where videos were saved."""
MEMBER_DATE = (2026, 11, 28, 0, 0, 0)

MINUTE_SECONDS = 60.0
RUN, JOB, VIDEO = "/api/v1/models/*/run", "/api/v1/jobs/{}", "/media/results/{}.mp4"
SCHEMA = "/api/v1/models/*/schema"
FAULTS = "wan_mcp.sandbox.faults"
"""By name only: in later versions this module lies elsewhere."""
FAILING, ENDLESS = "/media/no-person.mp4", "/media/endless.mp4"


def main(checkout: Path) -> None:
    """Write both files."""
    make_archive(checkout, HERE / "server.zip")
    shutil.rmtree(DATA, ignore_errors=True)
    command = [sys.executable, __file__, str(checkout), "--runs"]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(checkout)}, check=False)
    if ended.returncode != -signal.SIGKILL:
        raise SystemExit(f"the runs ended with {ended.returncode} instead of being killed")
    ledger = DATA / "ledger/ledger.db"
    with closing(sqlite3.connect(ledger)) as last:  # closing the last connection empties the -wal
        last.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(ledger, HERE / "ledger.db")
    shutil.rmtree(DATA)


def make_archive(checkout: Path, target: Path) -> None:
    """The package without its sandbox, the same bytes each time."""
    package = checkout / "wan_mcp"
    files = [
        path
        for path in sorted(package.rglob("*"))
        if path.is_file() and not {"sandbox", "__pycache__"} & set(path.relative_to(package).parts)
    ]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in files:
            member = zipfile.ZipInfo(path.relative_to(checkout).as_posix(), MEMBER_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes(), compresslevel=9)


# From here on, what runs in the process that is killed, where `wan_mcp` is the old version.


@dataclass
class Host:
    """A host on a server of the old version.

    Attributes:
        sandbox: the PixelDojo of all hosts.
        client: calls the server's tools.
    """

    sandbox: Any
    client: Any

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The data of a tool's answer."""
        return (await self.client.call_tool(tool, arguments)).structured_content or {}

    async def start(self, path: str = "/media/clip.mp4", **arguments: object) -> str:
        """Submit a job on one of the sandbox's videos; the id that the answer names."""
        inputs = {
            "video": f"{self.sandbox.origin}{path}",
            "character_image": self.sandbox.image_url,
        }
        answer = await self.call("replace_character", **{**inputs, **arguments})
        return str(answer.get("job_id") or answer["message"])

    async def wait(self, job_id: str, seconds: int = 120) -> dict[str, Any]:
        return await self.call("wait_for_job", job_id=job_id, timeout_seconds=seconds)


@dataclass(frozen=True)
class Gate:
    """Where a request is held: it calls something as soon as one stands there."""

    wait: Callable[[], Awaitable[object]]


@asynccontextmanager
async def opened(sandbox: Any, time: Any, key: str, *, local: bool) -> AsyncIterator[Host]:
    """A host on a server that has just started; it saves videos if it is local."""
    from mcp.client import Client

    from wan_mcp.server import build_server
    from wan_mcp.settings import Settings

    given = {
        "PIXELDOJO_API_BASE": sandbox.api_base,
        "PIXELDOJO_API_KEY": key,
        "WAN_MCP_DATA_DIR": str(DATA),
        "WAN_MCP_PREFLIGHT": "off",
        "WAN_MCP_MAX_IN_FLIGHT": "50",
    }
    server = build_server(Settings.read(given, DATA), local=local, clock=time.clock())
    async with Client(server) as client:
        yield Host(sandbox, client)


async def runs(time: Any) -> None:
    """Several runs of the server; the last ends by a kill."""
    from wan_mcp.sandbox import Sandbox, Terms

    terms = Terms(
        pending_seconds=5, processing_seconds=55, price=2.5, credits=500, requests_per_minute=30
    )
    sandbox = Sandbox(terms, port=PORT, clock=time.monotonic, epoch=time.wall().timestamp())
    sandbox.open_account(KEYS[0])
    sandbox.open_account(KEYS[1])
    open_first = partial(opened, sandbox, time, KEYS[0], local=True)
    open_second = partial(opened, sandbox, time, KEYS[1], local=False)
    async with sandbox:
        async with open_first() as host:
            await settled_jobs(host)
        async with open_first() as host:
            await lost_answers(host)
    async with open_first() as host:
        await host.start(seed=1_001)  # nobody listens
    async with AsyncExitStack() as last:
        await last.enter_async_context(sandbox)
        second = await last.enter_async_context(open_second())
        await second_account(second)
        first = await last.enter_async_context(open_first())
        await running_jobs(first)
        await busy(second)
        await killed(first)


async def settled_jobs(host: Host) -> None:
    """Completed in every way, failed, refused, gone, and made elsewhere."""
    import anyio

    faults = import_module(FAULTS)
    sandbox = host.sandbox
    await host.wait(await host.start(resolution="480", go_fast=True, video_duration=3))
    await host.wait(await host.start(FAILING))
    sandbox.fault("POST", RUN, faults.status(422, {"error": "The clip is too dark"}))
    await host.start(seed=101)

    for path in ("/media/clip.mp4", ENDLESS):
        inputs = {"video": f"{sandbox.origin}{path}", "character_image": sandbox.image_url}
        job = sandbox.vendor.run(KEYS[0], {**inputs, "video_duration": 5})
        await host.wait(job.id, 90)

    gone = await host.start(seed=102)
    sandbox.fault("GET", VIDEO.format(gone), faults.status(404), times=None)
    await host.wait(gone)
    linkless = await host.start(seed=103)
    unusable = {"status": "completed", "output": {"video": "ftp://video.example/result.mp4"}}
    sandbox.fault("GET", JOB.format(linkless), faults.edited(unusable), times=None)
    await host.wait(linkless)

    forgotten = await host.start(ENDLESS, seed=104)
    await anyio.sleep(3 * MINUTE_SECONDS)
    del sandbox.vendor.jobs[forgotten]
    for _ in range(4):
        await host.call("get_job_status", job_id=forgotten)
        await anyio.sleep(MINUTE_SECONDS)
    await anyio.sleep(15 * MINUTE_SECONDS)  # until the video that is gone is given up


async def lost_answers(host: Host) -> None:
    """Two requests whose answers got lost: one is proven unsent, one stays unknown."""
    import anyio

    faults = import_module(FAULTS)
    sandbox = host.sandbox
    sandbox.fault("POST", RUN, faults.dropped(work=False))
    await host.start(seed=201)
    await anyio.sleep(2 * MINUTE_SECONDS)
    await host.wait(await host.start("/media/clip.mp4?take=2", merge_audio=False))
    await anyio.sleep(40 * MINUTE_SECONDS)
    sandbox.terms = replace(sandbox.terms, list_echoes_input=False)
    sandbox.fault("POST", RUN, faults.dropped(work=True))
    await host.start(seed=202)
    await anyio.sleep(5 * MINUTE_SECONDS)


async def second_account(host: Host) -> None:
    """A running job, and a completed one whose video nobody saves."""
    await host.wait(await host.start(seed=501, refert_num=3, frames_per_second=24))
    await host.start(ENDLESS)


async def running_jobs(host: Host) -> None:
    """One that PixelDojo just could not tell of, one it refuses to tell of, and one just ended."""
    faults = import_module(FAULTS)
    sandbox = host.sandbox
    silent, refused = await host.start(ENDLESS, seed=301), await host.start(ENDLESS, seed=302)
    sandbox.fault("GET", "/api/v1/jobs", faults.status(503), times=None)
    sandbox.fault("GET", JOB.format(silent), faults.status(503), times=None)
    sandbox.fault("GET", JOB.format(refused), faults.status(403), times=None)
    await host.wait(silent, 30)
    await host.wait(refused, 30)
    fresh = await host.start(seed=303)
    sandbox.fault("GET", VIDEO.format(fresh), faults.status(503), times=None)
    await host.wait(fresh)
    await host.start(seed=304)


async def busy(host: Host) -> None:
    """PixelDojo asks the account to be quiet."""
    faults = import_module(FAULTS)
    slow_down = faults.status(429, {"error": "Slow down"}, {"Retry-After": "120"})
    host.sandbox.fault("GET", "/api/v1/jobs*", slow_down)
    job, *_ = (await host.call("list_jobs"))["jobs"]
    await host.call("get_job_status", job_id=job["job_id"])


async def killed(host: Host) -> None:
    """Die with two requests on the wire and one that waits for its turn."""
    faults = import_module(FAULTS)
    sandbox = host.sandbox

    async def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def third() -> None:
        await host.start(seed=403, resolution="720")

    async def second() -> None:
        sandbox.fault("POST", RUN, faults.held(faults.honest(), after=Gate(third)))
        await host.start(seed=402)

    sandbox.fault("GET", SCHEMA, faults.held(faults.honest(), before=Gate(die)))
    sandbox.fault("POST", RUN, faults.held(faults.honest(), before=Gate(second)))
    await host.start(seed=401)


def run_all() -> None:
    """All runs, in virtual time."""
    import anyio

    from tests.virtual_time import VirtualTime, watched_threads

    time = VirtualTime()
    backend, options = time.backend(sockets=True)
    with watched_threads():
        anyio.run(runs, time, backend=backend, backend_options=options)


if __name__ == "__main__":
    run_all() if "--runs" in sys.argv else main(Path(sys.argv[1]).resolve())
