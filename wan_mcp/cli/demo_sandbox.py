"""The demo's sandbox, in a process that survives if the demo is killed.

A demo that is killed while it waits has already paid, if only with make-believe credits. The next
run finds the sandbox and the ledger of the killed one, joins the same job and pays nothing. The
same happens with the real PixelDojo.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import anyio
import anyio.to_thread
import httpx

from wan_mcp.storage.file_lock import try_lock

ABANDONED_SECONDS = 300
"""How long a sandbox whose demo was killed waits for the next demo."""
CONTROL_TIMEOUT_SECONDS = 10.0
"""How long a sandbox may take to answer about itself; a dead one refuses the connection at once."""


@dataclass(frozen=True)
class DemoSandbox:
    """A running sandbox.

    Attributes:
        api_base: the root of its API.
        key: an account with make-believe credits.
        resumed: whether a demo that was killed left it behind.
    """

    api_base: str
    key: str
    resumed: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.api_base.removesuffix("/api/v1")


@asynccontextmanager
async def demo_sandbox(
    folder: Path | None, job_seconds: float
) -> AsyncIterator[tuple[DemoSandbox, Path]]:
    """The sandbox that a killed demo left behind, or a new one, and the data folder for its server.

    Both are removed at the end of the block. A second demo at the same time gets its own.

    Args:
        folder: where one demo at a time keeps what the next one needs if it is killed; None for
            a temporary one.
        job_seconds: how long a job takes in a new sandbox.

    Raises:
        OSError: the folder cannot be written, or no sandbox starts.
    """
    with ExitStack() as ending:
        own = ending.enter_context(_folder_of_this_demo(folder))
        note, data = own / "sandbox.json", own / "data"
        sandbox = await _left_behind(note)
        if sandbox is not None:
            ending.callback(_stop, sandbox)
        else:
            rmtree(data, ignore_errors=True)  # its jobs belong to a sandbox that is gone
            start = partial(_start, job_seconds, ending)
            sandbox = await anyio.to_thread.run_sync(start)
            _write_note(note, sandbox)
        ending.callback(rmtree, data, ignore_errors=True)
        ending.callback(note.unlink, missing_ok=True)
        yield sandbox, data


@contextmanager
def _folder_of_this_demo(folder: Path | None) -> Iterator[Path]:
    """The folder, locked; a temporary one if there is none, and while another demo has the lock."""
    if folder is None:
        with _temporary_folder() as temporary:
            yield temporary
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if try_lock(lock):
            yield folder
            return
        with _temporary_folder() as temporary:
            yield temporary
    finally:
        os.close(lock)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    temporary = Path(mkdtemp(prefix="wan-mcp-demo-"))
    try:
        yield temporary
    finally:
        rmtree(temporary, ignore_errors=True)


async def _left_behind(note: Path) -> DemoSandbox | None:
    """The sandbox of a demo that was killed, if it still answers."""
    sandbox = _noted(note)
    if sandbox is None:
        return None
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=CONTROL_TIMEOUT_SECONDS) as client:
            state = await client.get(f"{sandbox.origin}/sandbox/state")
    except httpx.HTTPError:
        return None
    return replace(sandbox, resumed=True) if state.is_success else None


def _noted(note: Path) -> DemoSandbox | None:
    try:
        return DemoSandbox(**json.loads(note.read_text()))
    except FileNotFoundError:
        return None


def _write_note(note: Path, sandbox: DemoSandbox) -> None:
    part = note.with_suffix(".part")
    part.write_text(json.dumps(asdict(sandbox)))
    part.replace(note)  # completely or not at all, whenever this process is killed


def _start(job_seconds: float, ending: ExitStack) -> DemoSandbox:
    seconds = ["--job-seconds", str(job_seconds), "--exit-idle", str(ABANDONED_SECONDS)]
    process = subprocess.Popen(
        # -P: a file in the user's folder must not be imported in place of a module.
        [sys.executable, "-P", "-m", "wan_mcp", "sandbox", "--port", "0", *seconds],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the demo, which then ends the sandbox
    )
    ending.push(process)  # closes the pipe and waits for the end of the process
    ending.callback(process.terminate)
    assert process.stderr is not None
    announced = {}
    for line in process.stderr:
        name, _, value = line.strip().partition("=")
        announced[name] = value
        if name == "PIXELDOJO_API_KEY":
            return DemoSandbox(announced["PIXELDOJO_API_BASE"], value)
    raise OSError("the sandbox did not start")


def _stop(sandbox: DemoSandbox) -> None:
    with suppress(httpx.HTTPError):  # it has ended by itself
        httpx.delete(f"{sandbox.origin}/sandbox/", trust_env=False, timeout=CONTROL_TIMEOUT_SECONDS)
