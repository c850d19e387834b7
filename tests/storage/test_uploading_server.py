"""A whole server, its sandbox and a bucket: uploads that are slow, cut, cancelled or killed.

`python -m tests.bench.uploads` does the same at full size and in real time.
"""

import random
import time as real
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.connected import Host, connected
from tests.storage.s3 import S3, URL
from tests.storage.uploading import MB, TERMS, Files, Process, server_process, settings
from tests.storage.wire import Wire
from tests.tasks_client import TasksClient, ask, created_by
from tests.virtual_time import VirtualTime
from wan_mcp.clock import Clock
from wan_mcp.inputs.preparing import prepare
from wan_mcp.surface.answers.task_form import WITHDRAWN_NOTE

pytestmark = pytest.mark.anyio

SIZE = 16 * MB
HOLDS_AT = (3 * MB, 9 * MB)
"""Between them lies more than the systems on both ends keep of a stream."""
SPEED = 50


class Hurried(VirtualTime):
    """Real time that runs faster: nothing here depends on it, and a call waits for seconds."""

    def monotonic(self) -> float:
        return real.monotonic() * SPEED

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def clock(self) -> Clock:
        return Clock(self.monotonic, self.wall, lambda seconds: anyio.sleep(seconds / SPEED))


@dataclass
class Home:
    """What the tests work with."""

    files: Files
    s3: S3
    data: Path

    @asynccontextmanager
    async def server(self, endpoint: str, **more: Any) -> AsyncIterator[Host]:
        """A server and its PixelDojo."""
        given = self.s3.environment(AWS_ENDPOINT_URL=endpoint)
        given |= {"WAN_MCP_STORAGE_URL": URL, "SNAP_REAL_HOME": str(self.files.folder)}
        ours = {"PREFLIGHT": "off", "ARCHIVE": "off", "POSTER": "off"}
        ours |= {"INPUT_DIRS": str(self.files.folder), "MAX_CREDITS_PER_DAY": "1000"}
        given |= {f"WAN_MCP_{name}": value for name, value in ours.items()}
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL", endpoint)
            more = {"terms": TERMS, "local": True, "settings": given, **more}
            async with connected(Hurried(), self.data, **more) as host:
                yield host


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.made(tmp_path_factory.mktemp("inputs"), SIZE)


