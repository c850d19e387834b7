"""The demo's sandbox, in a process that outlives a demo that was killed.

A demo that is killed while it waits has paid, if only in make-believe. Started again it finds its
sandbox and its ledger, joins the same job and pays nothing: as with the real PixelDojo.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from shutil import rmtree

import anyio
import anyio.to_thread

from wan_mcp.ledger.sqlite.liveness import ProcessLock

ABANDONED_SECONDS = 300
"""How long a sandbox without a demo waits for the next one."""


@dataclass(frozen=True)
class Stage:
    """A sandbox to play on.

    Attributes:
        api_base: its API.
        key: an account with make-believe credits.
        folder: the data folder of the ledger that goes with it.
        resumed: an earlier demo left it behind.
    """

    api_base: str
    key: str
    folder: str
    resumed: bool = False

    @property
    def origin(self) -> str:
        """Where its media lie."""
        return self.api_base.removesuffix("/api/v1")


@asynccontextmanager
async def rehearsal(folder: Path, job_seconds: float) -> AsyncIterator[Stage]:
    """The sandbox that a killed demo left, or a new one; a demo that ends by itself leaves none.

    Args:
        folder: where demos keep what they would need again.
        job_seconds: how long a job takes in a new sandbox.

    Raises:
        OSError: the folder cannot be written, or no sandbox starts.
    """
    with closing(_Demo(folder)) as demo, ExitStack() as ending:
        stage = await demo.adopted()
        if stage is not None:
            ending.callback(_stop, stage)
        else:
            start = partial(_started, demo.data, job_seconds, ending)
            stage = await anyio.to_thread.run_sync(start)
        ending.callback(demo.forget, stage)
        demo.note(stage)
        yield stage


class _Demo:
    """One demo's place among the others: a lock that its death frees, and a note of its sandbox."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._owner = ProcessLock(folder / "owners")
        self._note = folder / f"{self._owner.name}.json"
        self.data = folder / self._owner.name

    async def adopted(self) -> Stage | None:
        """The sandbox of a demo that is dead, if one still answers."""
        for note in self._folder.glob("*.json"):
            if not self._owner.dead(note.stem):
                continue
            stage = Stage(**json.loads(note.read_text()))
            note.unlink(missing_ok=True)
            if await _answers(stage):
                return replace(stage, resumed=True)
            rmtree(stage.folder, ignore_errors=True)
        return None

    def note(self, stage: Stage) -> None:
        """Write down where the sandbox is."""
        part = self._note.with_suffix(".part")
        part.write_text(json.dumps(asdict(stage)))
        part.replace(self._note)

    def forget(self, stage: Stage) -> None:
        """Remove what only a later demo would have needed."""
        self._note.unlink(missing_ok=True)
        rmtree(stage.folder, ignore_errors=True)

    def close(self) -> None:
        """Free the lock."""
        self._owner.release()


def _started(data: Path, job_seconds: float, ending: ExitStack) -> Stage:
    seconds = ["--job-seconds", str(job_seconds), "--exit-idle", str(ABANDONED_SECONDS)]
    sandbox = subprocess.Popen(
        # -P: a file of the user's folder must not stand in for a module that is imported.
        [sys.executable, "-P", "-m", "wan_mcp", "sandbox", "--port", "0", *seconds],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the demo, which then ends it
    )
    ending.push(sandbox)  # closes the pipe and waits
    ending.callback(sandbox.terminate)
    assert sandbox.stderr is not None
    told = {}
    for line in sandbox.stderr:
        name, _, value = line.strip().partition("=")
        told[name] = value
        if name == "PIXELDOJO_API_KEY":
            return Stage(told["PIXELDOJO_API_BASE"], value, str(data))
    raise OSError("the sandbox did not start")


def _stop(stage: Stage) -> None:
    import httpx

    with suppress(httpx.HTTPError):  # gone already
        httpx.delete(f"{stage.origin}/sandbox/", trust_env=False, timeout=2)


async def _answers(stage: Stage) -> bool:
    import httpx

    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            state = await client.get(f"{stage.origin}/sandbox/state")
    except httpx.HTTPError:
        return False
    return state.is_success