@pytest.fixture
def home(files: Files, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(prepare, "available", lambda: False)
    (tmp_path / "data").mkdir()
    return Home(files, s3, tmp_path / "data")


async def ended(host: Host, answer: dict[str, Any]) -> dict[str, Any]:
    """How a request has ended; a refusal has no status."""
    while answer.get("status") in ("submitting", "pending", "running"):
        answer = await host.call("wait_for_job", job_id=answer["job_id"])
    return answer


async def submitted(host: Host, **given: Any) -> dict[str, Any]:
    """The answer to a call; a busy computer may need several to read the file, as it says."""
    while True:
        answer = await host.call("replace_character", **given)
        if "is still being read" not in answer["message"]:
            return answer


async def submit_repeatedly(server: Process, files: Files) -> None:
    """The same for a server that is to be killed: until this is cancelled."""
    while True:
        await server.call("replace_character", **files.arguments)


def uploaded(answer: dict[str, Any]) -> int:
    """How many megabytes are uploaded, as an answer says it."""
    before, _, after = answer["message"].partition(" of 16 MB, nothing charged yet")
    assert after
    return int(before.rpartition(" ")[2])


async def test_call_answers_during_its_upload_whose_progress_grows_and_charges_once(
    home: Home,
) -> None:
    """The line holds until the call has answered, and again until a wait has (ours)."""
    wire = Wire(home.s3.endpoint, holds_at=HOLDS_AT)
    async with wire.opened() as endpoint, home.server(endpoint) as host:
        given = {**home.files.arguments, "video": "~/clip.mp4"}
        first = await submitted(host, **given)
        seen = []
        for _ in HOLDS_AT:
            await wire.holds()
            waited = await host.call("wait_for_job", job_id=first["job_id"], timeout_seconds=5)
            seen.append(uploaded(waited))
            assert host.sandbox.charges == []
            assert home.s3.objects() == {}
            wire.release()
        last = await ended(host, waited)
        charges = len(host.sandbox.charges)

    assert first["status"] == "submitting"
    assert "nothing charged yet" in first["message"]
    assert 2 <= seen[0] < 8 <= seen[1] < 16
    assert (last["status"], charges) == ("completed", 1)
    assert home.files.is_in(home.s3)


async def test_upload_that_is_cancelled_in_the_middle_charges_nothing_and_leaves_nothing(
    home: Home,
) -> None:
    """The request is withdrawn, and its connection ends at once (ours)."""
    wire = Wire(home.s3.endpoint, holds_at=HOLDS_AT)
    tasks = TasksClient()
    async with wire.opened() as endpoint, home.server(endpoint, extensions=(tasks,)) as host:
        while "taskId" not in (created := await created_by(host, **home.files.arguments)):
            pass  # a busy computer has not read the file yet
        id = created["taskId"]
        await wire.holds()
        acknowledged = await ask(host, "tasks/cancel", id)
        wire.release()

        assert await home.s3.has_forgotten()
        assert home.s3.objects() == {}
        assert host.sandbox.charges == []
    assert acknowledged["_meta"]["wan-mcp/note"] == WITHDRAWN_NOTE


async def test_server_that_is_killed_during_an_upload_charges_nothing_and_leaves_nothing(
    home: Home, tmp_path: Path
) -> None:
    """The next start shows the request as not sent, and the repeated call makes it whole (ours)."""
    wire = Wire(home.s3.endpoint, holds_at=HOLDS_AT[:1])
    elsewhere = replace(home, data=tmp_path)
    async with wire.opened() as endpoint, elsewhere.server(endpoint) as witness:
        given = settings(home.files, witness.sandbox, home.s3, endpoint)
        async with server_process(home.data, given) as killed:
            async with anyio.create_task_group() as calls:
                calls.start_soon(submit_repeatedly, killed, home.files)
                await wire.holds()
                calls.cancel_scope.cancel()
            await killed.kill()
        wire.release()
        async with home.server(endpoint, beside=witness) as host:
            found = await host.call("list_jobs")
            is_clean = await home.s3.has_forgotten() and home.s3.objects() == {}
            charged_by_then = list(host.sandbox.charges)
            again = await ended(host, await submitted(host, **home.files.arguments))
            charges = len(host.sandbox.charges)

    assert [job["status"] for job in found["jobs"]] in ([], ["not_sent"])
    assert charged_by_then == []
    assert is_clean
    assert (again["status"], charges) == ("completed", 1)
    assert home.files.is_in(home.s3)


SHORT = 5 * MB
POINTS = random.Random(5).sample(range(MB, SHORT), 2)


async def test_upload_that_is_cut_is_made_whole_by_the_repeated_call(
    home: Home, tmp_path: Path
) -> None:
    """Each time all its connections break at that point, until the call is repeated (ours)."""
    home.files = Files.made(tmp_path, SHORT)
    wire = Wire(home.s3.endpoint)
    async with wire.opened() as endpoint, home.server(endpoint) as host:
        for count, point in enumerate(POINTS):
            given = {**home.files.arguments, "seed": point}
            wire.break_each_after(point)
            refused = await ended(host, await submitted(host, **given))
            assert refused.get("status", "not_sent") == "not_sent"
            assert "broke off" in refused["message"]
            assert len(host.sandbox.charges) == count
            assert await home.s3.has_forgotten()
            assert not home.files.is_in(home.s3)

            wire.break_each_after(None)
            done = await ended(host, await submitted(host, **given))
            assert done["status"] == "completed"
            assert len(host.sandbox.charges) == count + 1
            assert home.files.is_in(home.s3)
            home.s3.clear()
    assert wire.breaks >= 2 * len(POINTS)
